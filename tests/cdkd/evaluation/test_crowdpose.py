"""CrowdPose's statistics: golden values, its areas, and the classes of crowding."""

import copy

import numpy as np
import pytest

from cdkd.evaluation.crowdpose import SIGMAS, crowdpose_statistics
from cdkd.evaluation.oks import coco_statistics

EXACT = 1e-12
ORDER = ("ap", "ap50", "ap75", "ar", "ar50", "ar75", "ap_easy", "ap_medium", "ap_hard")


def crowded(make_world, seed=0, images=8, **options):
    """A random world with crowd indices over the whole range and without areas."""
    layout, results = make_world(seed, images=images, keypoint_count=14, **options)
    for image, index in zip(layout["images"], np.linspace(0, 1, len(layout["images"])).tolist()):
        image["crowdIndex"] = index
    for annotation in layout["annotations"]:
        del annotation["area"]
    return layout, results


def released(layout, results):
    """The evaluation of 'keypoints_crowd' in faster-coco-eval, a copy of the released one."""
    package = pytest.importorskip("faster_coco_eval")
    truth = package.COCO(copy.deepcopy(layout))
    truth.annotation_file = copy.deepcopy(layout)
    found = truth.loadRes(copy.deepcopy(results))
    evaluation = package.COCOeval_faster(truth, found, "keypoints_crowd", kpt_oks_sigmas=SIGMAS, use_area=False)
    evaluation.run()
    return [float(value) for value in evaluation.all_stats]


def named(values):
    return [values[name] for name in ORDER]


def test_crowdposes_golden_values_are_met_to_the_digit(read_shared):
    expected = read_shared("golden/crowdpose/expected.json")["crowdpose"]["values"]
    truth = read_shared("golden/crowdpose/example_crowdpose_val.json")
    values = crowdpose_statistics(truth, read_shared("golden/crowdpose/example_crowdpose_preds.json"))
    assert named(values)[:6] == pytest.approx(expected[:6], abs=EXACT)
    assert named(values)[6:] == expected[6:]


@pytest.mark.parametrize("seed", range(8))
def test_random_crowds_score_as_in_the_released_evaluation(make_world, seed):
    layout, results = crowded(make_world, seed, ties=bool(seed % 2))
    assert named(crowdpose_statistics(layout, results)) == pytest.approx(released(layout, results), abs=EXACT)


@pytest.mark.parametrize(
    ("index", "name"),
    [(0.0, "easy"), (0.1999, "easy"), (0.2, "medium"), (0.7999, "medium"), (0.8, "hard"), (1.0, "hard")],
)
def test_easy_is_below_two_tenths_and_hard_from_eight_tenths_on(make_world, index, name):
    layout, results = make_world(1, keypoint_count=14)
    for image in layout["images"]:
        image["crowdIndex"] = index
    values = crowdpose_statistics(layout, results)
    assert values[f"ap_{name}"] == round(values["ap"], 4) > 0
    assert [values[f"ap_{other}"] for other in ("easy", "medium", "hard") if other != name] == [-1.0, -1.0]


def test_a_persons_area_is_a_part_of_the_box_whatever_the_file_says(make_world):
    layout, results = crowded(make_world)
    plain = crowdpose_statistics(layout, results)
    for annotation in layout["annotations"]:
        annotation["area"] = 0.53 * annotation["bbox"][2] * annotation["bbox"][3]
    assert plain["ap"] == pytest.approx(coco_statistics(layout, results, SIGMAS)["ap"], abs=EXACT)
    for annotation in layout["annotations"]:
        annotation["area"] *= 9.0
    assert crowdpose_statistics(layout, results) == plain


def test_images_without_a_crowd_index_belong_to_no_class(make_world):
    layout, results = crowded(make_world)
    for image in layout["images"]:
        if image["crowdIndex"] >= 0.8:
            image["crowdIndex"] = None
    values = crowdpose_statistics(layout, results)
    assert values["ap_hard"] == -1.0
    assert values["ap_easy"] >= 0
    for image in layout["images"]:
        del image["crowdIndex"]
    assert not [name for name in crowdpose_statistics(layout, results) if name.startswith("ap_")]
