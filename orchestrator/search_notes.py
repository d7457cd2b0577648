"""What `cdkd plan` and `cdkd validate` say about a search, for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.constraints import text
from orchestrator.errors import Problem
from orchestrator.plan import SearchSpec
from orchestrator.search_options import FULL_TRIALS
from orchestrator.study import Study

MILESTONES = "train.milestones"


def search_notes(search: SearchSpec) -> list[str]:
    """Sampler, pruner, objectives, rules and space."""
    notes = [f"search: {search.trials} trials {_method(search)}, over:"]
    notes += [f"  {path}: {declared(declaration)}" for path, declaration in search.space.items()]
    if search.objectives:
        named = ", ".join(f"{each.name} ({each.mode})" for each in search.objectives)
        notes.append(f"objectives: {named}; the result is the front of trials that no other beats in all of them")
    notes += [f"constraint: {text(rule)}" for rule in search.constraints]
    notes += [f"limit: {name} {_bounds(bounds)}" for name, bounds in search.limits.items()]
    if search.refit:
        seeds = " ".join(map(str, search.refit.seeds))
        notes.append(f"  then the best {search.refit.top} again, on seeds {seeds}, beside the base")
    return notes


def _method(search: SearchSpec) -> str:
    if search.pbt is None:
        return f"by {search.sampler}, pruner {_pruner(search)}"
    return f"as a population, looked at every {search.pbt.interval} epochs"


def warnings(study: Study) -> list[str]:
    """What may mislead the search's pruner.

    A step size that falls at fixed epochs is the same early on whatever the budget of a trial, so that trials are
    compared before the drop that decides them. Milestones that are parts of the training move with its length.
    """
    search = study.search
    if search is None or search.pruner == "none":
        return []
    declared_values = search.space.get(MILESTONES, {}).get("choices", [])
    every = [*study.config.train.milestones, *(value for choice in declared_values for value in choice)]
    absolute = sorted({value for value in every if value >= 1})
    if not absolute:
        return []
    named = ", ".join(f"{value:g}" for value in absolute)
    message = (
        f"{named} are epochs, whatever the budget of a trial, and pruner {search.pruner} compares trials before them; "
        "write parts of the training (below 1)"
    )
    return [str(Problem(study.layers.place(MILESTONES), MILESTONES, message))]


def unproven(search: SearchSpec, full: int) -> list[str]:
    """One line where too few trials of full length tell whether the pruner may be trusted.

    Args:
        search: with its pruner.
        full: trials that were trained to the end.
    """
    if search.pruner == "none" or full >= FULL_TRIALS:
        return []
    return [
        f"pruner {search.pruner}: nothing shows yet that early epochs rank trials as the last does ({full} trials of "
        f"full length, {FULL_TRIALS} needed); `cdkd table` prints their rank correlation"
    ]


def _pruner(search: SearchSpec) -> str:
    options = ", ".join(f"{name} {value}" for name, value in search.pruner_options.items())
    compared = f"; compares from epoch {search.rungs[0]} on" if search.pruner != "none" and search.rungs else ""
    return f"{search.pruner} ({options}{compared})" if options else search.pruner


def _bounds(bounds: Mapping[str, float]) -> str:
    signs = {"min": "at least", "max": "at most"}
    return " and ".join(f"{signs[side]} {bound:g}" for side, bound in bounds.items())


def _conditions(declaration: Mapping[str, Any]) -> Iterator[str]:
    for parent, allowed in declaration["when"].items():
        yield f" when {parent} is {' or '.join(map(json.dumps, allowed))}"


def declared(declaration: Mapping[str, Any]) -> str:
    """A declaration of a space in one line."""
    when = "".join(_conditions(declaration))
    if declaration["type"] == "categorical":
        return f"one of {', '.join(map(json.dumps, declaration['choices']))}{when}"
    log = ", log" if declaration["log"] else ""
    step = f", step {declaration['step']}" if declaration["step"] else ""
    return f"{declaration['type']} in [{declaration['low']}, {declaration['high']}]{log}{step}{when}"
