"""The trials that come into being while a study runs: further repeats, and the refit of a search that is over.

And of the trials that a search proposed, those that an edited study would not train the same way.

All follow from the plan and the results alone, so that a driver that replays the ledger asks for the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cdkd.data.errors import DataError
from cdkd.options import ConfigError
from orchestrator import keys
from orchestrator.design import refit_arms
from orchestrator.history import History, TrialHistory
from orchestrator.objectives import Goals, value_of
from orchestrator.plan import Block, Plan, SearchSpec, TrialSpec
from orchestrator.population import SCHEDULE
from orchestrator.repeats import repeats_due
from orchestrator.search_options import canonical

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
    finished = [trial for trial in searched(plan, history) if trial.state == keys.FINISHED]
    best = ranked(plan, (trial for trial in finished if is_of_plan(plan, trial.spec, refit.search_trial)))
    return [
        refit.refit_trial(plan, arm, seed, trial.spec.overrides)[0]
        for seed in asked.seeds
        for arm, trial in zip(refit_arms(asked.top), best[: asked.top])
    ]


def searched(plan: Plan, history: History) -> list[TrialHistory]:
    """The trials that a search of the study proposed since it was last begun afresh."""
    trials = history.trials.values()
    return [trial for trial in trials if trial.spec.number >= 0 and trial.spec.generation == plan.generation]


def superseded(plan: Plan, history: History, search_trial: SearchTrials | None) -> list[str]:
    """The ids of the trials of a search that the plan as it is now would not train the same way.

    Args:
        plan: the study's.
        history: of this study.
        search_trial: how trials are made; needed where the plan has a search.
    """
    found = [trial.spec for trial in searched(plan, history)]
    return [spec.trial_id for spec in found if search_trial is None or not is_of_plan(plan, spec, search_trial)]


def is_of_plan(plan: Plan, spec: TrialSpec, search_trial: SearchTrials) -> bool:
    """Whether the plan as it is now would train this trial of its search the same way."""
    if plan.search is None or unsearched(plan.search, spec.overrides):
        return False
    now = trained_now(plan, spec, search_trial)
    return (now.fingerprint if now is not None else "") == spec.fingerprint  # "": was no valid configuration


def unsearched(search: SearchSpec, overrides: Mapping[str, Any]) -> list[str]:
    """The options that a proposal set and that the search varies no more."""
    return [path for path in overrides if path not in search.space and (path != SCHEDULE or search.pbt is None)]


def trained_now(plan: Plan, spec: TrialSpec, search_trial: SearchTrials) -> TrialSpec | None:
    """What the plan as it is now makes of a proposal; None when that is no valid configuration."""
    try:
        return search_trial(plan, spec.number, spec.overrides)[0]
    except (ConfigError, DataError):
        return None


def mixture_fault(plan: Plan, gone: Collection[str]) -> str:
    """Why a search cannot go on beside trials of another configuration; empty where it can.

    Args:
        plan: the study's.
        gone: ids of those trials (`superseded`).
    """
    if plan.search is None or not gone:
        return ""
    begun = f"{plan.study}: the search holds trials of another configuration ({len(gone)})"
    if plan.search.pbt is not None:
        return f"{begun}, and the members of a population train together: cdkd run --fresh begins it anew"
    if canonical(plan.search.sampler) == "brute_force":
        return f"{begun}, and sampler brute_force proposes nothing twice: cdkd run --fresh begins it anew"
    return ""


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
