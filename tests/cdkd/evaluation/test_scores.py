"""The scores that studies name."""

from dataclasses import dataclass

import numpy as np
import pytest

from cdkd.config import SCORES
from cdkd.evaluation.scores import Predictions, score
from cdkd.keypoints import KEYPOINT_SETS, KeypointSet


@dataclass(frozen=True)
class Person:
    """The fields that the scores read."""

    image_id: int
    box: tuple[float, float, float, float]
    area: float
    keypoints_image: np.ndarray
    visibility: np.ndarray


def people(keypoint_set: KeypointSet, count: int = 20, seed: int = 0) -> list[Person]:
    rng = np.random.default_rng(seed)
    shape = (keypoint_set.count, 2)
    return [
        Person(
            number,
            (0.0, 0.0, 100.0, 100.0),
            10000.0,
            rng.uniform(0, 100, shape).astype(np.float32),
            np.full(keypoint_set.count, 2),
        )
        for number in range(count)
    ]


def predictions_for(persons: list[Person], spread: float, seed: int = 1) -> Predictions:
    truth = np.array([person.keypoints_image for person in persons], dtype=float)
    noise = np.random.default_rng(seed).normal(0, 1, truth.shape) * spread
    return Predictions(truth + noise, np.full(truth.shape[:2], 0.8))


@pytest.mark.parametrize("name", sorted(KEYPOINT_SETS))
def test_perfect_predictions_score_one_everywhere_as_plain_floats(name):
    keypoint_set = KEYPOINT_SETS[name]
    persons = people(keypoint_set)
    values = score(predictions_for(persons, 0.0), persons, keypoint_set)
    assert {type(value) for value in values.values()} == {float}
    left_out = {key: value for key, value in values.items() if key.endswith("/left_out")}
    assert set(left_out.values()) == {0.0}
    assert {value for key, value in values.items() if key not in left_out} == {1.0}
    expected = set(SCORES) if keypoint_set.head_segment else set(SCORES) - {"pckh@0.5", "pckh@0.1"}
    assert {key for key in values if "/" not in key} - {"apm", "apl"} == expected
    assert {f"pck@0.2/{keypoint}" for keypoint in keypoint_set.names} <= set(values)


def test_a_set_without_a_head_segment_has_no_pckh():
    persons = people(KEYPOINT_SETS["coco17"])
    values = score(predictions_for(persons, 1.0), persons, KEYPOINT_SETS["coco17"])
    assert not [key for key in values if key.startswith("pckh")]


def test_the_overall_pckh_agrees_with_a_loop_and_leaves_out_mpiis_pelvis_and_thorax():
    keypoint_set = KEYPOINT_SETS["mpii16"]
    persons = people(keypoint_set)
    predictions = predictions_for(persons, 9.0)
    predictions.keypoints_image[:, [6, 7]] += 500.0
    neck, top = keypoint_set.head_segment
    hits = []
    for row, person in enumerate(persons):
        head = np.linalg.norm(person.keypoints_image[neck] - person.keypoints_image[top])
        for keypoint in range(16):
            distance = np.linalg.norm(predictions.keypoints_image[row, keypoint] - person.keypoints_image[keypoint])
            if keypoint not in (6, 7):
                hits.append(distance <= 0.5 * head)
    values = score(predictions, persons, keypoint_set)
    assert 0.3 < np.mean(hits) < 1
    assert values["pckh@0.5"] == pytest.approx(np.mean(hits), abs=1e-12)
    assert values["pckh@0.5/pelvis"] == 0.0
    assert values["pckh@0.1"] < values["pckh@0.5"]


def test_pck_is_normalised_by_left_shoulder_to_right_hip():
    keypoint_set = KEYPOINT_SETS["lsp14"]
    person = people(keypoint_set, count=1)[0]
    person.keypoints_image[9], person.keypoints_image[2] = (0.0, 0.0), (30.0, 40.0)  # torso of 50 pixels
    predictions = predictions_for([person], 0.0)
    predictions.keypoints_image[0, 0] += (9.9, 0.0)
    predictions.keypoints_image[0, 5] += (0.0, 10.1)
    values = score(predictions, [person], keypoint_set)
    assert values["pck@0.2/right_ankle"] == 1.0
    assert values["pck@0.2/left_ankle"] == 0.0
    assert values["pck@0.2"] == pytest.approx(13 / 14)


def test_persons_without_a_head_segment_are_left_out_and_counted():
    keypoint_set = KEYPOINT_SETS["lsp14"]
    persons = people(keypoint_set)
    persons[0].visibility[13] = 0
    persons[1].keypoints_image[13] = persons[1].keypoints_image[12]
    predictions = predictions_for(persons, 0.0)
    predictions.keypoints_image[:2] += 500.0
    values = score(predictions, persons, keypoint_set)
    assert values["pckh@0.5"] == 1.0
    assert values["pckh/left_out"] == pytest.approx(2 / 20)
    assert values["pck@0.2"] < 1.0


def test_a_keypoint_nobody_has_gets_no_score():
    keypoint_set = KEYPOINT_SETS["lsp14"]
    persons = people(keypoint_set, count=3)
    for person in persons:
        person.visibility[0] = 0
    values = score(predictions_for(persons, 0.0), persons, keypoint_set)
    assert "pckh@0.5/right_ankle" not in values
    assert values["pckh@0.5/right_knee"] == 1.0


def test_nobody_has_no_score():
    keypoint_set = KEYPOINT_SETS["mpii16"]
    nobody = Predictions(np.zeros((0, 16, 2)), np.zeros((0, 16)))
    assert score(nobody, [], keypoint_set) == {"pckh/left_out": 0.0, "pck/left_out": 0.0}


def test_predictions_of_another_number_are_refused():
    keypoint_set = KEYPOINT_SETS["mpii16"]
    persons = people(keypoint_set)
    with pytest.raises(ValueError, match="20 persons of keypoint set mpii16"):
        score(predictions_for(persons[:-1], 0.0), persons, keypoint_set)


def test_a_prediction_that_is_not_finite_is_refused():
    keypoint_set = KEYPOINT_SETS["mpii16"]
    persons = people(keypoint_set)
    predictions = predictions_for(persons, 0.0)
    predictions.keypoints_image[3, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        score(predictions, persons, keypoint_set)
