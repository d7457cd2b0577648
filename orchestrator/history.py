"""What a ledger says happened: the state of every trial, by replay of its records. No clock, no files, no Ray."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator import keys
from orchestrator.ledger import Record
from orchestrator.plan import TrialSpec


@dataclass(frozen=True)
class Descent:
    """That a member of a population went on from another's state.

    Attributes:
        epoch: after which; the state is the donor's of that epoch.
        donor: its trial id.
        values: of the searched options from the next epoch on, by dotted path.
    """

    epoch: int
    donor: str
    values: dict[str, Any]


SECONDS = "time/epoch_seconds"


@dataclass
class TrialHistory:
    """One trial as far as the ledger knows it.

    Attributes:
        spec: what was asked for (of the latest attempt: operational settings may change between attempts).
        state: one of `keys.STATES`.
        attempt: number of the latest attempt, from 1; 0 for a result taken over from elsewhere.
        epochs: metrics by epoch, from 1. The first report of an epoch stands; a resumed trial repeats them.
        epoch_times: when each of them was reported, seconds since 1970.
        summary: of the trial's end; empty while it runs.
        reason: why it ended as it did, one line.
        reused_from: `<study>/<trial id>` of the result taken over, else empty.
        started: when the first attempt began.
        devices: `cpus` and `gpus` that its latest attempt held.
        invocation: the specification in force when it began.
        ended: when it reached its state (the last sign of life, if it was interrupted); None while it runs.
        is_to_leave: the pruner has said so, and the trial has not ended since.
        lineage: of a population's member: whose states it went on from, in order. Its `epochs` are those that it
            trained itself, also where it was sent back on another's path afterwards.
    """

    spec: TrialSpec
    state: str
    attempt: int
    started: float
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    epoch_times: dict[int, float] = field(default_factory=dict)
    summary: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    reused_from: str = ""
    ended: float | None = None
    devices: dict[str, float] = field(default_factory=dict)
    invocation: dict[str, Any] = field(default_factory=dict)
    is_to_leave: bool = False
    lineage: list[Descent] = field(default_factory=list)

    @property
    def last_epoch(self) -> int:
        """The last epoch reported; 0 before the first."""
        return max(self.epochs, default=0)

    @property
    def last_sign(self) -> float:
        """When the trial was last heard of."""
        return max([self.started, *self.epoch_times.values()])


class History:
    """A study's history. Trials iterate in the order in which they were first seen.

    Attributes:
        trials: by trial id.
        specification: of the last `invoked`; empty before the first.
        invocations: how many times the study was run.
        is_stopped: False between `invoked` and `stopped`. A killed driver leaves no `stopped`; whether a
            process still runs the study is the lock's to say (`ledger.holder`).
        stopped_reason: of the last `stopped`; empty once the study was invoked again.
        began: time of the first `invoked`; None before it.
        stopped: time of the last `stopped`; None while the study runs.
        evolved: epoch of the last look at the population; 0 before the first.
        copied: epoch of the last look after which the donors' states were handed over.
        hours: of the devices that trained epochs held, by field of `orchestrator.plan.Budget`.
    """

    def __init__(self) -> None:
        self.trials: dict[str, TrialHistory] = {}
        self.specification: dict[str, Any] = {}
        self.invocations = 0
        self.is_stopped = True
        self.stopped_reason = ""
        self.began: float | None = None
        self.stopped: float | None = None
        self.evolved = 0
        self.copied = 0
        self.hours = {"gpu_hours": 0.0, "cpu_hours": 0.0}

    @classmethod
    def replay(cls, records: Iterable[Record], *, is_running: bool = True) -> History:
        """The history that `records` tell.

        Args:
            records: in the ledger's order.
            is_running: whether some process still runs the study; when not, a trial that started and did not
                end is `interrupted`.
        """
        history = cls()
        for record in records:
            history.apply(record)
        if not is_running:
            history.interrupt()
        return history

    def apply(self, record: Record) -> tuple[str, ...]:
        """Take one more record in; returns the ids of the trials it changed. Unknown events change nothing."""
        data = record.data
        if record.event == keys.INVOKED:
            return self._invoked(record)
        if record.event == keys.STOPPED:
            return self._stopped(record)
        if record.event == keys.STARTED:
            return self._started(trial_spec(data["trial"]), record)
        if record.event == keys.REUSED:
            return self._reused(trial_spec(data["trial"]), record)
        if record.event == keys.EPOCH:
            return self._reported(record)
        if record.event == keys.ENDED:
            return self._ended(record)
        if record.event == keys.EXTENDED:
            self.specification = _extended(self.specification, [trial_spec(item) for item in data["trials"]])
        if record.event == keys.EVOLVED:
            return self._evolved(record)
        if record.event == keys.COPIED:
            self.copied = record.data["epoch"]
        return ()

    def followers(self) -> list[TrialHistory]:
        """The members that go on from another's state since the last look at the population, and have not begun to."""
        present = [trial for trial in self.trials.values() if trial.spec.generation == self.generation]
        interrupted = [trial for trial in present if trial.lineage and trial.state == keys.INTERRUPTED]
        return [trial for trial in interrupted if trial.lineage[-1].epoch == self.evolved]

    def interrupt(self) -> tuple[str, ...]:
        """Nobody runs the study: trials that have not ended are interrupted. Returns their ids."""
        open_trials = {key: trial for key, trial in self.trials.items() if trial.state == keys.RUNNING}
        for trial in open_trials.values():
            trial.state, trial.ended = keys.INTERRUPTED, trial.last_sign
        return tuple(open_trials)

    @property
    def generation(self) -> int:
        """How often the study was begun afresh."""
        return int(self.specification.get("generation", 0))

    def _invoked(self, record: Record) -> tuple[str, ...]:
        generation = self.generation
        self.specification = record.data.get("specification", {})
        if self.generation != generation:
            self.evolved = self.copied = 0
        self.invocations += 1
        self.is_stopped, self.stopped_reason, self.stopped = False, "", None
        self.began = record.time if self.began is None else self.began
        return self.interrupt()

    def _stopped(self, record: Record) -> tuple[str, ...]:
        self.is_stopped, self.stopped_reason, self.stopped = True, record.data.get("reason", ""), record.time
        return self.interrupt()

    def _started(self, spec: TrialSpec, record: Record) -> tuple[str, ...]:
        attempt = record.data["attempt"]
        known = self.trials.get(spec.trial_id)
        if known is None:
            known = self.trials[spec.trial_id] = TrialHistory(spec, keys.RUNNING, attempt, started=record.time)
        else:
            known.spec, known.state, known.attempt, known.ended = spec, keys.RUNNING, attempt, None
            known.summary, known.reason, known.reused_from = {}, "", ""
        known.devices = record.data.get("devices") or _devices(self.specification.get("resources", {}))
        known.invocation = self.specification
        return (spec.trial_id,)

    def _reused(self, spec: TrialSpec, record: Record) -> tuple[str, ...]:
        fresh = TrialHistory(spec, keys.FINISHED, attempt=0, started=record.time)
        trial = self.trials.get(spec.trial_id, fresh)  # what was trained of it here was spent all the same
        trial.spec, trial.state, trial.ended = spec, keys.FINISHED, record.time
        trial.summary, trial.reason = record.data.get("summary", {}), ""
        trial.reused_from = record.data["source"]
        self.trials[spec.trial_id] = trial
        return (spec.trial_id,)

    def _reported(self, record: Record) -> tuple[str, ...]:
        trial = self.trials.get(record.data["trial_id"])
        epoch = record.data["epoch"]
        if trial is None or epoch in trial.epochs:
            return ()
        trial.epochs[epoch] = record.data["metrics"]
        trial.is_to_leave |= bool(record.data.get("prune"))
        trial.epoch_times[epoch] = record.time
        if record.data["attempt"] > 0:
            hours = record.data["metrics"].get(SECONDS, 0.0) / 3600
            self.hours["cpu_hours"] += hours * trial.devices.get("cpus", 0.0)
            self.hours["gpu_hours"] += hours * trial.devices.get("gpus", 0.0)
        return (record.data["trial_id"],)

    def _ended(self, record: Record) -> tuple[str, ...]:
        data = record.data
        trial = self.trials.get(data["trial_id"])
        if trial is None or data["attempt"] < trial.attempt:
            return ()  # a superseded attempt that ends late has no say
        trial.state, trial.ended = data["state"], record.time
        trial.is_to_leave &= trial.state == keys.INTERRUPTED
        trial.summary, trial.reason = data.get("summary", {}), data.get("reason", "")
        return (data["trial_id"],)

    def _evolved(self, record: Record) -> tuple[str, ...]:
        self.evolved = record.data["epoch"]
        return tuple(self._follows(exploit, self.evolved) for exploit in record.data["exploits"])

    def _follows(self, exploit: dict[str, Any], epoch: int) -> str:
        spec, donor = trial_spec(exploit["trial"]), exploit["donor"]
        trial = self.trials[spec.trial_id]
        trial.spec, trial.state, trial.summary = spec, keys.INTERRUPTED, {}
        trial.reason = f"goes on from {donor} after epoch {epoch}"
        trial.lineage.append(Descent(epoch, donor, exploit["values"]))
        return spec.trial_id


def _devices(resources: Mapping[str, Any]) -> dict[str, float]:
    """What a trial held, of a ledger that does not say so itself."""
    workers = float(resources.get("num_workers", 1))
    each = {name: float(resources.get(f"{name}_per_worker", 0.0)) for name in ("cpus", "gpus")}
    return {name: workers * count for name, count in each.items()}


def _extended(specification: dict[str, Any], specs: list[TrialSpec]) -> dict[str, Any]:
    """A specification with trials that the results asked for."""
    planned = dict(specification.get("planned", {}))
    planned["trials"] = planned.get("trials", 0) + len(specs)
    epochs = sum(int(spec.config["train"]["epochs"]) for spec in specs)
    planned["student_epochs"] = planned.get("student_epochs", 0) + epochs
    arm_seeds = {arm: list(seeds) for arm, seeds in specification.get("arm_seeds", {}).items()}
    for spec in specs:
        if spec.arm in arm_seeds:
            arm_seeds[spec.arm].append(spec.seed)
    trials = [*specification.get("trials", ()), *(spec.trial_id for spec in specs)]
    return {**specification, "trials": trials, "planned": planned, "arm_seeds": arm_seeds}


def trial_spec(mapping: dict[str, Any]) -> TrialSpec:
    """The TrialSpec that a ledger's mapping holds; fields that a newer version added are left out."""
    names = {item.name for item in dataclasses.fields(TrialSpec)}
    return TrialSpec(**{name: value for name, value in mapping.items() if name in names})
