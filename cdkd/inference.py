"""What a trained student is used for: predictions, scores, results files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdkd.checkpoint import CheckpointError, load_tensors
from cdkd.config import TrainingConfig, resolve
from cdkd.data.dataset import PoseDataset, load_batches
from cdkd.data.images import ImageCache
from cdkd.data.splits import load_split as read_split
from cdkd.data.streams import torch_generator
from cdkd.engine import Arithmetic, predict
from cdkd.evaluation.results import coco_results, write_coco_results, write_mpii_results
from cdkd.evaluation.scores import Predictions, score, score_detected
from cdkd.heads.table import build_codec, build_pose_net
from cdkd.instances import PersonInstance, Split
from cdkd.keypoints import KEYPOINT_SETS, KeypointSet
from cdkd.models.pose import PoseNet
from cdkd.models.weights import load_pose_weights
from cdkd.options import ConfigError, ConfigProblem
from cdkd.training import BEST, choose_device, without_weak_boxes

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class TrainedStudent:
    """A network read back from a checkpoint, with what is needed to use it."""

    net: PoseNet
    config: TrainingConfig
    keypoint_set: KeypointSet
    epoch: int


def load_student(file: Path, overrides: Mapping[str, Any] | None = None) -> TrainedStudent:
    """Read a `best.pt` or `last.pt`, or the folder that holds them (its `best.pt`).

    Raises:
        CheckpointError: missing, damaged, or not written by this program.
        ConfigError: an override is wrong.
    """
    path = file / BEST if file.is_dir() else file
    state = load_tensors(path)
    if not {"state_dict", "config", "epoch"} <= state.keys():
        raise CheckpointError(f"{path}: holds no configuration; expected a best.pt or last.pt of a training")
    config = resolve(json.loads(state["config"]), overrides or {})
    keypoint_set = KEYPOINT_SETS[config.data.keypoint_set]
    net = build_pose_net(config, keypoint_set.count, generator=torch_generator(config.seed, "student"))
    load_pose_weights(net, path)
    return TrainedStudent(net.eval(), config, keypoint_set, int(state["epoch"]))


def load_split(config: TrainingConfig, name: str) -> Split:
    """One split of a configuration's data set, without the detector boxes that it leaves out.

    Raises:
        ConfigError: no such split, or nobody is in it.
    """
    if name not in SPLITS:
        raise ConfigError([ConfigProblem("split", f"must be train, val or test, got {name!r}")])
    split = without_weak_boxes(read_split(config.data, name), config.evaluation.detection_threshold)
    if not split.instances and not split.detected:
        raise ConfigError([ConfigProblem(f"data.{name}", f"the {name} split is empty")])
    return split


def evaluate_checkpoint(
    file: Path, split: str = "val", overrides: Mapping[str, Any] | None = None, *, predictions: Path | None = None
) -> dict[str, float]:
    """Scores of a trained student on one split (`train`, `val` or `test`) of its data set.

    Args:
        file: checkpoint, or the folder that holds it.
        split: which split.
        overrides: options, by dotted path, other than the checkpoint's.
        predictions: folder for the predictions in the data set's submission format: `<split>-annotated` and, of a
            detector's boxes, `<split>-detected`. None: they are not written.

    Returns:
        As `cdkd.evaluation.scores.score`, and as `score_detected` where the split has a detector's boxes; empty
        where the labels are withheld.

    Raises:
        ConfigError: no such split, nobody is in it, or its predictions cannot be written.
    """
    student = load_student(file, overrides)
    chosen = load_split(student.config, split)
    if predictions is not None:
        make_folder(predictions)
    scores: dict[str, float] = {}
    for protocol, persons, score_of in (
        ("annotated", chosen.instances, score),
        ("detected", chosen.detected, score_detected),
    ):
        if not persons:
            continue
        found = predict_instances(student, persons)
        padding = student.config.data.box_padding
        scores |= score_of(found, chosen, student.keypoint_set, student.config.evaluation, box_padding=padding)
        if predictions is not None:
            write_predictions(predictions, f"{split}-{protocol}", student, persons, found)
    return scores


def make_folder(folder: Path) -> None:
    """Make a folder for predictions, before they cost any time.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"{folder}: predictions cannot be written here: {error.strerror}"
        raise ConfigError([ConfigProblem("", problem)]) from None


def write_predictions(
    folder: Path, name: str, student: TrainedStudent, persons: Sequence[PersonInstance], found: Predictions
) -> list[Path]:
    """Write predictions as the official tools of the data set read them; one file for each annotation file.

    Raises:
        ConfigError: MPII's file has a place for every person, and some were left out.
    """
    config, written = student.config, []
    sources = sorted({person.source for person in persons})
    for source in sources:
        stem = name if len(sources) == 1 else f"{name}-{source}"
        rows = [row for row, person in enumerate(persons) if person.source == source]
        if config.data.kind == "mpii":
            if [persons[row].annotation_id for row in rows] != list(range(len(rows))):
                problem = "MPII's results file needs every person of the annotation file, and some were left out"
                raise ConfigError([ConfigProblem("data.on_bad_record", problem)])
            written.append(folder / f"{stem}.mat")
            write_mpii_results(written[-1], found.keypoints_image[rows])
        else:
            written.append(folder / f"{stem}.json")
            results = coco_results(
                persons,
                found,
                student.keypoint_set,
                config.evaluation,
                box_padding=config.data.box_padding,
                source=source,
            )
            write_coco_results(written[-1], results)
    return written


def predict_instances(student: TrainedStudent, instances: Sequence[PersonInstance]) -> Predictions:
    """Keypoints of persons in images, by a trained student."""
    config = student.config
    arithmetic = Arithmetic(choose_device(config.runtime.device), config.train.precision)
    dataset = PoseDataset(
        instances,
        student.keypoint_set,
        student_size=config.student.input_size,
        teacher_size=None,
        box_padding=config.data.box_padding,
        warp=config.data.warp,
        augmentation=None,
        seed=config.seed,
        image_cache=ImageCache(False),
    )
    size = config.evaluation.batch_size
    batches = [range(start, min(start + size, len(dataset))) for start in range(0, len(dataset), size)]
    return predict(
        student.net.to(arithmetic.device),
        load_batches(dataset, batches),
        arithmetic=arithmetic,
        codec=build_codec(config),
        evaluation=config.evaluation,
        keypoint_set=student.keypoint_set,
    )
