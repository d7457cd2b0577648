"""What a run of a study writes down about itself: all that a table, a status line or a later reader needs."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from cdkd import METHOD_VERSION, __version__
from orchestrator.machine import machine
from orchestrator.plan import Plan, TrialSpec
from orchestrator.sampler import budget_of

PACKAGES = ("torch", "numpy", "opencv-python-headless", "pycocotools", "ray", "optuna", "mlflow")


def specification(plan: Plan, command: str = "", executor: str = "ray") -> dict[str, Any]:
    """A plan's question, metric, table and extent, as plain data.

    Args:
        plan: what is run.
        command: what runs it again; empty where it is not known.
        executor: `ray` on this machine, `cluster` or `in_process`.
    """
    return {
        "study": plan.study,
        "question": plan.question,
        "metric": dataclasses.asdict(plan.metric),
        "table": dataclasses.asdict(plan.table),
        "seeds": list(plan.seeds),
        "arm_seeds": _arm_seeds(plan),
        "repeats": dataclasses.asdict(plan.repeats) if plan.repeats is not None else None,
        "budget": dataclasses.asdict(plan.budget),
        "search": dataclasses.asdict(plan.search) if plan.search is not None else None,
        "resources": dataclasses.asdict(plan.resources),
        "trials": [spec.trial_id for spec in plan.trials],
        "teachers": [spec.trial_id for spec in plan.teachers],
        "planned": planned(plan),
        "generation": plan.generation,
        "fresh_since": plan.fresh_since,
        "method_version": METHOD_VERSION,
        "revision": revision(),
        "versions": versions(),
        "machine": machine(wants_gpus=plan.resources.gpus_per_worker > 0),
        "command": command,
        "executor": executor,
    }


def _arm_seeds(plan: Plan) -> dict[str, list[int]]:
    """The seeds of each arm where not every arm has all of them; a ledger's `extended` adds to these."""
    if plan.repeats is None:
        return {}
    found: dict[str, list[int]] = {}
    for spec in plan.trials:
        found.setdefault(spec.arm, []).append(spec.seed)
    return found


def versions() -> dict[str, str]:
    """Python and the packages that a result may depend on, as installed where the study is run from."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def planned(plan: Plan) -> dict[str, int]:
    """How many trials and epochs a plan asks for, a search's at full length."""
    proposals = budget_of(plan.search) if plan.search is not None else 0
    base = int(plan.base["train"]["epochs"])
    return {
        "trials": len(plan.trials) + len(plan.teachers) + proposals,
        "student_epochs": sum(map(_epochs, plan.trials)) + proposals * base,
        "teacher_epochs": sum(map(_epochs, plan.teachers)),
    }


def _epochs(spec: TrialSpec) -> int:
    return int(spec.config["train"]["epochs"])


def revision() -> str:
    """The commit of this code, marked when files differ from it; the version where it is not a checkout."""
    here = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--match="]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return __version__
    return found.stdout.strip() or __version__
