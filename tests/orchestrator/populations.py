"""Populations of made-up trainings, and a driver of one to be killed: `python -m tests.orchestrator.populations DIR`.

A made-up training gains most per epoch where its step size is near the best one of that epoch, which falls a
hundredfold in the middle; it keeps its scores in files laid out as a training's checkpoints are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

from cdkd.config import TrainingConfig, resolve
from cdkd.options import from_mapping, to_mapping
from orchestrator import keys
from orchestrator.conductor import WAIT, Conductor
from orchestrator.execution import Outcome
from orchestrator.plan import Plan, PopulationSpec, TrialSpec
from tests.orchestrator.plans import BASE, METRIC, learning_rates, make_plan, open_conductor

EPOCHS = 8
RATE = "train.learning_rate"
PBT = PopulationSpec(interval=2, quantile=0.25, resample_probability=0.25, factors=(0.5, 2.0))
SPACE = {RATE: {"type": "float", "low": 1e-5, "high": 1e-1, "log": True, "step": None, "when": {}}}


def population_plan(members: int = 6, epochs: int = EPOCHS, pbt: PopulationSpec = PBT, **changes: Any) -> Plan:
    """A study of one population over the step size."""
    search = learning_rates(space=SPACE, trials=members, sampler="pbt", pbt=pbt, **changes)
    base = to_mapping(resolve(BASE, {"train.epochs": epochs}))
    return dataclasses.replace(make_plan(search=search), base=base)


def best_rate(epoch: int) -> float:
    """The step size with which most is learned in an epoch."""
    return 1e-2 if epoch <= EPOCHS // 2 else 1e-4


def gain(epoch: int, rate: float) -> float:
    """What an epoch adds to the score: 1 at the best step size, 0 a hundredfold away."""
    return max(0.0, 1.0 - abs(math.log10(rate / best_rate(epoch))) / 2)


def scores_in(folder: Path) -> list[float]:
    """The scores of the epochs that a made-up training's folder holds."""
    file = folder / "checkpoint.json"
    if not file.exists():
        return []
    entry = json.loads(file.read_text())["checkpoints"][0]
    content = (folder / entry["file"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    found: list[float] = json.loads(content)
    assert len(found) == entry["epoch"]
    return found


def _save(folder: Path, scores: list[float]) -> None:
    content, name = json.dumps(scores).encode(), f"epoch-{len(scores):04d}.pt"
    (folder / name).write_bytes(content)
    (folder / "best.pt").write_bytes(content)
    entry = {"file": name, "epoch": len(scores), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "checkpoint.json").write_text(json.dumps({"checkpoints": [entry]}))


def train_one(conductor: Conductor, spec: TrialSpec, diverges: tuple[int, int] = (-1, -1)) -> None:
    """One attempt at a made-up training: on from its last epoch until it is asked to leave, or is done.

    Args:
        diverges: number of a member, and the epoch in which its first attempt diverges.
    """
    job = conductor.on_started(spec)
    config, folder = from_mapping(TrainingConfig, job.config), Path(job.folder)
    scores = scores_in(folder)
    told = [_tell(conductor, job.trial_id, job.attempt, scores, epoch) for epoch in range(1, len(scores) + 1)]
    is_asked = any(told)
    while not is_asked and len(scores) < config.train.epochs:
        epoch = len(scores) + 1
        if (spec.number, epoch, job.attempt) == (*diverges, 1):
            conductor.on_diverged(job.trial_id, job.attempt, "the task loss is not finite")
            return
        before = scores[-1] if scores else 0.0
        scores.append(before + gain(epoch, config.at_epoch(epoch).train.learning_rate))
        _save(folder, scores)
        is_asked = _tell(conductor, job.trial_id, job.attempt, scores, epoch)
    is_done = len(scores) == config.train.epochs
    summary = {f"best/{METRIC.name}": scores[-1]}
    state = keys.FINISHED if is_done else "stopped"
    conductor.on_outcome(job.trial_id, job.attempt, Outcome(state, summary))


def _tell(conductor: Conductor, trial_id: str, attempt: int, scores: list[float], epoch: int) -> bool:
    return conductor.on_epoch(trial_id, attempt, epoch, {METRIC.name: scores[epoch - 1]})


def train_all(conductor: Conductor, **options: Any) -> Conductor:
    """Train everything the conductor asks for, one trial after the other."""
    while (spec := conductor.next_trial()) is not None:
        assert spec is not WAIT  # nothing runs beside it that could change the answer
        train_one(conductor, spec, **options)
    return conductor


def results(conductor: Conductor) -> dict[str, Any]:
    """What came of every member."""
    return {
        name: (trial.state, trial.spec, trial.lineage, trial.epochs, trial.summary)
        for name, trial in sorted(conductor.history.trials.items())
    }


def final_scores(conductor: Conductor) -> list[float]:
    """The members' last scores, the best first."""
    found = [trial.summary[f"best/{METRIC.name}"] for trial in conductor.history.trials.values()]
    return sorted(found, reverse=True)


if __name__ == "__main__":
    train_all(open_conductor(population_plan(), Path(sys.argv[1])))
