"""What a plan asks for against what the store holds: what is there, what is new, what changed since the last run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cdkd import METHOD_VERSION
from cdkd.config import TrainingConfig
from cdkd.identity import semantic_mapping
from cdkd.options import ConfigError, describe, flatten_keys, from_mapping
from orchestrator import keys
from orchestrator.compiler import search_trial
from orchestrator.design import refit_arms
from orchestrator.further import mixture_fault, searched, superseded, trained_now, unsearched
from orchestrator.history import History, TrialHistory
from orchestrator.ledger import read_from
from orchestrator.paths import StudyPaths
from orchestrator.plan import TEACHER, Plan, SearchSpec, TrialSpec
from orchestrator.reuse import students
from orchestrator.sampler import budget_of
from orchestrator.teachers import TeacherStore

MOST_NAMED = 3  # options named as the reason of one change
ANSWERED = (keys.FINISHED, keys.PRUNED, keys.DIVERGED)
"""States in which a trial of a search has told what there is to know of its configuration."""


@dataclass(frozen=True)
class Invalid:
    """A finished training of the last run that this plan cannot use, and what makes it another training."""

    arm: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Standing:
    """What a results folder holds of a plan.

    Attributes:
        sources: where each trial's result is, by trial id: "" in this study, else `<study>/<trial id>`.
        epochs_done: epochs that an interrupted training has behind it, by trial id.
        new_arms: arms that the last run did not have.
        gone_arms: arms of the last run that are asked for no more.
        invalid: results of the last run that do not fit.
        failed: trials that failed or diverged, by id.
        superseded: trials of the search that this plan would train another way, by id.
        answered: trials of the search that are over and count.
        is_first: the study was never run.
    """

    sources: Mapping[str, str]
    epochs_done: Mapping[str, int]
    new_arms: tuple[str, ...]
    gone_arms: tuple[str, ...]
    invalid: tuple[Invalid, ...]
    failed: frozenset[str]
    superseded: frozenset[str]
    answered: int
    is_first: bool

    def is_done(self, spec: TrialSpec) -> bool:
        """Whether the trial needs no more training."""
        return spec.trial_id in self.sources

    def is_left(self, spec: TrialSpec) -> bool:
        """Whether the trial is still to be trained: a failed one only is when asked for (`--retry-failed`)."""
        return not self.is_done(spec) and spec.trial_id not in self.failed


def past_of(paths: StudyPaths) -> History:
    """What this study's ledger says; an empty history where it was never run.

    Raises:
        LedgerError: it is damaged.
    """
    return History.replay(read_from(paths.ledger)[0], is_running=False) if paths.ledger.exists() else History()


def stand(plan: Plan, history: History, paths: StudyPaths) -> Standing:
    """Compare a plan, with the ids of its present generation, with the store. Reads ledgers, takes no lock.

    Args:
        plan: what is asked for now.
        history: of this study (`past_of`).
        paths: the study's files.
    """
    sources = _sources(plan, history, paths)
    last = _last_arms(plan, history)
    arms = tuple(dict.fromkeys(spec.arm for spec in plan.trials))
    open_trials = [spec for spec in plan.trials if spec.trial_id not in sources]
    gone = frozenset(superseded(plan, history, search_trial))
    kept = [trial for trial in searched(plan, history) if trial.spec.trial_id not in gone]
    return Standing(
        sources=sources,
        epochs_done=_epochs_done(plan, history),
        new_arms=tuple(arm for arm in arms if last and arm not in last),
        gone_arms=tuple(arm for arm in last if arm not in arms),
        invalid=(*_invalid(open_trials, plan, history), *_invalid_searched(plan, history, gone)),
        failed=_failed(plan, history, sources),
        superseded=gone,
        answered=sum(trial.state in ANSWERED for trial in kept),
        is_first=not history.specification,
    )


def _sources(plan: Plan, history: History, paths: StudyPaths) -> dict[str, str]:
    own = {
        trial.spec.fingerprint
        for trial in history.trials.values()
        if trial.state == keys.FINISHED and trial.spec.generation == plan.generation and not trial.lineage
    }
    elsewhere: dict[str, str] = {}
    for ledger in paths.other_ledgers():
        elsewhere |= {name: source for name, (source, _) in students(ledger, plan.fresh_since).finished.items()}
    teachers = TeacherStore(paths)
    found = {spec.trial_id: "" for spec in plan.teachers if teachers.is_complete(spec.fingerprint)}
    for spec in (*plan.trials, *plan.reserve):
        if spec.fingerprint in own or spec.fingerprint in elsewhere:
            found[spec.trial_id] = "" if spec.fingerprint in own else elsewhere[spec.fingerprint]
    return found


def _failed(plan: Plan, history: History, sources: Mapping[str, str]) -> frozenset[str]:
    wanted = {spec.trial_id for spec in (*plan.trials, *plan.reserve, *plan.teachers)} - sources.keys()
    bad = (keys.FAILED, keys.DIVERGED)
    return frozenset(name for name, trial in history.trials.items() if name in wanted and trial.state in bad)


def _epochs_done(plan: Plan, history: History) -> dict[str, int]:
    wanted = {spec.trial_id for spec in (*plan.trials, *plan.reserve, *plan.teachers)}
    return {
        name: trial.last_epoch
        for name, trial in history.trials.items()
        if name in wanted and trial.state == keys.INTERRUPTED and trial.last_epoch
    }


def _last_arms(plan: Plan, history: History) -> list[str]:
    """The arms of the study's last run; those of a search and its refit are not asked for by name."""
    wanted = set(history.specification.get("trials", ()))
    arms = [trial.spec.arm for name, trial in history.trials.items() if name in wanted and trial.spec.number < 0]
    listed = history.specification.get("table", {}).get("arms", ())
    refitted = {arm for arm in arms if arm in plan.table.arms and all(arm != spec.arm for spec in plan.trials)}
    if plan.search is not None and plan.search.refit is not None:
        refitted |= set(refit_arms(plan.search.refit.top))
    return [arm for arm in dict.fromkeys([*listed, *arms]) if arm not in refitted]


def _invalid(specs: Iterable[TrialSpec], plan: Plan, history: History) -> Iterator[Invalid]:
    """For every training without a result: the newest result of its arm and seed, and why it does not fit."""
    versions = history.specification
    of_generation = (trial for trial in history.trials.values() if trial.spec.generation == plan.generation)
    before = {
        (trial.spec.arm, trial.spec.seed): trial
        for trial in sorted(of_generation, key=lambda trial: trial.started)
        if trial.state == keys.FINISHED and trial.spec.kind != TEACHER and trial.spec.number < 0
    }
    for spec in specs:
        trial = before.get((spec.arm, spec.seed))
        if trial is not None and trial.spec.fingerprint != spec.fingerprint:
            yield Invalid(spec.arm, spec.seed, why_not(trial, spec, versions))


def _invalid_searched(plan: Plan, history: History, gone: frozenset[str]) -> Iterator[Invalid]:
    """The trials of the search that the last run still counted, or was about to end, and this plan does not."""
    search, before = plan.search, history.specification.get(keys.SUPERSEDED, ())
    for trial in searched(plan, history):
        name, spec = trial.spec.trial_id, trial.spec
        if search is not None and name in gone and name not in before and trial.state != keys.FAILED:
            yield Invalid(spec.arm, spec.seed, _why_superseded(plan, search, trial, history.specification))


def _why_superseded(plan: Plan, search: SearchSpec, trial: TrialHistory, specification: Mapping[str, Any]) -> str:
    paths = unsearched(search, trial.spec.overrides)
    if paths:
        return f"{', '.join(paths[:MOST_NAMED])} {'is' if len(paths) == 1 else 'are'} searched no more"
    now = trained_now(plan, trial.spec, search_trial)
    return "they are no valid configuration now" if now is None else why_not(trial, now, specification)


def why_not(trial: TrialHistory, spec: TrialSpec, specification: Mapping[str, Any]) -> str:
    """What makes a finished training another one than the one asked for."""
    before, now = trial.spec, spec
    changed = _changed_options(before.config, now.config)
    if changed:
        rest = f" and {len(changed) - MOST_NAMED} more options" if len(changed) > MOST_NAMED else ""
        return ", ".join(changed[:MOST_NAMED]) + rest + " changed"
    if before.protocol.get("data") != now.protocol.get("data"):
        return "what the data files hold changed"
    old, new = (json.dumps(item.protocol.get("metric_version")) for item in (before, now))
    if old != new:
        return f"the scores' code changed (version {old} to {new})"
    if before.teacher != now.teacher:
        return "its teacher changed"
    version = (trial.invocation or specification).get("method_version")
    if version != METHOD_VERSION:
        said = "" if version is None else f" (version {version} to {METHOD_VERSION})"
        return f"the method's code changed{said}"
    return "what a weights file holds changed"


def _changed_options(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The semantic options in which two configurations differ, each with both values."""
    old, new = _semantic(before), _semantic(now)
    return [_change(path, old, new) for path in sorted({**old, **new}) if old.get(path) != new.get(path)]


def _change(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    values = [describe(side[path]) if path in side else "unused" for side in (old, new)]
    return f"{path} {values[0]} to {values[1]}"


def _semantic(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration may be of a version with other options: then those that both know are compared."""
    try:
        return semantic_mapping(from_mapping(TrainingConfig, config))
    except ConfigError:
        return flatten_keys(config)


def change_lines(standing: Standing, plan: Plan) -> list[str]:
    """What changed since the last run of the study, in lines; none before the first.

    Args:
        standing: of the plan.
        plan: what is asked for; the trials of its search count as many as it proposes.
    """
    if standing.is_first:
        return []
    reused = sum(map(standing.is_done, plan.trials)) + standing.answered
    asked = len(plan.trials) + (budget_of(plan.search) if plan.search is not None else 0)
    parts = [f"+{len(standing.new_arms)} {_arms(standing.new_arms)}"] if standing.new_arms else []
    parts += [f"-{len(standing.gone_arms)} {_arms(standing.gone_arms)}"] if standing.gone_arms else []
    parts.append(f"{reused} of {asked} trials reused")
    grouped: dict[str, list[Invalid]] = {}
    for item in standing.invalid:
        grouped.setdefault(item.reason, []).append(item)
    lines = [f"  {_trials(items)} invalid because {reason}" for reason, items in grouped.items()]
    if standing.invalid:
        parts.append(f"{len(standing.invalid)} invalid")
    fault = mixture_fault(plan, standing.superseded)
    refusal = [f"  cdkd run refuses this: {fault}"] if fault else []
    return [f"since the last run: {', '.join(parts)}", *lines, *refusal]


def _arms(names: tuple[str, ...]) -> str:
    return f"{'arm' if len(names) == 1 else 'arms'} ({', '.join(names)})"


def _trials(items: list[Invalid]) -> str:
    """`6 trials (baseline, +sape; seeds 0, 1, 2)`."""
    arms = ", ".join(dict.fromkeys(item.arm for item in items))
    seeds = sorted({item.seed for item in items})
    said = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    return f"{len(items)} {'trial' if len(items) == 1 else 'trials'} ({arms}; {said})"
