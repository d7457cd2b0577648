"""What `cdkd plan` and `cdkd validate` say about a search, for people."""

from __future__ import annotations

import json
import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cdkd.config import TrainConfig
from cdkd.step_size import first_drop
from orchestrator import keys
from orchestrator.constraints import text
from orchestrator.errors import Place, Problem
from orchestrator.history import History, TrialHistory
from orchestrator.objectives import value_of
from orchestrator.plan import Metric, SearchSpec
from orchestrator.pruning import enough_trials, expected_full
from orchestrator.sampler import budget_of
from orchestrator.search_options import FULL_TRIALS, TRUSTED_RANK
from orchestrator.study import Study

MILESTONES, LENGTH, DECAY = "train.milestones", "train.epochs", "train.decay"
IN_PARTS = "write parts of the training (below 1), which move with its length"


def search_notes(search: SearchSpec) -> list[str]:
    """Sampler, pruner, objectives, rules and space."""
    notes = [f"search: {search.trials} trials {_method(search)}, over:"]
    notes += [f"  {path}: {declared(declaration)}" for path, declaration in search.space.items()]
    if search.pruner_reason:
        notes.append(f"pruner: {chosen(search)}")
    if search.objectives:
        named = ", ".join(f"{each.name} ({each.mode})" for each in search.objectives)
        notes.append(f"objectives: {named}; the result is the front of trials that no other beats in all of them")
    notes += [f"constraint: {text(rule)}" for rule in search.constraints]
    notes += [f"limit: {name} {_bounds(bounds)}" for name, bounds in search.limits.items()]
    if search.refit:
        seeds = " ".join(map(str, search.refit.seeds))
        count = search.refit.top * len(search.refit.seeds)
        notes.append(f"then the best {search.refit.top} again on seeds {seeds} beside the base: {count} trainings more")
    return notes


def chosen(search: SearchSpec) -> str:
    """The pruner, and where `auto` chose it, why."""
    return f"auto is {search.pruner} here ({search.pruner_reason})" if search.pruner_reason else search.pruner


def _method(search: SearchSpec) -> str:
    if search.pbt is None:
        return f"by {search.sampler}, pruner {_pruner(search)}"
    return f"as a population, looked at every {search.pbt.interval} epochs"


def warnings(study: Study) -> list[str]:
    """Where milestones that are epochs do not move with the length of the trainings, one line each.

    Those at or after the last epoch never come; in a search over lengths they are another part of every training.
    """
    found = dict.fromkeys((place, _left_behind(train, is_varied)) for train, place, is_varied in _trained(study))
    return [str(Problem(place, MILESTONES, message)) for place, message in found if message]


def _trained(study: Study) -> Iterator[tuple[TrainConfig, Place, bool]]:
    """Schedules of the arms and of the search: the line that says each, and whether the search varies its length."""
    place = study.layers.place(MILESTONES)
    for arm in study.arms:
        is_own = bool({MILESTONES, LENGTH} & arm.overrides.keys())
        yield arm.config.train, arm.place if is_own else place, False
    if study.search is not None:
        space = study.search.space
        for tried in space.get(MILESTONES, {}).get("choices", [study.config.train.milestones]):
            yield replace(study.config.train, milestones=tuple(tried)), place, LENGTH in space


def _left_behind(train: TrainConfig, is_varied: bool) -> str:
    absolute = sorted({value for value in train.milestones if value >= 1}) if train.decay == "step" else []
    late = [value for value in absolute if value >= train.epochs]
    if is_varied and absolute:
        return f"{_listed(absolute)} are epochs, and stay where they are while the search varies {LENGTH}; {IN_PARTS}"
    return f"{_listed(late)} come too late for a training of {train.epochs} epochs; {IN_PARTS}" if late else ""


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def drop_notes(study: Study) -> list[str]:
    """One line where the pruner compares trials that have yet to see the step size drop."""
    search = study.search
    is_stepped = study.config.train.decay == "step"
    if search is None or search.pruner == "none" or not is_stepped or {DECAY, MILESTONES, LENGTH} & search.space.keys():
        return []
    drop = first_drop(study.config) or 0
    before = sum(rung < drop for rung in search.rungs)
    if not before:
        return []
    return [
        f"pruner {search.pruner} compares trials before the first drop of the step size, in epoch {drop}: at "
        f"{before} of {len(search.rungs)} rungs (epochs {_listed(search.rungs)}); heed the rank correlation, or set "
        f"{DECAY}: cosine (or linear), pruner: none, or compare later"
    ]


def full_trials(history: History, generation: int, gone: Collection[str] = ()) -> list[TrialHistory]:
    """The trials of a study's search that were trained to the end, each training once.

    Args:
        history: of the study.
        generation: of the plan.
        gone: ids of trials that the plan would train another way (`orchestrator.further.superseded`).
    """
    present = [trial for trial in history.trials.values() if trial.spec.generation == generation]
    finished = [trial for trial in present if trial.state == keys.FINISHED and trial.spec.number >= 0]
    return list({trial.spec.fingerprint: trial for trial in finished if trial.spec.trial_id not in gone}.values())


def doubts(search: SearchSpec, metric: Metric, full: Sequence[TrialHistory]) -> list[str]:
    """One line where the pruner is not known to be right, or known not to be.

    Args:
        search: with its pruner.
        metric: that the pruner compares.
        full: trials that were trained to the end (`full_trials`).
    """
    if search.pruner == "none":
        return []
    if len(full) < FULL_TRIALS:
        return [
            f"pruner {search.pruner}: nothing shows yet that early epochs rank trials as the last does ({len(full)} "
            f"trials of full length, {FULL_TRIALS} needed); {_outlook(search)}"
        ]
    pairs = _first_rung(search, metric, full)
    rho = _rank_correlation(pairs) if len(pairs) >= FULL_TRIALS else math.nan
    if not rho < TRUSTED_RANK:
        return []
    return [
        f"warning: pruner {search.pruner} is not to be trusted here: after epoch {search.rungs[0]}, where it first "
        f"compares trials, their rank correlation with the result is {rho:.2f} (below {TRUSTED_RANK:g}, over the "
        f"{len(pairs)} trials it let through); use pruner: none, or compare later"
    ]


def _outlook(search: SearchSpec) -> str:
    """Whether a search of this size can give the trials of full length that a rank correlation needs, or what can."""
    trials = budget_of(search)
    expected, enough = expected_full(search, trials), enough_trials(search)
    seen = "`cdkd table` prints their rank correlation"
    if expected is not None and expected >= FULL_TRIALS:
        return f"of {trials} about {expected:.0f} should be; {seen}"
    without = " and no refit" if search.refit else ""
    first = f"train {FULL_TRIALS} first with pruner: none (search.trials: {FULL_TRIALS}{without})"
    if expected is None:
        return f"to be sure of them {first}; {seen}"
    more = f", or ask for about {enough} trials" if enough else ""
    return f"{trials} trials are too few, about {expected:.0f} of them should be: {first}{more}; {seen}"


def _first_rung(search: SearchSpec, metric: Metric, full: Sequence[TrialHistory]) -> list[tuple[float, float]]:
    """(value after the first rung, result) of every trial that has both."""
    epoch = search.rungs[0] if search.rungs else 0
    early = [trial.epochs.get(epoch, {}).get(metric.name) for trial in full]
    results = [value_of(metric, trial.summary, trial.epochs) for trial in full]
    pairs = zip(early, results, strict=True)
    return [(a, b) for a, b in pairs if a is not None and b is not None and math.isfinite(a + b)]


def _rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's coefficient, ties at their mean rank; NaN where all values of one side are equal."""
    try:
        return statistics.correlation(*(_ranks(values) for values in zip(*pairs, strict=True)))
    except statistics.StatisticsError:
        return math.nan


def _ranks(values: Sequence[float]) -> list[int]:
    """Twice the mean rank of each value, but for a constant."""
    ordered = sorted(values)
    return [bisect_left(ordered, value) + bisect_right(ordered, value) for value in values]


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
