"""The conductor: which trial runs next and what becomes of it. Knows nothing of Ray.

It replays the study's ledger, hands out trials, and is told what happens to them. Every answer it gives is
on disk before anybody hears it: each `on_...` method appends to the ledger first and only then tells the
sampler and the listeners. So a driver killed at any moment is replaced by another one that replays the same
ledger and goes on. The pruner alone is asked before an epoch is written, so that its verdict stands in the same record.

The order is teachers, then students whose teacher is trained, then what the sampler proposes. Work already
done is not done again: a finished trial of this ledger is kept, a finished trial of another study with the
same fingerprint is taken over (an arm that runs there is waited for), and a proposal that was evaluated before is
answered from the ledger. A search trial that the study as it is now would not train the same way is superseded: it is
left as it is and counts for nothing. The members of a population (orchestrator.population) are always trained: they
leave at the end of every interval, and begin again once it is decided who goes on from whose state.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from orchestrator import keys
from orchestrator.errors import UserError
from orchestrator.execution import LOST, STOPPED, Job, Outcome
from orchestrator.failpoints import failpoint
from orchestrator.further import Refit, RefitTrial, SearchTrials, further_trials, mixture_fault, superseded
from orchestrator.history import History, TrialHistory
from orchestrator.ledger import Ledger, Record
from orchestrator.objectives import Goals, needed, value_of
from orchestrator.paths import StudyPaths
from orchestrator.plan import TEACHER, Plan, TrialSpec, of_generation
from orchestrator.population import WAITS, Exploit, Population, hand_over
from orchestrator.reuse import OtherStudies
from orchestrator.sampler import REJECTED, Evaluation, NoProposal, Proposal, Sampler, proposal_of, unknown
from orchestrator.teachers import TeacherStore

logger = logging.getLogger(__name__)

BUDGETS = {"gpu_hours": "GPU hours", "cpu_hours": "CPU hours"}
MAX_LOSSES = 3
"""How often a trial whose worker died is started again by one driver."""

Listener = Callable[[Record], None]


class Wait(Enum):
    """The answer that nothing can run now, but something may later."""

    WAIT = "wait"


WAIT = Wait.WAIT


class Conductor:
    """Runs one study's plan against its ledger.

    Attributes:
        history: what the ledger holds, kept up to date.
        stop_reason: why the study is to stop; empty while it goes on.
        paths: the study's files.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        paths: StudyPaths,
        *,
        retry_failed: bool = False,
        listeners: Iterable[Listener] = (),
        search_trials: SearchTrials | None = None,
        refit_trial: RefitTrial | None = None,
    ) -> None:
        """Replay the ledger and settle what is left to do.

        Args:
            plan: what the study asks for.
            ledger: open for writing.
            paths: the study's files.
            retry_failed: run failed and diverged trials once more.
            listeners: told of every record after it is on disk.
            search_trials: `orchestrator.compiler.search_trial`; needed when the plan has a search.
            refit_trial: `orchestrator.compiler.refit_trial`; needed when the search is to be refitted.

        Raises:
            UserError: the search names an unknown sampler or pruner, or a wrong option of one; or it was edited and
                cannot go on beside what was trained before.
        """
        if plan.search is not None and search_trials is None:
            raise ValueError("a plan with a search needs search_trials")
        self.plan = plan
        self.paths = paths
        self.stop_reason = ""
        self._ledger = ledger
        self._listeners = tuple(listeners)
        self._retried = {keys.FAILED, keys.DIVERGED} if retry_failed else set()
        self._teachers = TeacherStore(paths)
        self._losses: dict[str, int] = {}
        self._tried: set[str] = set()
        self._proposals: dict[str, Proposal] = {}
        self._search_trials = search_trials
        self._refit_trial = refit_trial
        self._goals = Goals.of(plan.search, plan.metric)
        self._is_exhausted = False
        self._others = OtherStudies(paths.other_ledgers, plan.fresh_since)
        self._awaited: set[str] = set()
        records = ledger.records()
        self.history = History.replay(records, is_running=False)
        self._superseded = superseded(plan, self.history, search_trials)
        fault = mixture_fault(plan, self._superseded)
        if fault:
            raise UserError(fault)
        past = [trial.spec for trial in self.history.trials.values() if self._is_of_plan(trial)]
        self._pruned = {trial.spec.trial_id for trial in self.history.trials.values() if trial.is_to_leave}
        self._same: dict[str, dict[str, None]] = {}  # ids of the trials that are the same training, by fingerprint
        for trial in self.history.trials.values():
            if self._is_of_plan(trial) or (self._is_present(trial.spec) and trial.state == keys.FINISHED):
                self._same.setdefault(trial.spec.fingerprint, {})[trial.spec.trial_id] = None
        self._is_settled = self._is_extended = False
        searched = [spec for spec in past if spec.number >= 0]
        self._own = {spec.trial_id: spec for spec in (*plan.teachers, *plan.trials, *searched)}
        teachers = [*(spec for spec in past if spec.kind == TEACHER), *plan.teachers]
        self._teacher_specs = {spec.fingerprint: spec for spec in teachers}
        self._waiting = [spec for spec in (*plan.trials, *searched) if self._is_open(spec.trial_id)]
        self._sampler = self._open_sampler(records)
        self._population = self._open_population(searched)

    def begin(self, specification: dict[str, Any]) -> None:
        """Record that a run of the study begins, with what a table of it needs."""
        self._append(keys.INVOKED, {"specification": {**specification, keys.SUPERSEDED: self._superseded}})

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of every record from now on."""
        self._listeners = (*self._listeners, listener)

    # What to run next.

    def next_trial(self) -> TrialSpec | Wait | None:
        """The trial to run next; WAIT when it depends on one that runs; None when nothing is left.

        The trial is not begun until `on_started`, and until then is handed out again.
        """
        if self.stop_reason:
            return None
        self._look_around()
        self._settle()
        self._extend()  # also where the budget is spent: what results ask for belongs to the study
        if self.is_spent():
            return None
        found = self._look()
        while found is None and not (self._is_settled and self._is_extended):
            found = self._look()  # what was answered without training may ask for more
        if found is not None:
            return found
        is_over = not self._waiting and not self.running() and self.remaining_proposals() == 0
        return None if is_over else WAIT

    def _look_around(self) -> None:
        """What another driver has finished meanwhile is not trained again."""
        if (self._waiting or self.remaining_proposals()) and self._others.look():
            self._is_settled = False

    def is_spent(self) -> bool:
        """Whether the study's budget is used up: nothing is begun then, running trials leave after their epoch."""
        return bool(self.spent_budget())

    def spent_budget(self) -> str:
        """The limit that is used up, in words; empty while there is budget left."""
        for name, limit in dataclasses.asdict(self.plan.budget).items():
            if limit is not None and self.device_hours(name) >= limit:
                return f"the budget of {limit:g} {BUDGETS[name]} is used up"
        return ""

    def device_hours(self, name: str = "gpu_hours") -> float:
        """Hours of the devices that the trained epochs of this study held, by the time each epoch took.

        Args:
            name: a field of `orchestrator.plan.Budget`.
        """
        return self.history.hours[name]

    def left_out(self) -> list[TrialHistory | TrialSpec]:
        """What the plan asks for and is not over: trials begun and interrupted, then trials never begun."""
        open_trials = [self.history.trials.get(spec.trial_id, spec) for spec in self._waiting]
        cut = [trial for trial in self.history.trials.values() if trial.state == keys.INTERRUPTED]
        begun = {trial.spec.trial_id: trial for trial in cut if trial.spec.trial_id in self._own}
        rest = [item for item in open_trials if _id_of(item) not in begun]
        return [*begun.values(), *rest]

    def running(self) -> list[TrialHistory]:
        """The trials that run now."""
        return [trial for trial in self.history.trials.values() if trial.state == keys.RUNNING]

    def unfinished_teachers(self) -> int:
        """How many teachers are still to be trained, the running ones included."""
        return sum(not self._teachers.is_complete(fingerprint) for fingerprint in self._needed_teachers())

    def remaining_proposals(self) -> int:
        """How many more trials the search will propose."""
        proposer = self._population or self._sampler
        return proposer.remaining() if proposer is not None and not self._is_exhausted else 0

    def has_failures(self) -> bool:
        """Whether some trial of this plan failed or diverged."""
        return any(_is_failure(trial) for name, trial in self.history.trials.items() if name in self._own)

    def request_stop(self, reason: str) -> None:
        """Begin nothing more; running trials are asked to leave at their next epoch. Safe in a signal handler."""
        self.stop_reason = reason

    def close(self, reason: str) -> None:
        """End this run of the study: trials that still run are interrupted, locks are given back."""
        for trial in self.running():
            self._end(trial, keys.INTERRUPTED, Outcome(STOPPED, reason=reason))
        self._append(keys.STOPPED, {"reason": reason})
        for spec in self._teacher_specs.values():
            self._teachers.release(spec.fingerprint)

    # What happened to it.

    def on_started(self, spec: TrialSpec, devices: Mapping[str, float] | None = None) -> Job:
        """The trial begins: record the attempt, and say what its worker needs to know.

        Args:
            spec: of the trial.
            devices: `cpus` and `gpus` that it holds; None: what the study's resources say.
        """
        known = self.history.trials.get(spec.trial_id)
        attempt = known.attempt + 1 if known else 1
        self._start(spec, attempt, devices)
        self._waiting = [other for other in self._waiting if other.trial_id != spec.trial_id]
        folder = self._folder(spec)
        folder.mkdir(parents=True, exist_ok=True)
        job = Job(spec.trial_id, attempt, spec.config, str(folder), self._teacher_file(spec))
        job.stop_file.unlink(missing_ok=True)
        return job

    def on_epoch(self, trial_id: str, attempt: int, epoch: int, metrics: dict[str, float]) -> bool:
        """An epoch is done. Returns True when the training should leave: pruned, stopping, or superseded."""
        trial = self._attempt(trial_id, attempt)
        if trial is None:
            return True
        if epoch not in trial.epochs:
            verdict = {"prune": True} if self._should_prune(trial, epoch, metrics) else {}
            data = {"trial_id": trial_id, "attempt": attempt, "epoch": epoch, "metrics": metrics, **verdict}
            self._append(keys.EPOCH, data)
            failpoint("after_epoch")
            if verdict:
                self._pruned.add(trial_id)
        must_leave = trial_id in self._pruned or bool(self.stop_reason) or self.is_spent()
        return must_leave or self._is_paused(trial.spec)

    def on_outcome(self, trial_id: str, attempt: int, outcome: Outcome) -> None:
        """An attempt ended; a superseded attempt has no say."""
        trial = self._attempt(trial_id, attempt)
        if trial is None:
            return
        if outcome.state == LOST:
            self._lost(trial, outcome)
        elif outcome.state == STOPPED:
            self._left(trial, outcome)
        elif outcome.state == keys.FINISHED:
            self._finished(trial, outcome)
        else:
            self._end(trial, outcome.state, outcome)

    def on_finished(self, trial_id: str, attempt: int, summary: dict[str, float]) -> None:
        """The training ran to its last epoch."""
        self.on_outcome(trial_id, attempt, Outcome(keys.FINISHED, summary))

    def on_pruned(self, trial_id: str, attempt: int, summary: dict[str, float]) -> None:
        """The training left because the pruner said so."""
        self._pruned.add(trial_id)
        self.on_outcome(trial_id, attempt, Outcome(STOPPED, summary))

    def on_failed(self, trial_id: str, attempt: int, reason: str, details: str = "") -> None:
        """The training raised an error."""
        self.on_outcome(trial_id, attempt, Outcome(keys.FAILED, reason=reason, details=details))

    def on_diverged(self, trial_id: str, attempt: int, reason: str) -> None:
        """A loss was not finite."""
        self.on_outcome(trial_id, attempt, Outcome(keys.DIVERGED, reason=reason))

    def on_lost(self, trial_id: str, attempt: int, reason: str) -> None:
        """The worker died; the trial goes on from its last checkpoint, MAX_LOSSES times at most."""
        self.on_outcome(trial_id, attempt, Outcome(LOST, reason=reason))

    # Endings.

    def _finished(self, trial: TrialHistory, outcome: Outcome) -> None:
        if trial.spec.kind == TEACHER:
            self._end(trial, keys.FINISHED, outcome)
            return
        fault, state = self._fault(trial, outcome)
        self._end(trial, state, dataclasses.replace(outcome, reason=fault) if fault else outcome)

    def _fault(self, trial: TrialHistory, outcome: Outcome) -> tuple[str, str]:
        """What a finished training lacks of what the study needs to know, and the state it is therefore in."""
        search = self.plan.search if trial.spec.number >= 0 else None
        for each in needed(search, self.plan.metric):
            value = value_of(each, outcome.summary, trial.epochs)
            if value is None:
                return f"the training reported no {each.name}", keys.FAILED
            if not math.isfinite(value):
                return f"{each.name} is {value}", keys.DIVERGED
        return "", keys.FINISHED

    def _left(self, trial: TrialHistory, outcome: Outcome) -> None:
        if trial.spec.trial_id in self._pruned:
            reason = f"pruned after epoch {trial.last_epoch}"
            self._end(trial, keys.PRUNED, dataclasses.replace(outcome, reason=reason))
        elif self._is_paused(trial.spec):
            self._pause(trial, outcome)
        else:
            reason = self.stop_reason or self.spent_budget()
            self._end(trial, keys.INTERRUPTED, dataclasses.replace(outcome, reason=reason))

    def _lost(self, trial: TrialHistory, outcome: Outcome) -> None:
        spec = trial.spec
        losses = self._losses[spec.trial_id] = self._losses.get(spec.trial_id, 0) + 1
        if losses > MAX_LOSSES:
            reason = f"its worker died {losses} times: {outcome.reason}"
            self._end(trial, keys.FAILED, dataclasses.replace(outcome, reason=reason))
            return
        self._end(trial, keys.INTERRUPTED, outcome)
        if spec.kind != TEACHER:
            self._waiting.insert(0, spec)

    def _end(self, trial: TrialHistory, state: str, outcome: Outcome) -> None:
        data: dict[str, Any] = {
            "trial_id": trial.spec.trial_id,
            "attempt": trial.attempt,
            "state": state,
            "summary": outcome.summary,
            "reason": outcome.reason,
            "epoch": trial.last_epoch,
        }
        if outcome.details:
            data["details"] = outcome.details
        self._append(keys.ENDED, data)
        failpoint("after_ended")
        if state != keys.INTERRUPTED:
            self._pruned.discard(trial.spec.trial_id)
        if trial.spec.kind == TEACHER:
            self._teachers.release(trial.spec.fingerprint)
        self._tell(trial)

    def _tell(self, trial: TrialHistory) -> None:
        if self._sampler is not None and trial.spec.number >= 0 and trial.state != keys.INTERRUPTED:
            self._sampler.tell(self._evaluation(trial))

    def _should_prune(self, trial: TrialHistory, epoch: int, metrics: dict[str, float]) -> bool:
        value = metrics.get(self.plan.metric.name)
        if self._sampler is None or trial.spec.number < 0 or value is None:
            return False
        should_prune = self._sampler.report(trial.spec.number, epoch, value)
        return should_prune and epoch < trial.spec.config["train"]["epochs"]

    # Choosing.

    def _look(self) -> TrialSpec | None:
        self._evolve()
        self._settle()
        self._extend()
        return self._next_teacher() or self._next_waiting() or self._next_proposal()

    def _extend(self) -> None:
        """Take in the trials that the results ask for: further repeats, and the refit of a search that is over."""
        if self._is_extended:
            return
        self._is_extended = True
        is_over = self.remaining_proposals() == 0 and not any(self._is_open_proposal(name) for name in self._own)
        refit = Refit(self._search_trials, self._refit_trial) if self._refit_trial and self._search_trials else None
        due = further_trials(self.plan, self.history, refit if is_over else None)
        new = {spec.trial_id: spec for spec in due if spec.trial_id not in self._own}
        if not new:
            return
        self._append(keys.EXTENDED, {"trials": [dataclasses.asdict(spec) for spec in new.values()]})
        self._own |= new
        self._waiting += [spec for spec in new.values() if self._is_open(spec.trial_id)]
        self._is_settled = False
        self._settle()

    def _is_open_proposal(self, trial_id: str) -> bool:
        if self._own[trial_id].number < 0 or not self._is_open(trial_id):
            return False
        known = self.history.trials.get(trial_id)
        return known is None or known.state not in self._retried or trial_id not in self._tried

    def _settle(self) -> None:
        """Answer every waiting trial that needs no training: reused, answered before, or without a teacher."""
        if self._is_settled:
            return
        self._is_settled = True
        for spec in list(self._waiting):
            if self._answer(spec):
                self._waiting.remove(spec)

    def _answer(self, spec: TrialSpec) -> bool:
        known = self.history.trials.get(spec.trial_id)
        if known is None and not self._is_member(spec) and self._reuse(spec):
            return True
        if known is not None and spec.trial_id in self._pruned:  # its driver or worker died before it could leave
            self._left(known, Outcome(STOPPED))
            return True
        failure = self._teacher_failure(spec)
        if not failure:
            return False
        self._start(spec, known.attempt if known else 0)
        self._end(self.history.trials[spec.trial_id], keys.FAILED, Outcome(keys.FAILED, reason=failure))
        return True

    def _reuse(self, spec: TrialSpec) -> bool:
        """Answer a trial by the result of the same training, here or in another study."""
        twins = {trial.state: trial for trial in self._twins(spec)}
        if keys.FINISHED in twins:
            twin = twins[keys.FINISHED]
            self._take_over(spec, twin.reused_from or f"{self.plan.study}/{twin.spec.trial_id}", twin)
            return True
        elsewhere = self._others.finished(spec.fingerprint)
        if elsewhere is not None:
            self._take_over(spec, *elsewhere)
            return True
        bad = [twins[state] for state in (keys.PRUNED, keys.DIVERGED, keys.FAILED) if state in twins]
        if spec.number < 0 or not bad:
            return False
        reason = f"the same configuration as {bad[0].spec.trial_id}: {bad[0].reason}"
        self._start(spec, 0)
        self._end(self.history.trials[spec.trial_id], bad[0].state, Outcome(bad[0].state, reason=reason))
        return True

    def _take_over(self, spec: TrialSpec, source: str, result: TrialHistory) -> None:
        data = {"trial": dataclasses.asdict(spec), "source": source, "summary": result.summary}
        self._append(keys.REUSED, data | self._search_data(spec))
        trial = self.history.trials[spec.trial_id]
        self._mark_started(spec)
        for epoch, metrics in sorted(result.epochs.items()):
            report = {"trial_id": spec.trial_id, "attempt": 0, "epoch": epoch, "metrics": metrics}
            self._append(keys.EPOCH, report)
            self._should_prune(trial, epoch, metrics)  # for the sampler to hear of it: there is nothing to stop
        self._tell(trial)

    def _twins(self, spec: TrialSpec) -> list[TrialHistory]:
        """The other trials of this study that are the same training; not those from before it was begun afresh."""
        names = self._same.get(spec.fingerprint, {})
        found = [self.history.trials[name] for name in names if name != spec.trial_id]
        return [trial for trial in found if not trial.lineage]  # such a member did not train its first epochs itself

    def _is_present(self, spec: TrialSpec) -> bool:
        """Whether a trial is of the study as it was last begun afresh; teachers always are."""
        return spec.kind == TEACHER or spec.generation == self.plan.generation

    def _is_of_plan(self, trial: TrialHistory) -> bool:
        return self._is_present(trial.spec) and trial.spec.trial_id not in self._superseded

    def _next_teacher(self) -> TrialSpec | None:
        for fingerprint in self._needed_teachers():
            spec = self._teacher_specs[fingerprint]
            if self._is_running(spec) or self._teacher_failure_of(spec) or self._teachers.is_complete(fingerprint):
                continue
            if not self._teachers.claim(fingerprint):
                continue
            # Another driver may have finished it between the two questions.
            if self._teachers.is_complete(fingerprint):
                self._teachers.release(fingerprint)
                continue
            self._teachers.discard(fingerprint)
            return spec
        self._adopt_teachers()
        return None

    def _adopt_teachers(self) -> None:
        """Record teachers that another study trained."""
        for fingerprint in self._needed_teachers():
            spec = self._teacher_specs[fingerprint]
            known = self.history.trials.get(spec.trial_id)
            is_new = known is None or known.state in (keys.INTERRUPTED, keys.FAILED, keys.DIVERGED)
            if is_new and self._teachers.is_complete(fingerprint):
                data = {"trial": dataclasses.asdict(spec), "source": f"teachers/{fingerprint}"}
                self._append(keys.REUSED, data | {"summary": self._teachers.summary(fingerprint)})

    def _needed_teachers(self) -> list[str]:
        """Fingerprints of the teachers that unfinished students and the search ask for, in the plan's order."""
        wanted = {spec.teacher for spec in self._waiting} | {trial.spec.teacher for trial in self.running()}
        if self.remaining_proposals():
            wanted |= {spec.fingerprint for spec in self.plan.teachers}
        return [fingerprint for fingerprint in self._teacher_specs if fingerprint in wanted]

    def _next_waiting(self) -> TrialSpec | None:
        return next((spec for spec in self._waiting if self._is_ready(spec)), None)

    def _next_proposal(self) -> TrialSpec | None:
        """Ask the sampler where nothing that waits can begin.

        Proposals may wait for a twin that runs, or for their own teacher. No more than one of them waits beyond the
        number of trials that run, so that twins do not use up the search while its first results are to come.
        """
        while self.remaining_proposals() and self._parked() <= len(self.running()):
            self._propose()
            self._settle()
            found = self._next_waiting()
            if found is not None:
                return found
        return None

    def _parked(self) -> int:
        return sum(map(self._is_proposal, self._waiting))

    def _propose(self) -> None:
        from cdkd.data.errors import DataError
        from cdkd.options import ConfigError

        proposer = self._population or self._sampler
        assert proposer is not None
        assert self._search_trials is not None
        try:
            proposal = proposer.ask()
        except NoProposal as error:
            logger.warning("%s: the search ends before its %d trials: %s", self.plan.study, self._trials_asked(), error)
            self._is_exhausted = True
            return
        try:
            spec, teacher = self._search_trials(self.plan, proposal.number, proposal.overrides)
        except (ConfigError, DataError) as error:
            self._reject(proposal, str(error))
            return
        self._proposals[spec.trial_id] = proposal
        self._own[spec.trial_id] = spec
        if teacher is not None and teacher.fingerprint not in self._teacher_specs:
            self._teacher_specs[teacher.fingerprint] = teacher
            self._own[teacher.trial_id] = teacher
        self._waiting.append(spec)
        self._is_settled = False

    def _reject(self, proposal: Proposal, reason: str) -> None:
        """A proposal that is no valid configuration is a failed trial, told to the sampler as such."""
        assert self.plan.search is not None
        seed, number = self.plan.search.training_seed, proposal.number
        name, arm, overrides = f"search-{number:04d}-invalid", keys.SEARCH_ARM, proposal.overrides
        spec = TrialSpec(name, "student", arm, seed, self.plan.base, overrides, "", "", {}, number)
        spec = of_generation(spec, self.plan.generation)
        name = spec.trial_id
        self._proposals[name], self._own[name] = proposal, spec
        self._start(spec, 0)
        self._end(self.history.trials[name], keys.FAILED, Outcome(keys.FAILED, reason=reason))

    def _trials_asked(self) -> int:
        return self.plan.search.trials if self.plan.search is not None else 0

    def _is_ready(self, spec: TrialSpec) -> bool:
        if self._is_paused(spec):
            return False
        if not self._is_member(spec) and (self._has_running_twin(spec) or self._runs_elsewhere(spec)):
            return False  # its result will answer this one
        return not spec.teacher or self._teachers.is_complete(spec.teacher)

    def _has_running_twin(self, spec: TrialSpec) -> bool:
        return any(twin.state == keys.RUNNING for twin in self._twins(spec))

    def _runs_elsewhere(self, spec: TrialSpec) -> bool:
        """Whether another study trains the same arm now; it is said once for each trial that waits.

        Proposals do not wait: one that did would keep the sampler from the next for the length of that training.
        """
        place = self._others.running(spec.fingerprint) if spec.number < 0 else ""
        if place and spec.trial_id not in self._awaited:
            self._awaited.add(spec.trial_id)
            logger.warning("%s waits: %s is the same training and runs now", spec.trial_id, place)
        return bool(place)

    # A search by a population; what is decided is orchestrator.population's.

    def _is_member(self, spec: TrialSpec) -> bool:
        return self._population is not None and spec.number >= 0

    def _is_proposal(self, spec: TrialSpec) -> bool:
        """Whether this is a search trial that can still begin by itself."""
        return spec.number >= 0 and not self._is_paused(spec)

    def _is_paused(self, spec: TrialSpec) -> bool:
        """Whether a member has come to the end of an interval, where it waits for the others."""
        known = self.history.trials.get(spec.trial_id)
        if self._population is None or known is None or spec.number < 0:
            return False
        epoch = self._population.boundary(self.history.evolved)
        return epoch is not None and known.last_epoch >= epoch

    def _pause(self, trial: TrialHistory, outcome: Outcome) -> None:
        reason = f"{WAITS} after epoch {trial.last_epoch}"
        self._end(trial, keys.INTERRUPTED, dataclasses.replace(outcome, reason=reason))
        self._waiting.append(trial.spec)

    def _evolve(self) -> None:
        """Let the worst members follow the best, once all have come to the end of an interval.

        The decision is on disk before a file is touched, and no member begins before the ledger says that every
        state was handed over: a driver that dies in between is replaced by one that hands them all over again.
        """
        if self._population is None:
            return
        epoch = self._population.boundary(self.history.evolved)
        if epoch is not None and self._is_interval_over():
            exploits = self._population.decide(self.history, epoch)
            self._append(keys.EVOLVED, {"epoch": epoch, "exploits": [self._exploit_data(one) for one in exploits]})
            failpoint("after_evolved")
        if self.history.copied < self.history.evolved:
            self._hand_over()

    def _is_interval_over(self) -> bool:
        waiting = [spec for spec in self._waiting if self._is_member(spec)]
        is_busy = any(self._is_member(trial.spec) for trial in self.running()) or self.remaining_proposals() > 0
        return bool(waiting) and not is_busy and all(self._is_paused(spec) for spec in waiting)

    def _exploit_data(self, exploit: Exploit) -> dict[str, Any]:
        assert self._search_trials is not None
        number = self.history.trials[exploit.trial_id].spec.number
        spec, _ = self._search_trials(self.plan, number, exploit.overrides)
        spec = dataclasses.replace(spec, trial_id=exploit.trial_id)
        return {"trial": dataclasses.asdict(spec), "donor": exploit.donor, "values": exploit.values}

    def _hand_over(self) -> None:
        """Give every member that follows another since the last look at the population that one's state."""
        epoch, copies = self.history.evolved, []
        for trial in self.history.followers():
            self._replace_waiting(trial.spec)
            donor = self.history.trials[trial.lineage[-1].donor].spec
            digest = self._copy_state(donor, trial, epoch)
            if digest:
                copies.append({"trial_id": trial.spec.trial_id, "donor": donor.trial_id, "sha256": digest})
        failpoint("after_copies")
        self._append(keys.COPIED, {"epoch": epoch, "copies": copies})

    def _copy_state(self, donor: TrialSpec, trial: TrialHistory, epoch: int) -> str:
        """The digest of the state; empty, and the member has failed, where the donor's cannot be read."""
        from cdkd.checkpoint import CheckpointError

        try:
            digest = hand_over(self._folder(donor), self._folder(trial.spec), epoch)
        except CheckpointError as error:
            self._waiting = [other for other in self._waiting if other.trial_id != trial.spec.trial_id]
            self._end(trial, keys.FAILED, Outcome(keys.FAILED, reason=str(error)))
            return ""
        failpoint("after_copy")
        return digest

    def _replace_waiting(self, spec: TrialSpec) -> None:
        self._own[spec.trial_id] = spec
        others = [other for other in self._waiting if other.trial_id != spec.trial_id]
        self._waiting = sorted([*others, spec], key=lambda one: one.number)

    def _open_population(self, searched: list[TrialSpec]) -> Population | None:
        search = self.plan.search
        if search is None or search.pbt is None:
            return None
        return Population(search, self.plan.metric, self._epochs(), [spec.number for spec in searched])

    # Small questions.

    def _is_open(self, trial_id: str) -> bool:
        known = self.history.trials.get(trial_id)
        return known is None or known.state in {keys.RUNNING, keys.INTERRUPTED, *self._retried}

    def _is_running(self, spec: TrialSpec) -> bool:
        known = self.history.trials.get(spec.trial_id)
        return known is not None and known.state == keys.RUNNING

    def _attempt(self, trial_id: str, attempt: int) -> TrialHistory | None:
        """The running trial, if this is its latest attempt."""
        trial = self.history.trials.get(trial_id)
        is_current = trial is not None and trial.state == keys.RUNNING and trial.attempt == attempt
        return trial if is_current else None

    def _teacher_failure(self, spec: TrialSpec) -> str:
        """Why the teacher this trial needs cannot be had; empty when it can."""
        if not spec.teacher or self._teachers.is_complete(spec.teacher):
            return ""
        teacher = self._teacher_specs.get(spec.teacher)
        if teacher is None:
            return f"its teacher {spec.teacher} is not part of the plan"
        return self._teacher_failure_of(teacher)

    def _teacher_failure_of(self, teacher: TrialSpec) -> str:
        known = self.history.trials.get(teacher.trial_id)
        if known is None or known.state not in (keys.FAILED, keys.DIVERGED):
            return ""
        if known.state in self._retried and teacher.trial_id not in self._tried:
            return ""
        return f"its teacher {teacher.trial_id} {known.state}: {known.reason}"

    def _folder(self, spec: TrialSpec) -> Path:
        return self.paths.teacher(spec.fingerprint) if spec.kind == TEACHER else self.paths.trial(spec.trial_id)

    def _teacher_file(self, spec: TrialSpec) -> str:
        if spec.teacher:
            return str(self._teachers.file(spec.teacher))
        return str(spec.config["teacher"]["checkpoint"]) if spec.kind != TEACHER else ""

    # The ledger and the sampler.

    def _append(self, event: str, data: dict[str, Any]) -> Record:
        record = self._ledger.append(event, data)
        self.history.apply(record)
        if event in (keys.STARTED, keys.REUSED):
            spec = data["trial"]
            self._same.setdefault(spec["fingerprint"], {})[spec["trial_id"]] = None
        self._is_settled &= event == keys.EPOCH
        self._is_extended &= event in (keys.EPOCH, keys.EXTENDED)
        for listener in self._listeners:
            listener(record)
        return record

    def _start(self, spec: TrialSpec, attempt: int, devices: Mapping[str, float] | None = None) -> None:
        data = {"trial": dataclasses.asdict(spec), "attempt": attempt, "devices": dict(devices or self._devices())}
        self._append(keys.STARTED, data | self._search_data(spec))
        failpoint("after_started")
        self._tried.add(spec.trial_id)
        self._mark_started(spec)

    def _devices(self) -> dict[str, float]:
        """What a student holds."""
        resources = self.plan.resources
        each = {"cpus": resources.cpus_per_worker, "gpus": resources.gpus_per_worker}
        return {name: resources.num_workers * count for name, count in each.items()}

    def _search_data(self, spec: TrialSpec) -> dict[str, Any]:
        """What rebuilding Optuna's trial needs, beside the record of a proposal's beginning."""
        proposal = self._proposals.get(spec.trial_id)
        return {"search": dataclasses.asdict(proposal)} if proposal is not None else {}

    def _mark_started(self, spec: TrialSpec) -> None:
        if self._sampler is not None and spec.number >= 0:
            self._sampler.mark(spec.number, spec.trial_id)

    def _open_sampler(self, records: list[Record]) -> Sampler | None:
        search = self.plan.search
        if search is None or search.pbt is not None:
            return None
        sampler = Sampler(search, self.plan.metric, self.paths.sampler, self.plan.study, self._epochs())
        sampler.synchronise(self._evaluations(records), self._reports(records))
        return sampler

    def _epochs(self) -> int:
        return int(self.plan.base["train"]["epochs"])

    def _evaluations(self, records: list[Record]) -> list[tuple[Proposal, Evaluation]]:
        """Every proposal the ledger knows, in Optuna's order, and what became of it."""
        found: dict[int, tuple[Proposal, Evaluation]] = {}
        for record in records:
            if record.event not in (keys.STARTED, keys.REUSED) or "search" not in record.data:
                continue
            trial = self.history.trials[record.data["trial"]["trial_id"]]
            if not self._is_present(trial.spec):
                continue
            proposal = proposal_of(record.data["search"])
            is_known = self._is_of_plan(trial)
            for each in proposal.rejected:
                answer = Evaluation(each.number, "", REJECTED if is_known else keys.SUPERSEDED)
                found.setdefault(each.number, (each if is_known else unknown(each), answer))
            found.setdefault(proposal.number, (proposal if is_known else unknown(proposal), self._evaluation(trial)))
        return [found[number] for number in sorted(found)]

    def _reports(self, records: list[Record]) -> list[tuple[int, int, float]]:
        """(number, epoch, value) of every first report of a search trial, in the order they came."""
        seen: dict[tuple[int, int], float] = {}
        for record in records:
            trial = self.history.trials.get(record.data.get("trial_id", "")) if record.event == keys.EPOCH else None
            value = record.data["metrics"].get(self.plan.metric.name) if trial is not None else None
            if trial is not None and trial.spec.number >= 0 and self._is_of_plan(trial) and value is not None:
                seen.setdefault((trial.spec.number, record.data["epoch"]), value)
        return [(number, epoch, value) for (number, epoch), value in seen.items()]

    def _evaluation(self, trial: TrialHistory) -> Evaluation:
        if trial.spec.trial_id in self._superseded:
            return Evaluation(trial.spec.number, trial.spec.trial_id, keys.SUPERSEDED)
        is_open = trial.state in (keys.RUNNING, keys.INTERRUPTED, *self._retried)
        state = keys.RUNNING if is_open and trial.spec.trial_id not in self._tried else trial.state
        goals = self._goals
        knows_excess = goals.knows_excess(trial)
        is_judged = knows_excess and state in (keys.FINISHED, keys.PRUNED)
        beyond = tuple(goals.excess(trial).values()) if is_judged else ()
        values = goals.values(trial) if knows_excess and state == keys.FINISHED else ()
        return Evaluation(trial.spec.number, trial.spec.trial_id, state, values, beyond)


def _is_failure(trial: TrialHistory) -> bool:
    """A proposal that diverges is an answer to the sampler; an arm that does is missing from the table."""
    return trial.state == keys.FAILED or (trial.state == keys.DIVERGED and trial.spec.number < 0)


def _id_of(item: TrialHistory | TrialSpec) -> str:
    return item.trial_id if isinstance(item, TrialSpec) else item.spec.trial_id
