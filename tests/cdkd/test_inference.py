"""What a trained student is used for: its scores under both protocols, and the files that others score."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cdkd.config import SyntheticConfig, TrainingConfig, resolve
from cdkd.data.splits import draw_once
from cdkd.inference import evaluate_checkpoint, load_split
from cdkd.options import ConfigError, to_mapping
from cdkd.training import train

BOXES = ({"score": 0.9}, {"score": 0.4, "shift": 6.0}, {"score": 0.05, "shift": -4.0})
"""What the detector finds of every person: the annotated box, and two more beside it."""


def write_detections(annotations: Path, target: Path) -> None:
    found = []
    for record in json.loads(annotations.read_text())["annotations"]:
        left, top, width, height = record["bbox"]
        for box in BOXES:
            edges = [left + box.get("shift", 0.0), top, width, height]
            found.append({"image_id": record["image_id"], "category_id": 1, "bbox": edges, "score": box["score"]})
    target.write_text(json.dumps(found))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    """Drawn people as files in COCO layout; the validation file is also the test file, each with detector boxes."""
    root = tmp_path_factory.mktemp("people")
    drawn = resolve({"data": {"root": str(root), "keypoint_set": "mpii16"}}).data
    tiny = SyntheticConfig(train_images=32, val_images=12, image_size=96)
    folder = draw_once(type(drawn)(root=str(root), synthetic=tiny, keypoint_set="mpii16"))
    write_detections(folder / "val.json", folder / "boxes.json")
    tested = {"annotations": "val.json", "images": "val", "detections": "boxes.json"}
    return resolve(
        {
            "data": {
                "kind": "coco_layout",
                "root": str(folder),
                "train": [{"annotations": "train.json", "images": "train"}],
                "val": [tested],
                "test": [tested],
            },
            "student": {"backbone": "hrnet_w16", "input_size": 32},
            "simcc": {"split_ratio": 2.0},
            "train": {"epochs": 1, "batch_size": 16},
            "distill": {"sape": {"enabled": False}, "cca": {"enabled": False}},
            "evaluation": {"detection_threshold": 0.1, "oks_nms": 0.9},
            "runtime": {"threads": 1, "device": "cpu"},
        }
    )


@pytest.fixture(scope="module")
def trained(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, train(config, lambda _: False, folder=folder)


def statistics(annotations: Path, results: Path) -> list[float]:
    """COCOeval's own reading of a results file."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        from cdkd.keypoints import KEYPOINT_SETS

        evaluation.params.kpt_oks_sigmas = np.array(KEYPOINT_SETS["mpii16"].sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return list(evaluation.stats)


def test_both_box_protocols_are_scored_at_the_end_for_best_and_last(trained: tuple[Path, dict[str, float]]) -> None:
    summary = trained[1]
    scored = [f"{split}/{name}" for split in ("val", "test") for name in ("ap", "ap@det", "ar@det")]
    assert {f"{which}/{name}" for which in ("best", "final") for name in scored} <= summary.keys()
    assert summary["best/val/ap@det"] == summary["best/test/ap@det"], "both splits are the same file"
    assert summary["best/val/ap"] == summary["best/test/ap"]


def test_a_stored_student_scores_the_same_again(trained: tuple[Path, dict[str, float]]) -> None:
    folder, summary = trained
    scores = evaluate_checkpoint(folder, "test")
    assert {f"best/test/{name}": value for name, value in scores.items()} == pytest.approx(
        {name: value for name, value in summary.items() if name.startswith("best/test/")}, abs=1e-9
    )


def test_results_files_give_others_the_same_scores(
    config: TrainingConfig, trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    scores = evaluate_checkpoint(trained[0], "val", predictions=tmp_path)
    root = Path(config.data.root)
    for protocol, suffix in (("annotated", ""), ("detected", "@det")):
        stats = statistics(root / "val.json", tmp_path / f"val-{protocol}.json")
        expected = dict(zip(("ap", "ap50", "ap75"), stats, strict=False)) | {"ar": stats[5]}
        assert {name: scores[name + suffix] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_detector_boxes_below_the_threshold_are_left_out(config: TrainingConfig) -> None:
    assert {person.box_score for person in load_split(config, "val").detected} == {0.9, 0.4}


def test_mpiis_results_file_is_in_its_own_pixels(
    config: TrainingConfig, trained: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    root = Path(config.data.root)
    layout = json.loads((root / "val.json").read_text())
    names = {image["id"]: image["file_name"] for image in layout["images"]}
    people = []
    for record in layout["annotations"]:
        triples = np.array(record["keypoints"]).reshape(-1, 3)
        left, top, width, height = record["bbox"]
        people.append(
            {
                "image": names[record["image_id"]],
                "center": [left + width / 2, top + height / 2],
                "scale": max(width, height) / 200,
                "joints": triples[:, :2].tolist(),
                "joints_vis": (triples[:, 2] > 0).astype(int).tolist(),
            }
        )
    (root / "valid.json").write_text(json.dumps(people))
    changes: dict[str, Any] = {
        "data.kind": "mpii",
        "data.val": [{"annotations": "valid.json", "images": "val"}],
        "data.train": [{"annotations": "valid.json", "images": "val"}],
        "data.test": [],
    }
    scores = evaluate_checkpoint(trained[0], "val", changes, predictions=tmp_path)
    predicted = scipy.io.loadmat(str(tmp_path / "val-annotated.mat"))["preds"]
    assert predicted.shape == (len(people), 16, 2)
    truth = np.array([record["joints"] for record in people])
    labelled = np.array([record["joints_vis"] for record in people]) > 0
    head = np.linalg.norm(truth[:, 8] - truth[:, 9], axis=-1)
    counted = labelled & (labelled[:, 8] & labelled[:, 9])[:, None]
    counted[:, [6, 7]] = False
    right = np.linalg.norm(predicted - truth, axis=-1) <= 0.5 * head[:, None]
    assert scores["pckh@0.5"] == pytest.approx(right[counted].mean(), abs=1e-9)


def test_instances_are_stored_for_comparisons_person_by_person(
    config: TrainingConfig, trained: tuple[Path, dict[str, float]]
) -> None:
    folder, summary = trained
    with np.load(folder / "instances_test.npz") as stored:
        instances = dict(stored)
    assert set(instances) == {"image_id", "annotation_id", "score", "oks", "counted", "correct@0.5", "correct@0.1"}
    records = json.loads((Path(config.data.root) / "val.json").read_text())["annotations"]
    assert instances["annotation_id"].tolist() == [record["id"] for record in records]
    part = instances["correct@0.5"].sum() / instances["counted"].sum()
    assert part == pytest.approx(summary["best/test/pckh@0.5"], abs=1e-9)
    assert ((instances["oks"] >= 0) & (instances["oks"] <= 1)).all()


@pytest.mark.parametrize("name", ["keypoint_set", "tset"])
def test_there_is_no_other_split_to_evaluate(config: TrainingConfig, name: str) -> None:
    with pytest.raises(ConfigError, match="split: must be train, val or test"):
        load_split(config, name)


def test_an_empty_split_is_named(config: TrainingConfig) -> None:
    with pytest.raises(ConfigError, match=r"data\.test: the test split is empty"):
        load_split(resolve(to_mapping(config), {"data.test": []}), "test")


def test_a_threshold_above_every_detector_box_is_refused_before_the_training(
    config: TrainingConfig, tmp_path: Path
) -> None:
    strict = resolve(to_mapping(config), {"evaluation.detection_threshold": 0.95})
    with pytest.raises(ConfigError, match=r"detection_threshold: leaves no detector box: the best is scored 0\.9"):
        train(strict, lambda _: False, folder=tmp_path)


def test_predictions_that_cannot_be_written_are_refused_first(trained: tuple[Path, dict[str, float]]) -> None:
    with pytest.raises(ConfigError, match="predictions cannot be written here"):
        evaluate_checkpoint(trained[0], "val", predictions=trained[0] / "best.pt")


def test_one_split_is_read_without_the_files_of_the_others(config: TrainingConfig) -> None:
    gone = [{"annotations": "gone.json", "images": "gone"}]
    assert load_split(resolve(to_mapping(config), {"data.train": gone}), "val").instances
