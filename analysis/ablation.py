"""The table of an ablation as numbers: arms x metrics, each cell over the seeds that finished."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import protocols
from analysis.columns import Column, column
from analysis.statistics import Difference, Repeats, paired_difference, repeats
from analysis.store import METRICS, StudyRecord
from orchestrator import keys

SEARCH_ARM = "search"
MISSING = "missing"


@dataclass(frozen=True)
class Source:
    """The run one value of a cell was read from; `value` as stored, scores in [0, 1]."""

    seed: int
    value: float
    run_id: str
    trial_id: str
    fingerprint: str
    reused_from: str


@dataclass(frozen=True)
class Cell:
    """One metric of one arm: statistics in the column's printed unit and the runs they come from."""

    statistics: Repeats
    sources: tuple[Source, ...]

    @property
    def by_seed(self) -> dict[int, float]:
        """Stored value by seed."""
        return {source.seed: source.value for source in self.sources}


@dataclass(frozen=True)
class Absence:
    """A seed of an arm that is not in the cells."""

    arm: str
    seed: int
    state: str  # one of keys.STATES but finished, or MISSING; `finished without <metric>` for a metric not recorded
    reason: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class Row:
    """One arm.

    Attributes:
        arm: its name.
        label: what is printed.
        switches: component -> on; empty for an arm without them.
        cells: one for each column of the table.
        difference: to the baseline in the study's metric, printed unit; None without a baseline and for itself.
        reference: the paper's value in the printed unit, or None.
        absences: seeds not in the cells.
    """

    arm: str
    label: str
    switches: dict[str, bool]
    cells: tuple[Cell, ...]
    difference: Difference | None
    reference: float | None
    absences: tuple[Absence, ...]


@dataclass(frozen=True)
class AblationTable:
    """Arms x metrics of one study.

    Attributes:
        study, question: as in the study file.
        metric: the study's metric; differences and the paper's values belong to it.
        select: `best` (epoch on the validation split) or `last`.
        columns: metrics, the study's among them.
        components: columns of check marks.
        baseline: arm the differences are taken to; empty: none.
        reference_name: where the paper's values stand.
        seeds: repeats every arm should have.
        rows: arms in the study's order.
        protocol: what all results share, in one line.
        protocol_notes: allowed differences of protocol.
        superseded: number of runs left out because a later one has their arm and seed.
    """

    study: str
    question: str
    metric: Column
    select: str
    columns: tuple[Column, ...]
    components: tuple[str, ...]
    baseline: str
    reference_name: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    protocol: str
    protocol_notes: tuple[str, ...]
    superseded: int


def ablation_table(record: StudyRecord, allow: Collection[str] = ()) -> AblationTable:
    """Makes the table of a study's arms.

    Args:
        record: the study as stored.
        allow: protocol fields that may differ between its results.

    Raises:
        MixedProtocols: if results of different protocols would stand in it.
    """
    layout, metric = record.specification["table"], record.specification["metric"]
    students = student_trials(record)
    trials = current_trials(students)
    arms = tuple(layout.get("arms") or trials["arm"].drop_duplicates())
    seeds = tuple(record.specification.get("seeds") or sorted(set(trials["seed"])))
    trials = trials[trials["arm"].isin(arms) & trials["seed"].isin(seeds)]
    finished = trials[trials["state"] == keys.FINISHED]
    notes = protocols.check(finished, allow)
    columns = _columns(layout, metric)
    study_column = column(metric["name"], metric["select"], metric["mode"])
    builder = _RowBuilder(trials, columns, columns.index(study_column), seeds, layout)
    return AblationTable(
        study=record.study,
        question=str(record.specification.get("question") or ""),
        metric=study_column,
        select=metric["select"],
        columns=columns,
        components=tuple(layout.get("components") or ()),
        baseline=str(layout.get("baseline") or ""),
        reference_name=str(layout.get("reference_name") or ""),
        seeds=seeds,
        rows=tuple(builder.row(arm) for arm in arms),
        protocol=protocols.brief(finished),
        protocol_notes=tuple(notes),
        superseded=len(students) - len(current_trials(students)),
    )


def student_trials(record: StudyRecord) -> pd.DataFrame:
    """The trials of the study's arms (search trials and teachers are not among them).

    A specification that lists `trials` (ids of the present plan) leaves out what earlier versions of the study ran.
    """
    trials = record.trials
    trials = trials[(trials["kind"] == "student") & (trials["arm"] != SEARCH_ARM)]
    planned = record.specification.get("trials")
    return trials[trials["trial_id"].isin(planned)] if planned else trials


def current_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The newest trial of every arm and seed: a study edited and run again leaves the older ones in the store."""
    return trials.sort_values("started", kind="stable").drop_duplicates(["arm", "seed"], keep="last")


def _columns(layout: dict[str, Any], metric: dict[str, Any]) -> tuple[Column, ...]:
    study = column(metric["name"], metric["select"], metric["mode"])
    others = [column(name, metric["select"]) for name in layout.get("columns") or ()]
    named = [study if other.stored == study.stored else other for other in others]
    return tuple(dict.fromkeys(named if study in named else [study, *named]))


@dataclass(frozen=True)
class _RowBuilder:
    """Makes the rows of one table; `main` is the index of the study's metric among the columns."""

    trials: pd.DataFrame
    columns: tuple[Column, ...]
    main: int
    seeds: tuple[int, ...]
    layout: dict[str, Any]

    def row(self, arm: str) -> Row:
        cells = tuple(self._cell(arm, each) for each in self.columns)
        layout = self.layout
        reference = (layout.get("reference") or {}).get(arm)
        return Row(
            arm=arm,
            label=str((layout.get("labels") or {}).get(arm, arm)),
            switches=dict((layout.get("switches") or {}).get(arm, {})),
            cells=cells,
            difference=self._difference(arm, cells[self.main]),
            reference=None if reference is None else float(reference),
            absences=tuple(self._absences(arm)),
        )

    def _cell(self, arm: str, each: Column) -> Cell:
        sources = tuple(self._sources(arm, each))
        return Cell(repeats(each.scale * source.value for source in sources), sources)

    def _sources(self, arm: str, each: Column) -> list[Source]:
        rows = self.trials[(self.trials["arm"] == arm) & (self.trials["state"] == keys.FINISHED)]
        name = METRICS + each.stored
        found = [trial for trial in rows.sort_values("seed").to_dict("records") if has_value(trial, name)]
        return [
            Source(t["seed"], float(t[name]), t["run_id"], t["trial_id"], t["fingerprint"], t["reused_from"])
            for t in found
        ]

    def _difference(self, arm: str, cell: Cell) -> Difference | None:
        baseline = self.layout.get("baseline")
        if not baseline or arm == baseline:
            return None
        scale = self.columns[self.main].scale
        ours = {seed: scale * value for seed, value in cell.by_seed.items()}
        theirs = self._cell(baseline, self.columns[self.main]).by_seed
        return paired_difference(ours, {seed: scale * value for seed, value in theirs.items()})

    def _absences(self, arm: str) -> list[Absence]:
        trials = {trial["seed"]: trial for trial in self.trials[self.trials["arm"] == arm].to_dict("records")}
        absent = []
        for seed in self.seeds:
            trial = trials.get(seed)
            if trial is None:
                absent.append(Absence(arm, seed, MISSING))
            elif trial["state"] != keys.FINISHED:
                absent.append(Absence(arm, seed, trial["state"], trial["reason"], trial["run_id"]))
            else:
                absent.extend(self._unrecorded(arm, seed, trial))
        return absent

    def _unrecorded(self, arm: str, seed: int, trial: dict[Any, Any]) -> list[Absence]:
        names = [each.stored for each in self.columns if not has_value(trial, METRICS + each.stored)]
        return [Absence(arm, seed, f"finished without {', '.join(names)}", "", trial["run_id"])] if names else []


def has_value(trial: dict[Any, Any], name: str) -> bool:
    """Whether the trial recorded the metric (a wide frame fills the metrics a run does not have with NaN)."""
    value = trial.get(name)
    return isinstance(value, float | int) and not math.isnan(value)
