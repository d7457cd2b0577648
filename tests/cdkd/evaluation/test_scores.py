"""The scores that studies name."""

import json
from pathlib import Path

import numpy as np
import pytest

from cdkd.config import SCORES, EvaluationConfig
from cdkd.evaluation import oks
from cdkd.evaluation.scores import Predictions, score, score_detected
from cdkd.instances import IgnoredRegion, ImageRecord, PersonInstance, Split
from cdkd.keypoints import KEYPOINT_SETS

SETTINGS = EvaluationConfig()
AS_LISTED = EvaluationConfig(keypoint_score_threshold=0.0, oks_nms=1.0)
GROUPS = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")


@pytest.fixture
def make_people(make_person):
    return lambda keypoint_set, count=20: [make_person(keypoint_set, number) for number in range(count)]


def predictions_for(people, spread, seed=1):
    truth = np.array([person.keypoints_image for person in people], dtype=float)
    noise = np.random.default_rng(seed).normal(0, 1, truth.shape) * spread
    return Predictions(truth + noise, np.full(truth.shape[:2], 0.8))


def split_of(people, **parts):
    images = {person.image_key: ImageRecord(person.image) for person in people}
    return Split(people, **{"images": images, **parts})


@pytest.mark.parametrize("name", sorted(KEYPOINT_SETS))
def test_perfect_predictions_score_one_everywhere_as_plain_floats(make_people, name):
    keypoint_set, people = KEYPOINT_SETS[name], make_people(name)
    values = score(predictions_for(people, 0.0), split_of(people), keypoint_set, SETTINGS)
    assert {type(value) for value in values.values()} == {float}
    left_out = {key: value for key, value in values.items() if key.endswith("/left_out")}
    assert set(left_out.values()) == {0.0}
    assert {value for key, value in values.items() if key not in left_out} == {1.0}
    expected = {key for key in SCORES if keypoint_set.head_segment or not key.startswith("pckh")}
    assert {key for key in values if "/" not in key} - {"apm", "apl"} == expected
    parts = {*keypoint_set.names, "unweighted", *(GROUPS if name != "coco17" else GROUPS[1:])}
    assert {key.removeprefix("pck@0.2/") for key in values if key.startswith("pck@0.2/")} == parts


def test_pckh_has_its_three_thresholds(make_people):
    people = make_people("mpii16")
    values = score(predictions_for(people, 6.0), split_of(people), KEYPOINT_SETS["mpii16"], SETTINGS)
    assert 0 < values["pckh@0.1"] < values["pckh@0.11"] < values["pckh@0.5"] < 1
    assert values["pckh@0.11/knee"] == (values["pckh@0.11/left_knee"] + values["pckh@0.11/right_knee"]) / 2


def test_the_overall_pckh_agrees_with_a_loop_and_leaves_out_mpiis_pelvis_and_thorax(make_people):
    keypoint_set, people = KEYPOINT_SETS["mpii16"], make_people("mpii16")
    predictions = predictions_for(people, 9.0)
    predictions.keypoints_image[:, [6, 7]] += 500.0
    neck, top = keypoint_set.head_segment
    hits = []
    for row, person in enumerate(people):
        head = np.linalg.norm(person.keypoints_image[neck] - person.keypoints_image[top])
        for keypoint in range(16):
            distance = np.linalg.norm(predictions.keypoints_image[row, keypoint] - person.keypoints_image[keypoint])
            if keypoint not in (6, 7):
                hits.append(distance <= 0.5 * head)
    values = score(predictions, split_of(people), keypoint_set, SETTINGS)
    assert 0.3 < np.mean(hits) < 1
    assert values["pckh@0.5"] == pytest.approx(np.mean(hits), abs=1e-12)
    assert values["pckh@0.5/pelvis"] == 0.0
    assert values["pckh@0.5/unweighted"] == pytest.approx(np.mean(hits), abs=1e-12)  # as often labelled, all of them


def test_pckh_is_normalised_by_the_head_size_where_all_have_one(make_person):
    people = [make_person("mpii16", number, head_size=size) for number, size in enumerate((10.0, 20.0))]
    predictions = predictions_for(people, 0.0)
    predictions.keypoints_image[:, 0] += (6.0, 0.0)
    values = score(predictions, split_of(people), KEYPOINT_SETS["mpii16"], SETTINGS)
    assert values["pckh@0.5/right_ankle"] == 0.5
    assert values["pckh/left_out"] == 0.0


def test_head_sizes_make_a_pckh_of_a_set_without_a_head_segment(make_person):
    people = [make_person("coco17", head_size=10.0)]
    assert score(predictions_for(people, 0.0), split_of(people), KEYPOINT_SETS["coco17"], SETTINGS)["pckh@0.5"] == 1.0


def test_head_sizes_of_some_persons_only_are_refused(make_person):
    people = [make_person("mpii16", 0, head_size=10.0), make_person("mpii16", 1)]
    with pytest.raises(ValueError, match="head size of all persons or of none; 1 of 2 have one"):
        score(predictions_for(people, 0.0), split_of(people), KEYPOINT_SETS["mpii16"], SETTINGS)


def test_pck_is_normalised_by_left_shoulder_to_right_hip(make_people):
    keypoint_set, people = KEYPOINT_SETS["lsp14"], make_people("lsp14", 1)
    person = people[0]
    person.keypoints_image[9], person.keypoints_image[2] = (0.0, 0.0), (30.0, 40.0)  # torso of 50 pixels
    predictions = predictions_for(people, 0.0)
    predictions.keypoints_image[0, 0] += (9.9, 0.0)
    predictions.keypoints_image[0, 5] += (0.0, 10.1)
    values = score(predictions, split_of(people), keypoint_set, SETTINGS)
    assert values["pck@0.2/right_ankle"] == 1.0
    assert values["pck@0.2/left_ankle"] == 0.0
    assert values["pck@0.2"] == pytest.approx(13 / 14)


def test_persons_without_a_head_segment_are_left_out_and_counted(make_people):
    keypoint_set, people = KEYPOINT_SETS["lsp14"], make_people("lsp14")
    people[0].visibility[13] = 0
    people[1].keypoints_image[13] = people[1].keypoints_image[12]
    predictions = predictions_for(people, 0.0)
    predictions.keypoints_image[:2] += 500.0
    values = score(predictions, split_of(people), keypoint_set, SETTINGS)
    assert values["pckh@0.5"] == 1.0
    assert values["pckh/left_out"] == pytest.approx(2 / 20)
    assert values["pck@0.2"] < 1.0


def test_a_keypoint_nobody_has_gets_no_score(make_people):
    people = make_people("lsp14", 3)
    for person in people:
        person.visibility[0] = 0
    values = score(predictions_for(people, 0.0), split_of(people), KEYPOINT_SETS["lsp14"], SETTINGS)
    assert "pckh@0.5/right_ankle" not in values
    assert values["pckh@0.5/right_knee"] == 1.0


def test_nobody_has_no_score(make_person):
    nobody = Predictions(np.zeros((0, 16, 2)), np.zeros((0, 16)))
    values = score(nobody, Split(), KEYPOINT_SETS["mpii16"], SETTINGS)
    assert values == {"pckh/left_out": 0.0, "pck/left_out": 0.0}
    detected = Split(detected=[make_person("mpii16")])
    assert score_detected(predictions_for(detected.detected, 0.0), detected, KEYPOINT_SETS["mpii16"], SETTINGS) == {}


def test_persons_of_two_files_with_equal_image_ids_do_not_meet(make_person):
    """The same pose at the same place in two images: suppressed, or scored against each other, if they met."""
    people = [make_person(source=source, image_id=1) for source in (0, 1)]
    values = score(predictions_for(people, 0.0), split_of(people), KEYPOINT_SETS["coco17"], SETTINGS)
    assert values["ap"] == values["ar"] == 1.0
    apart = [people[0], make_person(number=5, source=1, image_id=1)]
    swapped = Predictions(predictions_for(apart, 0.0).keypoints_image[::-1], np.full((2, 17), 0.8))
    assert score(swapped, split_of(apart), KEYPOINT_SETS["coco17"], SETTINGS)["ar"] == 0.0


def test_average_precision_is_against_the_whole_annotation_file(make_person):
    """A detection in an image without persons is wrong, one on an ignored region is not."""
    keypoint_set, person = KEYPOINT_SETS["coco17"], make_person(number=1)
    stray = make_person(number=2, keypoints_image=person.keypoints_image)
    images = {(0, 1): ImageRecord(Path("1.png")), (0, 2): ImageRecord(Path("2.png"))}
    detected = [person, stray]
    predictions = Predictions(predictions_for(detected, 0.0).keypoints_image, np.array([[0.5] * 17, [0.9] * 17]))
    split = Split([person], images, (), detected)
    assert score_detected(predictions, split, keypoint_set, SETTINGS)["ap@det"] == pytest.approx(0.5)
    region = IgnoredRegion((0, 2), (0.0, 0.0, 100.0, 100.0), 10000.0, False)
    split = Split([person], images, [region], detected)
    assert score_detected(predictions, split, keypoint_set, SETTINGS)["ap@det"] == 1.0


def test_a_person_nobody_found_counts_against_recall_in_both_protocols(make_person):
    keypoint_set, people = KEYPOINT_SETS["coco17"], [make_person(number=number) for number in range(2)]
    split = split_of(people, detected=people[:1])
    assert score_detected(predictions_for(people[:1], 0.0), split, keypoint_set, SETTINGS)["ar@det"] == 0.5
    assert score(predictions_for(people, 0.0), split, keypoint_set, SETTINGS)["ar"] == 1.0


def test_box_scores_rank_detected_persons(make_person):
    people = [make_person(number=number) for number in range(2)]
    for box_scores, expected in (((0.9, 0.5), 51 / 101), ((0.5, 0.9), 0.5 * 51 / 101)):
        detected = [make_person(number=number, box_score=sure) for number, sure in enumerate(box_scores)]
        predictions = predictions_for(detected, 0.0)
        predictions.keypoints_image[1] += 500.0
        values = score_detected(predictions, split_of(people, detected=detected), KEYPOINT_SETS["coco17"], SETTINGS)
        assert values["ap50@det"] == pytest.approx(expected)


def test_predictions_of_another_number_are_refused(make_people):
    people = make_people("mpii16")
    for judge in (score, score_detected):
        with pytest.raises(ValueError, match="20 persons of keypoint set mpii16"):
            judge(
                predictions_for(people[:-1], 0.0), split_of(people, detected=people), KEYPOINT_SETS["mpii16"], SETTINGS
            )


def test_without_an_engine_there_is_no_average_precision_and_all_else(make_people, monkeypatch):
    monkeypatch.setattr(oks, "engine", lambda: None)
    for name in ("mpii16", "crowdpose14"):
        people = make_people(name)
        split = split_of(
            people, images={person.image_key: ImageRecord(person.image, crowd_index=0.5) for person in people}
        )
        values = score(predictions_for(people, 0.0), split, KEYPOINT_SETS[name], SETTINGS)
        assert not [key for key in values if key.startswith(("ap", "ar"))]
        assert values["pckh@0.5"] == 1.0


# ---------------------------------------------------------------- golden files through the scores of a training


def split_of_layout(layout, results):
    """A COCO file's persons, images and ignored regions, and its results as detected boxes of the score given."""
    instances, ignored = [], []
    for annotation in layout["annotations"]:
        triples = np.array(annotation["keypoints"], dtype=np.float32).reshape(-1, 3)
        key, box = (0, annotation["image_id"]), tuple(annotation["bbox"])
        area = annotation.get("area", 1.0)
        if annotation["iscrowd"] or not (triples[:, 2] > 0).any():
            ignored.append(IgnoredRegion(key, box, area, bool(annotation["iscrowd"])))
        else:
            shown = triples[:, :2], triples[:, 2].astype(np.int64)
            instances.append(PersonInstance(Path("x"), key[1], annotation["id"], box, area, *shown))
    detected = [
        PersonInstance(
            Path("x"), found["image_id"], row, (0.0, 0.0, 1.0, 1.0), 1.0, np.zeros(0), np.zeros(0), 0, found["score"]
        )
        for row, found in enumerate(results)
    ]
    images = {
        (0, image["id"]): ImageRecord(Path("x"), None, None, image.get("crowdIndex")) for image in layout["images"]
    }
    triples = np.array([found["keypoints"] for found in results], dtype=float).reshape(len(results), -1, 3)
    return Split(instances, images, ignored, detected), Predictions(triples[..., :2], np.ones(triples.shape[:2]))


def test_cocos_golden_values_are_met_by_the_scores_of_a_training(read_shared):
    expected = read_shared("golden/crowdpose/expected.json")["coco"]["pycocotools_2_0_11_and_xtcocotools_agree"]
    files = [read_shared(f"golden/crowdpose/example_coco_{name}.json") for name in ("val", "preds")]
    split, predictions = split_of_layout(*files)
    values = score_detected(predictions, split, KEYPOINT_SETS["coco17"], AS_LISTED)
    names = ("ap", "ap50", "ap75", "apm", "apl", "ar")
    assert [values[f"{name}@det"] for name in names] == pytest.approx(expected[:6], abs=1e-12)


def test_crowdposes_golden_values_are_met_by_the_scores_of_a_training(read_shared):
    expected = read_shared("golden/crowdpose/expected.json")["crowdpose"]["values"]
    files = [read_shared(f"golden/crowdpose/example_crowdpose_{name}.json") for name in ("val", "preds")]
    split, predictions = split_of_layout(*files)
    values = score_detected(predictions, split, KEYPOINT_SETS["crowdpose14"], AS_LISTED)
    found = [values[f"{name}@det"] for name in ("ap", "ap50", "ap75", "ar", "ap_easy", "ap_medium", "ap_hard")]
    assert found == pytest.approx([*expected[:4], *expected[6:]], abs=1e-12)


@pytest.mark.parametrize("threshold", ["0.5", "0.1"])
def test_mpiis_golden_values_are_met_by_the_scores_of_a_training(shared_data, threshold):
    io = pytest.importorskip("scipy.io")
    folder = shared_data / "golden" / "mpii"
    golden = json.loads((folder / "expected.json").read_text())[f"pckh_{threshold}"]
    truth = io.loadmat(folder / "gt_valid.mat")
    points, missing = truth["pos_gt_src"].transpose(2, 0, 1) - 1, truth["jnt_missing"].T
    corners = truth["headboxes_src"].transpose(2, 0, 1).astype(float)
    head_sizes = 0.6 * np.linalg.norm(corners[:, 1] - corners[:, 0], axis=-1)
    with np.load(folder / "hg_s2_b1_predictions.npz") as file:
        predictions = Predictions(file["pred"] - 1.0, np.ones((len(points), 16)))
    people = [
        PersonInstance(
            Path("x"),
            number,
            number,
            (0.0, 0.0, 1.0, 1.0),
            1.0,
            points[number].astype(np.float32),
            np.where(missing[number] == 0, 2, 0),
            head_size=float(head_sizes[number]),
        )
        for number in range(len(points))
    ]
    values = score(predictions, split_of(people), KEYPOINT_SETS["mpii16"], SETTINGS)
    prefix = f"pckh@{threshold}"
    expected = {f"{prefix}/{name}": value for name, value in golden.items() if not name.startswith("mean")}
    expected |= {prefix: golden["mean_weighted_by_visible"], f"{prefix}/unweighted": golden["mean_unweighted14"]}
    assert {name: round(100 * values[name], 4) for name in expected} == expected
