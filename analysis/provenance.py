"""An ablation's numbers for machines: lines of the CSV file, and the runs behind every cell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from analysis.ablation import AblationTable, Cell, Reference, Row, Source
from analysis.columns import Column
from analysis.factors import plain

AGGREGATION = "mean and sample standard deviation over finished seeds; differences paired by seed"


def records(table: AblationTable) -> tuple[dict[str, Any], ...]:
    """One mapping per arm and metric, numbers in the printed unit with all digits."""
    return tuple(_record(table, row, each, cell) for row in table.rows for each, cell in zip(table.columns, row.cells))


def _record(table: AblationTable, row: Row, each: Column, cell: Cell) -> dict[str, Any]:
    if each == table.metric:
        judged = {**_compared(row), **_referred(row.reference, cell)}
    else:
        judged = _referred(row.references.get(each.stored), cell)
    return {**_arm(table, row), **_numbers(each, cell), **judged, "notes": _notes(row)}


def _arm(table: AblationTable, row: Row) -> dict[str, Any]:
    switches = {name: int(row.switches.get(name, False)) for name in table.components}
    return {
        "arm": row.arm,
        "label": row.label,
        **switches,
        **{path: plain(value) for path, value in row.factors.items()},
    }


def _numbers(each: Column, cell: Cell) -> dict[str, Any]:
    empty = dict.fromkeys(
        ("baseline", "diff", "low", "high", "pairs", "p", "p_holm", "paper", "paper_std", "diff_to_paper", "reproduced")
    )
    found = cell.statistics
    return {"metric": each.stored, "unit": each.unit, "mean": found.mean, "std": found.std, "n": found.n, **empty}


def _compared(row: Row) -> dict[str, Any]:
    if row.comparison is None:
        return {}
    found = row.comparison.difference
    return {
        "baseline": row.comparison.baseline,
        "diff": found.mean,
        "low": found.low,
        "high": found.high,
        "pairs": found.n,
        "p": row.comparison.p,
        "p_holm": row.comparison.p_holm,
    }


def _referred(reference: Reference | None, ours: Cell) -> dict[str, Any]:
    if reference is None:
        return {}
    is_reproduced = reference.reproduction.is_reproduced
    return {
        "paper": reference.value,
        "paper_std": reference.std,
        "diff_to_paper": ours.statistics.mean - reference.value,
        "reproduced": "" if is_reproduced is None else int(is_reproduced),
    }


def _notes(row: Row) -> str:
    return "; ".join(f"seed {absence.seed}: {absence.state}" for absence in row.absences)


def provenance(table: AblationTable) -> dict[str, Any]:
    """Everything that made the table, for the sidecar file: every run once, every cell by its runs."""
    cells = [(row, each, cell) for row in table.rows for each, cell in zip(table.columns, row.cells)]
    sources = {source.run_id: source for _, _, cell in cells for source in cell.sources}
    return {
        "study": table.study,
        "metric": table.metric.stored,
        "select": table.select,
        "aggregation": AGGREGATION,
        "interval": table.interval,
        "baselines": list(table.baselines),
        "seeds": list(table.seeds),
        "protocol": table.protocol,
        "protocol_notes": list(table.protocol_notes),
        "runs": {run_id: _run(source) for run_id, source in sources.items()},
        "cells": [
            {
                "arm": row.arm,
                "column": each.metric,
                "metric": each.stored,
                "values": {source.run_id: value for source, value in zip(cell.sources, cell.values)},
            }
            for row, each, cell in cells
        ],
        "absent": [vars(absence) for row in table.rows for absence in row.absences],
    }


def _run(source: Source) -> dict[str, Any]:
    return {name: value for name, value in vars(source).items() if name != "run_id"}


def origins(table: AblationTable) -> tuple[str, ...]:
    """One line for each arm and distinct set of runs."""
    return tuple(line for row in table.rows for line in _origins_of(table, row))


def _origins_of(table: AblationTable, row: Row) -> Iterable[str]:
    runs: dict[str, list[str]] = {}
    for each, cell in zip(table.columns, row.cells):
        text = ", ".join(f"seed {source.seed} = {source.run_id}" for source in cell.sources) or "no run"
        runs.setdefault(text, []).append(each.stored)
    return (f"{row.arm}: {' '.join(columns)}: {text}" for text, columns in runs.items())
