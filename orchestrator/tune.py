"""Runs a study's trials as one Ray Tune experiment. Tune places and watches the trials; the conductor decides.

A trial with one worker trains inside its Tune actor, which is used again for the next trial of the same
size; one with several workers is a Ray Train run (orchestrator.ray_train). A trial is stopped by a file in its
folder, never by force, so that it leaves at the end of an epoch with everything on disk. Nothing is ever
restored from Tune's own files.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from orchestrator.conductor import WAIT, Conductor
from orchestrator.execution import Job, one_line, run_job
from orchestrator.messages import decode, encode_epoch, encode_outcome
from orchestrator.plan import TEACHER, Resources, TrialSpec
from orchestrator.ray_train import run_workers, worker_resources
from orchestrator.resources import Machine, Meter, Request, student_request, teacher_request
from orchestrator.stopping import GRACE_S, StopFile

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

FINISHED: str = Searcher.FINISHED
DRIVER_CPUS = 0.01
"""What Tune reserves for an actor that only waits for a Ray Train run."""


def uses_train(resources: Resources) -> bool:
    """Whether trials are Ray Train runs."""
    return resources.backend == "train" or resources.num_workers > 1


def run_on_tune(conductor: Conductor, machine: Machine) -> None:
    """Run everything the conductor asks for on the connected Ray cluster.

    Args:
        conductor: the study.
        machine: what the cluster has.
    """
    driver = _Driver(conductor, machine)
    trainable = tune.with_resources(_trainable, _placement)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=_Search(driver),
            scheduler=_Scheduler(driver),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(conductor.paths.ray),
            stop=_Stop(driver),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
        ),
    )
    try:
        tuner.fit()
    finally:
        if driver.error is not None:
            raise driver.error


class _Driver:
    """Between Tune's callbacks and the conductor."""

    def __init__(self, conductor: Conductor, machine: Machine) -> None:
        self.conductor = conductor
        self.error: BaseException | None = None
        self._resources = conductor.plan.resources
        self._machine = machine
        self._meter = Meter(machine, self._resources.max_concurrent_trials)
        self._jobs: dict[str, Job] = {}
        self._chosen: tuple[TrialSpec, Request] | None = None
        self._stop_file = StopFile(conductor.paths.stop_file)
        self._stop_since: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher beside its results, and nobody ever reads that."""
        return {}

    def suggest(self) -> dict[str, Any] | str | None:
        """The next trial in Tune's terms: None for later, FINISHED for never."""
        if self._chosen is None:
            if not self._meter.fits(student_request(self._resources)):
                return None
            spec = self.conductor.next_trial()
            if spec is None:
                return FINISHED
            if spec is WAIT:
                return None
            self._chosen = (spec, self._request(spec))
        spec, request = self._chosen
        if self.conductor.stop_reason:
            return FINISHED
        return self._begin(spec, request) if self._meter.fits(request) else None

    def receive(self, text: str) -> None:
        """A worker's message."""
        message = decode(text)
        job = self._jobs.get(message.trial_id)
        for epoch, metrics in message.epochs:
            should_stop = self.conductor.on_epoch(message.trial_id, message.attempt, epoch, metrics)
            if should_stop and job is not None and job.attempt == message.attempt:
                job.stop_file.touch()
        if message.outcome is not None:
            self.conductor.on_outcome(message.trial_id, message.attempt, message.outcome)

    def left(self, job: Job, reason: str) -> None:
        """The trial's actor is free or gone; one that did not say how it ended has been lost."""
        self._meter.give(_attempt(job))
        self.conductor.on_lost(job.trial_id, job.attempt, reason)

    def should_cut_off(self) -> bool:
        """Whether to end everything now: asked to stop, and the running trials had time to leave by themselves."""
        if self.error is not None:
            return True
        if self._stop_file.is_there():
            self.conductor.request_stop("cdkd stop")
        if not self.conductor.stop_reason:
            return False
        now = time.monotonic()
        self._stop_since = self._stop_since or now
        return not self.conductor.running() or now - self._stop_since > GRACE_S

    def _request(self, spec: TrialSpec) -> Request:
        if spec.kind == TEACHER:
            return teacher_request(self._resources, self._machine, self.conductor.unfinished_teachers())
        return student_request(self._resources)

    def _begin(self, spec: TrialSpec, request: Request) -> dict[str, Any]:
        self._chosen = None
        devices = {"cpus": request.cpus, "gpus": request.gpus}
        job = self.conductor.on_started(spec, devices).with_threads(request.threads)
        self._jobs[job.trial_id] = job
        self._meter.take(_attempt(job), request)
        return {
            "name": _attempt(job),
            "job": job.to_json(),
            "request": json.dumps(dataclasses.asdict(request)),
            "storage": str(self.conductor.paths.ray / "train") if uses_train(self._resources) else "",
        }


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the driver's own error (a full disk, say) as it is; Tune would wrap it in a text."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except BaseException as error:
            self._driver.error = self._driver.error or error
            raise

    return call


class _Search(Searcher):  # type: ignore[misc]
    """Tune's searcher: what to run next."""

    def __init__(self, driver: _Driver) -> None:
        super().__init__()
        self._driver = driver

    @_guarded
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        return self._driver.suggest()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Heard by the scheduler, which knows the trial."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class _Scheduler(FIFOScheduler):  # type: ignore[misc]
    """Tune's trial scheduler: what came of a trial. It never stops one by force."""

    def __init__(self, driver: _Driver) -> None:
        super().__init__()
        self._driver = driver

    @_guarded
    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        if "message" in result:
            self._driver.receive(result["message"])
        decision: str = TrialScheduler.CONTINUE
        return decision

    @_guarded
    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        self._driver.left(Job.from_json(trial.config["job"]), "its worker ended without a word")

    @_guarded
    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        error = trial.get_error()
        reason = one_line(str(error).strip().rsplit("\n", maxsplit=1)[-1]) if error else "its worker died"
        self._driver.left(Job.from_json(trial.config["job"]), f"{type(error).__name__}: {reason}")


class _Stop(Stopper):  # type: ignore[misc]
    """Tune's stopper: when to end everything."""

    def __init__(self, driver: _Driver) -> None:
        self._driver = driver

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        """Asked at every step of Tune's loop."""
        return self._driver.should_cut_off()


def _attempt(job: Job) -> str:
    """A name for one attempt: a trial may begin its next one before Tune says that the last has left."""
    return f"{job.trial_id}-{job.attempt}"


def _name(trial: Trial) -> str:
    return str(trial.config["name"])


def _placement(config: dict[str, Any]) -> PlacementGroupFactory:
    """What Tune reserves for a trial's actor."""
    request = Request(**json.loads(config["request"]))
    return PlacementGroupFactory([{"CPU": DRIVER_CPUS} if config["storage"] else worker_resources(request)])


def _trainable(config: dict[str, Any]) -> None:
    """One attempt at a trial, in its Tune actor."""
    job = Job.from_json(config["job"])
    if config["storage"]:
        outcome, epochs = run_workers(job, Request(**json.loads(config["request"])), config["storage"])
        tune.report({"message": encode_outcome(job, outcome, epochs)})
        return

    def on_epoch(epoch: int, metrics: dict[str, float]) -> bool:
        # Returns when the driver has dealt with it: a stop file it leaves is there by then.
        tune.report({"message": encode_epoch(job, epoch, metrics)})
        return job.stop_file.exists()

    tune.report({"message": encode_outcome(job, run_job(job, on_epoch))})
