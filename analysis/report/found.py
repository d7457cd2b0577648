"""One run of a store, by its id or by the beginning of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from typing import Any

from analysis.columns import column
from analysis.database import shown
from analysis.errors import StoreError
from analysis.explanation import CONFIG
from analysis.report.trials import rows_of
from analysis.store import METRICS, Store, StudyRecord

MOST_LISTED = 4
LETTERS = 12  # of an id that is suggested


@dataclass(frozen=True)
class FoundRun:
    """A run and its study.

    Attributes:
        record: the study, with no metric but its own.
        run: its row of the record's trials.
        config: its resolved configuration, YAML.
    """

    record: StudyRecord
    run: dict[str, Any]
    config: str

    @property
    def score(self) -> tuple[str, float] | None:
        """The study's metric as the run recorded it: name and value; None if it did not."""
        name = _metric(self.record.specification)
        value = self.run.get(METRICS + name)
        return (name, float(value)) if value is not None and value == value else None


def find_run(store: Store, run_id: str) -> FoundRun:
    """The run whose id begins so.

    Raises:
        StoreError: there is none (the message names the nearest), or there are several, or it has no configuration.
    """
    known: dict[str, str] = {}
    unreadable: list[str] = []
    for study in store.studies():
        try:
            known |= dict.fromkeys(store.read(study, metrics=(), params=()).trials["run_id"], study)
        except StoreError as error:  # told below, should the run not be in any other study
            unreadable.append(f"study {study} cannot be read: {error}")
    matching = [one for one in known if one.startswith(run_id.lower())] if run_id else []
    if len(matching) > 1:
        listed = ", ".join(matching[:MOST_LISTED]) + (", ..." if len(matching) > MOST_LISTED else "")
        raise StoreError(f"{len(matching)} runs begin with {run_id!r}: {listed}")
    if not matching:
        reasons = [_nearest(run_id, list(known)), *unreadable]
        raise StoreError(f"no run {run_id!r} in {shown(store.uri)}; {'; '.join(reasons)}")
    return _read(store, known[matching[0]], matching[0])


def _read(store: Store, study: str, run_id: str) -> FoundRun:
    metric = _metric(store.specification(study))
    record = store.read(study, metrics=[metric], params=())
    run = next(row for row in rows_of(record.trials) if row["run_id"] == run_id)
    return FoundRun(record, run, store.artifact(study, run_id, CONFIG).decode("utf-8"))


def _metric(specification: dict[str, Any]) -> str:
    metric = specification["metric"]
    return column(metric["name"], metric["select"], metric["mode"]).stored


def _nearest(asked: str, known: Sequence[str]) -> str:
    """The id that shares the longest beginning, else the most similar one."""
    if not known:
        return "there are no runs"
    shared = max(known, key=lambda one: _common(one, asked))
    if not _common(shared, asked):
        shared = get_close_matches(asked, known, n=1, cutoff=0)[0]
    return f"the nearest is {shared[:LETTERS]}"


def _common(run_id: str, asked: str) -> int:
    """How many letters both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(run_id, asked.lower())))
