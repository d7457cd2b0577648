"""Results files: what is written is what is scored, and other tools read the same numbers from it."""

import json
from pathlib import Path

import numpy as np
import pytest

from cdkd.config import EvaluationConfig
from cdkd.evaluation.crowdpose import crowdpose_statistics
from cdkd.evaluation.pck import mpii_pckh
from cdkd.evaluation.predictions import Predictions
from cdkd.evaluation.results import coco_results, write_coco_results, write_mpii_results
from cdkd.evaluation.scores import score, score_detected
from cdkd.instances import ImageRecord, Split
from cdkd.keypoints import KEYPOINT_SETS

SETTINGS = EvaluationConfig()
COCO = KEYPOINT_SETS["coco17"]


def predictions_for(people, spread=4.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.array([person.keypoints_image for person in people], dtype=float)
    return Predictions(truth + rng.normal(0, spread, truth.shape), rng.uniform(0, 1, truth.shape[:2]))


def split_of(people, detected=()):
    images = {person.image_key: ImageRecord(person.image, crowd_index=0.1 * person.image_id) for person in people}
    return Split(people, images, (), detected)


def layout_of(people):
    """The annotation file of the people, written by hand."""
    annotations = [
        {
            "id": number,
            "image_id": person.image_id,
            "category_id": 1,
            "bbox": list(person.box),
            "area": person.area,
            "iscrowd": 0,
            "num_keypoints": int((person.visibility > 0).sum()),
            "keypoints": np.column_stack([person.keypoints_image, person.visibility]).ravel().astype(float).tolist(),
        }
        for number, person in enumerate(people, start=1)
    ]
    images = [{"id": image, "crowdIndex": 0.1 * image} for image in sorted({person.image_id for person in people})]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def test_a_result_has_the_files_image_id_all_keypoints_and_the_rescored_score(make_person):
    person = make_person(number=42, box_score=0.5)
    predictions = Predictions(np.arange(34.0).reshape(1, 17, 2), np.array([[0.01] * 2 + [0.8] * 15]))
    (result,) = coco_results([person], predictions, COCO, SETTINGS)
    assert (result["image_id"], result["category_id"]) == (42, 1)
    assert result["score"] == pytest.approx(0.4)
    assert result["keypoints"][:9] == [0.0, 1.0, 0.01, 2.0, 3.0, 0.01, 4.0, 5.0, 0.8]
    assert len(result["keypoints"]) == 51


def test_of_two_predictions_of_one_person_the_surer_is_written(make_person):
    people = [make_person(box_score=score) for score in (0.3, 0.9)]
    predictions = predictions_for(people, spread=0.0)
    predictions.scores[:] = 1.0
    assert [result["score"] for result in coco_results(people, predictions, COCO, SETTINGS)] == [0.9]
    both = coco_results(people, predictions, COCO, EvaluationConfig(oks_nms=1.0))
    assert [result["score"] for result in both] == [0.3, 0.9]


def test_a_wider_padding_makes_predictions_more_alike(make_person):
    people = [make_person(box_score=score) for score in (0.3, 0.9)]
    predictions = predictions_for(people, spread=0.0)
    predictions.keypoints_image[1] += 4.0
    assert len(coco_results(people, predictions, COCO, SETTINGS, box_padding=1.25)) == 2
    assert len(coco_results(people, predictions, COCO, SETTINGS, box_padding=2.5)) == 1


def test_results_are_of_one_annotation_file(make_person):
    people = [make_person(number=number, source=number % 2) for number in range(4)]
    predictions = predictions_for(people)
    for source, expected in ((0, [0, 2]), (1, [1, 3])):
        found = coco_results(people, predictions, COCO, SETTINGS, source=source)
        assert [result["image_id"] for result in found] == expected
        assert found[0]["keypoints"][0] == predictions.keypoints_image[expected[0], 0, 0]


def test_pycocotools_reads_the_scores_from_the_written_file(make_person, peer, tmp_path):
    people = [make_person(number=number) for number in range(12) for _ in range(2)]
    predictions = predictions_for(people)
    file = tmp_path / "new" / "results.json"
    write_coco_results(file, coco_results(people, predictions, COCO, SETTINGS))
    found = peer(layout_of(people), json.loads(file.read_text()), COCO.sigmas)
    values = score(predictions, split_of(people), COCO, SETTINGS)
    names = ("ap", "ap50", "ap75", "apm", "apl", "ar")
    assert [values.get(name, -1.0) for name in names] == pytest.approx(found[:6], abs=1e-12)
    assert 0.1 < values["ap"] < 0.9
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]


def test_a_detectors_results_score_as_the_written_file_does(make_person, peer):
    people = [make_person(number=number) for number in range(6)]
    detected = [make_person(number=number % 6, box_score=1 / (1 + number)) for number in range(15)]
    predictions = predictions_for(detected)
    found = peer(layout_of(people), coco_results(detected, predictions, COCO, SETTINGS), COCO.sigmas)
    values = score_detected(predictions, split_of(people, detected), COCO, SETTINGS)
    assert values["ap@det"] == pytest.approx(found[0], abs=1e-12)


def test_crowdposes_evaluation_reads_the_scores_from_the_results(make_person):
    keypoint_set = KEYPOINT_SETS["crowdpose14"]
    people = [make_person("crowdpose14", number=number, area=1.0) for number in range(11)]
    predictions = predictions_for(people)
    found = crowdpose_statistics(layout_of(people), coco_results(people, predictions, keypoint_set, SETTINGS))
    values = score(predictions, split_of(people), keypoint_set, SETTINGS)
    names = ("ap", "ap50", "ap75", "ar", "ap_easy", "ap_medium", "ap_hard")
    assert [values[name] for name in names] == [found[name] for name in names]


def test_numbers_that_json_does_not_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_coco_results(tmp_path / "results.json", [{"score": float("nan")}])
    assert not list(tmp_path.iterdir())


def test_predictions_of_others_are_refused(make_person):
    with pytest.raises(ValueError, match="2 persons of keypoint set coco17"):
        coco_results([make_person()] * 2, Predictions(np.zeros((1, 17, 2)), np.zeros((1, 17))), COCO, SETTINGS)


def test_mpiis_file_holds_one_based_pixels_in_the_persons_order(tmp_path):
    io = pytest.importorskip("scipy.io")
    points = np.random.default_rng(0).uniform(0, 900, (5, 16, 2))
    file = tmp_path / "pred.mat"
    write_mpii_results(file, points)
    assert np.array_equal(io.loadmat(file)["preds"], points + 1)
    assert list(tmp_path.iterdir()) == [file]


def test_mpiis_file_scores_as_the_golden_predictions_do(shared_data: Path, tmp_path):
    io = pytest.importorskip("scipy.io")
    folder = shared_data / "golden" / "mpii"
    truth = io.loadmat(folder / "gt_valid.mat")
    golden = json.loads((folder / "expected.json").read_text())["pckh_0.5"]
    with np.load(folder / "hg_s2_b1_predictions.npz") as file:
        write_mpii_results(tmp_path / "pred.mat", file["pred"] - 1)
    values = mpii_pckh(
        io.loadmat(tmp_path / "pred.mat")["preds"],
        truth["pos_gt_src"].transpose(2, 0, 1),
        truth["jnt_missing"].T,
        truth["headboxes_src"].transpose(2, 0, 1),
        0.5,
    )
    assert round(100 * values["mean"], 4) == golden["mean_weighted_by_visible"]


def test_mpiis_file_is_of_sixteen_keypoints(tmp_path):
    with pytest.raises(ValueError, match=r"must be \(N, 16, 2\), got \(5, 14, 2\)"):
        write_mpii_results(tmp_path / "pred.mat", np.zeros((5, 14, 2)))
