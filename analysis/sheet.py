"""A table laid out: headings, entries and footnotes as plain text, the same for Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.ablation import AblationTable, Row
from analysis.columns import Column
from analysis.search import SearchTable, SearchTrial
from analysis.statistics import Difference, Repeats

NONE = "—"
ON = "✓"
MINUS = "−"
ARCHITECTURE = ("params_m", "gmacs", "gflops")  # the same for every seed: printed without a deviation of zero
CONFIDENCE = "95 %"
SELECTION = {"best": "best epoch on val", "last": "last epoch"}


@dataclass(frozen=True)
class Entry:
    """One field of the printed table; `marks` are numbers of footnotes."""

    text: str
    is_bold: bool = False
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A table ready to be written in any format.

    Attributes:
        name: stem of its files and its LaTeX label.
        question: the study's, or empty.
        caption: sentences under the heading: metric, selection rule, statistics, protocol.
        header: one text per column.
        alignment: `l`, `c` or `r` per column.
        rows: entries in print.
        footnotes: numbered from 1.
        remarks: further notes without a mark.
        records: the same numbers for machines, one mapping per line of the CSV file.
        provenance: run ids behind every cell, for the sidecar file.
        origins: one line of run ids per row, for comments.
    """

    name: str
    question: str
    caption: tuple[str, ...]
    header: tuple[str, ...]
    alignment: str
    rows: tuple[tuple[Entry, ...], ...]
    footnotes: tuple[str, ...]
    remarks: tuple[str, ...]
    records: tuple[dict[str, Any], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    origins: tuple[str, ...] = ()


def ablation_sheet(table: AblationTable) -> Sheet:
    """Lays out the table of an ablation."""
    footnotes, marks = _footnotes(table)
    best = {each.stored: _best(table, index) for index, each in enumerate(table.columns)}
    header, alignment = _ablation_header(table)
    return Sheet(
        name=table.study,
        question=table.question,
        caption=tuple(_ablation_caption(table)),
        header=header,
        alignment=alignment,
        rows=tuple(_ablation_row(table, row, best, marks.get(row.arm, ())) for row in table.rows),
        footnotes=footnotes,
        remarks=tuple(_remarks(table)),
        records=tuple(record for row in table.rows for record in _ablation_records(table, row)),
        provenance=_ablation_provenance(table),
        origins=tuple(_origins(table)),
    )


def _ablation_header(table: AblationTable) -> tuple[tuple[str, ...], str]:
    names, alignment = ["Arm", *table.components], "l" + "c" * len(table.components)
    for each in table.columns:
        names.append(each.title)
        alignment += "r"
        if each == table.metric:
            extra = _metric_headings(table)
            names += extra
            alignment += "r" * len(extra)
    return tuple(names), alignment


def _metric_headings(table: AblationTable) -> list[str]:
    difference = [f"Δ to {_label(table, table.baseline)} [{CONFIDENCE}]"] if table.baseline else []
    return difference + (["Paper", f"Ours {MINUS} paper"] if _has_reference(table) else [])


def _ablation_row(table: AblationTable, row: Row, best: dict[str, float], marks: tuple[int, ...]) -> tuple[Entry, ...]:
    entries = [Entry(row.label, marks=marks)]
    entries += [Entry(ON if row.switches.get(name) else "") for name in table.components]
    for each, cell in zip(table.columns, row.cells):
        is_best = not row.absences and round(cell.statistics.mean, each.decimals) == best[each.stored]
        entries.append(Entry(cell_text(cell.statistics, each), is_best))
        if each == table.metric:
            entries += _metric_entries(table, row, cell.statistics)
    return tuple(entries)


def _metric_entries(table: AblationTable, row: Row, ours: Repeats) -> list[Entry]:
    decimals = table.metric.decimals
    entries = [Entry(difference_text(row.difference, decimals))] if table.baseline else []
    if _has_reference(table):
        entries.append(Entry(NONE if row.reference is None else number(row.reference, decimals)))
        is_comparable = row.reference is not None and ours.n > 0
        entries.append(Entry(signed(ours.mean - (row.reference or 0.0), decimals) if is_comparable else NONE))
    return entries


def cell_text(statistics: Repeats, each: Column) -> str:
    """`78.37 ± 0.02 (5)`; without the deviation for one seed and for costs of the architecture that do not vary."""
    if not statistics.n:
        return NONE
    mean = number(statistics.mean, each.decimals)
    is_fixed = each.metric in ARCHITECTURE and statistics.std == 0
    if statistics.n == 1 or is_fixed:
        return f"{mean} ({statistics.n})"
    return f"{mean} ± {number(statistics.std, each.decimals)} ({statistics.n})"


def difference_text(difference: Difference | None, decimals: int) -> str:
    """`+0.36 [+0.20, +0.52] (5)`: mean, interval where there is one, number of pairs."""
    if difference is None or not difference.n:
        return NONE
    mean = signed(difference.mean, decimals)
    if math.isnan(difference.low):
        return f"{mean} ({difference.n})"
    return f"{mean} [{signed(difference.low, decimals)}, {signed(difference.high, decimals)}] ({difference.n})"


def number(value: float, decimals: int) -> str:
    """Fixed decimals, with a true minus sign and no negative zero."""
    text = f"{value:.{decimals}f}"
    return (MINUS + text[1:] if float(text) else text[1:]) if text.startswith("-") else text


def signed(value: float, decimals: int) -> str:
    """`number` with a plus sign where it is positive."""
    return ("+" if float(f"{value:.{decimals}f}") > 0 else "") + number(value, decimals)


def _best(table: AblationTable, index: int) -> float:
    """Best printed mean of a column among arms with all their seeds; NaN when nothing is to be set in bold."""
    each = table.columns[index]
    statistics = [row.cells[index].statistics for row in table.rows if not row.absences]
    means = [round(one.mean, each.decimals) for one in statistics if not math.isnan(one.mean)]
    if not each.mode or len(set(means)) < 2:
        return math.nan
    return max(means) if each.mode == "max" else min(means)


def _footnotes(table: AblationTable) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """Footnotes on the seeds that are not in the cells, and the marks of each arm."""
    footnotes: list[str] = []
    marks: dict[str, tuple[int, ...]] = {}
    for row in table.rows:
        first = len(footnotes) + 1
        footnotes += _absence_texts(row)
        marks[row.arm] = tuple(range(first, len(footnotes) + 1))
    return tuple(footnotes), marks


def _absence_texts(row: Row) -> list[str]:
    """One sentence for each state and reason: `full, seeds 1, 2: missing.`"""
    groups: dict[str, list[int]] = {}
    for absence in row.absences:
        reason = f" ({absence.reason})" if absence.reason else ""
        groups.setdefault(f"{absence.state}{reason}", []).append(absence.seed)
    return [f"{row.label}, {_seeds(seeds)}: {state}." for state, seeds in groups.items()]


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _remarks(table: AblationTable) -> Iterable[str]:
    yield from table.protocol_notes
    if any(row.absences for row in table.rows):
        yield "Seeds in the footnotes are in no mean; bold only among arms with all their seeds."
    if table.superseded:
        yield f"{table.superseded} older runs of the same arm and seed in the store are left out."


def _ablation_caption(table: AblationTable) -> Iterable[str]:
    yield _metric_sentence(table.metric, table.select)
    yield f"Mean ± standard deviation (n) over the finished ones of {_seeds(table.seeds)}."
    if table.baseline:
        yield (
            f"Δ: paired by seed to {_label(table, table.baseline)}, "
            f"with {CONFIDENCE} interval by Student's t (number of pairs)."
        )
    if _has_reference(table):
        yield f"Paper: {table.reference_name}." if table.reference_name else "Paper: values named in the study."
    if table.protocol:
        yield f"Protocol: {table.protocol}."


def _metric_sentence(each: Column, select: str) -> str:
    direction = "minimised" if each.mode == "min" else "maximised"
    return f"Metric: {each.metric} at the {SELECTION[select]} ({each.stored}), {direction}."


def _label(table: AblationTable, arm: str) -> str:
    return next((row.label for row in table.rows if row.arm == arm), arm)


def _has_reference(table: AblationTable) -> bool:
    return any(row.reference is not None for row in table.rows)


def _ablation_records(table: AblationTable, row: Row) -> Iterable[dict[str, Any]]:
    notes = "; ".join(f"seed {absence.seed}: {absence.state}" for absence in row.absences)
    switches = {name: int(row.switches.get(name, False)) for name in table.components}
    for each, cell in zip(table.columns, row.cells):
        difference = row.difference if each == table.metric else None
        reference = row.reference if each == table.metric else None
        yield {
            "arm": row.arm,
            "label": row.label,
            **switches,
            "metric": each.stored,
            "unit": each.unit,
            "mean": cell.statistics.mean,
            "std": cell.statistics.std,
            "n": cell.statistics.n,
            "diff": difference.mean if difference else None,
            "low": difference.low if difference else None,
            "high": difference.high if difference else None,
            "pairs": difference.n if difference else None,
            "paper": reference,
            "diff_to_paper": None if reference is None else cell.statistics.mean - reference,
            "notes": notes,
        }


def _ablation_provenance(table: AblationTable) -> dict[str, Any]:
    return {
        "study": table.study,
        "metric": table.metric.stored,
        "select": table.select,
        "aggregation": "mean and sample standard deviation over finished seeds; differences paired by seed",
        "baseline": table.baseline,
        "seeds": list(table.seeds),
        "protocol": table.protocol,
        "protocol_notes": list(table.protocol_notes),
        "cells": [
            {
                "arm": row.arm,
                "column": each.metric,
                "metric": each.stored,
                "runs": [vars(source) for source in cell.sources],
            }
            for row in table.rows
            for each, cell in zip(table.columns, row.cells)
        ],
        "absent": [vars(absence) for row in table.rows for absence in row.absences],
    }


def _origins(table: AblationTable) -> Iterable[str]:
    """One line for each arm and distinct set of runs."""
    for row in table.rows:
        runs: dict[str, list[str]] = {}
        for each, cell in zip(table.columns, row.cells):
            text = ", ".join(f"seed {source.seed} = {source.run_id}" for source in cell.sources) or "no run"
            runs.setdefault(text, []).append(each.stored)
        yield from (f"{row.arm}: {' '.join(columns)}: {text}" for text, columns in runs.items())


def search_sheet(table: SearchTable) -> Sheet:
    """Lays out the table of a search."""
    counts = ", ".join(f"{count} {state}" for state, count in table.counts.items()) or "none yet"
    best = next((trial.run_id for trial in table.trials if trial.value is not None), "")
    caption = [
        _metric_sentence(table.metric, table.select),
        f"Best first, {len(table.trials)} shown; of {table.planned} trials planned: {counts}.",
        "A trial that did not use its whole budget has no value here.",
    ]
    if table.base.n:
        caption.append(f"Base without the search: {cell_text(table.base, table.metric)}.")
    protocol = [f"Protocol: {table.protocol}."] if table.protocol else []
    return Sheet(
        name=f"{table.study}-search",
        question=table.question,
        caption=(*caption, *protocol),
        header=("Trial", *table.parameters, table.metric.title, "State"),
        alignment="l" + "r" * (len(table.parameters) + 1) + "l",
        rows=tuple(_search_row(table, trial, trial.run_id == best) for trial in table.trials),
        footnotes=(),
        remarks=table.protocol_notes,
        records=tuple(_search_record(table, trial) for trial in table.trials),
        provenance={
            "study": table.study,
            "metric": table.metric.stored,
            "select": table.select,
            "protocol": table.protocol,
            "protocol_notes": list(table.protocol_notes),
            "counts": table.counts,
            "base": {"mean": table.base.mean, "runs": list(table.base_runs)} if table.base.n else None,
            "trials": [vars(trial) for trial in table.trials],
        },
        origins=tuple(f"{trial.trial_id} = {trial.run_id}" for trial in table.trials),
    )


def _search_row(table: SearchTable, trial: SearchTrial, is_best: bool) -> tuple[Entry, ...]:
    value = NONE if trial.value is None else number(trial.value, table.metric.decimals)
    parameters = [Entry(_short_number(text) or NONE) for text in trial.parameters]
    return (Entry(trial.trial_id), *parameters, Entry(value, is_best), Entry(trial.state))


def _short_number(text: str) -> str:
    """A float in print: six digits are enough to recognise a trial (the CSV file has all of them)."""
    try:
        return f"{float(text):.6g}" if len(text) > 8 else text
    except ValueError:
        return text


def _search_record(table: SearchTable, trial: SearchTrial) -> dict[str, Any]:
    parameters = dict(zip(table.parameters, trial.parameters))
    return {
        "trial": trial.trial_id,
        **parameters,
        "metric": table.metric.stored,
        "unit": table.metric.unit,
        "value": trial.value,
        "state": trial.state,
        "run_id": trial.run_id,
    }
