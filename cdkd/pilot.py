"""A pilot: a few steps of a training, from which the time of the whole is foretold.

`python -m cdkd.pilot FILE` reads configurations as a JSON list and prints their timings as JSON lines, so that
several pilots can run side by side, as the trainings themselves will.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from cdkd.checkpoint import save_tensors
from cdkd.config import TrainingConfig
from cdkd.data.dataset import epoch_batches
from cdkd.data.streams import torch_generator
from cdkd.engine import RATIO_STEPS, train_one_epoch
from cdkd.heads.table import build_pose_net
from cdkd.keypoints import KEYPOINT_SETS
from cdkd.options import from_mapping
from cdkd.training import Training

ROUNDS = 3
STEPS = 8
"""Plain steps of a round, besides those at which gradient ratios are measured."""


@dataclass(frozen=True)
class Timing:
    """What a training will take, seconds.

    Attributes:
        setup: networks, annotations and the first decoding of every image.
        epoch: one epoch with its validation; the median over rounds.
        low: the shortest of the rounds.
        high: the longest.
        end: the scores after the last epoch.
    """

    setup: float
    epoch: float
    low: float
    high: float
    end: float


BEGAN = "CDKD_PILOT_BEGAN"
"""Environment variable with the time at which the pilot's process was asked for, seconds since 1970."""


def pilot(config: TrainingConfig, *, workers: int = 1) -> Timing:
    """Time a training by a few of its steps. A teacher of random weights stands in for the trained one.

    Args:
        config: of the training.
        workers: how many share a batch; their exchange of gradients is not in the timing.

    Raises:
        ConfigError: the configuration does not fit the data or the machine.
        DataError: the data set is missing or broken.
    """
    with tempfile.TemporaryDirectory(prefix="cdkd-pilot-") as folder:
        began = time.perf_counter()
        training = Training(config, lambda _: False, Path(folder), _random_teacher(config, Path(folder)))
        built = time.perf_counter() - began
        return _Pilot(training, workers).timing(built)


class _Pilot:
    """Runs parts of an epoch against the clock."""

    def __init__(self, training: Training, workers: int) -> None:
        self.training = training
        config = training.config
        persons = len(training.splits.train.instances)
        self.batches = epoch_batches(persons, config.train.batch_size, config.seed, 1, 0, workers)
        size = config.evaluation.batch_size
        self.probe = training.splits.val.instances[: 2 * size]

    def timing(self, built: float) -> Timing:
        cold = self._clock(lambda: self._steps(RATIO_STEPS))
        decoded = max(0.0, cold - self._clock(lambda: self._steps(RATIO_STEPS))) / RATIO_STEPS
        self._score()
        rounds = [self._epoch() for _ in range(ROUNDS)]
        scored = self._score()
        return Timing(
            setup=built + decoded * len(self.batches),
            epoch=median(rounds),
            low=min(rounds),
            high=max(rounds),
            end=scored * self._persons_at_the_end() / max(1, len(self.probe)),
        )

    def _epoch(self) -> float:
        """An epoch, from a short and a longer run: both measure gradient ratios at as many steps."""
        few = min(RATIO_STEPS, len(self.batches))
        more = min(RATIO_STEPS + STEPS, len(self.batches))
        short, long = (self._clock(lambda count=count: self._steps(count)) for count in (few, more))  # type: ignore[misc]
        step = (long - short) / (more - few) if more > few else short / few
        validation = self._score() * len(self.training.splits.val.instances) / max(1, len(self.probe))
        return short + step * (len(self.batches) - few) + validation

    def _steps(self, count: int) -> None:
        training = self.training
        training.distiller.set_epoch(0, training.config.train.epochs)
        dataset = training.train_dataset(training.config.data.augmentation)
        dataset.set_epoch(1)
        train_one_epoch(
            training.distiller,
            training.distiller,
            training.load(dataset, self.batches[:count]),
            training.optimizers,
            arithmetic=training.arithmetic,
            epoch=1,
            steps=min(count, len(self.batches)),
        )

    def _score(self) -> float:
        return self._clock(lambda: self.training.predict(self.training.distiller.student, self.probe))

    def _persons_at_the_end(self) -> int:
        """Predictions after the last epoch: both splits of the best network, the test split of the last one too."""
        splits = self.training.splits
        detected = 2 * (len(splits.val.detected) + len(splits.test.detected))
        return len(splits.val.instances) + 2 * len(splits.test.instances) + detected

    def _clock(self, work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        self.training.arithmetic.synchronise()
        return time.perf_counter() - began


def _random_teacher(config: TrainingConfig, folder: Path) -> Path | None:
    if not config.needs_teacher:
        return None
    teacher = config.for_teacher()
    count = KEYPOINT_SETS[config.data.keypoint_set].count
    net = build_pose_net(teacher, count, generator=torch_generator(0, "teacher"))
    save_tensors(folder / "teacher.pt", {"state_dict": net.state_dict()})
    return folder / "teacher.pt"


def main(file: str, workers: str = "1") -> None:
    """Time the configurations in a JSON file: a line of output for the start of the process, and one for each."""
    ready = time.time()
    sys.stdout.write(json.dumps({"start": ready - float(os.environ.get(BEGAN, ready))}) + "\n")
    for config in json.loads(Path(file).read_text()):
        timing = pilot(from_mapping(TrainingConfig, config), workers=int(workers))
        sys.stdout.write(json.dumps(asdict(timing)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
