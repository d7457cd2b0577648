"""Population based training (Jaderberg et al. 2017): schedules found while a population trains.

All members train for an interval of epochs and wait for each other. Then every member among the worst goes on
from the state of one among the best, with its values perturbed or drawn anew; the others go on as they are.

Differs from Jaderberg et al.: members are compared at the same epoch rather than whenever one is ready. So a
population may be larger than what runs at a time, what comes out does not depend on the order in which members
run, and no donor trains while its state is copied. All members train with one seed, so that the values that led
to a member's state, as a `schedule` of its configuration, lead to the same state when they are trained from the
start. That configuration is what a member's trial is recorded with.

A decision is a function of the search's seed, the member, the epoch and the reports of that epoch: replaying
the ledger, or deciding again after a crash, gives the same one. No clock, no Ray, no Optuna.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import keys
from orchestrator.history import History, TrialHistory
from orchestrator.plan import Metric, PopulationSpec, SearchSpec
from orchestrator.sampler import Proposal
from orchestrator.space import values_of, values_of_int
from orchestrator.teachers import EXPORT

SCHEDULE = "schedule"  # the option of a training that holds its later values
WAITS = "waits for the other members"  # begins the reason why a member's attempt ended with its interval
DIGITS = 6
"""Significant digits of a value: few enough to be written into a study as they are printed."""

Declaration = Mapping[str, Any]


@dataclass(frozen=True)
class Exploit:
    """A member's change to another's path.

    Attributes:
        trial_id: the member.
        donor: trial id of the one whose state it takes over.
        overrides: all that its trial changes in the base from now on: the donor's past, then `values`.
        values: of the searched options from the next epoch on.
    """

    trial_id: str
    donor: str
    overrides: dict[str, Any]
    values: dict[str, Any]


class Population:
    """The decisions of one search by a population.

    Args:
        search: with a `pbt` section; `trials` is the number of members.
        metric: by which members are compared.
        epochs: length of a training.
        numbers: of the members that exist already.
    """

    def __init__(self, search: SearchSpec, metric: Metric, epochs: int, numbers: Iterable[int] = ()) -> None:
        if search.pbt is None:
            raise ValueError("a population needs a search with a pbt section")
        self._search = search
        self._options: PopulationSpec = search.pbt
        self._metric = metric
        self._epochs = epochs
        self._missing = sorted(set(range(search.trials)) - set(numbers), reverse=True)

    def remaining(self) -> int:
        """How many members are still to be made."""
        return len(self._missing)

    def ask(self) -> Proposal:
        """The next member's first values: enqueued, or drawn from the space."""
        number = self._missing.pop()
        values = first_values(self._search, number)
        return Proposal(number, values, params={}, distributions={}, attributes={}, study_attributes={})

    def boundary(self, evolved: int) -> int | None:
        """The epoch after which members wait for each other next; None when they train on to the end.

        Args:
            evolved: epoch of the last look at the population; 0 before the first.
        """
        following = (evolved // self._options.interval + 1) * self._options.interval
        return following if following < self._epochs else None

    def decide(self, history: History, epoch: int) -> list[Exploit]:
        """Who goes on from whose state after `epoch`, and with which values."""
        found = [one for one in members(history) if one.state in (keys.INTERRUPTED, keys.DIVERGED)]
        scores = {trial.spec.trial_id: self._score(trial, epoch) for trial in found}
        lost = [trial.spec.trial_id for trial in found if trial.state == keys.DIVERGED]
        worst, best = quantiles({name: -math.inf if name in lost else scores[name] for name in scores}, self._options)
        followers = [trial for trial in found if trial.spec.trial_id in {*worst, *lost}]
        donors = [name for name in best if math.isfinite(scores[name]) and name not in lost]
        made = [self._exploit(trial, donors, history, epoch) for trial in followers if donors]
        return [
            exploit for exploit in made if exploit.trial_id in lost or scores[exploit.donor] > scores[exploit.trial_id]
        ]

    def _score(self, trial: TrialHistory, epoch: int) -> float:
        """The greater the better; minus infinity where nothing finite was reported."""
        value = trial.epochs.get(epoch, {}).get(self._metric.name, math.nan)
        sign = 1 if self._metric.mode == "max" else -1
        return sign * value if math.isfinite(value) else -math.inf

    def _exploit(self, trial: TrialHistory, donors: Sequence[str], history: History, epoch: int) -> Exploit:
        rng = _stream(self._search.seed, trial.spec.number, epoch)
        donor = _pick(donors, rng)
        past = history.trials[donor].spec.overrides
        before = values_at(past, epoch)
        values = explored(self._search.space, self._options, before, rng)
        steps = [
            {"epoch": epoch + 1, "value": float(value), "option": path}
            for path, value in values.items()
            if value != before[path]
        ]
        return Exploit(trial.spec.trial_id, donor, {**past, SCHEDULE: [*past.get(SCHEDULE, []), *steps]}, values)


def members(history: History) -> list[TrialHistory]:
    """The members that take part, by number: those that failed, or were no valid configuration, do not."""
    present = [trial for trial in history.trials.values() if trial.spec.generation == history.generation]
    found = [trial for trial in present if trial.spec.number >= 0 and trial.state != keys.FAILED]
    return sorted(found, key=lambda trial: trial.spec.number)


def quantiles(scores: Mapping[str, float], options: PopulationSpec) -> tuple[list[str], list[str]]:
    """The worst and the best of a population, equally many and never the same.

    Args:
        scores: by trial id, the greater the better; of two equal ones the earlier counts as the better.
        options: `quantile` of the members, rounded up, half of them at most.
    """
    ranked = sorted(scores, key=lambda name: scores[name], reverse=True)
    count = min(math.ceil(len(ranked) * options.quantile), len(ranked) // 2)
    return (ranked[-count:], ranked[:count]) if count else ([], [])


# ------------------------------------------------------------------------------------------- values


def first_values(search: SearchSpec, number: int) -> dict[str, Any]:
    """A member's values in epoch 1: those enqueued for it, the others drawn from the space by the search's seed."""
    rng = _stream(search.seed, number, 0)
    drawn = {path: _draw(declaration, rng) for path, declaration in search.space.items()}
    return drawn | (search.enqueue[number] if number < len(search.enqueue) else {})


def explored(
    space: Mapping[str, Declaration], options: PopulationSpec, values: Mapping[str, Any], rng: random.Random
) -> dict[str, Any]:
    """New values near given ones, each perturbed by a factor or, now and then, drawn anew; within the space."""
    return {path: _explore(declaration, values[path], options, rng) for path, declaration in space.items()}


def _explore(declaration: Declaration, value: Any, options: PopulationSpec, rng: random.Random) -> Any:
    if rng.random() < options.resample_probability:
        return _draw(declaration, rng)
    if declaration["type"] == "categorical":
        choices = declaration["choices"]
        place = choices.index(value) + _pick((-1, 1), rng)
        return choices[min(max(place, 0), len(choices) - 1)]
    return _fitted(declaration, value * _pick(options.factors, rng))


def _draw(declaration: Declaration, rng: random.Random) -> Any:
    if declaration["type"] == "int":
        return _pick(values_of_int(declaration), rng)
    if declaration["type"] == "categorical" or declaration["step"] is not None:
        return _pick(values_of(declaration), rng)
    low, high, share = declaration["low"], declaration["high"], rng.random()
    drawn = low * (high / low) ** share if declaration["log"] else low + (high - low) * share
    return _fitted(declaration, drawn)


def _fitted(declaration: Declaration, value: float) -> Any:
    """The nearest value that the declaration allows."""
    low, high, step = declaration["low"], declaration["high"], declaration["step"]
    if declaration["type"] == "int" or step is not None:
        step = step or 1
        last = math.floor((high - low) / step + 1e-9)
        return low + min(max(round((value - low) / step), 0), last) * step
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def _stream(seed: int, number: int, epoch: int) -> random.Random:
    """Random numbers of one member's decision; only `random()` is used, whose numbers no Python version changes."""
    return random.Random(int.from_bytes(hashlib.sha256(f"pbt/{seed}/{number}/{epoch}".encode()).digest()[:8], "big"))


def _pick(items: Sequence[Any], rng: random.Random) -> Any:
    return items[int(rng.random() * len(items))]


# -------------------------------------------------------------------------------- schedule and lineage


def values_at(overrides: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """What a member's overrides say of its options in an epoch."""
    values = {path: value for path, value in overrides.items() if path != SCHEDULE}
    return values | {step["option"]: step["value"] for step in overrides.get(SCHEDULE, ()) if step["epoch"] <= epoch}


def schedule_of(overrides: Mapping[str, Any]) -> dict[str, list[list[Any]]]:
    """A member's schedule: for each searched option [first epoch, value], in order."""
    found = {path: [[1, value]] for path, value in overrides.items() if path != SCHEDULE}
    for step in overrides.get(SCHEDULE, ()):
        found[step["option"]].append([step["epoch"], step["value"]])
    return found


def ancestry(history: History, trial_id: str, until: int | None = None) -> list[list[Any]]:
    """Which trials trained the state a member has: [first epoch, trial id], in order."""
    descents = [one for one in history.trials[trial_id].lineage if until is None or one.epoch < until]
    if not descents:
        return [[1, trial_id]]
    last = descents[-1]
    return [*ancestry(history, last.donor, last.epoch), [last.epoch + 1, trial_id]]


def as_overrides(overrides: Mapping[str, Any]) -> str:
    """A member's values and schedule as one line of YAML for the `set`, or an arm, of a study."""
    return keys.schedule_line(schedule_of(overrides))


# ------------------------------------------------------------------------------------------- for people


def options_of(history: History) -> dict[str, Any] | None:
    """The `pbt` section of the study that a history tells of; None for one without a population."""
    search = history.specification.get("search") or {}
    found: dict[str, Any] | None = search.get("pbt")
    return found


def moving_options(history: History, trial: TrialHistory) -> set[str]:
    """The options of a trial that may still get other values: none but of a member that has not finished."""
    is_open = trial.spec.number >= 0 and trial.state != keys.FINISHED
    search = history.specification.get("search") or {}
    return {SCHEDULE, *search["space"]} if is_open and options_of(history) else set()


def member_tags(history: History, trial: TrialHistory) -> dict[str, str]:
    """Lineage and schedule of a member as texts; nothing for any other trial."""
    if trial.spec.number < 0 or not options_of(history):
        return {}
    return {
        keys.LINEAGE: json.dumps(ancestry(history, trial.spec.trial_id)),
        keys.SCHEDULE: json.dumps(schedule_of(trial.spec.overrides)),
    }


def told(history: History, metric: Metric, best: str = "") -> list[str]:
    """Where a population stands, as lines: how far it is, and the best member with its schedule; none without one.

    Args:
        history: of the study.
        metric: by which members are compared.
        best: trial id of the best that has finished; without one, members are compared at the last epoch that all
            of them have reported.
    """
    options, present = options_of(history), members(history)
    if options is None or not present:
        return []
    interval, epochs = options["interval"], present[0].spec.config["train"]["epochs"]
    exploits = sum(len(trial.lineage) for trial in present)
    looks = f"{history.evolved // interval} of {math.ceil(epochs / interval) - 1} looks"
    lines = [f"population of {len(present)} members: {looks}, {exploits} went on from another's state"]
    is_member = any(trial.spec.trial_id == best for trial in present)
    return lines + _member_told(history, best if is_member else _leader(present, metric))


def _leader(present: Sequence[TrialHistory], metric: Metric) -> str:
    """The best member at the last epoch that all have reported; empty before the first."""
    alive = [trial for trial in present if trial.state != keys.DIVERGED]
    epoch = min((trial.last_epoch for trial in alive), default=0)
    sign = 1 if metric.mode == "max" else -1
    values = {trial.spec.trial_id: sign * trial.epochs.get(epoch, {}).get(metric.name, math.nan) for trial in alive}
    known = [name for name, value in values.items() if math.isfinite(value)]
    return max(known, key=lambda name: values[name], default="")


def _member_told(history: History, name: str) -> list[str]:
    if not name:
        return []
    overrides = history.trials[name].spec.overrides
    path = ", ".join(f"{trial_id} from epoch {start}" for start, trial_id in ancestry(history, name))
    return [
        f"best member {name}, trained by {path}",
        *(f"  {option}: {_series(steps)}" for option, steps in schedule_of(overrides).items()),
        f"  in a study: set: {as_overrides(overrides)}",
    ]


def _series(steps: Sequence[Sequence[Any]]) -> str:
    (_, first), *later = steps
    return ", ".join([f"{first:g}", *(f"{value:g} from epoch {epoch}" for epoch, value in later)])


# ------------------------------------------------------------------------------------------ the copy


def hand_over(donor: Path, follower: Path, epoch: int) -> str:
    """Give a member the state of another, verified: weights, statistics, optimizers and best epoch so far.

    Args:
        donor: folder of the donor's training, which must not be running.
        follower: folder of the member's.
        epoch: of the state.

    Returns:
        SHA-256 of the state.

    Raises:
        cdkd.checkpoint.CheckpointError: the donor has no whole state of that epoch.
    """
    from cdkd.checkpoint import CheckpointFolder

    return CheckpointFolder(follower).adopt(donor, epoch, EXPORT)
