"""Pilots of the trainings that nothing is known of: as many side by side as the study will run, each a few steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from orchestrator.errors import UserError
from orchestrator.execution import Job
from orchestrator.plan import TrialSpec
from orchestrator.price import SPREAD, Kinds, Rate, Work

TIMEOUT_S = 1800.0
VISIBLE = "CUDA_VISIBLE_DEVICES"
BEGAN = "CDKD_PILOT_BEGAN"  # cdkd.pilot.BEGAN, repeated because that module imports torch


def pilot_rates(work: Sequence[Work], kinds: Kinds, tell: Callable[[str], None]) -> dict[str, Rate]:
    """The rates of these kinds of trainings, measured now.

    Args:
        work: the kinds.
        kinds: how they would run.
        tell: hears what is measured next.

    Raises:
        UserError: a training cannot begin.
    """
    together: dict[int, list[Work]] = {}
    for item in work:
        together.setdefault(kinds.side_by_side(item.sample), []).append(item)
    found: dict[str, Rate] = {}
    if work:
        tell("pilot, the start of Ray")
    ray_s = _ray_seconds(kinds) if work else 0.0
    for processes, items in together.items():
        arms = "; ".join(", ".join(item.arms) for item in items)
        tell(f"pilot, {processes} side by side: {arms}")
        found |= _measure(items, kinds, processes, ray_s)
    return found


def _ray_seconds(kinds: Kinds) -> float:
    """What Ray's own start and end take, and the worker of the first trial."""
    command = [sys.executable, "-m", "orchestrator.ray_probe", str(kinds.machine.cpus)]
    return float(_output(_begin(command, os.environ)))


def _measure(work: Sequence[Work], kinds: Kinds, processes: int, ray_s: float) -> dict[str, Rate]:
    """The rates of kinds that run in the same number side by side; every process times all of them in turn."""
    with tempfile.TemporaryDirectory(prefix="cdkd-pilot-") as folder:
        file = Path(folder) / "configs.json"
        file.write_text(json.dumps([_config(item.sample, kinds) for item in work]))
        workers = str(kinds.resources.num_workers)
        command = [sys.executable, "-m", "cdkd.pilot", str(file), workers]
        running: list[subprocess.Popen[str]] = []
        try:
            running += [_begin(command, _environment(number, kinds)) for number in range(processes)]
            ended = [_end(process) for process in running]
        finally:
            for process in running:
                process.kill()  # the others, where one has failed
    start = fmean(lines[0]["start"] for lines in ended)
    start += ray_s  # students have workers of their own, after the teacher's
    return {item.kind: _rate(of_kind, start) for item, *of_kind in zip(work, *(lines[1:] for lines in ended))}


def _config(spec: TrialSpec, kinds: Kinds) -> dict[str, Any]:
    return Job(spec.trial_id, 1, spec.config, "", "").with_threads(kinds.request(spec).threads).config


def _rate(timings: Sequence[Mapping[str, float]], start: float) -> Rate:
    epoch = fmean(timing["epoch"] for timing in timings)
    return Rate(
        epoch=epoch,
        low=min(*(timing["low"] for timing in timings), (1 - SPREAD) * epoch),
        high=max(*(timing["high"] for timing in timings), (1 + SPREAD) * epoch),
        extra=fmean(timing["setup"] + timing["end"] for timing in timings),
        source="pilot",
        start=start,
    )


def _environment(number: int, kinds: Kinds) -> dict[str, str]:
    """Pilots side by side spread over the GPUs, as trials do."""
    gpus = int(kinds.machine.gpus)
    if not kinds.resources.gpus_per_worker or not gpus:
        return dict(os.environ)
    visible = os.environ.get(VISIBLE, "").split(",") if os.environ.get(VISIBLE) else [str(one) for one in range(gpus)]
    return {**os.environ, VISIBLE: visible[number % len(visible)]}


def _begin(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**environment, BEGAN: str(time.time())}
    )


def _end(process: subprocess.Popen[str]) -> list[dict[str, float]]:
    return [json.loads(line) for line in _output(process).strip().splitlines()]


def _output(process: subprocess.Popen[str]) -> str:
    try:
        out, complaint = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise UserError(f"the pilot took more than {TIMEOUT_S / 60:g} minutes") from None
    if process.returncode:
        why = complaint.strip().splitlines() or ["no reason was given"]
        raise UserError(f"the pilot failed: {why[-1]}")
    return out
