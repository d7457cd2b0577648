"""How far a study went, for the notes of its table: repeats added by a rule, and the search before a refit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.statistics import StudentInterval
from analysis.store import METRICS, StudyRecord
from orchestrator import keys

SECONDS = "train_seconds"
SCALE = 100.0
"""Scores are printed in percent; the only metrics a rule can be about are scores."""


@dataclass(frozen=True)
class Sample:
    """What a rule about repeats judges.

    Attributes:
        label: of the arm.
        asked: repeats that it was given so far.
        values: metric by seed, printed unit.
        baseline: the same of its baseline; empty where it has none.
    """

    label: str
    asked: int
    values: Mapping[int, float]
    baseline: Mapping[int, float]

    def half_width(self, statistic: str) -> float:
        """Half of the 95 % interval of the mean, or of the difference to the baseline; NaN for fewer than two."""
        if statistic == "difference" and self.baseline:
            found = [value - self.baseline[seed] for seed, value in self.values.items() if seed in self.baseline]
        else:
            found = list(self.values.values())
        low, high = StudentInterval()(found)
        return (high - low) / 2


def repeat_notes(specification: Mapping[str, Any], samples: Mapping[str, Sample]) -> Iterator[str]:
    """Which rule ended the repeats of each arm; nothing in a study with a fixed number of them."""
    rule = specification.get("repeats")
    if not rule:
        return
    most, width = len(specification["seeds"]), SCALE * float(rule["width"])
    of = "its difference to the baseline" if rule["statistic"] == "difference" else "an arm's mean"
    ends = "; ".join(_end(sample, rule["statistic"], width, most) for sample in samples.values())
    yield (
        f"Repeats: {rule['minimum']} to {most}, added while half the 95 % interval of {of} is above {width:g} "
        f"(a baseline has the seeds of the arms compared with it): {ends}."
    )


def _end(sample: Sample, statistic: str, width: float, most: int) -> str:
    """`+SAPE 5, reached (0.43)`."""
    if statistic == "difference" and not sample.baseline:
        return f"{sample.label} {len(sample.values)}, as the arms compared with it"
    half = sample.half_width(statistic)
    shown = f"{sample.label} {len(sample.values)}"
    if not math.isnan(half) and half <= width:
        return f"{shown}, reached ({half:.2f})"
    why = "the most there may be" if sample.asked >= most else "still open"
    return f"{shown}, {why}" + ("" if math.isnan(half) else f" ({half:.2f})")


def tuning_notes(record: StudyRecord) -> Iterator[str]:
    """What the search cost of which the best configurations were trained again; nothing without a refit."""
    search = record.specification.get("search") or {}
    if not search.get("refit"):
        return
    tuned = record.searched
    own = tuned[tuned["reused_from"].isna() | (tuned["reused_from"] == "")]
    seconds = float(own[METRICS + SECONDS].sum()) if METRICS + SECONDS in own else 0.0
    states = tuned["state"].value_counts()
    counts = ", ".join(f"{states[state]} {state}" for state in keys.STATES if state in states)
    yield (
        f"Tuning: {_refitted(search['refit']['top'])} chosen among {len(tuned)} trials of the search "
        f"({counts or 'none yet'}) on seed {search['training_seed']}, which took {_duration(seconds)} of training; "
        "base cost no tuning."
    )


def _refitted(top: int) -> str:
    return "best-1 was" if top == 1 else f"best-1 to best-{top} were"


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"
