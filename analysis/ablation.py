"""The table of an ablation as numbers: arms x metrics, each cell over the seeds that finished."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd

from analysis import protocols
from analysis.columns import Column, column, table_columns
from analysis.extent import Sample, repeat_notes, tuning_notes
from analysis.statistics import (
    INTERVALS,
    Difference,
    PairedComparison,
    Repeats,
    Reproduction,
    repeats,
    reproduction,
)
from analysis.store import METRICS, StudyRecord
from orchestrator import keys

MISSING = "missing"
T_INTERVAL = "t"


@dataclass(frozen=True)
class Choices:
    """What the reader of a table may choose.

    Attributes:
        allow: protocol fields that may differ between its results, besides those that the study allows.
        interval: one of INTERVALS.
        side_by_side: scores of the best and of the last epoch, whatever the study says.
    """

    allow: Collection[str] = ()
    interval: str = T_INTERVAL
    side_by_side: bool = False


DEFAULT = Choices()


@dataclass(frozen=True)
class Source:
    """A finished run whose values are in the cells of its arm."""

    seed: int
    run_id: str
    trial_id: str
    fingerprint: str
    teacher: str
    revision: str
    reused_from: str


_SOURCE_TAGS = tuple(item.name for item in fields(Source))
_TAGS = ("arm", "state", "reason", *_SOURCE_TAGS)


@dataclass(frozen=True)
class Cell:
    """One metric of one arm.

    Attributes:
        statistics: in the column's printed unit.
        values: as stored, scores in [0, 1].
        sources: the run of each value.
    """

    statistics: Repeats
    values: tuple[float, ...]
    sources: tuple[Source, ...]

    @property
    def by_seed(self) -> dict[int, float]:
        """Stored value by seed."""
        return {source.seed: value for source, value in zip(self.sources, self.values)}


@dataclass(frozen=True)
class Absence:
    """A seed of an arm that is not in the cells."""

    arm: str
    seed: int
    state: str  # one of keys.STATES but finished, or MISSING; `finished without <metric>` for a metric not recorded
    reason: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class Comparison:
    """An arm against the baseline of its block in the study's metric.

    Attributes:
        baseline: the arm it is compared with.
        difference: paired by seed, printed unit.
        p: of the exact sign-flip test; NaN for fewer than two pairs.
        p_holm: after Holm over the table's comparisons; NaN where so few pairs cannot carry a claim.
    """

    baseline: str
    difference: Difference
    p: float
    p_holm: float


@dataclass(frozen=True)
class Reference:
    """The paper's value of an arm in one column, printed unit.

    Attributes:
        value: as printed.
        std: as printed; NaN where it is not.
        reproduction: whether ours agrees with it.
    """

    value: float
    std: float
    reproduction: Reproduction


@dataclass(frozen=True)
class Row:
    """One arm.

    Attributes:
        arm: its name.
        label: what is printed.
        switches: component -> on; empty for an arm without them.
        factors: dotted path -> value of the options that the table shows.
        cells: one for each column of the table.
        comparison: with the baseline; None without a baseline and for itself.
        reference: the paper's value of the study's metric, or None.
        references: stored name of another column -> the paper's value.
        seeds: repeats that it should have.
        absences: seeds not in the cells.
    """

    arm: str
    label: str
    switches: dict[str, bool]
    factors: dict[str, Any]
    cells: tuple[Cell, ...]
    comparison: Comparison | None
    reference: Reference | None
    seeds: tuple[int, ...]
    absences: tuple[Absence, ...]
    references: Mapping[str, Reference] = field(default_factory=dict)


@dataclass(frozen=True)
class AblationTable:
    """Arms x metrics of one study.

    Attributes:
        study, question: as in the study file.
        metric: the study's metric; differences and the paper's values belong to it.
        select: `best` (epoch on the validation split) or `last`.
        columns: metrics, the study's among them.
        components: columns of check marks.
        baselines: arms that differences are taken to, one a block at most.
        reference_name: where the paper's values of the metric stand.
        reference_names: stored name of each other column that the paper has values of -> where they stand.
        seeds: repeats that some arm should have.
        blocks: number of rows in each block; rows of different blocks do not compete.
        rows: arms in the study's order.
        protocol: what all results share, in one line.
        protocol_notes: allowed differences of protocol.
        extent_notes: why arms have the repeats they have, and what a search before them cost.
        merged: arm without a row -> arm that is the same training.
        superseded: number of runs left out because a later one has their arm and seed.
        interval: which one, of INTERVALS.
    """

    study: str
    question: str
    metric: Column
    select: str
    columns: tuple[Column, ...]
    components: tuple[str, ...]
    baselines: tuple[str, ...]
    reference_name: str
    seeds: tuple[int, ...]
    blocks: tuple[int, ...]
    rows: tuple[Row, ...]
    protocol: str
    protocol_notes: tuple[str, ...]
    superseded: int
    interval: str = T_INTERVAL
    extent_notes: tuple[str, ...] = ()
    merged: Mapping[str, str] = field(default_factory=dict)
    reference_names: Mapping[str, str] = field(default_factory=dict)

    @property
    def main(self) -> int:
        """Index of the study's metric among the columns."""
        return self.columns.index(self.metric)

    @property
    def row_blocks(self) -> list[tuple[Row, ...]]:
        """The rows, block by block."""
        ends = [sum(self.blocks[: index + 1]) for index in range(len(self.blocks))]
        return [self.rows[end - size : end] for end, size in zip(ends, self.blocks)]


def ablation_table(record: StudyRecord, choices: Choices = DEFAULT) -> AblationTable:
    """Makes the table of a study's arms.

    Args:
        record: the study as stored.
        choices: of the reader.

    Raises:
        MixedProtocols: if results of different protocols would stand in it.
    """
    metric, layout = record.specification["metric"], chosen_layout(record.specification, choices)
    students = student_trials(record)
    trials = current_trials(students)
    superseded = len(students) - len(trials)
    arms = tuple(layout.get("arms") or trials["arm"].drop_duplicates())
    seeds = _seeds(record.specification, arms) or dict.fromkeys(arms, tuple(sorted(set(trials["seed"]))))
    every_seed = tuple(dict.fromkeys(seed for of_arm in seeds.values() for seed in of_arm))
    blocks = _blocks(layout, arms)
    shown = {*arms, *(baseline for _, baseline in blocks)}
    trials = trials[trials["arm"].isin(shown) & trials["seed"].isin(every_seed)]
    finished = trials[trials["state"] == keys.FINISHED]
    allow = protocols.allowed(layout, choices.allow)
    notes = protocols.check(finished, allow, protocols.stated(layout.get("group_by") or ()))
    columns = table_columns(layout, metric)
    main = next(each for each in columns if each.stored == _study_column(metric).stored)
    references = _printed_columns(layout, metric)
    builder = _RowBuilder(
        by_arm(trials, columns), columns, columns.index(main), seeds, layout, choices.interval, references
    )
    rows = builder.rows(blocks)
    return AblationTable(
        study=record.study,
        question=str(record.specification.get("question") or ""),
        metric=main,
        select=metric["select"],
        columns=columns,
        components=tuple(layout.get("components") or ()),
        baselines=tuple(dict.fromkeys(baseline for _, baseline in blocks if baseline)),
        reference_name=str(layout.get("reference_name") or ""),
        seeds=every_seed,
        blocks=tuple(len(members) for members, _ in blocks),
        rows=rows,
        protocol=protocols.brief(finished),
        protocol_notes=tuple(notes),
        superseded=superseded,
        interval=choices.interval,
        extent_notes=(
            *repeat_notes(record.specification, _samples(rows, columns.index(main), main)),
            *tuning_notes(record),
        ),
        merged=dict(layout.get("merged") or {}),
        reference_names={stored: str(printed["title"]) for stored, printed in references.items()},
    )


def chosen_layout(specification: Mapping[str, Any], choices: Choices) -> dict[str, Any]:
    """The layout of a study's table with what its reader chose."""
    layout = dict(specification["table"])
    return layout | {"side_by_side": layout.get("side_by_side") or choices.side_by_side}


def student_trials(record: StudyRecord) -> pd.DataFrame:
    """The trials of the study's arms (search trials and teachers are not among them).

    A specification that lists `trials` (ids of the present plan) leaves out what earlier versions of the study ran.
    """
    trials = record.trials
    trials = trials[(trials["kind"] == "student") & (trials["arm"] != keys.SEARCH_ARM)]
    planned = record.specification.get("trials")
    return trials[trials["trial_id"].isin(planned)] if planned else trials


def current_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The newest trial of every arm and seed: a study edited and run again leaves the older ones in the store."""
    return trials.sort_values("started", kind="stable").drop_duplicates(["arm", "seed"], keep="last")


def _seeds(specification: Mapping[str, Any], arms: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The seeds that each arm should have; empty where the study does not say."""
    common = tuple(specification.get("seeds") or ())
    own: Mapping[str, Sequence[int]] = specification.get("arm_seeds") or {}
    return {arm: tuple(own.get(arm, common)) for arm in arms} if common else {}


def _samples(rows: Sequence[Row], main: int, each: Column) -> dict[str, Sample]:
    """What a rule about repeats judges of every arm, printed unit."""
    values = {row.arm: {seed: each.scale * value for seed, value in row.cells[main].by_seed.items()} for row in rows}
    return {row.arm: Sample(row.label, len(row.seeds), values[row.arm], values.get(_baseline(row), {})) for row in rows}


def _baseline(row: Row) -> str:
    return row.comparison.baseline if row.comparison else ""


def _printed_columns(layout: Mapping[str, Any], metric: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the paper says of columns besides the metric, by stored name: title, values and deviations by arm."""
    said: Mapping[str, Mapping[str, Any]] = layout.get("references") or {}
    return {column(name, metric["select"]).stored: printed for name, printed in said.items() if printed["values"]}


def _study_column(metric: Mapping[str, Any]) -> Column:
    return column(metric["name"], metric["select"], metric["mode"])


def _blocks(layout: Mapping[str, Any], arms: Sequence[str]) -> list[tuple[tuple[str, ...], str]]:
    """Arms and baseline of every block; a study without blocks has one."""
    one = {"arms": arms, "baseline": layout.get("baseline")}
    return [(tuple(block["arms"]), str(block["baseline"] or "")) for block in layout.get("blocks") or [one]]


def by_arm(trials: pd.DataFrame, columns: Sequence[Column]) -> dict[str, list[dict[str, Any]]]:
    """The trials of each arm by rising seed, each with its `source` and these metrics."""
    names = [METRICS + each.stored for each in columns]
    wanted = [*_TAGS, *(name for name in names if name in trials)]
    in_order = trials.sort_values("seed", kind="stable")
    values = zip(*(in_order[name].to_numpy(dtype=object) for name in wanted))  # to_dict takes twice as long
    found: dict[str, list[dict[str, Any]]] = {}
    for trial in (dict(zip(wanted, row)) for row in values):
        trial["source"] = Source(**{name: trial[name] for name in _SOURCE_TAGS})
        found.setdefault(trial["arm"], []).append(trial)
    return found


def cell_of(trials: Sequence[Mapping[Any, Any]], each: Column) -> Cell:
    """One metric of some trials, as `by_arm` gives them; only those that used their whole budget have a result."""
    name = METRICS + each.stored
    found = [trial for trial in trials if trial["state"] == keys.FINISHED and has_value(trial, name)]
    values = tuple(float(trial[name]) for trial in found)
    return Cell(repeats(each.scale * value for value in values), values, tuple(trial["source"] for trial in found))


@dataclass(frozen=True)
class _RowBuilder:
    """Makes the rows of one table; `main` is the index of the study's metric among the columns."""

    trials: dict[str, list[dict[str, Any]]]
    columns: tuple[Column, ...]
    main: int
    seeds: Mapping[str, tuple[int, ...]]
    layout: Mapping[str, Any]
    interval: str
    printed: Mapping[str, Mapping[str, Any]]

    def rows(self, blocks: Sequence[tuple[tuple[str, ...], str]]) -> tuple[Row, ...]:
        """The rows of all blocks: the comparisons of the table are adjusted together."""
        baselines = {arm: baseline for arms, baseline in blocks for arm in arms if baseline and arm != baseline}
        comparisons = self._comparisons(baselines)
        return tuple(self._row(arm, comparisons.get(arm)) for arms, _ in blocks for arm in arms)

    def _row(self, arm: str, comparison: Comparison | None) -> Row:
        cells = tuple(cell_of(self.trials.get(arm, ()), each) for each in self.columns)
        layout = self.layout
        return Row(
            arm=arm,
            label=str((layout.get("labels") or {}).get(arm, arm)),
            switches=dict((layout.get("switches") or {}).get(arm, {})),
            factors=dict((layout.get("factors") or {}).get(arm, {})),
            cells=cells,
            comparison=comparison,
            reference=self._reference(arm, self.main, cells, self._of_the_metric),
            references=self._references(arm, cells),
            seeds=self.seeds[arm],
            absences=tuple(self._absences(arm)),
        )

    def _comparisons(self, baselines: Mapping[str, str]) -> dict[str, Comparison]:
        """The study's metric of each arm against that of its baseline."""
        each = self.columns[self.main]
        arms = dict.fromkeys([*baselines, *baselines.values()])
        values = [
            (arm, seed, each.scale * value)
            for arm in arms
            for seed, value in cell_of(self.trials.get(arm, ()), each).by_seed.items()
        ]
        compare = PairedComparison(INTERVALS[self.interval])
        found = compare(pd.DataFrame(values, columns=["arm", "seed", "value"]), baselines)
        return {
            row["arm"]: Comparison(
                row["baseline"],
                Difference(row["mean"], row["low"], row["high"], row["n"]),
                row["p"],
                row["p_holm"],
            )
            for row in found.to_dict("records")
        }

    @property
    def _of_the_metric(self) -> Mapping[str, Any]:
        layout = self.layout
        return {"values": layout.get("reference") or {}, "deviations": layout.get("reference_std") or {}}

    def _references(self, arm: str, cells: Sequence[Cell]) -> dict[str, Reference]:
        """The paper's values in the columns that are not the metric."""
        stored = [each.stored for each in self.columns]
        found = {
            name: self._reference(arm, stored.index(name), cells, printed)
            for name, printed in self.printed.items()
            if name in stored
        }
        return {name: reference for name, reference in found.items() if reference is not None}

    def _reference(
        self, arm: str, position: int, cells: Sequence[Cell], printed: Mapping[str, Any]
    ) -> Reference | None:
        value = printed["values"].get(arm)
        if value is None:
            return None
        std = printed["deviations"].get(arm)
        ours = [self.columns[position].scale * one for one in cells[position].values]
        judged = reproduction(ours, float(value), float(std or 0.0), INTERVALS[self.interval])
        return Reference(float(value), math.nan if std is None else float(std), judged)

    def _absences(self, arm: str) -> list[Absence]:
        trials = {trial["seed"]: trial for trial in self.trials.get(arm, ())}
        absent = []
        for seed in self.seeds[arm]:
            trial = trials.get(seed)
            if trial is None:
                absent.append(Absence(arm, seed, MISSING))
            elif trial["state"] != keys.FINISHED:
                absent.append(Absence(arm, seed, trial["state"], trial["reason"], trial["run_id"]))
            else:
                absent.extend(self._unrecorded(arm, seed, trial))
        return absent

    def _unrecorded(self, arm: str, seed: int, trial: Mapping[Any, Any]) -> list[Absence]:
        names = [each.stored for each in self.columns if not has_value(trial, METRICS + each.stored)]
        return [Absence(arm, seed, f"finished without {', '.join(names)}", "", trial["run_id"])] if names else []


def has_value(trial: Mapping[Any, Any], name: str) -> bool:
    """Whether the trial recorded the metric (a wide frame fills the metrics a run does not have with NaN)."""
    value = trial.get(name)
    # A tuple: a union would be made anew for every value of a table.
    return isinstance(value, (float, int)) and not math.isnan(value)
