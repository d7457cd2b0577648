"""The table of a search as numbers: its best finished trials, what the sampler varied, and how many ended how."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis import protocols
from analysis.ablation import current_trials, has_value, student_trials
from analysis.columns import Column, column
from analysis.statistics import Repeats, repeats
from analysis.store import METRICS, PARAMS, StudyRecord
from orchestrator import keys

TOP = 10
SCHEDULE = "schedule"  # the option of a training that holds its later values


@dataclass(frozen=True)
class SearchTrial:
    """One trial of the search; `value` in the printed unit, None unless it finished (a partial budget is no result).

    Of a population's member, `lineage` names who trained it ([first epoch, trial id]) and `schedule` every
    option's values ([first epoch, value]); of any other trial both are empty.
    """

    trial_id: str
    state: str
    value: float | None
    parameters: tuple[str, ...]
    run_id: str
    reason: str
    lineage: Sequence[Sequence[Any]] = ()
    schedule: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchTable:
    """The best trials of one search.

    Attributes:
        study, question, metric, select, protocol, protocol_notes: as in AblationTable.
        parameters: dotted paths the sampler varied.
        trials: finished ones from best to worst, then the others by start; at most `TOP`.
        counts: state -> number of trials, of all trials.
        planned: number of trials the study asks for.
        base: the study's metric of its base (its baseline or first arm), printed unit; n = 0 when it was not trained.
        base_runs: run ids of the base.
    """

    study: str
    question: str
    metric: Column
    select: str
    protocol: str
    protocol_notes: tuple[str, ...]
    parameters: tuple[str, ...]
    trials: tuple[SearchTrial, ...]
    counts: dict[str, int]
    planned: int
    base: Repeats
    base_runs: tuple[str, ...]


def search_table(record: StudyRecord, allow: Collection[str] = (), top: int = TOP) -> SearchTable | None:
    """Makes the table of a study's search; None when the study has none.

    Raises:
        MixedProtocols: if finished trials differ in a protocol field not in `allow`.
    """
    search, metric = record.specification.get("search"), record.specification["metric"]
    if not search:
        return None
    trials = record.trials[(record.trials["kind"] == "student") & (record.trials["arm"] == keys.SEARCH_ARM)]
    each = column(metric["name"], metric["select"], metric["mode"])
    finished = trials[trials["state"] == keys.FINISHED]
    base = base_trials(record, METRICS + each.stored)
    compared = pd.concat([frame[["arm", "protocol"]] for frame in (base, finished)])
    parameters = varied(trials, list(search.get("space") or ()))
    return SearchTable(
        study=record.study,
        question=str(record.specification.get("question") or ""),
        metric=each,
        select=metric["select"],
        protocol=protocols.brief(compared),
        protocol_notes=tuple(protocols.check(compared, allow)),
        parameters=tuple(parameters),
        trials=tuple(_ranked(trials, each, parameters)[:top]),
        counts={state: int((trials["state"] == state).sum()) for state in keys.STATES if state in set(trials["state"])},
        planned=int(search.get("trials") or 0),
        base=repeats(each.scale * value for value in base.get(METRICS + each.stored, ())),
        base_runs=tuple(base["run_id"]),
    )


def base_trials(record: StudyRecord, name: str) -> pd.DataFrame:
    """The finished trials of the arm a search is compared to, as far as they recorded the metric."""
    layout = record.specification["table"]
    trials = current_trials(student_trials(record))
    arms = [layout.get("baseline"), *(layout.get("arms") or trials["arm"])]
    base = next((arm for arm in arms if arm), "")
    is_result = (trials["arm"] == base) & (trials["state"] == keys.FINISHED)
    return trials[is_result & trials[name].notna()] if name in trials else trials[:0]


def varied(trials: pd.DataFrame, space: list[str]) -> list[str]:
    """Parameters of the search space, then others that differ between its trials (conditional ones); dotted paths."""
    names = [name.removeprefix(PARAMS) for name in trials.columns if name.startswith(PARAMS)]
    differing = [name for name in names if trials[PARAMS + name].nunique(dropna=False) > 1 and name != SCHEDULE]
    is_population = bool((trials["schedule"] != "").any())  # whose members' values are no parameters until they end
    return list(dict.fromkeys([*(name for name in space if is_population or name in names), *differing]))


def _ranked(trials: pd.DataFrame, each: Column, parameters: list[str]) -> list[SearchTrial]:
    name = METRICS + each.stored
    needed = [
        "trial_id",
        "state",
        "run_id",
        "reason",
        "lineage",
        "schedule",
        name,
        *(PARAMS + parameter for parameter in parameters),
    ]
    rows = trials.sort_values("started", kind="stable")[[column for column in needed if column in trials]]
    entries = []
    for row in rows.to_dict("records"):
        is_result = row["state"] == keys.FINISHED and has_value(row, name)
        value = each.scale * float(row[name]) if is_result else None
        schedule, lineage = json.loads(row["schedule"] or "{}"), json.loads(row["lineage"] or "[]")
        shown = tuple(_changing(schedule.get(path)) or _text(row.get(PARAMS + path)) for path in parameters)
        identity = (row["run_id"], row["reason"], lineage, schedule)
        entries.append(SearchTrial(row["trial_id"], row["state"], value, shown, *identity))
    sign = 1 if each.mode == "min" else -1
    return sorted(entries, key=lambda entry: (entry.value is None, sign * (entry.value or 0.0)))


def _changing(series: Sequence[Sequence[Any]] | None) -> str:
    """The values of an option in a schedule: the first and the last; empty where there is no schedule of it."""
    if not series:
        return ""
    (_, first), *later = series
    steps = "step" if len(later) == 1 else "steps"
    return f"{first:g} to {later[-1][1]:g} in {len(later)} {steps}" if later else f"{first:g}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
