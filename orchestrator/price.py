"""What a plan will cost, before it runs: from the trainings that the store remembers, or from a pilot.

Trainings of one *kind* take the same time: they agree in every option that costs time, in what a trial asks
of the machine, in how many run side by side, and in the machine. Seeds and loss weights do not matter.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from cdkd.config import TrainingConfig
from cdkd.identity import semantic_mapping
from cdkd.options import ConfigError, flatten_keys, from_mapping, to_mapping
from orchestrator import keys
from orchestrator.history import SECONDS, History, TrialHistory
from orchestrator.ledger import LedgerError, Record, read_from
from orchestrator.plan import TEACHER, Budget, Resources, TrialSpec
from orchestrator.resources import Machine, Meter, Request, student_request, teacher_request

DEVICES = {"gpu_hours": "gpus", "cpu_hours": "cpus"}
TIMELESS = (
    "seed",
    "student.pretrained",
    "teacher.checkpoint",
    "teacher.pretrained",
    "teacher.epochs",
    "teacher.batch_size",
    "teacher.learning_rate",
    "teacher.milestones",
    "teacher.seed",
    "simcc.label_smoothing",
    "simcc.loss",
    "simcc.task_scale",
    "simcc.head_init",
    "simcc.flip_shift",
    "simcc.score",
    "distill.alpha",
    "distill.beta",
    "distill.legacy_factor",
    "distill.etht",
    "distill.sape.eps",
    "train.epochs",
    "train.learning_rate",
    "train.weight_decay",
    "train.decay",
    "train.milestones",
    "train.gamma",
    "evaluation.select",
    "evaluation.keypoint_score_threshold",
    "evaluation.oks_nms",
    "evaluation.detection_threshold",
)
"""Options, and sections of options, that do not change how long an epoch takes."""
LOCAL = "ray"
"""The way of running (`specification`'s `executor`) whose times tell those of the next run: Ray on this machine."""
SPREAD = 0.25
"""The least that a range goes to either side of an estimate: so far were pilots and the clock off when measured."""
LOW, HIGH = 0.1, 0.9
"""Quantiles of past trainings that make a range."""


@dataclass(frozen=True)
class Rate:
    """How long trainings of one kind take, seconds.

    Attributes:
        epoch: one epoch with its validation.
        low, high: range of it.
        extra: the rest of a training: its start, and the scores at its end.
        source: where this is from, in words.
        start: what a run of a study takes before its first trial and after its last.
    """

    epoch: float
    low: float
    high: float
    extra: float
    source: str
    start: float = 0.0


@dataclass(frozen=True)
class Work:
    """Trainings of one kind that are to be done.

    Attributes:
        arms: whose they are.
        kind: what they agree in.
        sample: one of them.
        epochs: still to be trained, of each training in running order.
    """

    arms: tuple[str, ...]
    kind: str
    sample: TrialSpec
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """An estimate with its range."""

    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Price:
    """What trainings cost.

    Attributes:
        gpu_hours, cpu_hours: of the devices that the trials hold while their epochs run.
        wall_s: seconds on the clock.
    """

    gpu_hours: Span
    cpu_hours: Span
    wall_s: Span


Jobs = Sequence[tuple[TrialSpec, int]]
"""Trainings in running order, and how many epochs of each are still to be done."""


class Kinds:
    """Tells the kind of a training, as this study would run it on this machine."""

    def __init__(self, resources: Resources, machine: Machine, words: Mapping[str, Any], teachers: int) -> None:
        """Args:
        resources: what a trial asks for.
        machine: what there is.
        words: `orchestrator.machine.machine`.
        teachers: how many teachers are trained side by side.
        """
        self.resources = resources
        self.machine = machine
        self.words = dict(words)
        self.teachers = teachers
        self._known: dict[int, tuple[TrialSpec, str]] = {}  # by identity: a plan asks for its kinds again and again

    def request(self, spec: TrialSpec) -> Request:
        """What the trial takes."""
        if spec.kind == TEACHER:
            return teacher_request(self.resources, self.machine, self.teachers)
        return student_request(self.resources)

    def side_by_side(self, spec: TrialSpec) -> int:
        """How many of these run at a time."""
        most = self.teachers if spec.kind == TEACHER else self.resources.max_concurrent_trials or math.inf
        return int(max(1, min(self.request(spec).times(self.machine), most or 1)))

    def of(self, spec: TrialSpec) -> str:
        """The kind as text; equal texts, equal time."""
        known = self._known.get(id(spec))
        if known is None or known[0] is not spec:
            known = self._known[id(spec)] = (spec, self._of(spec))
        return known[1]

    def _of(self, spec: TrialSpec) -> str:
        facts = {
            "options": _costly_options(spec.config),
            "request": asdict(self.request(spec)),
            "side_by_side": self.side_by_side(spec),
            "machine": self.words,
        }
        return json.dumps(facts, sort_keys=True)


def _costly_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that cost time, operational ones included."""
    resolved = from_mapping(TrainingConfig, config)
    options = semantic_mapping(resolved)
    runtime = flatten_keys({"runtime": to_mapping(resolved)["runtime"]})  # an older version's, with later options
    runtime["runtime.teacher_cache_gb"] = resolved.needs_teacher and resolved.runtime.teacher_cache_gb > 0
    prefixes = tuple(f"{name}." for name in TIMELESS)
    return {
        path: value
        for path, value in {**options, **runtime}.items()
        if path not in TIMELESS and not path.startswith(prefixes)
    }


# ------------------------------------------------------------------------------------- what is known


def remembered(ledgers: Iterable[Path]) -> dict[str, Rate]:
    """The rates of every kind of training that these ledgers hold; unreadable ones are passed over."""
    found: dict[str, list[tuple[str, TrialHistory]]] = {}
    starts: list[float] = []
    for ledger in ledgers:
        try:
            records = read_from(ledger)[0]
            history = History.replay(records)
        except (LedgerError, FileNotFoundError):
            continue
        starts += _around_trials(records)
        for kind, trial in _kinds_of(history):
            found.setdefault(kind, []).append((ledger.parent.name, trial))
    start = median(starts) if starts else 0.0
    return {kind: _rate(trials, start) for kind, trials in found.items()}


def _around_trials(records: Iterable[Record]) -> Iterator[float]:
    """Seconds of each run of a study, by Ray on this machine, before its first trial began and after its last ended."""
    invoked = first = last = None
    for record in records:
        if record.event == keys.INVOKED:
            is_local = record.data.get("specification", {}).get("executor") == LOCAL
            invoked, first, last = record.time if is_local else None, None, None
        elif record.event == keys.STARTED and record.data["attempt"] > 0:
            first = first or record.time
        elif record.event == keys.ENDED:
            last = record.time
        elif record.event == keys.STOPPED and invoked and first and last:
            yield first - invoked + record.time - last


def _kinds_of(history: History) -> Iterator[tuple[str, TrialHistory]]:
    made: dict[int, Kinds | None] = {}
    for trial in history.trials.values():
        kinds = made.setdefault(id(trial.invocation), _kinds_then(trial.invocation))
        if kinds is None or not trial.attempt or not any(SECONDS in metrics for metrics in trial.epochs.values()):
            continue
        try:
            yield kinds.of(trial.spec), trial
        except ConfigError:
            continue  # of a version with other options: not the same training


def _kinds_then(said: Mapping[str, Any]) -> Kinds | None:
    """The kinds of a run of a study; None where it did not run side by side on one machine, or does not say."""
    words, resources = said.get("machine"), said.get("resources")
    if not words or not resources or said.get("executor", LOCAL) != LOCAL:
        return None
    known = {name: resources[name] for name in Resources.__dataclass_fields__ if name in resources}
    machine = Machine(words.get("cpus", 0), len(words.get("gpus", ())))
    return Kinds(Resources(**known), machine, words, max(1, len(said.get("teachers", ()))))


def _rate(trials: Sequence[tuple[str, TrialHistory]], start: float) -> Rate:
    means = [fmean(_seconds(trial)) for _, trial in trials]
    middle = fmean(means)
    spread = sorted(means) if len(means) > 1 else sorted(_seconds(trials[0][1]))
    studies = ", ".join(dict.fromkeys(study for study, _ in trials))
    count = f"{len(trials)} {'training' if len(trials) == 1 else 'trainings'}"
    return Rate(
        epoch=middle,
        low=min(_quantile(spread, LOW), (1 - SPREAD) * middle),
        high=max(_quantile(spread, HIGH), (1 + SPREAD) * middle),
        extra=_extra(trial for _, trial in trials),
        source=f"{count} of {studies}",
        start=start,
    )


def _seconds(trial: TrialHistory) -> list[float]:
    return [metrics[SECONDS] for metrics in trial.epochs.values() if SECONDS in metrics]


def _extra(trials: Iterable[TrialHistory]) -> float:
    """Seconds beside the epochs, of trainings that went through in one attempt."""
    whole = [
        trial.ended - trial.started - math.fsum(_seconds(trial))
        for trial in trials
        if trial.state == keys.FINISHED and trial.attempt == 1 and trial.ended is not None
    ]
    return max(0.0, fmean(whole)) if whole else 0.0


def _quantile(ordered: Sequence[float], part: float) -> float:
    """Linear between neighbours."""
    position = part * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


# --------------------------------------------------------------------------------------- what is left


def work_of(jobs: Jobs, kinds: Kinds) -> list[Work]:
    """Trainings by kind, in the order in which the kinds first come."""
    found: dict[str, Work] = {}
    for spec, epochs in jobs:
        kind = kinds.of(spec)
        known = found.get(kind) or Work((), kind, spec, ())
        arms = tuple(dict.fromkeys((*known.arms, spec.arm)))
        found[kind] = replace(known, arms=arms, epochs=(*known.epochs, epochs))
    return list(found.values())


class Pricer:
    """Adds up what trainings cost.

    Args:
        rates: by kind.
        kinds: tells the kind of a training.
    """

    def __init__(self, rates: Mapping[str, Rate], kinds: Kinds) -> None:
        self.rates = rates
        self.kinds = kinds

    def unknown(self, jobs: Jobs) -> list[Work]:
        """The kinds of trainings that have no rate."""
        return [work for work in work_of(jobs, self.kinds) if work.kind not in self.rates]

    def price(self, certain: Jobs, possible: Jobs = ()) -> Price:
        """What trainings will cost, every kind of which has a rate.

        Args:
            certain: those the plan has.
            possible: those that a rule for repeats may add; they are in the upper end of the range alone.
        """
        every = [*certain, *possible]
        return Price(
            gpu_hours=self._hours(certain, every, "gpus"),
            cpu_hours=self._hours(certain, every, "cpus"),
            wall_s=Span(self._wall(certain, "epoch"), self._wall(certain, "low"), self._wall(every, "high")),
        )

    def within(self, budget: Budget, jobs: Jobs, spent: Mapping[str, float]) -> int:
        """How many of these trainings, in running order, a budget allows.

        Args:
            budget: of the study.
            jobs: in running order.
            spent: device hours that the study has used, by field of Budget.
        """
        limits = {name: limit for name, limit in asdict(budget).items() if limit is not None}
        used = {name: spent[name] for name in limits}
        for count, job in enumerate(jobs):
            used = {name: value + self._held([job], "epoch", DEVICES[name]) / 3600 for name, value in used.items()}
            if any(used[name] > limit for name, limit in limits.items()):
                return count
        return len(jobs)

    def _rate(self, spec: TrialSpec) -> Rate:
        return self.rates[self.kinds.of(spec)]

    def _hours(self, certain: Jobs, every: Jobs, device: str) -> Span:
        parts = (("epoch", certain), ("low", certain), ("high", every))
        return Span(*(self._held(jobs, end, device) / 3600 for end, jobs in parts))

    def _held(self, jobs: Jobs, end: str, device: str) -> float:
        """Seconds that trainings hold devices of one sort while their epochs run."""
        return math.fsum(
            epochs * float(getattr(self._rate(spec), end)) * float(getattr(self.kinds.request(spec), device))
            for spec, epochs in jobs
        )

    def _wall(self, jobs: Jobs, end: str) -> float:
        """When the last of these is over, each begun as soon as there is room and its teacher is trained."""
        meter = Meter(self.kinds.machine, self.kinds.resources.max_concurrent_trials)
        waiting = sorted(jobs, key=lambda job: job[0].kind != TEACHER)
        open_teachers = {spec.fingerprint for spec, _ in jobs if spec.kind == TEACHER}
        running: list[tuple[float, int, TrialSpec]] = []
        now, numbers = max((self._rate(spec).start for spec, _ in jobs), default=0.0), itertools.count()
        while waiting or running:
            for job in list(waiting):
                spec, epochs = job
                request = self.kinds.request(spec)
                if spec.teacher in open_teachers or not meter.fits(request):
                    continue
                number, rate = next(numbers), self._rate(spec)
                meter.take(str(number), request)
                heapq.heappush(running, (now + rate.extra + epochs * getattr(rate, end), number, spec))
                waiting.remove(job)
            if not running:
                break  # what is left fits nowhere: `orchestrator.resources.check` says so when the study is run
            now, number, spec = heapq.heappop(running)
            meter.give(str(number))
            open_teachers.discard(spec.fingerprint)
        return now
