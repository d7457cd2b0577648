"""What a study cost: seconds of training and hours of devices, for every arm, the search and the teachers apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.factors import NONE
from analysis.report.document import Grid, grid
from analysis.report.trials import ARMS, SEARCHED, TEACHERS
from analysis.sheet import number
from analysis.statistics import Repeats, repeats
from analysis.store import METRICS, PARAMS, StudyRecord
from orchestrator import keys

HOUR_S = 3600.0
UNITS = (("h", HOUR_S, 3 * HOUR_S), ("min", 60.0, 600.0), ("s", 1.0, 0.0))  # unit, seconds in it, from which mean on


@dataclass(frozen=True)
class Devices:
    """What one student's training holds.

    Attributes:
        unit: `GPU` or `CPU`; empty where the study did not record it.
        count: of them; a part of a GPU counts as that part.
    """

    unit: str
    count: float


@dataclass(frozen=True)
class Spent:
    """What the trainings of one arm cost.

    Attributes:
        label: in print.
        params_m, gflops: of the network; NaN where no training has told.
        one: seconds of one finished training.
        runs: trainings begun here.
        taken_over: results taken over from elsewhere, which cost nothing here.
        hours: of all trainings begun here, finished or not.
        device_hours: NaN where devices are not known.
    """

    label: str
    params_m: float
    gflops: float
    one: Repeats
    runs: int
    taken_over: int
    hours: float
    device_hours: float


@dataclass(frozen=True)
class Spending:
    """What a study cost.

    Attributes:
        students: arms, then the search.
        teachers: each by itself.
        devices: of a student's training.
        machine: where the study was started from, in words; empty if not recorded.
        unfinished_hours: of the hours above, those of trainings that gave no result.
    """

    students: tuple[Spent, ...]
    teachers: tuple[Spent, ...]
    devices: Devices
    machine: str
    unfinished_hours: float


def spending(record: StudyRecord, trials: pd.DataFrame) -> Spending:
    """Adds up what the trainings cost (`trials` as `trials_of` gives them)."""
    devices = devices_of(record)
    students = trials[trials["role"].isin([ARMS, SEARCHED])]
    rows = tuple(_spent(str(label), group, devices) for label, group in students.groupby("label", sort=False))
    # On CPUs a teacher takes an equal share of all of them, which nobody recorded.
    own = devices if devices.unit == "GPU" else Devices("", math.nan)
    teachers = trials[trials["role"] == TEACHERS]
    is_lost = (trials["starts"] > 0) & ~trials["state"].isin([keys.FINISHED, keys.PRUNED, keys.RUNNING])
    return Spending(
        students=rows,
        teachers=tuple(_spent(_teacher(row), row.to_frame().T, own) for _, row in teachers.iterrows()),
        devices=devices,
        machine=machine_words(record.specification.get("machine")),
        unfinished_hours=float(trials.loc[is_lost, "seconds"].sum()) / HOUR_S,
    )


def devices_of(record: StudyRecord) -> Devices:
    """What one student's training holds, as the study asked for it."""
    resources = record.specification.get("resources") or {}
    workers = float(resources.get("num_workers", 1))
    gpus, cpus = (float(resources.get(f"{unit}_per_worker", 0)) for unit in ("gpus", "cpus"))
    if not resources:
        return Devices("", math.nan)
    return Devices("GPU", workers * gpus) if gpus else Devices("CPU", workers * cpus)


def machine_words(machine: Any) -> str:
    """`2 x NVIDIA H200, 16 CPUs (AMD EPYC 9654)`; empty where nothing was recorded."""
    if not isinstance(machine, dict):
        return ""
    gpus = [str(name) for name in machine.get("gpus") or ()]
    counted = [f"{gpus.count(name)} x {name}" for name in dict.fromkeys(gpus)]
    cpus = int(machine.get("cpus", 0))
    return ", ".join([*counted, f"{cpus} {'CPU' if cpus == 1 else 'CPUs'} ({machine.get('cpu')})"])


def _spent(label: str, trials: pd.DataFrame, devices: Devices) -> Spent:
    is_here = trials["starts"] > 0
    hours = float(trials.loc[is_here, "seconds"].sum()) / HOUR_S
    return Spent(
        label=label,
        params_m=_largest(trials, "params_m"),
        gflops=_largest(trials, "gflops"),
        one=repeats(trials.loc[trials["state"] == keys.FINISHED, "seconds"].astype(float).dropna()),
        runs=int(is_here.sum()),
        taken_over=int((~is_here).sum()),
        hours=hours,
        device_hours=hours * devices.count,
    )


def _largest(trials: pd.DataFrame, metric: str) -> float:
    """A cost of the network; the trials of a search may have several networks."""
    name = METRICS + metric
    return float(trials[name].astype(float).max()) if name in trials else math.nan


def _teacher(row: pd.Series) -> str:
    """`teacher hrnet_w16 at 128`, by its own configuration."""
    backbone, size = (row.get(PARAMS + path) for path in ("student.backbone", "student.input_size"))
    is_told = isinstance(backbone, str) and isinstance(size, str)
    return f"teacher {backbone} at {size}x{size}" if is_told else str(row["trial_id"])


def cost_grid(found: Spending) -> Grid:
    """The costs in print: students with their sum, teachers, the sum of all."""
    every = [*found.students, *found.teachers]
    unit, scale = _unit([each.one.mean for each in every if each.one.n])
    has_devices = bool(found.devices.unit)
    rows = [_row(each, scale) for each in found.students]
    rows += [_sum("All students", found.students)] if len(found.students) > 1 else []
    rules = [len(rows)] if found.teachers else []
    rows += [_row(each, scale) for each in found.teachers]
    rows += [_sum("Students and teachers", every)] if found.teachers else []
    header = ["", "Params (M)", "GFLOPs", f"One training ({unit})", "Trainings", "Hours", f"{found.devices.unit}-hours"]
    width = len(header) - (not has_devices)
    return grid(
        header[:width],
        [row[:width] for row in rows],
        "lrrrrrr"[:width],
        rules=tuple(rules),
        remarks=tuple(_remarks(found)),
    )


def _unit(seconds: Sequence[float]) -> tuple[str, float]:
    largest = max(seconds, default=0.0)
    return next((unit, scale) for unit, scale, least in UNITS if largest >= least)


def _row(each: Spent, scale: float) -> list[str]:
    return [
        each.label,
        _known(each.params_m, 2),
        _known(each.gflops, 3),
        _time(each.one, scale),
        _runs(each.runs, each.taken_over),
        number(each.hours, 2),
        _known(each.device_hours, 2),
    ]


def _sum(label: str, rows: Sequence[Spent]) -> list[str]:
    runs, taken_over = sum(each.runs for each in rows), sum(each.taken_over for each in rows)
    hours = sum(each.hours for each in rows)
    # A part that is not known and not zero leaves the whole unknown.
    devices = sum(each.device_hours for each in rows if each.hours)
    return [label, "", "", "", _runs(runs, taken_over), number(hours, 2), _known(devices, 2)]


def _time(one: Repeats, scale: float) -> str:
    if not one.n:
        return NONE
    mean = number(one.mean / scale, 1)
    return f"{mean} (1)" if one.n == 1 else f"{mean} ± {number(one.std / scale, 1)} ({one.n})"


def _runs(runs: int, taken_over: int) -> str:
    return f"{runs} + {taken_over} taken over" if taken_over else str(runs)


def _known(value: float, decimals: int) -> str:
    return NONE if math.isnan(value) else number(value, decimals)


def _remarks(found: Spending) -> Iterator[str]:
    each = found.devices
    yield "One training: mean ± standard deviation (n) of the finished ones, their epochs with validation."
    yield "Hours: all trainings begun here, finished or not, without what a restart had to repeat."
    if each.unit:
        yield f"{each.unit}-hours: hours x {each.count:g} {each.unit}{'' if each.count == 1 else 's'} a training holds."
    if any(one.taken_over for one in (*found.students, *found.teachers)):
        yield "Taken over: results that were in the store already, which cost nothing here."
    if each.unit == "CPU" and any(one.runs for one in found.teachers):
        yield "A teacher on CPUs takes an equal share of the whole machine, which was not recorded."
    if found.unfinished_hours:
        yield f"Of the hours, {number(found.unfinished_hours, 2)} went into trainings that gave no result."
    yield f"Machine the study was started from: {found.machine or 'not recorded'}."
