"""The tables of a study, from its record to files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from analysis.ablation import DEFAULT, Choices, ablation_table, chosen_layout
from analysis.ablation_sheet import ablation_sheet
from analysis.columns import table_columns
from analysis.extent import SECONDS
from analysis.render import FORMATS, sidecar
from analysis.search import search_columns, search_table
from analysis.search_sheet import search_sheet
from analysis.sheet import Sheet
from analysis.store import Store, StudyRecord


def read(store: Store, study: str, choices: Choices = DEFAULT) -> StudyRecord:
    """Reads what a study's tables need, and no more: a study of many runs has many other metrics.

    Raises:
        StoreError: if the study is not in the store or a record of it cannot be read.
    """
    specification = store.specification(study)
    columns = table_columns(chosen_layout(specification, choices), specification["metric"])
    search = specification.get("search")
    searched = search_columns(specification) if search else ()
    names = dict.fromkeys([*(each.stored for each in (*columns, *searched)), SECONDS])
    return store.read(study, metrics=list(names), params=None if search else ())


def sheets(record: StudyRecord, choices: Choices = DEFAULT) -> list[Sheet]:
    """The sheets of a study: its arms, then its search; a pure search whose base was never trained has no arms.

    Raises:
        MixedProtocols: if results of different protocols would stand in one of them.
    """
    search = search_table(record, choices.allow)
    ablation = ablation_table(record, choices)
    has_arms = any(cell.sources for row in ablation.rows for cell in row.cells) or any(
        absence.run_id for row in ablation.rows for absence in row.absences
    )
    found = [ablation_sheet(ablation)] if has_arms or search is None else []
    return found + ([search_sheet(search)] if search else [])


def write(sheet: Sheet, folder: Path, formats: Sequence[str], uri: str) -> list[Path]:
    """Writes `<name>.<format>` for every format and the sidecar `<name>.json`; returns the paths.

    Raises:
        ValueError: if a format is unknown.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {', '.join(unknown)}")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: FORMATS[name](sheet) for name in formats} | {"json": sidecar(sheet, uri)}
    return [_replace(folder / f"{sheet.name}.{extension}", text) for extension, text in texts.items()]


def _replace(path: Path, text: str) -> Path:
    """Writes beside, then renames: a paper that inputs the file never sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return path
