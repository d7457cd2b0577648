"""What figures are made from: the arms of a study, their trials, the score, and what all data of figures share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from analysis import protocols
from analysis.ablation import MISSING, current_trials, student_trials
from analysis.columns import SELECTED, Column, column
from analysis.errors import NotDrawable, StoreError
from analysis.figures.style import Look, looks
from analysis.store import METRICS, Store, StudyRecord
from orchestrator import keys

SUMMARIES = tuple(SELECTED.values())  # prefixes of what is taken from one epoch
RUNS = ["run_id", "trial_id", "arm", "seed", "state"]


@dataclass(frozen=True)
class Arm:
    """One arm in print: its text, and its look in every figure of the study."""

    label: str
    look: Look


@dataclass(frozen=True)
class Figured:
    """What a figure shows, as numbers in printed units; kinds add their frames.

    Attributes:
        study: name.
        caption: sentences that belong under the figure.
        runs: the runs it was made from: RUNS.
    """

    study: str
    caption: tuple[str, ...]
    runs: pd.DataFrame


@dataclass(frozen=True)
class Source:
    """A study and what is asked about it.

    Attributes:
        store: where the record came from.
        record: the study.
        metric: score, such as `val/ap`; empty: the study's.
        band: a name of figures.BANDS.
        against: the cost of the Pareto figure, one of figures.COSTS.
        allow: protocol fields that may differ, besides those that the study allows.
        others: further studies, drawn beside this one where a figure compares methods.

    Raises:
        StoreError: the score is not one that is reported every epoch.
    """

    store: Store
    record: StudyRecord
    metric: str = ""
    band: str = "std"
    against: str = "train_seconds"
    allow: Collection[str] = ()
    others: Sequence[StudyRecord] = ()

    def __post_init__(self) -> None:
        if self.metric and (self.metric.split("/")[0] in SUMMARIES or "/" not in self.metric):
            raise StoreError(f"a figure shows metrics reported every epoch such as val/pckh@0.5, got {self.metric!r}")

    @property
    def study(self) -> str:
        """The study's name."""
        return self.record.study

    @cached_property
    def score(self) -> Column:
        """The score as one number a trial, by the study's selection rule."""
        own = self.record.specification["metric"]
        mode = own["mode"] if self.metric in ("", own["name"]) else ""
        return column(self.metric or own["name"], own["select"], mode)

    @property
    def layout(self) -> dict[str, Any]:
        """How the study's table is laid out: arms, labels, baselines."""
        layout: dict[str, Any] = self.record.specification["table"]
        return layout

    @cached_property
    def baselines(self) -> dict[str, str]:
        """Arm -> the arm its differences are taken to, of its block where the table has blocks."""
        one = {"arms": list(self.arms), "baseline": self.layout.get("baseline")}
        blocks = self.layout.get("blocks") or [one]
        pairs = {arm: str(block["baseline"] or "") for block in blocks for arm in block["arms"]}
        return {arm: baseline for arm, baseline in pairs.items() if baseline and baseline != arm}

    @property
    def baseline(self) -> str:
        """The study's first baseline; empty: none."""
        own = [self.layout.get("baseline"), *(block["baseline"] for block in self.layout.get("blocks") or ())]
        return str(next(filter(None, own), ""))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The newest trial of every arm and seed of the study.

        Raises:
            MixedProtocols: finished ones differ in a protocol field that may not.
        """
        trials = arm_trials(self.record)
        self.check(trials[trials["state"] == keys.FINISHED])
        return trials

    def check(self, trials: pd.DataFrame) -> list[str]:
        """A sentence on each protocol field in which these trials differ, as allowed.

        Raises:
            MixedProtocols: one may not differ.
        """
        stated = protocols.stated(self.layout.get("group_by") or ())
        return protocols.check(trials, protocols.allowed(self.layout, self.allow), stated)

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """What belongs under every figure of means over seeds."""
        return (*self.check(self.finished), *self.absences)

    @cached_property
    def finished(self) -> pd.DataFrame:
        """Trials that used their whole budget."""
        return self.trials[self.trials["state"] == keys.FINISHED]

    @cached_property
    def absences(self) -> tuple[str, ...]:
        """A sentence on seeds of arms that are in no mean, for the caption; none where all have finished."""
        trials = self.trials
        seeds = self.record.specification.get("seeds") or sorted(set(trials["seed"]))
        states = dict(zip(zip(trials["arm"], trials["seed"]), trials["state"]))
        absent: dict[tuple[str, str], list[int]] = {}
        for name, arm in arms_of([self.record], self.baseline).items():
            for seed in seeds:
                absent.setdefault((arm.label, states.get((name, seed), MISSING)), []).append(seed)
        texts = [
            f"{label} {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))} ({state})"
            for (label, state), seeds in absent.items()
            if state != keys.FINISHED
        ]
        return (f"In no mean: {'; '.join(texts)}.",) if texts else ()

    @cached_property
    def searched(self) -> pd.DataFrame:
        """The trials of the study's search, oldest first.

        Raises:
            NotDrawable: the study has no search.
            MixedProtocols: as `trials`.
        """
        if not self.record.specification.get("search"):
            raise NotDrawable("the study has no search")
        trials = self.record.searched
        self.check(trials[trials["state"] == keys.FINISHED])
        return trials.reset_index(drop=True)

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """Arms in the study's order. Looks go by that order, not by what has been trained so far."""
        return arms_of([self.record, *self.others], self.baseline)

    def values(self, trials: pd.DataFrame, each: Column) -> pd.Series:
        """A metric of trials in its printed unit; NaN where it was not recorded."""
        name = METRICS + each.stored
        return each.scale * trials[name] if name in trials else pd.Series(np.nan, index=trials.index)


def arm_trials(record: StudyRecord) -> pd.DataFrame:
    """The newest trial of every arm and seed that the study asks for."""
    trials = current_trials(student_trials(record))
    seeds = record.specification.get("seeds")
    arms = record.specification["table"].get("arms")
    trials = trials[trials["seed"].isin(seeds)] if seeds else trials
    return trials[trials["arm"].isin(arms)] if arms else trials


def arms_of(records: Sequence[StudyRecord], baseline: str) -> dict[str, Arm]:
    """The arms of all records, the first record's first; an arm of several studies has one look and one label."""
    labels: dict[str, str] = {}
    for record in records:
        layout = record.specification["table"]
        own = layout.get("labels") or {}
        for arm in layout.get("arms") or arm_trials(record)["arm"]:
            labels.setdefault(arm, str(own.get(arm, arm)))
    look_of = looks(labels, baseline)
    return {arm: Arm(label, look_of[arm]) for arm, label in labels.items()}


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """One mapping a row."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def runs_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Which runs these are."""
    return trials[RUNS].reset_index(drop=True)


def seeds_text(counts: pd.Series) -> str:
    """`n = 3`, or `n = 2 to 3` where it varies."""
    low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
    return f"n = {low}" if low == high else f"n = {low} to {high}"
