"""Where a study stands, for people: a live table on a terminal, plain lines elsewhere, the same for `cdkd status`.

`standing` is pure: it reads a history. Drawing is apart from it.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from orchestrator import keys
from orchestrator.history import SECONDS, History, TrialHistory
from orchestrator.ledger import Record
from orchestrator.objectives import Goals, value_of
from orchestrator.plan import TEACHER, Metric
from orchestrator.population import WAITS, told

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

LINE_EVERY_S = 30.0
"""Without a terminal, a running trial says a line this often at most."""
SHOWN_FAILURES = 5
ENDED = (keys.FINISHED, keys.PRUNED, keys.FAILED, keys.DIVERGED)


@dataclass(frozen=True)
class RunningTrial:
    """A trial that runs: how far it is, and its metric after the last epoch."""

    trial_id: str
    epoch: int
    epochs: int
    value: float | None
    seconds: float
    attempt: int


@dataclass(frozen=True)
class Standing:
    """Where a study stands at one moment.

    Attributes:
        study: its name.
        total: trials it asks for, teachers and search proposals included.
        counts: trials by state.
        running: the trials that run.
        best: trial id and value of the best finished trial that keeps the limits of its search; None before the
            first, and for the trials of a search with several objectives.
        front: of a search with several objectives, the trials that no other beats in all of them.
        objectives: their names; none where the metric is the only one.
        metric: name of the metric.
        failures: trial id -> reason, of failed and diverged trials.
        elapsed_s: seconds since this run of the study began.
        left_s: estimated seconds to go; None while nothing was measured.
        gpu_hours: spent by all epochs so far.
        population: lines on the population of the search; none without one.
    """

    study: str
    total: int
    counts: Mapping[str, int]
    running: tuple[RunningTrial, ...]
    best: tuple[str, float] | None
    metric: str
    failures: Mapping[str, str]
    elapsed_s: float
    left_s: float | None
    gpu_hours: float
    population: tuple[str, ...] = ()
    front: tuple[str, ...] = ()
    objectives: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        """Trials that have ended for good."""
        return sum(self.counts.get(state, 0) for state in ENDED)


def standing(history: History, now: float, invoked: float) -> Standing:
    """Where a study stands, by its history.

    Args:
        history: with the specification that `orchestrator.verbs.run` wrote.
        now: seconds since 1970.
        invoked: when this run of the study began.
    """
    specification = history.specification
    goals = Goals.in_specification(specification)
    metric = goals.metric
    trials = _present(history)
    running = tuple(_running(trial, metric, now) for trial in trials if trial.state == keys.RUNNING)
    best = _best(trials, goals)
    return Standing(
        study=str(specification.get("study", "")),
        total=_total(trials, specification),
        counts=Counter(trial.state for trial in trials),
        running=running,
        best=best,
        metric=metric.name,
        failures={trial.spec.trial_id: trial.reason for trial in trials if trial.state in (keys.FAILED, keys.DIVERGED)},
        elapsed_s=now - invoked,
        left_s=_left(trials, specification, len(running)),
        gpu_hours=history.hours["gpu_hours"],
        population=tuple(told(history, metric, best[0] if best else "")),
        front=_front(trials, goals) if len(goals.objectives) > 1 else (),
        objectives=tuple(each.name for each in goals.objectives) if len(goals.objectives) > 1 else (),
    )


def _present(history: History) -> list[TrialHistory]:
    """The trials of the present plan: earlier versions of the study may have left others."""
    wanted = {*history.specification.get("trials", ()), *history.specification.get("teachers", ())}
    gone = set(history.specification.get(keys.SUPERSEDED, ()))
    trials = [trial for name, trial in history.trials.items() if name not in gone]
    return [
        trial
        for trial in trials
        if not wanted or trial.spec.trial_id in wanted or _is_unlisted(trial, history.generation)
    ]


def _is_unlisted(trial: TrialHistory, generation: int) -> bool:
    return (trial.spec.number >= 0 and trial.spec.generation == generation) or trial.state == keys.RUNNING


def _running(trial: TrialHistory, metric: Metric, now: float) -> RunningTrial:
    last = trial.epochs.get(trial.last_epoch, {})
    epochs = int(trial.spec.config["train"]["epochs"])
    name = trial.spec.trial_id
    return RunningTrial(name, trial.last_epoch, epochs, last.get(metric.name), now - trial.started, trial.attempt)


def _total(trials: list[TrialHistory], specification: Mapping[str, Any]) -> int:
    """How many trials there will have been; a teacher that no student needed any more is not waited for."""
    planned = int(specification.get("planned", {}).get("trials", 0))
    students = planned - len(specification.get("teachers", ()))
    ended = sum(trial.spec.kind != TEACHER and trial.state in ENDED for trial in trials)
    return len(trials) if ended >= students else max(planned, len(trials))


def _best(trials: list[TrialHistory], goals: Goals) -> tuple[str, float] | None:
    """A trial of a search does not count beyond a limit, nor where one number does not tell the best."""
    of_arms = [trial for trial in trials if trial.state == keys.FINISHED and trial.spec.kind != TEACHER]
    known = [
        (trial.spec.trial_id, value)
        for trial in of_arms
        if (trial.spec.number < 0 or (len(goals.objectives) == 1 and goals.keeps_limits(trial)))
        and (value := goals.value(trial)) is not None
    ]
    sign = 1 if goals.metric.mode == "max" else -1
    return max(known, key=lambda item: sign * item[1], default=None)


def _front(trials: list[TrialHistory], goals: Goals) -> tuple[str, ...]:
    searched = [trial for trial in trials if trial.spec.number >= 0 and trial.state == keys.FINISHED]
    return tuple(goals.front({trial.spec.trial_id: trial for trial in searched if goals.keeps_limits(trial)}))


def _left(trials: list[TrialHistory], specification: Mapping[str, Any], running: int) -> float | None:
    """Epochs still to train, times the mean seconds of an epoch of their kind, over the trials that run at a time."""
    left = 0.0
    for kind in (TEACHER, "student"):
        of_kind = [trial for trial in trials if trial.spec.kind == kind]
        seconds = [values[SECONDS] for trial in of_kind for values in trial.epochs.values() if SECONDS in values]
        epochs = int(specification.get("planned", {}).get(f"{kind}_epochs", 0)) - sum(map(_passed, of_kind))
        if epochs > 0 and not seconds:
            return None
        if epochs > 0:
            left += epochs * sum(seconds) / len(seconds)
    return left / max(1, running)


def _passed(trial: TrialHistory) -> int:
    """Epochs of a trial that need no more training: all of them once it has ended."""
    is_open = trial.state in (keys.RUNNING, keys.INTERRUPTED)
    return trial.last_epoch if is_open else int(trial.spec.config["train"]["epochs"])


# ----------------------------------------------------------------------------------------------- drawing


def headline(now: Standing) -> str:
    """The study in one line."""
    counts = [f"{now.counts[state]} {state}" for state in keys.STATES if now.counts.get(state)]
    parts = [f"{now.done}/{now.total} trials", *counts]
    if now.best is not None:
        parts.append(f"best {now.metric} {now.best[1]:.4f} ({now.best[0]})")
    if now.front:
        parts.append(f"{len(now.front)} on the front of {', '.join(now.objectives)}")
    if now.gpu_hours:
        parts.append(f"{now.gpu_hours:.1f} GPU hours")
    parts.append(f"elapsed {duration(now.elapsed_s)}")
    if now.left_s is not None and now.done < now.total:
        parts.append(f"about {duration(now.left_s)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, the two largest of them."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def lines(now: Standing) -> list[str]:
    """The study as plain lines: headline, running trials, failures."""
    found = [headline(now)]
    found += [f"  running {_progress(trial, now.metric)}" for trial in now.running]
    found += [f"  {line}" for line in now.population]
    failures = list(now.failures.items())
    found += [f"  failed  {name}: {reason}" for name, reason in failures[:SHOWN_FAILURES]]
    if len(failures) > SHOWN_FAILURES:
        found.append(f"  and {len(failures) - SHOWN_FAILURES} more")
    return found


def _progress(trial: RunningTrial, metric: str) -> str:
    value = "" if trial.value is None else f", {metric} {trial.value:.4f}"
    attempt = f", attempt {trial.attempt}" if trial.attempt > 1 else ""
    return f"{trial.trial_id}: epoch {trial.epoch}/{trial.epochs}{value}, {duration(trial.seconds)}{attempt}"


def drawing(now: Standing) -> RenderableType:
    """The study as a rich table with a bar for each running trial."""
    from rich.console import Group
    from rich.markup import escape
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table("trial", "", "epoch", now.metric, "time", title=now.study or None, title_justify="left", box=None)
    for trial in now.running:
        value = "" if trial.value is None else f"{trial.value:.4f}"
        bar = ProgressBar(total=trial.epochs, completed=trial.epoch, width=24)
        table.add_row(escape(trial.trial_id), bar, f"{trial.epoch}/{trial.epochs}", value, duration(trial.seconds))
    failures = [
        Text(f"{name}: {reason}", style="red", overflow="ellipsis", no_wrap=True)
        for name, reason in list(now.failures.items())[:SHOWN_FAILURES]
    ]
    whole = Table.grid()  # a bar by itself does not end its line
    whole.add_row(ProgressBar(total=max(1, now.total), completed=now.done, width=60))
    population = [Text(line) for line in now.population]
    return Group(whole, Text(headline(now)), table, *population, *failures)


class Progress:
    """Shows a study while it runs; told of every record of its ledger.

    On a terminal one table is drawn over and over; elsewhere a line is written for each trial that ends, and
    for a running trial every LINE_EVERY_S seconds at most.
    """

    def __init__(self, history: History, out: TextIO | None = None) -> None:
        self._history = history
        self._out = out or sys.stderr
        self._invoked = time.time()
        self._said: dict[str, float] = {}
        self._live: Live | None = None
        self._picture: RenderableType = ""

    def __enter__(self) -> Progress:
        if self._out.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                get_renderable=self._draw, console=Console(file=self._out), refresh_per_second=2, transient=True
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
        self._say(headline(self._standing()))

    def hear(self, record: Record) -> None:
        """A record was written."""
        if self._live is not None:
            return
        if record.event == keys.ENDED and record.data["reason"].startswith(WAITS):
            return  # every member does, at the end of every interval
        if record.event in (keys.ENDED, keys.REUSED):
            self._say(self._ended(record))
        elif record.event == keys.EVOLVED:
            for exploit in record.data["exploits"]:
                name, donor = exploit["trial"]["trial_id"], exploit["donor"]
                self._say(f"{name} goes on from {donor} after epoch {record.data['epoch']}")
        elif record.event == keys.EPOCH and self._is_due(record.data["trial_id"]):
            trial = self._history.trials[record.data["trial_id"]]
            if trial.state == keys.RUNNING:
                metric = self._metric()
                self._say(_progress(_running(trial, metric, time.time()), metric.name))

    def _ended(self, record: Record) -> str:
        name = record.data.get("trial_id") or record.data["trial"]["trial_id"]
        trial = self._history.trials[name]
        metric = self._metric()
        value = value_of(metric, trial.summary, trial.epochs)
        shown = f" {metric.name} {value:.4f}" if value is not None and trial.state == keys.FINISHED else ""
        why = trial.reason or (f"taken over from {trial.reused_from}" if trial.reused_from else "")
        now = self._standing()
        return f"[{now.done}/{now.total}] {name} {trial.state}{shown}{': ' + why if why else ''}"

    def _is_due(self, trial_id: str) -> bool:
        now = time.monotonic()
        if now - self._said.get(trial_id, -LINE_EVERY_S) < LINE_EVERY_S:
            return False
        self._said[trial_id] = now
        return True

    def _metric(self) -> Metric:
        return Metric(**self._history.specification["metric"])

    def _standing(self) -> Standing:
        return standing(self._history, time.time(), self._invoked)

    def _draw(self) -> RenderableType:
        """Called by rich in a thread of its own, while the history changes."""
        with suppress(RuntimeError):  # a trial or an epoch came while it was counted: the last picture will do
            self._picture = drawing(self._standing())
        return self._picture

    def _say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()
