"""A study's record to its report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import protocols
from analysis.ablation import DEFAULT, Choices
from analysis.ablation_sheet import INTERVAL_NAMES
from analysis.factors import NONE
from analysis.figures import KINDS
from analysis.figures.kinds import Made, make, write
from analysis.figures.source import Source
from analysis.figures.style import Page
from analysis.report.configuration import Configuration, configuration, differing_grid, in_print, shared_grid
from analysis.report.document import Block, Document, Grid, Items, Picture, Result, Section, Words, grid
from analysis.report.outcomes import outcome_blocks
from analysis.report.reproduction import origin, reproduction_blocks, row_commands, run_grid
from analysis.report.searching import search_blocks
from analysis.report.spending import cost_grid, spending
from analysis.report.trials import ARMS, SEARCHED, TEACHERS, labels, not_begun, seeds_of, standing, trials_of
from analysis.sheet import CONFIDENCE, Sheet, seeds_text
from analysis.store import Store, StudyRecord
from analysis.tables import sheets
from orchestrator import keys

FIGURES = "figures"
WIDTH = "double"


@dataclass(frozen=True)
class Material:
    """Everything that a report is made of.

    Attributes:
        store, record, choices: what was read, and how it is to be shown.
        trials: as `trials_of` gives them.
        sheets: the study's tables.
        figures: one for each kind, those that cannot be drawn among them.
        study_file: the file the reader named; empty where a name.
    """

    store: Store
    record: StudyRecord
    choices: Choices
    trials: pd.DataFrame
    sheets: tuple[Sheet, ...]
    figures: tuple[Made, ...]
    study_file: str = ""


def gather(store: Store, study: str, choices: Choices = DEFAULT, study_file: str = "") -> Material:
    """Reads a study once and makes its tables and the numbers of its figures.

    Raises:
        StoreError: the study is not in the store or a record of it cannot be read.
        MixedProtocols: results of different protocols would stand in one table or figure.
    """
    record = store.read(study)
    tables = tuple(sheets(record, choices))
    figures = tuple(make(Source(store, record, allow=choices.allow), KINDS))
    return Material(store, record, choices, trials_of(store, record), tables, figures, study_file)


def document(material: Material, folder: Path, now: datetime) -> Document:
    """Lays a report out; its figures are drawn into `<folder>/figures`."""
    where, compared = standing(material.record, material.trials), configuration(material.trials)
    sections = [
        Section("Results", tuple(Result(_as_result(sheet)) for sheet in material.sheets)),
        Section("Figures", tuple(_pictures(material, folder))),
        Section("Protocol", (protocol_grid(material.trials),)),
        Section("Arms", tuple(_arms(compared))),
        Section("Search", tuple(_search(material.record))),
        Section("Cost", (cost_grid(spending(material.record, material.trials)),)),
        Section("Failures and retries", tuple(_outcomes(material))),
        Section("Selection and statistics", tuple(_statistics(material))),
        Section("How to repeat it", tuple(_reproduction(material))),
        Section("Runs", (run_grid(material.trials),)),
        Section("Configuration", tuple(_configuration(compared))),
    ]
    return Document(
        study=material.record.study,
        question=str(material.record.specification.get("question") or ""),
        standing=where.sentence(now),
        is_partial=where.finished < where.planned,
        sections=tuple(section for section in sections if section.blocks),
    )


def _as_result(sheet: Sheet) -> Sheet:
    """Without what the report says elsewhere, and in full there."""
    remarks = tuple(remark for remark in sheet.remarks if not remark.startswith("Protocol: "))
    return replace(sheet, question="", remarks=remarks)


def _pictures(material: Material, folder: Path) -> Iterator[Picture]:
    for made in material.figures:
        if made.found is not None:
            files = write(made, folder / FIGURES, ["svg"], Page.of(WIDTH), material.store.uri)
            title = KINDS[made.kind]
            yield Picture(made.kind, title[0].upper() + title[1:], " ".join(made.found.caption), files[0])


def protocol_grid(trials: pd.DataFrame) -> Grid:
    """Every field: what students share, what differs among them, and what teachers had instead."""
    students = _protocols(trials[trials["role"].isin([ARMS, SEARCHED])])
    teachers = _protocols(trials[trials["role"] == TEACHERS])
    fields = list(dict.fromkeys([*students, *teachers]))
    rows = [[name, students.get(name, NONE), _other(name, students, teachers)] for name in fields]
    if not teachers:
        return grid(["Field", "Value"], [row[:2] for row in rows], "ll", is_prose=True)
    return grid(["Field", "Students", "Teachers, where different"], rows, "lll", is_prose=True)


def _other(name: str, students: dict[str, str], teachers: dict[str, str]) -> str:
    value = teachers.get(name, NONE)
    return "" if value == students.get(name) else value


def _protocols(trials: pd.DataFrame) -> dict[str, str]:
    """Field -> value, or values; of finished trials where there are any, as in the table."""
    finished = trials[trials["state"] == keys.FINISHED]
    trials = finished if len(finished) else trials
    first: dict[str, Any] = trials["protocol"].iloc[0] if len(trials) else {}
    varying = {name: " or ".join(map(in_print, values)) for name, values in protocols.differing(trials).items()}
    return {name: in_print(value) for name, value in protocols.flatten(first).items()} | varying


def _arms(found: Configuration) -> Iterator[Block]:
    if found.differing:
        yield Words("Options in which the arms differ; all others are at the end of this report.")
        yield differing_grid(found)


def _search(record: StudyRecord) -> Iterator[Block]:
    return search_blocks(record.specification["search"]) if record.specification.get("search") else iter(())


def _configuration(found: Configuration) -> Iterator[Block]:
    if found.shared:
        yield Words(f"The {len(found.shared)} options that are the same in all arms:")
        yield shared_grid(found)


def _outcomes(material: Material) -> Iterator[Block]:
    return outcome_blocks(material.trials, not_begun(material.record, material.trials))


def _statistics(material: Material) -> Iterator[Block]:
    specification, trials = material.record.specification, material.trials
    arms = trials[trials["role"] == ARMS]
    items = [("Selection", _selection(specification["metric"], trials))]
    if len(arms):
        items += [("Repeats", _repeats(material, arms)), ("Deviation", "sample standard deviation over seeds (n - 1).")]
    if specification["table"].get("baseline"):
        name = INTERVAL_NAMES[material.choices.interval]
        items += [
            ("Differences", f"paired by seed, with {CONFIDENCE} intervals {name}."),
            ("Tests", "exact sign-flip test of each row's pairs, adjusted by Holm; what n allows stands at the table."),
        ]
    items += [("Not in these numbers", _not_in(material.record.study))]
    yield Items(tuple(items))


def _selection(metric: dict[str, Any], trials: pd.DataFrame) -> str:
    if metric["select"] == "last":
        return "every score is of the last epoch of its training; none was chosen by its score."
    by = ", ".join(dict.fromkeys(str(protocol.get("select_by", "val")) for protocol in trials["protocol"]))
    return (
        f"every score is of the epoch with the best {by} of its own training, the first such epoch where several are "
        "equal; the test split has no part in the choice."
    )


def _repeats(material: Material, arms: pd.DataFrame) -> str:
    seeds = seeds_of(material.record)
    finished = arms[arms["state"] == keys.FINISHED].groupby("arm")["seed"].size()
    short = {label: int(finished.get(arm, 0)) for arm, label in labels(material.record).items()}
    fewer = [f"{label} ({count})" for label, count in short.items() if count < len(seeds)]
    planned = f"{seeds_text(seeds)} for every arm (n = {len(seeds)})"
    return f"{planned}; fewer have finished of {', '.join(_few(fewer))}." if fewer else f"{planned}, all finished."


def _few(texts: Sequence[str], most: int = 12) -> list[str]:
    return [*texts[:most], f"and {len(texts) - most} more arms"] if len(texts) > most else list(texts)


def _not_in(study: str) -> str:
    return (
        "seeds move initialisation, order and augmentation; that the split could have held other images is evaluation "
        f"noise, which cdkd explain {study} ROW COLUMN --against ROW estimates."
    )


def _reproduction(material: Material) -> Iterator[Block]:
    found = origin(material.record, material.trials, material.study_file)
    return reproduction_blocks(found, row_commands(material.trials, seeds_of(material.record)))
