"""The names under which a study is recorded: what `orchestrator` writes to MLflow and `analysis` reads.

Standard library only. Metrics are stored in [0, 1]; percent only when rendered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

# Tags of MLflow runs.
STUDY = "cdkd.study"
KIND = "cdkd.kind"  # study (the parent run) | teacher | student
TRIAL = "cdkd.trial_id"
ARM = "cdkd.arm"
SEED = "cdkd.seed"
STATE = "cdkd.state"  # one of STATES
FINGERPRINT = "cdkd.fingerprint"
PROTOCOL = "cdkd.protocol"  # JSON object, see orchestrator.fingerprint.protocol
TEACHER = "cdkd.teacher"  # fingerprint of the teacher
REVISION = "cdkd.revision"
REUSED_FROM = "cdkd.reused_from"  # "<study>/<trial id>" of the run this result was taken from
REASON = "cdkd.reason"  # why a trial failed, one line
INSTANCES = "instances_*.npz"  # artifacts of a child run: scores of single persons, a file for each split
SUPERSEDED = "superseded"  # in a specification: ids of search trials that the study as it is now trains another way
SPECIFICATION = "specification.json"  # artifact of the parent run: what a table needs (see StudySpecification)
PARENT = "mlflow.parentRunId"
LINEAGE = "cdkd.lineage"  # of a population's member: JSON [[first epoch, trial id that trained it], ...]
SCHEDULE = "cdkd.schedule"  # of a population's member: JSON {option: [[first epoch, value], ...]}
ATTEMPT = "cdkd.attempt"  # number of the latest attempt; 0 for a result taken over from elsewhere
LEDGER = "cdkd.ledger"  # identity of the ledger the run was written from
RESULTS = "cdkd.results"  # where that ledger is: host and folder

FRESH = "-fresh"  # ends the id of a trial, with a number, that was begun by `--fresh`
SEARCH_ARM = "search"  # the arm of every trial that a search proposed

# States of a trial.
RUNNING = "running"
FINISHED = "finished"
PRUNED = "pruned"
FAILED = "failed"
DIVERGED = "diverged"
INTERRUPTED = "interrupted"
STATES = (RUNNING, FINISHED, PRUNED, FAILED, DIVERGED, INTERRUPTED)

# Events of the study's ledger.
INVOKED = "invoked"  # one run of the study began: {specification: {...}}
STARTED = "started"  # {trial: TrialSpec as a mapping, attempt: int}
EPOCH = "epoch"  # {trial_id, attempt, epoch: int from 1, metrics: {name: number}, prune: true where it is to leave}
ENDED = "ended"  # {trial_id, attempt, state, summary: {name: number}, reason: str, epoch: int (last one done)}
REUSED = "reused"  # {trial: TrialSpec as a mapping, source: "<study>/<trial id>", summary: {...}}
EXTENDED = "extended"  # the results ask for more: {trials: [TrialSpec as a mapping, ...]}
EVOLVED = "evolved"  # a population was looked at: {epoch, exploits: [{trial: new TrialSpec, donor, values}]}
COPIED = "copied"  # and the donors' states were handed over: {epoch, copies: [{trial_id, donor, sha256}]}
STOPPED = "stopped"  # one run of the study ended: {reason: str}


def generation_of(trial_id: str) -> int:
    """How often the study was begun afresh before a trial, by its id."""
    number = trial_id.rpartition(FRESH)[2]
    return int(number) if FRESH in trial_id and number.isdigit() else 0


def mlflow_name(metric: str) -> str:
    """A metric's name in MLflow, which forbids `@`: `val/pckh@0.5` is stored as `val/pckh:0.5`."""
    return metric.replace("@", ":")


def metric_name(stored: str) -> str:
    """The inverse of `mlflow_name`."""
    return stored.replace(":", "@")


def schedule_line(schedule: Mapping[str, Sequence[Sequence[Any]]]) -> str:
    """A member's schedule, as the tag SCHEDULE holds it, in one line of YAML for the `set`, or an arm, of a study."""
    later = [(epoch, option, value) for option, series in schedule.items() for epoch, value in series[1:]]
    steps = [
        f"{{epoch: {epoch}, option: {option}, value: {json.dumps(value)}}}" for epoch, option, value in sorted(later)
    ]
    parts = [f"{option}: {json.dumps(series[0][1])}" for option, series in schedule.items()]
    if steps:
        parts.append(f"schedule: [{', '.join(steps)}]")
    return f"{{{', '.join(parts)}}}"
