"""The table of a search laid out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.columns import Column, Heading
from analysis.factors import NONE
from analysis.rungs import RungRank, sentences
from analysis.search import SearchTable, SearchTrial
from analysis.sheet import Entry, Sheet, cell_text, metric_sentence, number
from orchestrator import keys


def search_sheet(table: SearchTable) -> Sheet:
    """Lays out the table of a search."""
    columns = (table.metric, *table.others)
    best = {trial.run_id for trial in table.trials if trial.is_front}
    if not table.objectives:
        best = {next((trial.run_id for trial in table.trials if trial.value is not None and trial.is_within), "")}
    protocol = [f"Protocol: {table.protocol}."] if table.protocol else []
    remarks = (
        "A trial that did not use its whole budget has no value here.",
        *sentences(table.ranks, table.pruner != "none"),
    )
    return Sheet(
        name=f"{table.study}-search",
        question=table.question,
        caption=tuple(_caption(table)),
        header=tuple(Heading(text) for text in ("Trial", *table.parameters, *(one.title for one in columns), "State")),
        alignment="l" + "r" * (len(table.parameters) + len(columns)) + "l",
        rows=tuple(_row(columns, trial, trial.run_id in best) for trial in table.trials),
        footnotes=(),
        remarks=(*_best_schedule(table), *remarks, *table.protocol_notes, *protocol),
        records=tuple(_record(table, trial) for trial in table.trials),
        provenance=_provenance(table),
        origins=tuple(f"{trial.trial_id} = {trial.run_id}" for trial in table.trials),
    )


def _caption(table: SearchTable) -> Iterator[str]:
    counts = ", ".join(f"{count} {state}" for state, count in table.counts.items()) or "none yet"
    yield metric_sentence(table.metric, table.select)
    if table.objectives:
        named = " and ".join(f"{one.heading} ({one.mode})" for one in _objectives(table))
        yield f"Pareto front first: {table.front} trials, in bold, that no other beats in all of {named}."
    if table.limits:
        limits = ", ".join(_limit(name, bounds) for name, bounds in table.limits.items())
        yield f"Limits: {limits}; a trial beyond one is never the best."
    order = "Then best first" if table.objectives else "Best first"
    yield f"{order}, {len(table.trials)} shown; of {table.planned} trials planned: {counts}."
    if table.base.n:
        yield f"Base without the search: {cell_text(table.base, table.metric)}."


def _objectives(table: SearchTable) -> tuple[Column, ...]:
    return (table.metric, *table.others)[: len(table.objectives)]


def _limit(name: str, bounds: Mapping[str, float]) -> str:
    signs = {"min": "at least", "max": "at most"}
    return f"{name} {' and '.join(f'{signs[side]} {bound:g}' for side, bound in bounds.items())}"


def _row(columns: tuple[Column, ...], trial: SearchTrial, is_best: bool) -> tuple[Entry, ...]:
    values = zip((trial.value, *trial.others), columns, strict=True)
    texts = [NONE if value is None else number(value, each.decimals) for value, each in values]
    parameters = [Entry(_short_number(text) or NONE) for text in trial.parameters]
    return (Entry(trial.trial_id), *parameters, *(Entry(text, is_best) for text in texts), Entry(_state(trial)))


def _state(trial: SearchTrial) -> str:
    if trial.is_front:
        return f"{trial.state}, front"
    return trial.state if trial.is_within else f"{trial.state}, over a limit"


def _best_schedule(table: SearchTable) -> tuple[str, ...]:
    """How the best member of a population was trained, and what trains it again; nothing for another search."""
    best = next((trial for trial in table.trials if trial.schedule and trial.value is not None), None)
    if best is None:
        return ()
    path = ", ".join(f"{trial_id} from epoch {start}" for start, trial_id in best.lineage)
    return (f"{best.trial_id} was trained by {path}; in a study: set: {keys.schedule_line(best.schedule)}",)


def _short_number(text: str) -> str:
    """A float in print: six digits are enough to recognise a trial (the CSV file has all of them)."""
    try:
        return f"{float(text):.6g}" if len(text) > 8 else text
    except ValueError:
        return text


def _record(table: SearchTable, trial: SearchTrial) -> dict[str, Any]:
    parameters = dict(zip(table.parameters, trial.parameters))
    is_population = any(member.schedule for member in table.trials)
    line = keys.schedule_line(trial.schedule) if trial.schedule else ""
    return {
        "trial": trial.trial_id,
        **parameters,
        "metric": table.metric.stored,
        "unit": table.metric.unit,
        "value": trial.value,
        **{each.stored: value for each, value in zip(table.others, trial.others, strict=True)},
        "state": trial.state,
        **({"front": trial.is_front} if table.objectives else {}),
        **({"within_limits": trial.is_within} if table.limits else {}),
        "run_id": trial.run_id,
        **({"schedule": line} if is_population else {}),
    }


def _provenance(table: SearchTable) -> dict[str, Any]:
    return {
        "study": table.study,
        "metric": table.metric.stored,
        "select": table.select,
        "protocol": table.protocol,
        "protocol_notes": list(table.protocol_notes),
        "counts": table.counts,
        "base": {"mean": table.base.mean, "runs": list(table.base_runs)} if table.base.n else None,
        "objectives": list(table.objectives),
        "limits": {name: dict(bounds) for name, bounds in table.limits.items()},
        "front": table.front,
        "rank_correlations": [_plain(each) for each in table.ranks],
        "trials": [vars(trial) for trial in table.trials],
    }


def _plain(each: RungRank) -> dict[str, float | None]:
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in vars(each).items()
    }
