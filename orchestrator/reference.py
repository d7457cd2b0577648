"""The paper's printed numbers, looked up for the arms of a study (analysis/paper_tables.yaml)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from cdkd.options import nearest
from orchestrator.library import PAPER_TABLES
from orchestrator.plan import Reference
from orchestrator.yaml_reader import read_file


@functools.cache
def paper_tables() -> dict[str, Any]:
    """All tables: name -> {title, unit, rows: {arm: {column: number}}}, some with `components`."""
    tables: dict[str, Any] = read_file(PAPER_TABLES).plain()
    return tables


def reference_column(name: str, switches: Mapping[str, Mapping[str, bool]]) -> Reference:
    """The title and the printed value of every arm that the paper has.

    A row is found by the arm's name, else by the components that are on; the table's `groups` say which
    of its components a coarser one of the study stands for (`sape` is projector, ensemble and sau).
    The deviation of a column `<score>_mean` is `<score>_std`.

    Args:
        name: `<table>.<column>`.
        switches: arm -> component -> on.

    Raises:
        ValueError: there is no such table or column.
    """
    table_name, _, column = name.partition(".")
    tables = paper_tables()
    if table_name not in tables:
        raise ValueError(f"no such table of the paper{nearest(table_name, list(tables))}")
    table = tables[table_name]
    columns = {key for row in table["rows"].values() for key in row if key != "with"}
    if column not in columns:
        known = sorted(columns)
        raise ValueError(f"{table_name} has no column {column!r}{nearest(column, known)}; it has {', '.join(known)}")
    rows = {arm: _row(table, arm, on) for arm, on in switches.items()}
    deviation = f"{column.removesuffix('_mean')}_std"
    return Reference(f"{table['title']}, {column}", _numbers(rows, column), _numbers(rows, deviation))


def _numbers(rows: Mapping[str, Mapping[str, Any]], column: str) -> dict[str, float]:
    return {arm: float(row[column]) for arm, row in rows.items() if row.get(column) is not None}


def _row(table: Mapping[str, Any], arm: str, switches: Mapping[str, bool]) -> Mapping[str, Any]:
    rows: Mapping[str, Mapping[str, Any]] = table["rows"]
    if arm in rows:
        return rows[arm]
    components = table.get("components", [])
    groups = table.get("groups", {})
    on = {part for name, is_on in switches.items() if is_on for part in groups.get(name, [name])}
    if not components or not switches or not on <= set(components):
        return {}
    return next((row for row in rows.values() if set(row["with"]) == on), {})
