"""OKS average precision against COCO's and CrowdPose's golden numbers and a slow loop."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cdkd.evaluation.oks import coco_statistics, oks_ap, person_score
from cdkd.keypoints import KEYPOINT_SETS

GOLDEN = Path(__file__).parents[4] / "shared" / "data" / "golden" / "crowdpose"
COCO = KEYPOINT_SETS["coco17"]


@dataclass(frozen=True)
class Person:
    """The fields that the scores read."""

    image_id: int
    box: tuple[float, float, float, float]
    area: float
    keypoints_image: np.ndarray
    visibility: np.ndarray


def people(count: int = 12, seed: int = 0, side: float = 80.0) -> list[Person]:
    """One person an image, about half of the keypoints labelled."""
    rng = np.random.default_rng(seed)
    persons = []
    for number in range(count):
        points = rng.uniform(0, side, (17, 2)).astype(np.float32)
        persons.append(Person(number, (0.0, 0.0, side, side), side * side, points, rng.integers(0, 3, 17)))
    return persons


def slow_oks(prediction: np.ndarray, person: Person) -> float:
    """OKS by its definition: mean of exp(-d^2 / (2 area (2 sigma)^2)) over labelled keypoints."""
    terms = []
    for keypoint in range(17):
        if person.visibility[keypoint] > 0:
            squared = float(((prediction[keypoint] - person.keypoints_image[keypoint]) ** 2).sum())
            terms.append(np.exp(-squared / (2 * person.area * (2 * COCO.sigmas[keypoint]) ** 2)))
    return float(np.mean(terms))


@pytest.fixture(scope="module")
def golden() -> Path:
    if not GOLDEN.is_dir():
        pytest.skip(f"real data is not at hand: {GOLDEN} does not exist")
    return GOLDEN


def read(path: Path):
    return json.loads(path.read_text())


def test_coco_statistics_gives_the_golden_values(golden, capsys):
    expected = read(golden / "expected.json")["coco"]["pycocotools_2_0_11_and_xtcocotools_agree"]
    truth, detections = read(golden / "example_coco_val.json"), read(golden / "example_coco_preds.json")
    assert coco_statistics(truth, detections, COCO.sigmas).tolist() == pytest.approx(expected, abs=1e-12)
    assert capsys.readouterr().out == ""


def test_crowdpose_sigmas_and_box_areas_give_crowdposes_golden_values(golden):
    values = read(golden / "expected.json")["crowdpose"]["values"]
    truth, detections = read(golden / "example_crowdpose_val.json"), read(golden / "example_crowdpose_preds.json")
    for annotation in truth["annotations"]:
        annotation["area"] = 0.53 * annotation["bbox"][2] * annotation["bbox"][3]
    result = coco_statistics(truth, detections, KEYPOINT_SETS["crowdpose14"].sigmas)
    assert [result[place] for place in (0, 1, 2, 5, 6, 7)] == pytest.approx(values[:6], abs=1e-12)


def test_recall_of_one_person_an_image_is_the_mean_over_thresholds_of_a_loops_oks():
    persons, rng = people(), np.random.default_rng(1)
    predictions = np.array([person.keypoints_image for person in persons], dtype=float)
    predictions += rng.normal(0, 1, predictions.shape) * rng.uniform(0.5, 9, (12, 1, 1))
    oks = [slow_oks(prediction, person) for prediction, person in zip(predictions, persons)]
    expected = np.mean([np.mean([value >= threshold for value in oks]) for threshold in np.arange(0.5, 0.96, 0.05)])
    assert 0.2 < expected < 0.9
    result = oks_ap(predictions, np.full((12, 17), 0.9), persons, COCO.sigmas)
    assert result["ar"] == pytest.approx(expected, abs=1e-12)


def test_perfect_predictions_score_one_and_absent_sizes_are_absent():
    persons = people()
    perfect = np.array([person.keypoints_image for person in persons])
    result = oks_ap(perfect, np.ones((12, 17)), persons, COCO.sigmas)
    assert result == {"ap": 1.0, "ap50": 1.0, "ap75": 1.0, "apm": 1.0, "ar": 1.0}


def test_unlabelled_keypoints_and_unlabelled_persons_do_not_count():
    persons = people()
    perfect = np.array([person.keypoints_image for person in persons])
    for row, person in enumerate(persons):
        perfect[row][person.visibility == 0] += 1000.0
    unlabelled = Person(0, (0.0, 0.0, 80.0, 80.0), 6400.0, np.full((17, 2), np.nan, np.float32), np.zeros(17, int))
    result = oks_ap(
        np.concatenate([perfect, np.full((1, 17, 2), 40.0)]), np.ones((13, 17)), [*persons, unlabelled], COCO.sigmas
    )
    assert result["ap"] == 1.0


def test_confident_persons_rank_first():
    persons, scores = people(count=2), np.full((2, 17), 0.5)
    predictions = np.array([person.keypoints_image for person in persons])
    predictions[1] += 500.0
    scores[0] = 0.9
    assert oks_ap(predictions, scores, persons, COCO.sigmas)["ap50"] == pytest.approx(51 / 101)
    scores[0] = 0.1
    assert oks_ap(predictions, scores, persons, COCO.sigmas)["ap50"] == pytest.approx(0.5 * 51 / 101)


def test_a_persons_score_is_the_mean_of_the_keypoint_scores_above_two_hundredths():
    assert person_score(np.array([0.02, 0.5, 0.7])) == pytest.approx(0.6)
    assert person_score(np.array([0.0, 0.01])) == 0.0


def test_nobody_has_no_average_precision():
    assert oks_ap(np.zeros((0, 17, 2)), np.zeros((0, 17)), [], COCO.sigmas) == {}


def test_arrays_that_do_not_fit_and_values_that_are_not_finite_are_refused():
    persons = people()
    with pytest.raises(ValueError, match="12 persons of 17 keypoints"):
        oks_ap(np.zeros((11, 17, 2)), np.zeros((11, 17)), persons, COCO.sigmas)
    with pytest.raises(ValueError, match="must be finite"):
        oks_ap(np.full((12, 17, 2), np.nan), np.zeros((12, 17)), persons, COCO.sigmas)
