"""The table of a search as numbers: its best finished trials, what the sampler varied, and how many ended how.

A search with several objectives has no best trial but a front: the trials that no other beats in all of them. A trial
beyond one of the search's limits is neither.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from analysis import protocols
from analysis.ablation import current_trials, has_value, student_trials
from analysis.columns import Column, column
from analysis.front import unbeaten
from analysis.rungs import RungRank, rung_ranks
from analysis.statistics import Repeats, repeats
from analysis.store import METRICS, PARAMS, StudyRecord
from orchestrator import keys

TOP = 10
SCHEDULE = "schedule"  # the option of a training that holds its later values


@dataclass(frozen=True)
class SearchTrial:
    """One trial of the search.

    Attributes:
        value: of the metric in the printed unit, None unless it finished (a partial budget is no result).
        others: of the further objectives and limited numbers, likewise.
        is_within: it keeps the limits; True where it has not finished.
        is_front: no other trial within the limits beats it; False where there is one objective.
        lineage: of a population's member, who trained it ([first epoch, trial id]); else empty.
        schedule: of a population's member, every option's values ([first epoch, value]); else empty.
    """

    trial_id: str
    state: str
    value: float | None
    parameters: tuple[str, ...]
    run_id: str
    reason: str
    lineage: Sequence[Sequence[Any]] = ()
    schedule: Mapping[str, Sequence[Sequence[Any]]] = field(default_factory=dict)
    others: tuple[float | None, ...] = ()
    is_within: bool = True
    is_front: bool = False


@dataclass(frozen=True)
class SearchTable:
    """The best trials of one search.

    Attributes:
        study, question, metric, select, protocol, protocol_notes: as in AblationTable.
        parameters: dotted paths the sampler varied.
        trials: the front, then finished ones from best to worst by the metric, those beyond a limit, then the others
            by start; at most `TOP`, but the whole front.
        counts: state -> number of trials, of all trials.
        planned: number of trials the study asks for.
        base: the study's metric of its base (its baseline or first arm), printed unit; n = 0 when it was not trained.
        base_runs: run ids of the base.
        others: further objectives, then limited numbers.
        objectives: names of the objectives; none where the metric is the only one.
        limits: name -> `{min, max}`.
        front: how many trials are on the front, of those shown and not.
        pruner: its name.
        ranks: rank correlation of the metric after early epochs with the result.
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
    others: tuple[Column, ...] = ()
    objectives: tuple[str, ...] = ()
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    front: int = 0
    pruner: str = "none"
    ranks: tuple[RungRank, ...] = ()


def search_columns(specification: Mapping[str, Any]) -> tuple[Column, ...]:
    """What a search is about: the study's metric, its further objectives, and numbers that it limits."""
    search, metric = specification["search"], specification["metric"]
    modes = {metric["name"]: metric["mode"]}
    modes |= {each["name"]: each["mode"] for each in search.get("objectives") or ()}
    modes |= {name: "" for name in search.get("limits") or {} if name not in modes}
    return tuple(column(name, metric["select"], mode) for name, mode in modes.items())


def search_table(record: StudyRecord, allow: Collection[str] = (), top: int = TOP) -> SearchTable | None:
    """Makes the table of a study's search; None when the study has none.

    Raises:
        MixedProtocols: if finished trials differ in a protocol field not in `allow`.
    """
    search, metric = record.specification.get("search"), record.specification["metric"]
    if not search:
        return None
    trials = record.searched
    each, *others = search_columns(record.specification)
    finished = trials[trials["state"] == keys.FINISHED]
    base = base_trials(record, METRICS + each.stored)
    compared = pd.concat([frame[["arm", "protocol"]] for frame in (base, finished)])
    parameters = varied(trials, list(search.get("space") or ()))
    ranked = _ranked(trials, (each, *others), search, parameters)
    front = sum(trial.is_front for trial in ranked)
    return SearchTable(
        study=record.study,
        question=str(record.specification.get("question") or ""),
        metric=each,
        select=metric["select"],
        protocol=protocols.brief(compared),
        protocol_notes=tuple(protocols.check(compared, protocols.allowed(record.specification["table"], allow))),
        parameters=tuple(parameters),
        trials=tuple(ranked[: max(top, front)]),
        counts={state: int((trials["state"] == state).sum()) for state in keys.STATES if state in set(trials["state"])},
        planned=int(search.get("trials") or 0),
        base=repeats(each.scale * value for value in base.get(METRICS + each.stored, ())),
        base_runs=tuple(base["run_id"]),
        others=tuple(others),
        objectives=tuple(each["name"] for each in search.get("objectives") or ()),
        limits=search.get("limits") or {},
        front=front,
        pruner=str(search.get("pruner") or "none"),
        ranks=_ranks(record, finished, METRICS + each.stored),
    )


def _ranks(record: StudyRecord, finished: pd.DataFrame, name: str) -> tuple[RungRank, ...]:
    search = record.specification["search"]
    if search.get("objectives") or name not in finished:
        return ()
    once = finished.drop_duplicates("fingerprint")
    return rung_ranks(record.early, once.set_index("run_id")[name], search.get("rungs") or ())


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


def _ranked(
    trials: pd.DataFrame, columns: tuple[Column, ...], search: Mapping[str, Any], parameters: list[str]
) -> list[SearchTrial]:
    names = [METRICS + each.stored for each in columns]
    needed = [
        *("trial_id", "state", "run_id", "reason", "lineage", "schedule"),
        *names,
        *(PARAMS + parameter for parameter in parameters),
    ]
    rows = trials.sort_values("started", kind="stable")[[name for name in needed if name in trials]]
    limits = search.get("limits") or {}
    entries = [_trial(row, columns, limits, parameters) for row in rows.to_dict("records")]
    entries = _with_front(entries, columns[: len(search.get("objectives") or ())])
    sign = 1 if columns[0].mode == "min" else -1
    return sorted(
        entries,
        key=lambda entry: (not entry.is_front, entry.value is None, not entry.is_within, sign * (entry.value or 0.0)),
    )


def _trial(
    row: Mapping[Any, Any],
    columns: tuple[Column, ...],
    limits: Mapping[str, Mapping[str, float]],
    parameters: list[str],
) -> SearchTrial:
    is_done = row["state"] == keys.FINISHED
    stored = {
        each.metric: float(row[METRICS + each.stored])
        for each in columns
        if is_done and has_value(row, METRICS + each.stored)
    }
    schedule, lineage = json.loads(row["schedule"] or "{}"), json.loads(row["lineage"] or "[]")
    shown = [each.scale * stored[each.metric] if each.metric in stored else None for each in columns]
    return SearchTrial(
        row["trial_id"],
        row["state"],
        shown[0],
        tuple(_changing(schedule.get(path)) or _text(row.get(PARAMS + path)) for path in parameters),
        row["run_id"],
        row["reason"],
        lineage,
        schedule,
        others=tuple(shown[1:]),
        is_within=all(_keeps(bounds, stored[name]) for name, bounds in limits.items() if name in stored),
    )


def _keeps(bounds: Mapping[str, float], value: float) -> bool:
    return bounds.get("min", value) <= value <= bounds.get("max", value)


def _with_front(entries: list[SearchTrial], objectives: tuple[Column, ...]) -> list[SearchTrial]:
    """The trials with `is_front`, which needs several objectives."""
    points = {
        entry.run_id: [value for value in (entry.value, *entry.others)[: len(objectives)] if value is not None]
        for entry in entries
        if entry.is_within
    }
    whole = {run_id: point for run_id, point in points.items() if objectives and len(point) == len(objectives)}
    is_front = unbeaten(list(whole.values()), [each.mode for each in objectives])
    front = {run_id for run_id, is_one in zip(whole, is_front, strict=True) if is_one}
    return [replace(entry, is_front=entry.run_id in front) for entry in entries]


def _changing(series: Sequence[Sequence[Any]] | None) -> str:
    """The values of an option in a schedule: the first and the last; empty where there is no schedule of it."""
    if not series:
        return ""
    (_, first), *later = series
    steps = "step" if len(later) == 1 else "steps"
    return f"{first:g} to {later[-1][1]:g} in {len(later)} {steps}" if later else f"{first:g}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
