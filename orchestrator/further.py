"""The trials that come into being while a study runs: further repeats, and the refit of a search that is over.

Both follow from the plan and the results alone, so that a driver that replays the ledger asks for the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator import keys
from orchestrator.design import refit_arms
from orchestrator.history import History, TrialHistory
from orchestrator.objectives import Goals, value_of
from orchestrator.plan import Block, Plan, TrialSpec
from orchestrator.repeats import repeats_due

RefitTrial = Callable[[Plan, str, int, dict[str, Any]], tuple[TrialSpec, TrialSpec | None]]
"""Makes the training of an arm and seed from overrides that the search proposed, and the teacher it needs."""
SearchTrials = Callable[[Plan, int, dict[str, Any]], tuple[TrialSpec, TrialSpec | None]]
"""Makes a search trial and the teacher it needs from Optuna's number and the overrides it proposed."""
OPEN = (keys.RUNNING, keys.INTERRUPTED)


@dataclass(frozen=True)
class Refit:
    """How trials are made (`orchestrator.compiler`)."""

    search_trial: SearchTrials
    refit_trial: RefitTrial


def further_trials(plan: Plan, history: History, refit: Refit | None) -> list[TrialSpec]:
    """The trials that the results ask for so far, those asked for before included.

    Args:
        plan: the study's.
        history: of this study.
        refit: how trials are made; None while the search is not over.
    """
    found = _further_repeats(plan, history)
    if refit is not None:
        found += _refits(plan, history, refit)
    return found


def _further_repeats(plan: Plan, history: History) -> list[TrialSpec]:
    if plan.repeats is None:
        return []
    over: dict[str, set[int]] = {}
    values: dict[str, dict[int, float]] = {}
    for spec in (*plan.trials, *plan.reserve):
        trial = history.trials.get(spec.trial_id)
        if trial is None or trial.state in OPEN:
            continue
        over.setdefault(spec.arm, set()).add(spec.seed)
        value = value_of(plan.metric, trial.summary, trial.epochs) if trial.state == keys.FINISHED else None
        if value is not None:
            values.setdefault(spec.arm, {})[spec.seed] = value
    due = repeats_due(plan.repeats, plan.seeds, _blocks(plan), over, values)
    return [
        spec
        for spec in plan.reserve
        if spec.seed in plan.seeds[: due[spec.arm]] or spec.seed in values.get(spec.arm, {})
    ]


def _blocks(plan: Plan) -> tuple[Block, ...]:
    """The table's blocks; arms that stand in none are compared with the study's baseline."""
    listed = {arm for block in plan.table.blocks for arm in (*block.arms, block.baseline)}
    rest = tuple(dict.fromkeys(spec.arm for spec in plan.trials if spec.arm not in listed))
    return (*plan.table.blocks, Block(rest, plan.table.baseline)) if rest else plan.table.blocks


def _refits(plan: Plan, history: History, refit: Refit) -> list[TrialSpec]:
    asked = plan.search.refit if plan.search is not None else None
    if asked is None:
        return []
    best = ranked(plan, (trial for trial in history.trials.values() if is_of_plan(plan, trial, refit.search_trial)))
    return [
        refit.refit_trial(plan, arm, seed, trial.spec.overrides)[0]
        for seed in asked.seeds
        for arm, trial in zip(refit_arms(asked.top), best[: asked.top])
    ]


def is_of_plan(plan: Plan, trial: TrialHistory, search_trial: SearchTrials) -> bool:
    """Whether the plan as it is now would train this trial of its search the same way."""
    if trial.spec.number < 0 or trial.state != keys.FINISHED or trial.spec.generation != plan.generation:
        return False
    return search_trial(plan, trial.spec.number, trial.spec.overrides)[0].fingerprint == trial.spec.fingerprint


def ranked(plan: Plan, trials: Iterable[TrialHistory]) -> list[TrialHistory]:
    """The finished trials of the search from best to worst, each configuration once; of equals the first proposed.

    Trials over a limit of the search are left out. With several objectives the front comes first; within it, and
    behind it, the study's metric decides.
    """
    goals = Goals.of(plan.search, plan.metric)
    finished = [
        trial
        for trial in trials
        if trial.state == keys.FINISHED and trial.spec.number >= 0 and trial.spec.generation == plan.generation
    ]
    sign = -1 if plan.metric.mode == "max" else 1
    valued = [
        (sign * value, trial.spec.number, trial)
        for trial in finished
        if goals.keeps_limits(trial) and (value := goals.value(trial)) is not None
    ]
    in_order = {trial.spec.trial_id: trial for _, _, trial in sorted(valued, key=lambda item: item[:2])}
    front_first = dict.fromkeys([*goals.front(in_order), *in_order])
    kept: dict[str, TrialHistory] = {}
    for name in front_first:
        kept.setdefault(in_order[name].spec.fingerprint, in_order[name])
    return list(kept.values())
