"""What is left of a plan, and what it will cost on this machine, in print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.changes import Standing
from orchestrator.compiler import search_trial
from orchestrator.conductor import BUDGETS
from orchestrator.errors import UserError
from orchestrator.further import OPEN, further_trials, searched
from orchestrator.history import History
from orchestrator.machine import machine
from orchestrator.paths import StudyPaths
from orchestrator.pilots import pilot_rates
from orchestrator.plan import Plan, SearchSpec, TrialSpec
from orchestrator.price import Jobs, Kinds, Pricer, Span, Work, remembered, work_of
from orchestrator.progress import duration
from orchestrator.resources import Machine, check
from orchestrator.sampler import budget_of
from orchestrator.verbs.printing import print_table

HEADINGS = ("trainings of", "to do", "epochs", "s/epoch", "known from")
MOST_LEFT_OUT = 10
MOST_NAMED = 4
REFIT = "refit"
"""Stands for the arms of a refit, whose configurations are not known yet."""


def print_price(plan: Plan, history: History, standing: Standing, paths: StudyPaths, *, pilot: bool) -> None:
    """Print what is left of a plan by kind of training, and what it costs where every kind is known.

    Raises:
        UserError: a pilot was asked for, and a training cannot begin.
    """
    certain, possible = jobs_left(plan, history, standing)
    if standing.failed:
        _say([f"{len(standing.failed)} failed and are not priced: cdkd run --retry-failed tries them once more"])
    if not certain and not possible:
        _say(["nothing is left to train"])
        return
    kinds = kinds_of(plan)
    try:
        check(plan.resources, kinds.machine)
    except UserError as error:
        _say([f"no price: {line}" for line in error.lines])
        return
    pricer = Pricer(remembered([paths.ledger, *paths.other_ledgers()]), kinds)
    every = [*certain, *possible]
    if pilot:
        measured = pilot_rates(pricer.unknown(every), kinds, _tell)
        pricer = Pricer({**pricer.rates, **measured}, kinds)
    print_table(HEADINGS, [_price_row(work, pricer) for work in work_of(every, kinds)])
    unknown = pricer.unknown(every)
    if unknown:
        arms = list(dict.fromkeys(arm for work in unknown for arm in work.arms))
        more = f" and {len(arms) - MOST_NAMED} more" if len(arms) > MOST_NAMED else ""
        named = ", ".join(arms[:MOST_NAMED]) + more
        _say([f"no price: trainings like those of {named} were never run here; --pilot measures a few steps of each"])
        return
    _say(_price_lines(plan, pricer, certain, possible, history))


def kinds_of(plan: Plan) -> Kinds:
    """The kinds of a plan's trainings on this machine."""
    words = machine(wants_gpus=plan.resources.gpus_per_worker > 0)
    return Kinds(plan.resources, Machine(words["cpus"], len(words["gpus"])), words, max(1, len(plan.teachers)))


def jobs_left(plan: Plan, history: History, standing: Standing) -> tuple[Jobs, Jobs]:
    """What is still to be trained, and what a rule for repeats or a refit may add, each with its open epochs.

    The proposals of a search stand for themselves as trainings of the study's base, at full length.
    """
    asked = {spec.trial_id for spec in further_trials(plan, history, None)}
    own = [*plan.teachers, *plan.trials, *(spec for spec in plan.reserve if spec.trial_id in asked)]
    certain = [_job(spec, standing) for spec in own if standing.is_left(spec)]
    rest = [spec for spec in plan.reserve if spec.trial_id not in asked]
    possible = [_job(spec, standing) for spec in rest if standing.is_left(spec)]
    if plan.search is not None:
        certain += _search_jobs(plan, plan.search, history, standing)
    return certain, possible


def _search_jobs(plan: Plan, search: SearchSpec, history: History, standing: Standing) -> list[tuple[TrialSpec, int]]:
    sample = search_trial(plan, 0, {})[0]
    whole = int(sample.config["train"]["epochs"])
    proposed = [trial for trial in searched(plan, history) if trial.spec.trial_id not in standing.superseded]
    begun = [(trial.spec, whole - trial.last_epoch) for trial in proposed if trial.state in OPEN]
    left = max(0, budget_of(search) - len(proposed))
    refit = replace(sample, arm=REFIT, number=-1)
    return [*begun, *([(sample, whole)] * left), *([(refit, whole)] * _refits_left(plan, history))]


def _job(spec: TrialSpec, standing: Standing) -> tuple[TrialSpec, int]:
    return spec, int(spec.config["train"]["epochs"]) - standing.epochs_done.get(spec.trial_id, 0)


def _refits_left(plan: Plan, history: History) -> int:
    """Trainings of the search's best that are not over; which configurations they are is not known yet."""
    refit = plan.search.refit if plan.search is not None else None
    if refit is None:
        return 0
    planned = {spec.arm for spec in plan.trials}
    refitted = [arm for arm in plan.table.arms if arm not in planned]
    over = [
        trial
        for trial in history.trials.values()
        if trial.spec.arm in refitted and trial.spec.generation == plan.generation and trial.state not in OPEN
    ]
    return max(0, refit.top * len(refit.seeds) - len(over))


def _price_row(work: Work, pricer: Pricer) -> tuple[str, ...]:
    rate = pricer.rates.get(work.kind)
    known = (f"{rate.epoch:.3g} ({rate.low:.3g} to {rate.high:.3g})", rate.source) if rate else ("?", "nothing yet")
    return (", ".join(work.arms), str(len(work.epochs)), str(sum(work.epochs)), *known)


def _price_lines(plan: Plan, pricer: Pricer, certain: Jobs, possible: Jobs, history: History) -> list[str]:
    found = pricer.price(certain, possible)
    resources = plan.resources
    hours = found.gpu_hours if resources.gpus_per_worker else found.cpu_hours
    unit = "GPU hours" if resources.gpus_per_worker else "CPU hours"
    side_by_side = pricer.kinds.side_by_side([*certain, *possible][-1][0])
    lines = [
        f"price of what is left: {_hours(hours)} {unit}, {_clock(found.wall_s)} on this machine, "
        f"{side_by_side} {'trial' if side_by_side == 1 else 'trials'} at a time"
    ]
    if possible:
        lines.append(f"  the upper end with {len(possible)} further repeats, which the rule may or may not ask for")
    if plan.search is not None and plan.search.pruner != "none":
        lines.append("  trials of the search at full length; the pruner will stop some earlier")
    return lines + _budget_lines(plan, pricer, certain, history)


def _budget_lines(plan: Plan, pricer: Pricer, jobs: Jobs, history: History) -> list[str]:
    limits = {name: limit for name in BUDGETS if (limit := getattr(plan.budget, name)) is not None}
    if not limits:
        return []
    spent = history.hours
    said = ", ".join(f"{limit:g} {BUDGETS[name]} ({spent[name]:.3g} spent)" for name, limit in limits.items())
    count = pricer.within(plan.budget, jobs, spent)
    if count == len(jobs):
        return [f"budget: {said}, enough by this estimate"]
    left = list(dict.fromkeys(_name(spec) for spec, _ in jobs[count:]))
    shown = ", ".join(left[:MOST_LEFT_OUT]) + (
        f" and {len(left) - MOST_LEFT_OUT} more" if len(left) > MOST_LEFT_OUT else ""
    )
    return [f"budget: {said}, used up after {count} of {len(jobs)} trainings; left out: {shown}"]


def _name(spec: TrialSpec) -> str:
    if spec.number >= 0:
        return "trials of the search"
    return "the refit of its best" if spec.arm == REFIT else f"{spec.arm} seed {spec.seed}"


def _hours(span: Span) -> str:
    return f"{span.middle:.3g} ({span.low:.3g} to {span.high:.3g})"


def _clock(span: Span) -> str:
    return f"about {duration(span.middle)} ({duration(span.low)} to {duration(span.high)})"


def _say(lines: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
