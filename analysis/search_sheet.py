"""The table of a search laid out."""

from __future__ import annotations

from typing import Any

from analysis.columns import Heading
from analysis.factors import NONE
from analysis.search import SearchTable, SearchTrial
from analysis.sheet import Entry, Sheet, cell_text, metric_sentence, number
from orchestrator import keys


def search_sheet(table: SearchTable) -> Sheet:
    """Lays out the table of a search."""
    counts = ", ".join(f"{count} {state}" for state, count in table.counts.items()) or "none yet"
    best = next((trial.run_id for trial in table.trials if trial.value is not None), "")
    base = [f"Base without the search: {cell_text(table.base, table.metric)}."] if table.base.n else []
    protocol = [f"Protocol: {table.protocol}."] if table.protocol else []
    caption = (
        metric_sentence(table.metric, table.select),
        f"Best first, {len(table.trials)} shown; of {table.planned} trials planned: {counts}.",
        *base,
    )
    return Sheet(
        name=f"{table.study}-search",
        question=table.question,
        caption=caption,
        header=tuple(Heading(text) for text in ("Trial", *table.parameters, table.metric.title, "State")),
        alignment="l" + "r" * (len(table.parameters) + 1) + "l",
        rows=tuple(_row(table, trial, trial.run_id == best) for trial in table.trials),
        footnotes=(),
        remarks=(
            *_best_schedule(table),
            "A trial that did not use its whole budget has no value here.",
            *table.protocol_notes,
            *protocol,
        ),
        records=tuple(_record(table, trial) for trial in table.trials),
        provenance=_provenance(table),
        origins=tuple(f"{trial.trial_id} = {trial.run_id}" for trial in table.trials),
    )


def _row(table: SearchTable, trial: SearchTrial, is_best: bool) -> tuple[Entry, ...]:
    value = NONE if trial.value is None else number(trial.value, table.metric.decimals)
    parameters = [Entry(_short_number(text) or NONE) for text in trial.parameters]
    return (Entry(trial.trial_id), *parameters, Entry(value, is_best), Entry(trial.state))


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
        "state": trial.state,
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
        "trials": [vars(trial) for trial in table.trials],
    }
