"""One attempt at a trial, wherever it runs: what is asked for, how it ends, and the boundary around it.

Everything here is plain data that travels as JSON between driver and worker. torch is imported only when
a training begins.
"""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import keys

if TYPE_CHECKING:
    from cdkd.distributed import World

STOPPED = "stopped"  # the training left when it was asked to
LOST = "lost"  # its worker died; to be tried again
STOP_FILE = "stop"  # in a trial's folder: leave after this epoch


@dataclass(frozen=True)
class Job:
    """One attempt at one trial.

    Attributes:
        trial_id: of the trial.
        attempt: from 1.
        config: the TrainingConfig as nested plain data.
        folder: where the training keeps its checkpoints; seen by driver and workers under this path.
        teacher_file: the teacher's weights; empty when it needs none.
    """

    trial_id: str
    attempt: int
    config: dict[str, Any]
    folder: str
    teacher_file: str

    def to_json(self) -> str:
        """This job as text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse of `to_json`."""
        return cls(**json.loads(text))

    @property
    def stop_file(self) -> Path:
        """Its presence asks the training to leave after the current epoch."""
        return Path(self.folder) / STOP_FILE

    def with_threads(self, threads: int) -> Job:
        """The same job on so many CPU threads, unless its configuration names a number itself."""
        runtime = dict(self.config.get("runtime", {}))
        runtime["threads"] = runtime.get("threads") or threads
        return dataclasses.replace(self, config={**self.config, "runtime": runtime})


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        state: `finished`, `failed` or `diverged` of orchestrator.keys, or STOPPED or LOST.
        summary: what the training returned; of the epochs so far when it was stopped.
        reason: one line, empty when finished.
        details: the traceback of an unexpected error.
    """

    state: str
    summary: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    details: str = ""


OnEpoch = Callable[[int, dict[str, float]], bool]
"""Told of every epoch and its metrics; answers True to stop the training."""


def run_job(job: Job, on_epoch: OnEpoch, world: World | None = None) -> Outcome:
    """Train in this process and say how it ended.

    This is the trial's boundary: whatever goes wrong inside becomes an Outcome, and the study goes on.
    """
    try:
        return _train(job, on_epoch, world)
    except Exception as error:  # the one broad except: a user's mistake, a bug and a full disk all end here
        return _outcome_of(error)


def _train(job: Job, on_epoch: OnEpoch, world: World | None) -> Outcome:
    from cdkd.config import TrainingConfig
    from cdkd.distributed import World
    from cdkd.options import from_mapping
    from cdkd.training import EpochReport, train

    config = from_mapping(TrainingConfig, job.config)
    last_answer = False
    last_epoch = 0

    def report(epoch: EpochReport) -> bool:
        nonlocal last_answer, last_epoch
        last_answer, last_epoch = on_epoch(epoch.epoch, epoch.metrics), epoch.epoch
        return last_answer

    summary = train(
        config,
        report,
        folder=Path(job.folder),
        teacher_file=Path(job.teacher_file) if job.teacher_file else None,
        world=world or World(),
    )
    if last_answer and last_epoch < config.train.epochs:
        return Outcome(STOPPED, summary)
    return Outcome(keys.FINISHED, summary)


def _outcome_of(error: Exception) -> Outcome:
    from cdkd.checkpoint import CheckpointError
    from cdkd.data.errors import DataError
    from cdkd.engine import Diverged
    from cdkd.models.weights import WeightsError
    from cdkd.options import ConfigError

    if isinstance(error, Diverged):
        return Outcome(keys.DIVERGED, reason=one_line(str(error)))
    if isinstance(error, (CheckpointError, ConfigError, DataError, WeightsError)):
        return Outcome(keys.FAILED, reason=one_line(str(error)))
    details = "".join(traceback.format_exception(error))
    return Outcome(keys.FAILED, reason=one_line(f"{type(error).__name__}: {error}"), details=details)


def one_line(text: str, limit: int = 300) -> str:
    """The first line of a text, cut to a length that fits a table or a tag."""
    line = text.strip().split("\n", maxsplit=1)[0].strip()
    return line if len(line) <= limit else line[: limit - 3] + "..."
