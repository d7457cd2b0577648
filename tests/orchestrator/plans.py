"""Small plans for the tests of the conductor and the executors, and a stand-in for an executor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdkd.config import resolve
from cdkd.options import to_mapping
from orchestrator import keys
from orchestrator.conductor import WAIT, Conductor
from orchestrator.execution import Job, Outcome
from orchestrator.ledger import Ledger
from orchestrator.paths import StudyPaths
from orchestrator.plan import Metric, Plan, Resources, SearchSpec, TableSpec, TrialSpec

METRIC = Metric("val/pckh@0.5", "max", "best")
BASE = {
    "data.synthetic.train_images": 24,
    "data.synthetic.val_images": 8,
    "data.synthetic.image_size": 64,
    "student": {"backbone": "hrnet_w16", "input_size": 32},
    "teacher": {"backbone": "hrnet_w16", "input_size": 64, "epochs": 1, "batch_size": 8},
    "train": {"epochs": 3, "batch_size": 8},
    "evaluation.flip_test": False,
    "runtime": {"device": "cpu", "threads": 1},
}
PLAIN = {"distill.sape.enabled": False, "distill.cca.enabled": False}


def student(name: str, overrides: dict[str, Any] | None = None, *, seed: int = 0, teacher: str = "") -> TrialSpec:
    """A student trial; without a teacher it is trained without distillation, and without overrides like no other."""
    overrides = {"train.weight_decay": len(name) * 1e-6 + ord(name[0]) * 1e-8} if overrides is None else overrides
    config = resolve(BASE, {} if teacher else PLAIN, overrides, {"seed": seed})
    return _spec(f"{name}-seed{seed}", "student", name, config, overrides, teacher)


def teacher(name: str = "teacher", overrides: dict[str, Any] | None = None) -> TrialSpec:
    """The teacher of a student with these overrides."""
    return _spec(name, "teacher", "teacher", resolve(BASE, overrides or {}).for_teacher(), {}, "")


def _spec(
    trial_id: str, kind: str, arm: str, config: Any, overrides: dict[str, Any], teacher: str, number: int = -1
) -> TrialSpec:
    mapping = to_mapping(config)
    fingerprint = hashlib.sha256(json.dumps([mapping, teacher], sort_keys=True).encode()).hexdigest()[:16]
    return TrialSpec(trial_id, kind, arm, config.seed, mapping, overrides, fingerprint, teacher, {}, number)


def search_trials(plan: Plan, number: int, overrides: dict[str, Any]) -> tuple[TrialSpec, TrialSpec | None]:
    """Search trials without distillation."""
    config = resolve(plan.base, PLAIN, overrides)
    return _spec(f"search-{number:04d}", "student", "search", config, overrides, "", number), None


def learning_rates(**changes: Any) -> SearchSpec:
    """A search over the step size."""
    space = {"train.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True, "step": None, "when": {}}}
    values = {"sampler": "tpe", "sampler_options": {}, "pruner": "none", "pruner_options": {}, "trials": 6, "seed": 1}
    return SearchSpec(**{**values, "space": space, "training_seed": 0, **changes})


def make_plan(
    *trials: TrialSpec,
    teachers: tuple[TrialSpec, ...] = (),
    search: SearchSpec | None = None,
    resources: Resources | None = None,
    study: str = "tiny",
) -> Plan:
    """A plan of these trials."""
    table = TableSpec(columns=(METRIC.name,), baseline="", arms=tuple(spec.arm for spec in trials))
    base = to_mapping(resolve(BASE))
    return Plan(study, "", METRIC, resources or Resources(), table, trials, teachers, search, base, (0,))


def open_conductor(plan: Plan, results: Path, **options: Any) -> Conductor:
    """A conductor on a fresh or existing ledger; `conductor._ledger.close()` plays the driver's death."""
    paths = StudyPaths(results, plan.study)
    ledger = Ledger.open(paths.ledger, writer=True)
    options.setdefault("search_trials", search_trials)
    conductor = Conductor(plan, ledger, paths, **options)
    conductor.begin({})
    return conductor


def kill(conductor: Conductor) -> None:
    """What the death of the driver's process does: the lock is free, nothing is written."""
    conductor._ledger.close()
    for fingerprint in list(conductor._teachers._claims):
        conductor._teachers.release(fingerprint)


Curve = Callable[[Job, int], float]
"""The metric of a job after an epoch."""


def play(conductor: Conductor, curve: Curve, *, limit: int = 1000) -> list[str]:
    """Run everything the conductor asks for, one trial after the other, with made-up numbers.

    Returns:
        The ids of the trials that were begun, in order.
    """
    begun: list[str] = []
    while len(begun) < limit:
        spec = conductor.next_trial()
        if spec is None or spec is WAIT:
            return begun
        begun.append(spec.trial_id)
        play_one(conductor, spec, curve)
    return begun


def play_one(conductor: Conductor, spec: TrialSpec, curve: Curve) -> None:
    """One made-up training, as an executor would run it."""
    job = conductor.on_started(spec)
    metrics: list[dict[str, float]] = []
    for epoch in range(1, spec.config["train"]["epochs"] + 1):
        metrics.append({METRIC.name: curve(job, epoch)})
        if conductor.on_epoch(job.trial_id, job.attempt, epoch, metrics[-1]) and epoch < spec.config["train"]["epochs"]:
            conductor.on_outcome(job.trial_id, job.attempt, Outcome("stopped", {}))
            return
    if spec.kind == "teacher":
        fake_teacher(conductor.paths, spec.fingerprint)
    best = max(values[METRIC.name] for values in metrics)
    conductor.on_outcome(job.trial_id, job.attempt, Outcome(keys.FINISHED, {f"best/{METRIC.name}": best}))


def fake_teacher(paths: StudyPaths, fingerprint: str, content: bytes = b"weights") -> Path:
    """The files a finished teacher leaves."""
    folder = paths.teacher(fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "best.pt").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (folder / "summary.json").write_text(json.dumps({"summary": {"best/epoch": 1.0}, "sha256": {"best.pt": digest}}))
    return folder / "best.pt"


def states(conductor: Conductor) -> dict[str, str]:
    """Trial id -> state."""
    return {name: trial.state for name, trial in conductor.history.trials.items()}
