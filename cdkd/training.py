"""`train(config, report)`: the one place where data, networks, losses and optimizers are put together.

Every random number of a training comes from a stream keyed by seed and purpose (cdkd.data.streams), so
a checkpoint holds no generator state: epoch 7 draws the same numbers whether or not the process was
killed after epoch 6.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cdkd.checkpoint import (
    CheckpointFolder,
    digest_of,
    load_tensors,
    save_tensors,
    write_arrays,
    write_json,
)
from cdkd.config import AugmentationConfig, RuntimeConfig, TrainConfig, TrainingConfig, resolve
from cdkd.data.dataset import PoseDataset, epoch_batches, load_batches
from cdkd.data.images import ImageCache, ImageSource
from cdkd.data.paths import pixel_cache_folder, teacher_cache_folder
from cdkd.data.pixel_cache import open_or_build
from cdkd.data.splits import Splits, load_splits
from cdkd.data.streams import torch_generator
from cdkd.distill.distiller import Distiller, build_distiller, build_optimizers
from cdkd.distill.teacher_cache import TeacherCache, identity_of
from cdkd.distributed import ALONE, World, agree, synchronise_batch_norm
from cdkd.engine import Arithmetic, Diverged, predict, run_step, train_one_epoch
from cdkd.evaluation.by_person import scores_of_persons
from cdkd.evaluation.cost import counting, evaluation_mode, macs, parameter_count, summary_gflops
from cdkd.evaluation.scores import Predictions, score, score_detected
from cdkd.heads.table import assemble_pose_net, build_pose_net
from cdkd.identity import semantic_mapping
from cdkd.instances import PersonInstance, Split
from cdkd.keypoints import KeypointSet
from cdkd.memory import forget_peak, give_back, peak_mb
from cdkd.models.folding import fold_batch_norm
from cdkd.models.pose import PoseNet
from cdkd.models.weights import WeightsError, load_backbone, load_pose_weights
from cdkd.options import ConfigError, ConfigProblem, to_mapping
from cdkd.step_size import learning_rate_factor

logger = logging.getLogger(__name__)

SUMMARY = "summary.json"
BEST = "best.pt"
LAST = "last.pt"


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did. `epoch` counts from 1; scores among the metrics are in [0, 1]."""

    epoch: int
    metrics: dict[str, float]


Report = Callable[[EpochReport], bool]
"""Called after every epoch; answers True to ask the training to stop."""


def train(
    config: TrainingConfig,
    report: Report,
    *,
    folder: Path,
    teacher_file: Path | None = None,
    world: World = ALONE,
) -> dict[str, float]:
    """Train one student (or, with distillation switched off, one plain network) and score it.

    The folder is this training's own: called again on it, the training goes on after its last
    complete epoch and first reports the epochs it finds there, with the same numbers. A checkpoint of
    another configuration is gone on with only where the two are the same training so far: where they
    differ in nothing but steps of the `schedule` after its epoch.

    Args:
        config: what to train.
        report: called on every worker after every epoch; the first worker's answer counts.
        folder: where checkpoints and results are kept; shared by all workers.
        teacher_file: trained teacher weights; required while a distillation loss is on.
        world: this process's place among the workers; the process group must exist when size > 1.

    Returns:
        `best/...` and `final/...` scores of validation and, where configured, test split, the network's
        cost and the seconds spent. Without test scores when `report` asked to stop before the last epoch.

    Raises:
        ConfigError: the configuration does not fit the data, the machine or what the folder holds.
        DataError: the data set is missing or broken.
        WeightsError: a weights file does not fit its network.
        Diverged: a loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = _finished(config, folder)
    if done is not None:
        for epoch, metrics in enumerate(done["history"], start=1):
            report(EpochReport(epoch, metrics))
        return dict(done["summary"])
    try:
        return Training(config, report, folder, teacher_file, world).run()
    finally:
        give_back()


def _finished(config: TrainingConfig, folder: Path) -> dict[str, Any] | None:
    path = folder / SUMMARY
    if not path.is_file():
        return None
    done: dict[str, Any] = json.loads(path.read_text())
    _require_same_training(config, resolve(done["config"]), path)
    return done


def _require_same_training(config: TrainingConfig, stored: TrainingConfig, path: Path) -> None:
    """Refuse to continue another training's files."""
    before, now = semantic_mapping(stored), semantic_mapping(config)
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        shown = ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")
        raise ConfigError([ConfigProblem("", f"{path} belongs to a training with other values of {shown}")])


def _require_score(config: TrainingConfig, split: Split, keypoint_set: KeypointSet) -> None:
    """Refuse, before any training, to select the best epoch by a score that these persons cannot have."""
    name, shape = config.evaluation.select, (len(split.instances), keypoint_set.count)
    nothing = Predictions(np.zeros((*shape, 2)), np.zeros(shape))
    known = score(nothing, split, keypoint_set, config.evaluation, box_padding=config.data.box_padding)
    if name not in known:
        listed = ", ".join(sorted(score_name for score_name in known if "/" not in score_name))
        problem = f"{name} is not a score of {keypoint_set.name}; it has {listed}"
        raise ConfigError([ConfigProblem("evaluation.select", problem)])


class Training:
    """The state of one training between its steps; `train` runs it, a pilot only times parts of it."""

    def __init__(
        self, config: TrainingConfig, report: Report, folder: Path, teacher_file: Path | None, world: World = ALONE
    ) -> None:
        if config.runtime.threads:
            torch.set_num_threads(config.runtime.threads)
        self.config = config
        self.report = report
        self.folder = folder
        self.world = world
        self.checkpoints = CheckpointFolder(folder)
        if config.train.batch_size % world.size:
            problem = f"must be a multiple of the {world.size} workers, got {config.train.batch_size}"
            raise ConfigError([ConfigProblem("train.batch_size", problem)])
        self.arithmetic = Arithmetic(choose_device(config.runtime.device), config.train.precision)
        self.splits = _with_strong_boxes(load_splits(config.data), config.evaluation.detection_threshold)
        self.keypoint_set: KeypointSet = self.splits.keypoint_set
        _require_score(config, self.splits.val, self.keypoint_set)
        self.images = open_images(config.runtime, self.splits)
        self.teacher_digest = ""
        self.distiller = self._build(teacher_file)
        self.teacher_cache = self._open_teacher_cache()
        self.optimizers = build_optimizers(self.distiller, config)
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0

    def _build(self, teacher_file: Path | None) -> Distiller:
        config = self.config
        teacher = None
        if config.needs_teacher:
            if teacher_file is None:
                raise ConfigError([ConfigProblem("teacher", "this training needs a teacher's weights and got none")])
            teacher, self.teacher_digest = load_teacher(config, teacher_file, self.keypoint_set)
        distiller = build_distiller(config, self.keypoint_set.count, teacher)
        if config.student.pretrained:
            load_backbone(distiller.student, Path(config.student.pretrained))
        if self.world.size > 1:
            synchronise_batch_norm(distiller)
        distiller.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return distiller.to(self.arithmetic.device)

    def _open_teacher_cache(self) -> TeacherCache | None:
        config = self.config
        if not config.needs_teacher or not config.runtime.teacher_cache_gb:
            return None
        identity = identity_of(config, self.teacher_digest, self.arithmetic.device)
        return TeacherCache(teacher_cache_folder(), int(config.runtime.teacher_cache_gb * 1e9), identity)

    def run(self) -> dict[str, float]:
        """Resume, train to the last epoch unless asked to stop, and score."""
        forget_peak(self.arithmetic.device)
        should_stop = self._resume()
        model = self._parallel()
        while not should_stop and len(self.history) < self.config.train.epochs:
            metrics = self._one_epoch(model, len(self.history) + 1)
            should_stop = self._close_epoch(metrics)
        if not self.history:
            return {}
        if len(self.history) < self.config.train.epochs:
            return self._summary() | self._cost()
        return self._finish()

    def _resume(self) -> bool:
        state = self.checkpoints.load()
        if state is None:
            return False
        history = json.loads(state["history"])
        stored = resolve(json.loads(state["config"]))
        _require_same_training(self.config.up_to(len(history)), stored.up_to(len(history)), self.folder)
        if state["teacher_digest"] != self.teacher_digest:
            raise ConfigError([ConfigProblem("teacher", f"{self.folder} was begun with another teacher's weights")])
        self.distiller.load_state_dict(state["distiller"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.history = history
        self.best_epoch = int(state["best_epoch"])
        answers = [self.report(EpochReport(epoch, metrics)) for epoch, metrics in enumerate(self.history, start=1)]
        return agree(any(answers))

    def _parallel(self) -> nn.Module:
        if self.world.size == 1:
            return self.distiller
        device = self.arithmetic.device
        return nn.parallel.DistributedDataParallel(self.distiller, [device] if device.type == "cuda" else None)

    def _one_epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        started = time.perf_counter()
        config = self._set_epoch(epoch)
        rate = learning_rate_factor(config.train, epoch)
        set_learning_rates(self.optimizers, rate)
        dataset = self.train_dataset(config.data.augmentation)
        dataset.set_epoch(epoch)
        batches = epoch_batches(
            len(dataset), config.train.batch_size, config.seed, epoch, self.world.rank, self.world.size
        )
        metrics = train_one_epoch(
            model,
            self.distiller,
            self.load(dataset, batches),
            self.optimizers,
            arithmetic=self.arithmetic,
            epoch=epoch,
            steps=len(batches),
            teacher_cache=self.teacher_cache,
        )
        if self.teacher_cache is not None:
            metrics["time/teacher_cached"] = self.teacher_cache.take_share()
        metrics["train/learning_rate"] = config.train.learning_rate * rate
        metrics |= with_prefix("val/", self._score(self.distiller.student, self.splits.val))
        metrics["time/peak_memory_mb"] = peak_mb(self.arithmetic.device)
        metrics["time/epoch_seconds"] = time.perf_counter() - started
        return metrics

    def train_dataset(self, augmentation: AugmentationConfig) -> PoseDataset:
        """The training examples in views of this augmentation."""
        return self._dataset(self.splits.train.instances, augmentation)

    def _set_epoch(self, epoch: int) -> TrainingConfig:
        """Put what the schedule and the curriculum say of an epoch in force; returns its configuration."""
        now, before = self.config.at_epoch(epoch), self.config.at_epoch(epoch - 1)
        self.distiller.follow(before, now)
        self.distiller.set_epoch(epoch - 1, now.train.epochs)
        set_base_rates(self.optimizers, now.train)
        return now

    def _dataset(self, instances: Sequence[PersonInstance], augmentation: AugmentationConfig | None) -> PoseDataset:
        """The persons as training examples, or without augmentation as those of a score."""
        config, is_training = self.config, augmentation is not None
        return PoseDataset(
            instances,
            self.keypoint_set,
            student_size=config.student.input_size,
            teacher_size=config.teacher.input_size if is_training and config.needs_teacher else None,
            box_padding=config.data.box_padding,
            warp=config.data.warp,
            augmentation=augmentation,
            seed=config.seed,
            image_cache=self.images,
        )

    def load(self, dataset: PoseDataset, batches: list[list[int]]) -> Iterator[dict[str, Tensor]]:
        """Batches of a data set, as this training loads them."""
        is_cuda = self.arithmetic.device.type == "cuda"
        return load_batches(dataset, batches, workers=self.config.runtime.loader_workers, pins_memory=is_cuda)

    def _score(self, net: PoseNet, split: Split, persons_file: Path | None = None) -> dict[str, float]:
        """Scores of a split; those of single persons go into a file, if one is given."""
        predictions = self.predict(net, split.instances)
        config = self.config
        if persons_file is not None and self.world.is_first:
            write_arrays(persons_file, scores_of_persons(predictions, split, self.keypoint_set, config.evaluation))
        return score(predictions, split, self.keypoint_set, config.evaluation, box_padding=config.data.box_padding)

    def _score_detected(self, net: PoseNet, split: Split) -> dict[str, float]:
        predictions = self.predict(net, split.detected)
        config = self.config
        return score_detected(
            predictions, split, self.keypoint_set, config.evaluation, box_padding=config.data.box_padding
        )

    def predict(self, net: PoseNet, persons: Sequence[PersonInstance]) -> Predictions:
        """Keypoints of persons, as this training scores them.

        Raises:
            Diverged: a score is not finite.
        """
        dataset = self._dataset(persons, augmentation=None)
        size = self.config.evaluation.batch_size
        mine = list(range(self.world.rank, len(dataset), self.world.size))
        batches = [mine[start : start + size] for start in range(0, len(mine), size)]
        predictions = predict(
            net,
            self.load(dataset, batches),
            arithmetic=self.arithmetic,
            codec=self.distiller.codec,
            evaluation=self.config.evaluation,
            keypoint_set=self.keypoint_set,
        )
        if not np.isfinite(predictions.scores).all():  # the epoch's last step has ruined the weights
            raise Diverged("task", len(self.history) + 1)
        return predictions

    def _close_epoch(self, metrics: dict[str, float]) -> bool:
        """Put the epoch on disk, then report it; True when the training is to stop."""
        selected = f"val/{self.config.evaluation.select}"
        self.history.append(metrics)
        epoch = len(self.history)
        is_best = self.best_epoch == 0 or metrics[selected] > self.history[self.best_epoch - 1][selected]
        if is_best:
            self.best_epoch = epoch
        if self.world.is_first:
            if is_best:
                self._export(BEST, epoch)
            self.checkpoints.save(self._state(), epoch)
        if self.world.size > 1:
            dist.barrier()
        return agree(self.report(EpochReport(epoch, metrics)))

    def _state(self) -> dict[str, Any]:
        return {
            "config": json.dumps(to_mapping(self.config)),
            "teacher_digest": self.teacher_digest,
            "distiller": self.distiller.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "history": json.dumps(self.history),
            "best_epoch": self.best_epoch,
        }

    def _export(self, name: str, epoch: int) -> None:
        """Write the student as a file that `load_student` and the public tools of its kind can read."""
        state = {
            "state_dict": self.distiller.student.state_dict(),
            "config": json.dumps(to_mapping(self.config)),
            "epoch": epoch,
        }
        save_tensors(self.folder / name, state)

    def _summary(self) -> dict[str, float]:
        summary = {"best/epoch": float(self.best_epoch), "final/epoch": float(len(self.history))}
        summary |= _scores_of("best/", self.history[self.best_epoch - 1])
        summary |= _scores_of("final/", self.history[-1])
        seconds = [metrics["time/epoch_seconds"] for metrics in self.history]
        summary["train_seconds"] = sum(seconds)
        summary["epoch_seconds"] = sum(seconds) / len(seconds)
        summary["peak_memory_mb"] = max(metrics["time/peak_memory_mb"] for metrics in self.history)
        selected = [metrics[f"val/{self.config.evaluation.select}"] for metrics in self.history]
        summary["converged_epoch"] = float(converged_epoch(selected))
        return summary

    def _finish(self) -> dict[str, float]:
        summary = self._summary() | self._cost()
        if self.world.is_first:
            self._export(LAST, len(self.history))
        summary |= self._last_scores("final")
        self.distiller.student.load_state_dict(load_tensors(self.folder / BEST)["state_dict"])
        summary |= self._last_scores("best")
        if self.world.is_first:
            content = {
                "config": to_mapping(self.config),
                "summary": summary,
                "history": self.history,
                "sha256": {name: digest_of(self.folder / name) for name in (BEST, LAST)},
            }
            write_json(self.folder / SUMMARY, content)
        if self.world.size > 1:
            dist.barrier()
        return summary

    def _cost(self) -> dict[str, float]:
        example = self.train_dataset(self.config.data.augmentation).batch([0])
        return cost_of(self.config, self.keypoint_set) | training_cost(
            self.config, self.keypoint_set, self.distiller, example
        )

    def _last_scores(self, which: str) -> dict[str, float]:
        """What is scored once, at the end: the test split, and every split's boxes of a person detector.

        Of the best epoch the scores of single persons are kept too.
        """
        student = self.distiller.student
        scores: dict[str, float] = {}
        for name, split in (("val", self.splits.val), ("test", self.splits.test)):
            stores = which == "best"
            if split.instances and (name == "test" or stores):
                found = self._score(student, split, self.folder / f"instances_{name}.npz" if stores else None)
                scores |= with_prefix(f"{which}/{name}/", found)
            if split.instances and split.detected:
                scores |= with_prefix(f"{which}/{name}/", self._score_detected(student, split))
        return scores


def open_images(runtime: RuntimeConfig, splits: Splits) -> ImageSource:
    """Where a training's images come from: the file of decoded ones, built if it is not there, or their own files.

    Raises:
        DataError: an image cannot be read, or there is no room for the file.
    """
    if runtime.crop_cache:
        return open_or_build(pixel_cache_folder(), images_of(splits))
    images = ImageCache(runtime.cache_images)
    if runtime.loader_workers and runtime.cache_images:
        # Before loader processes fork: what they decode themselves is lost with them at the epoch's end.
        images.preload(person.image for person in (*splits.train.instances, *splits.val.instances))
    return images


def images_of(splits: Splits) -> Iterator[Path]:
    """Every image that a training looks at, once for each person."""
    for split in (splits.train, splits.val, splits.test):
        yield from (person.image for person in (*split.instances, *split.detected))


def without_weak_boxes(split: Split, threshold: float) -> Split:
    """The split without detector boxes scored below the threshold.

    Raises:
        ConfigError: there were boxes and none is left.
    """
    kept = [person for person in split.detected if person.box_score >= threshold]
    if split.detected and not kept:
        best = max(person.box_score for person in split.detected)
        problem = f"leaves no detector box: the best is scored {best:g}, got {threshold:g}"
        raise ConfigError([ConfigProblem("evaluation.detection_threshold", problem)])
    return replace(split, detected=kept)


def _with_strong_boxes(splits: Splits, threshold: float) -> Splits:
    val, test = (without_weak_boxes(split, threshold) for split in (splits.val, splits.test))
    return replace(splits, val=val, test=test)


def _scores_of(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in metrics.items() if name.startswith("val/")}


def with_prefix(prefix: str, scores: Mapping[str, float]) -> dict[str, float]:
    """The same numbers under prefixed names."""
    return {prefix + name: value for name, value in scores.items()}


def set_base_rates(optimizers: Sequence[torch.optim.Optimizer], train: TrainConfig) -> None:
    """Set the base step size and the weight decay of student and SAPE; the learned scalars have their own."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        if "name" in group:
            group["initial_lr"], group["weight_decay"] = train.learning_rate, train.weight_decay


def set_learning_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's step size to its base value, kept in `initial_lr`, times the factor."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor * group.get("lr_scale", 1.0)


def choose_device(name: str) -> torch.device:
    """The device of a configuration's `runtime.device`.

    Raises:
        ConfigError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError([ConfigProblem("runtime.device", f"{name!r} is not a device of this machine")]) from None
    return device


def load_teacher(config: TrainingConfig, file: Path, keypoint_set: KeypointSet) -> tuple[PoseNet, str]:
    """The frozen teacher of a configuration, strictly loaded, and the SHA-256 of its file.

    Raises:
        WeightsError: the file is missing, damaged or of another architecture.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: no such teacher file")
    digest = digest_of(file)
    recorded = _recorded_digest(file)
    if recorded is not None and recorded != digest:
        raise WeightsError(f"{file}: SHA-256 differs from the one recorded when it was trained; train it again")
    generator = torch_generator(config.teacher.seed, "teacher")
    teacher = build_pose_net(config.for_teacher(), keypoint_set.count, generator=generator)
    load_pose_weights(teacher, file)
    fold_batch_norm(teacher.eval())
    return teacher, digest


def _recorded_digest(file: Path) -> str | None:
    summary = file.with_name(SUMMARY)
    if not summary.is_file():
        return None
    digests: dict[str, str] = json.loads(summary.read_text()).get("sha256", {})
    return digests.get(file.name)


def cost_of(config: TrainingConfig, keypoint_set: KeypointSet) -> dict[str, float]:
    """What is deployed, the student: parameters (millions), true multiply-adds (1e9), HRNet-summary GFLOPs."""
    with torch.device("meta"):
        net = assemble_pose_net(config, keypoint_set.count)
    size = config.student.input_size
    return {
        "params_m": parameter_count(net) / 1e6,
        "gmacs": macs(net, size) / 1e9,
        "gflops": summary_gflops(net, size),
    }


def training_cost(
    config: TrainingConfig, keypoint_set: KeypointSet, distiller: Distiller, example: Mapping[str, Tensor]
) -> dict[str, float]:
    """What is there for the training alone, as in `cost_of`: the teacher, and the distiller's own layers (adapters).

    Args:
        config: of the training.
        keypoint_set: its keypoints.
        distiller: whose adapters are counted while it looks at the example; nothing of it is changed.
        example: one collated training example.
    """
    teacher = cost_of(config.for_teacher(), keypoint_set) if config.needs_teacher else {}
    adapters = [part for part in (distiller.feature_aligner, distiller.logit_aligner) if part is not None]
    with evaluation_mode(distiller), counting(*adapters) as layers, torch.no_grad():
        run_step(distiller, example, Arithmetic(next(distiller.student.parameters()).device))
    return {
        **{f"teacher_{name}": teacher.get(name, 0.0) for name in ("params_m", "gmacs", "gflops")},
        "adapter_params_m": sum(map(parameter_count, adapters)) / 1e6,
        "adapter_gmacs": sum(layer.macs for layer in layers) / 1e9,
    }


CONVERGED = 0.005
"""A training has converged at the first epoch whose validation score is this close to its best (half a point)."""


def converged_epoch(scores: Sequence[float]) -> int:
    """The first epoch, from 1, that is within CONVERGED of the best score of all."""
    best = max(scores)
    return next(epoch for epoch, value in enumerate(scores, start=1) if value >= best - CONVERGED)
