"""COCO's statistics of plain files: golden values, full size, and what a foreign file may hold."""

import logging

import numpy as np
import pytest

from cdkd.evaluation.oks import STATISTICS, coco_statistics
from cdkd.keypoints import KEYPOINT_SETS

SIGMAS = KEYPOINT_SETS["coco17"].sigmas
EXACT = 1e-12


def annotation(number=1, image=1, area=2500.0, **changes):
    """A person in a box of 50 x 100 pixels, all keypoints on a diagonal."""
    points = np.linspace((0.0, 0.0), (50.0, 100.0), 17)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [0.0, 0.0, 50.0, 100.0],
        "area": area,
        "iscrowd": 0,
        "num_keypoints": 17,
        "keypoints": np.column_stack([points, np.full(17, 2)]).ravel().tolist(),
        **changes,
    }


def result(of, score=0.9, shift=0.0, **changes):
    """A prediction of an annotation's keypoints, moved by `shift` pixels."""
    keypoints = np.array(of["keypoints"]) + [shift, 0.0, 0.0] * 17
    return {"image_id": of["image_id"], "category_id": 1, "keypoints": keypoints.tolist(), "score": score, **changes}


def layout(*annotations, images=3):
    return {
        "images": [{"id": image} for image in range(1, images + 1)],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "person"}],
    }


def statistics(annotations, results):
    return coco_statistics(layout(*annotations), results, SIGMAS)


def test_cocos_golden_values_are_met_to_the_digit(read_shared, capsys):
    expected = read_shared("golden/crowdpose/expected.json")["coco"]["pycocotools_2_0_11_and_xtcocotools_agree"]
    truth = read_shared("golden/crowdpose/example_coco_val.json")
    values = coco_statistics(truth, read_shared("golden/crowdpose/example_coco_preds.json"), SIGMAS)
    assert list(values) == list(STATISTICS)
    assert list(values.values()) == pytest.approx(expected, abs=EXACT)
    assert capsys.readouterr() == ("", "")


def test_all_labelled_persons_of_coco_val2017_score_as_pycocotools_scores_them(shared_data, peer):
    persons = np.load(shared_data / "coco" / "coco_val2017_person_keypoints_normalised.npz")
    rng = np.random.default_rng(0)
    image_ids, inverse = np.unique(persons["image_id"], return_inverse=True)
    sizes = np.where(rng.random((len(image_ids), 1)) < 0.7, (640.0, 480.0), (480.0, 640.0))[inverse]
    points = np.round(persons["kp_xy_x1e6"] / 1e6 * sizes[:, None])
    extents = persons["bbox_cxcywh_x1e6"][:, 2:] / 1e6 * sizes
    corners = persons["bbox_cxcywh_x1e6"][:, :2] / 1e6 * sizes - extents / 2
    areas = extents.prod(axis=1) * rng.uniform(0.35, 0.75, len(points))
    annotations, results = [], []
    for row, image in enumerate(persons["image_id"].tolist()):
        box, keypoints = (
            [*corners[row].tolist(), *extents[row].tolist()],
            np.column_stack([points[row], persons["kp_v"][row]]),
        )
        annotations.append(
            annotation(row + 1, image, float(areas[row]), bbox=box, keypoints=keypoints.ravel().tolist())
        )
        spread = np.sqrt(areas[row]) * np.exp(rng.normal(-3, 0.9))
        keypoints[:, :2] += rng.normal(0, spread, (17, 2))
        results.append(result({**annotations[-1], "keypoints": keypoints.ravel()}, score=float(rng.random())))
    whole = {**layout(*annotations), "images": [{"id": image} for image in image_ids.tolist()]}
    values = coco_statistics(whole, results, SIGMAS)
    assert len(annotations) == 6352
    assert list(values.values()) == pytest.approx(peer(whole, results, SIGMAS), abs=EXACT)
    assert 0.2 < values["ap"] < 0.8


def test_a_prediction_in_an_image_without_persons_is_a_false_positive():
    person = annotation()
    alone = statistics([person], [result(person, score=0.5)])
    assert alone["ap"] == 1.0
    stray = result(annotation(image=3), score=0.9)
    assert statistics([person], [result(person, score=0.5), stray])["ap"] == pytest.approx(0.5)


def test_a_prediction_on_a_crowd_or_an_unlabelled_person_is_neither_right_nor_wrong():
    person = annotation()
    for ignored in ({"iscrowd": 1}, {"iscrowd": 0}):
        region = annotation(2, 3, num_keypoints=0, keypoints=[0] * 51, **ignored)
        strays = [result(annotation(image=3), score=0.9)]
        assert statistics([person, region], [result(person, score=0.5), *strays])["ap"] == 1.0


def test_many_predictions_may_lie_on_a_crowd_but_only_one_on_an_unlabelled_person():
    person, region = annotation(), annotation(2, 3, num_keypoints=0, keypoints=[0] * 51)
    strays = [result(annotation(image=3), score=0.9), result(annotation(image=3), score=0.8)]
    results = [result(person, score=0.5), *strays]
    assert statistics([person, {**region, "iscrowd": 1}], results)["ap"] == 1.0
    assert statistics([person, region], results)["ap"] == pytest.approx(0.5)


def test_only_the_twenty_surest_predictions_of_an_image_count():
    person = annotation()
    strays = [result(person, score=0.9, shift=400.0) for _ in range(20)]
    assert statistics([person], [*strays[:19], result(person, score=0.1)])["ar"] == 1.0
    assert statistics([person], [*strays, result(person, score=0.1)])["ar"] == 0.0
    assert statistics([person], [result(person, score=0.9), *strays])["ar"] == 1.0  # of equal scores the earlier


def test_confident_persons_rank_first():
    first, second = annotation(1, 1), annotation(2, 2)
    right, wrong = result(first, score=0.9), result(second, score=0.5, shift=500.0)
    assert statistics([first, second], [right, wrong])["ap50"] == pytest.approx(51 / 101)
    assert statistics([first, second], [{**right, "score": 0.1}, wrong])["ap50"] == pytest.approx(0.5 * 51 / 101)


def test_no_predictions_score_zero_and_no_persons_minus_one():
    values = statistics([annotation()], [])
    assert {name: values[name] for name in ("ap", "ar", "apm", "apl")} == {
        "ap": 0.0,
        "ar": 0.0,
        "apm": 0.0,
        "apl": -1.0,
    }
    assert set(statistics([], [result(annotation())]).values()) == {-1.0}
    region = annotation(num_keypoints=0, keypoints=[0] * 51)
    assert set(statistics([region], [result(annotation())]).values()) == {-1.0}


def test_a_file_without_num_keypoints_iscrowd_and_keypoints_of_regions_is_understood():
    person = annotation()
    del person["num_keypoints"], person["iscrowd"]
    region = {"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 50, 100], "area": 2500}
    assert statistics([person, region], [result(person), result(annotation(image=3))])["ap"] == 1.0


def test_the_area_of_a_result_is_that_of_its_box_where_it_has_one(peer):
    """A wrong prediction counts against large persons only if it is large itself."""
    person = annotation(area=96.0**2 + 1)
    results = [result(person, score=0.95, shift=300.0), result(person, score=0.5)]  # 50 x 100 pixels
    for size, expected in ((None, 1.0), (10.0, 1.0), (100.0, 0.5)):
        found = results if size is None else [{**wrong, "bbox": [0.0, 0.0, size, size]} for wrong in results]
        values = statistics([person], found)
        assert values["apl"] == pytest.approx(expected)
        assert list(values.values()) == pytest.approx(peer(layout(person), found, SIGMAS), abs=EXACT)


def test_a_person_that_the_file_says_has_no_keypoints_is_ignored_as_in_pycocotools(peer):
    people = [annotation(1, 1), annotation(2, 2, num_keypoints=0)]
    results = [result(person) for person in people]
    values = statistics(people, results)
    assert values["ap"] == 1.0
    assert list(values.values()) == pytest.approx(peer(layout(*people), results, SIGMAS), abs=EXACT)
    assert statistics(people, results[:1])["ar"] == 1.0


def test_neither_annotations_nor_results_are_changed():
    person = annotation()
    found = result(person)
    before = (dict(person), dict(found))
    statistics([person], [found])
    assert (person, found) == before


def test_an_annotation_of_id_zero_scores_as_in_pycocotools_and_is_warned_of(caplog, peer):
    people = [annotation(0, 1), annotation(1, 2)]
    results = [result(person) for person in people]
    with caplog.at_level(logging.WARNING):
        values = statistics(people, results)
    assert list(values.values()) == pytest.approx(peer(layout(*people), results, SIGMAS), abs=EXACT)
    assert values["ap"] < 1.0
    assert [record.message for record in caplog.records] == [
        "an annotation has the id 0: COCO's evaluation takes whoever matches it for unmatched"
    ]


@pytest.mark.parametrize(
    ("annotations", "results", "message"),
    [
        (
            [annotation()],
            [result(annotation(image=7))],
            "results of 1 images that the ground truth does not have, such as 7",
        ),
        ([annotation()], [result(annotation(), score=float("nan"))], "every score must be finite"),
        ([annotation()], [result(annotation(), shift=float("inf"))], "every predicted keypoint must be finite"),
        (
            [annotation()],
            [result(annotation(), keypoints=[1.0] * 42)],
            r"every result must have 51 numbers, got \[42\]",
        ),
        ([annotation(keypoints=[1.0] * 42)], [], "annotation 1 must have 51 numbers, has 42"),
        ([annotation(), annotation()], [], "two annotations have the same id"),
    ],
)
def test_files_that_cannot_be_scored_are_refused_in_one_line(annotations, results, message):
    with pytest.raises(ValueError, match=message):
        statistics(annotations, results)


def test_an_annotation_without_area_is_refused():
    person = annotation()
    del person["area"]
    with pytest.raises(ValueError, match="annotation 1 has no area"):
        statistics([person], [])
