"""The table of an ablation laid out: what stands in which column, what is marked, and what the notes say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from analysis import provenance
from analysis.ablation import MISSING, AblationTable, Cell, Comparison, Reference, Row
from analysis.columns import COST_MEANINGS, Column, Heading, headed
from analysis.factors import NONE, ON, FactorColumn, factor_columns
from analysis.sheet import (
    ARCHITECTURE,
    CONFIDENCE,
    MINUS,
    Entry,
    Sheet,
    cell_text,
    difference_text,
    metric_sentence,
    number,
    probability,
    seeds_text,
    signed,
)
from analysis.statistics import LEVEL, RESAMPLES, pairs_needed, smallest_p
from orchestrator import keys

_EMPTY = (keys.RUNNING, keys.DIVERGED, keys.FAILED, keys.INTERRUPTED, keys.PRUNED, MISSING)
VERDICT = {True: "yes", False: "no", None: NONE}
INTERVAL_NAMES = {
    "t": "by Student's t",
    "percentile": f"by the percentile bootstrap of {RESAMPLES} resamples (too narrow for few seeds)",
    "bca": f"by the BCa bootstrap of {RESAMPLES} resamples (too narrow for few seeds)",
}


def ablation_sheet(table: AblationTable) -> Sheet:
    """Lays out the table of an ablation."""
    layout = _Layout(table, factor_columns({row.arm: row.factors for row in table.rows}))
    return Sheet(
        name=table.study,
        question=table.question,
        caption=tuple(_caption(table)),
        header=layout.header,
        alignment=layout.alignment,
        rows=layout.rows,
        footnotes=tuple(_footnote(row) for row in table.rows if row.absences),
        remarks=tuple(_remarks(table)),
        rules=tuple(sum(table.blocks[:count]) for count in range(1, len(table.blocks))),
        records=provenance.records(table),
        provenance=provenance.provenance(table),
        origins=provenance.origins(table),
    )


@dataclass(frozen=True)
class _Rank:
    """Best and second best printed mean of one column in one block; NaN where nothing is to be marked."""

    best: float
    second: float


@dataclass(frozen=True)
class _Layout:
    """Headings and entries, in the same order: arm, components, options, metrics; beside the study's its judgement."""

    table: AblationTable
    factors: tuple[FactorColumn, ...]

    @property
    def header(self) -> tuple[Heading, ...]:
        """One heading per column."""
        components = [Heading(name) for name in self.table.components]
        options = [Heading(each.title, each.group, each.heading if each.group else "") for each in self.factors]
        return (Heading("Arm"), *components, *options, *self._metric_headings())

    @property
    def alignment(self) -> str:
        """One letter per column: options centred, numbers to the right, verdicts centred."""
        extra = "".join("c" if heading.text == "Reproduced" else "r" for heading in self._judgement_headings())
        parts = (
            "r" * len(group) + (extra if self._is_main(group) else "") + "rr" * len(self._printed(group))
            for group in self._groups
        )
        return "l" + "c" * (len(self.table.components) + len(self.factors)) + "".join(parts)

    @property
    def rows(self) -> tuple[tuple[Entry, ...], ...]:
        """The entries of every row."""
        marks = {row.arm: index for index, row in enumerate((row for row in self.table.rows if row.absences), start=1)}
        return tuple(
            self._row(row, ranks, (marks[row.arm],) if row.absences else ())
            for block in self.table.row_blocks
            for ranks in [self._ranks(block)]
            for row in block
        )

    @cached_property
    def _groups(self) -> list[list[Column]]:
        return [[each for each, _ in group] for group in headed(self.table.columns)]

    @cached_property
    def _has_p(self) -> bool:
        return _has_p(self.table)

    @cached_property
    def _decimals(self) -> int | None:
        """Digits of the paper's values; None without any."""
        return _printed_decimals(self.table) if _has_reference(self.table) else None

    def _is_main(self, group: Sequence[Column]) -> bool:
        return self.table.metric in group

    def _metric_headings(self) -> Iterator[Heading]:
        for group in headed(self.table.columns):
            yield from (heading for _, heading in group)
            if self._is_main([each for each, _ in group]):
                yield from self._judgement_headings()
            for each in self._printed([each for each, _ in group]):
                yield from (Heading(f"{what}: {each.title}") for what in ("Paper", f"Ours {MINUS} paper"))

    def _printed(self, group: Sequence[Column]) -> list[Column]:
        """The columns of a group, but the study's metric, that the paper has values of."""
        return [each for each in group if each.stored in self.table.reference_names]

    def _judgement_headings(self) -> list[Heading]:
        table = self.table
        baselines = table.baselines
        to = _label(table, baselines[0]) if len(baselines) == 1 else "baseline"
        difference = [f"Δ to {to} [{CONFIDENCE}]"] if baselines else []
        paper = ["Paper", f"Ours {MINUS} paper", "Reproduced"] if _has_reference(table) else []
        return [Heading(text) for text in [*difference, *(["p (Holm)"] if _has_p(table) else []), *paper]]

    def _row(self, row: Row, ranks: Mapping[str, _Rank], marks: tuple[int, ...]) -> tuple[Entry, ...]:
        entries = [Entry(row.label)]
        entries += [Entry(ON if row.switches.get(name) else "") for name in self.table.components]
        entries += [
            Entry(each.text(row.factors[each.path]) if each.path in row.factors else NONE) for each in self.factors
        ]
        cells = dict(zip(self.table.columns, row.cells))
        for group in self._groups:
            entries += [self._cell(row, each, cells[each], ranks[each.stored], marks) for each in group]
            entries += self._judgement(row, cells[self.table.metric]) if self._is_main(group) else []
            for each in self._printed(group):
                reference = row.references.get(each.stored)
                entries += [Entry(text) for text in _beside(reference, each, cells[each], _digits(self.table, each))]
        return tuple(entries)

    def _cell(self, row: Row, each: Column, cell: Cell, rank: _Rank, marks: tuple[int, ...]) -> Entry:
        """A metric of an arm; a mark where seeds are absent, and why where all are."""
        if not self._is_complete(row, each, cell):
            return Entry(cell_text(cell.statistics, each) if cell.sources else _why_empty(row), marks=marks)
        mean = round(cell.statistics.mean, each.decimals)
        return Entry(cell_text(cell.statistics, each), mean == rank.best, mean == rank.second)

    def _is_complete(self, row: Row, each: Column, cell: Cell) -> bool:
        return cell.statistics.n >= (1 if each.metric in ARCHITECTURE else len(row.seeds))

    def _ranks(self, block: Sequence[Row]) -> dict[str, _Rank]:
        return {each.stored: self._rank(block, index) for index, each in enumerate(self.table.columns)}

    def _rank(self, block: Sequence[Row], index: int) -> _Rank:
        """Among complete cells only. Of two rows the second best is the worst: not underlined."""
        each = self.table.columns[index]
        complete = [row.cells[index].statistics.mean for row in block if self._is_complete(row, each, row.cells[index])]
        means = sorted(
            {round(mean, each.decimals) for mean in complete if not math.isnan(mean)}, reverse=each.mode != "min"
        )
        if not each.mode or len(means) < 2:
            return _Rank(math.nan, math.nan)
        return _Rank(means[0], means[1] if len(means) > 2 else math.nan)

    def _judgement(self, row: Row, ours: Cell) -> list[Entry]:
        table = self.table
        found: list[str] = []
        if table.baselines:
            found.append(difference_text(row.comparison.difference if row.comparison else None, table.metric.decimals))
        if self._has_p:
            found.append(probability(row.comparison.p_holm if row.comparison else math.nan))
        if self._decimals is not None:
            found += self._paper(row, ours)
        return [Entry(text) for text in found]

    def _paper(self, row: Row, ours: Cell) -> list[str]:
        verdict = VERDICT[row.reference.reproduction.is_reproduced] if row.reference else NONE
        return [*_beside(row.reference, self.table.metric, ours, self._decimals or 0), verdict]


def _beside(reference: Reference | None, each: Column, ours: Cell, decimals: int) -> list[str]:
    """The paper's value with its deviation, and ours minus the paper's."""
    if reference is None:
        return [NONE, NONE]
    std = "" if math.isnan(reference.std) else f" ± {number(reference.std, decimals)}"
    gap = signed(ours.statistics.mean - reference.value, each.decimals) if ours.sources else NONE
    return [number(reference.value, decimals) + std, gap]


def _printed_decimals(table: AblationTable) -> int:
    """Those of the study's metric in the paper."""
    return _most_decimals([row.reference for row in table.rows if row.reference])


def _digits(table: AblationTable, each: Column) -> int:
    """Those of another column in the paper."""
    return _most_decimals([row.references[each.stored] for row in table.rows if each.stored in row.references])


def _most_decimals(references: Sequence[Reference]) -> int:
    """As many as the paper prints in this column: a YAML file drops closing zeros of single values."""
    values = [value for reference in references for value in (reference.value, reference.std)]
    return max((len(f"{value:g}".partition(".")[2]) for value in values), default=0)


def _has_reference(table: AblationTable) -> bool:
    return any(row.reference is not None for row in table.rows)


def _comparisons(table: AblationTable) -> list[Comparison]:
    """Those with an interval, over which Holm adjusts."""
    return [row.comparison for row in table.rows if row.comparison and row.comparison.difference.n > 1]


def _has_p(table: AblationTable) -> bool:
    return any(not math.isnan(found.p_holm) for found in _comparisons(table))


def _label(table: AblationTable, arm: str) -> str:
    return next((row.label for row in table.rows if row.arm == arm), arm)


def _why_empty(row: Row) -> str:
    """What a cell without a value says: the first of these states that a seed of the arm is in."""
    states = {absence.state for absence in row.absences}
    return next((state for state in _EMPTY if state in states), NONE)


def _footnote(row: Row) -> str:
    """`full: seeds 1, 2 missing; seed 3 diverged (task loss is inf at epoch 2).`"""
    groups: dict[str, list[int]] = {}
    for absence in row.absences:
        reason = f" ({absence.reason})" if absence.reason else ""
        groups.setdefault(f"{absence.state}{reason}", []).append(absence.seed)
    return f"{row.label}: {'; '.join(f'{seeds_text(seeds)} {state}' for state, seeds in groups.items())}."


def _caption(table: AblationTable) -> Iterator[str]:
    yield metric_sentence(table.metric, table.select)
    yield f"Mean ± standard deviation (n) over the finished ones of {seeds_text(table.seeds)}."


def _remarks(table: AblationTable) -> Iterator[str]:
    if any(row.absences for row in table.rows):
        yield "A marked cell lacks seeds: they are in no mean, and the cell is neither bold nor underlined."
    yield from _merged_remarks(table)
    yield from _rank_remark(table)
    yield from _difference_remarks(table)
    yield from _reference_remark(table)
    yield from _other_reference_remark(table)
    yield from _cost_remarks(table)
    if table.protocol:
        yield f"Protocol: {table.protocol}."
    yield from table.protocol_notes
    yield from table.extent_notes
    if table.superseded:
        yield f"{table.superseded} older runs of the same arm and seed in the store are left out."


def _cost_remarks(table: AblationTable) -> Iterator[str]:
    """What the costs that may be taken for something else are."""
    for each in table.columns:
        if each.stored in COST_MEANINGS:
            yield f"{each.heading}: {COST_MEANINGS[each.stored]}."


def _merged_remarks(table: AblationTable) -> Iterator[str]:
    """Which arms are missing because their training is another arm's."""
    for row in table.rows:
        doubles = [double for double, kept in table.merged.items() if kept == row.arm]
        if doubles:
            yield f"{row.label} stands for {', '.join(doubles)} too: the same training."


def _rank_remark(table: AblationTable) -> Iterator[str]:
    if len(table.rows) > 1:
        yield f"Bold: best; underlined: second best{' of its block' if len(table.blocks) > 1 else ''}."


def _difference_remarks(table: AblationTable) -> Iterable[str]:
    if not table.baselines:
        return
    to = ", ".join(dict.fromkeys(_label(table, arm) for arm in table.baselines))
    which = f"the baseline of its block ({to})" if len(table.baselines) > 1 else to
    yield (
        f"Δ: difference in the metric to {which}, paired by seed, with {CONFIDENCE} interval "
        f"{INTERVAL_NAMES[table.interval]} (number of pairs)."
    )
    yield from _test_remark(table)


def _test_remark(table: AblationTable) -> Iterable[str]:
    """Why there are p-values, or why there can be none."""
    found = _comparisons(table)
    count = f"{len(found)} {'comparison' if len(found) == 1 else 'comparisons'}"
    needed = pairs_needed(len(found))
    if _has_p(table):
        yield (
            f"p: exact sign-flip test of the pairs, by Holm over {count}; "
            f"only from {needed} pairs on, since fewer cannot reach {LEVEL}."
        )
    elif found:
        least = smallest_p(max(each.difference.n for each in found))
        yield (
            f"No claim of significance: with {max(each.difference.n for each in found)} pairs an exact test of a row "
            f"gives p = {least:.3g} at the least, {min(1.0, len(found) * least):.3g} by Holm over {count}; "
            f"{needed} seeds can reach {LEVEL}."
        )


def _reference_remark(table: AblationTable) -> Iterable[str]:
    if not _has_reference(table):
        return
    name = table.reference_name or "values named in the study"
    yield (
        f"Paper: {name}. Reproduced: the paper's value lies in the {CONFIDENCE} interval of our mean "
        f"{INTERVAL_NAMES[table.interval]}, widened by the paper's own standard deviation where it is printed; "
        "few seeds make a wide interval."
    )


def _other_reference_remark(table: AblationTable) -> Iterable[str]:
    """Where the paper's values of columns besides the metric stand."""
    named = [
        f"{each.title} from {table.reference_names[each.stored]}"
        for each in table.columns
        if each.stored in table.reference_names
    ]
    if named:
        yield f"Paper's values beside other columns: {'; '.join(named)}."
