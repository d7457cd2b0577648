"""A trial with several workers: one Ray Train run, called from inside the Tune trial's actor.

Every worker calls `cdkd.training.train` with its place in the world; the trial's folder must be the same
folder for all of them (a shared file system, where the workers are on several nodes). Train keeps no
checkpoints: the training does, in that folder. A run that loses a worker ends, and the conductor begins the
trial's next attempt, which resumes; so Train itself retries nothing.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from orchestrator import keys
from orchestrator.execution import LOST, Job, Outcome, one_line, run_job
from orchestrator.messages import encode_epoch
from orchestrator.resources import Request

FAILURE = "failure.json"
PEER_LOST = (
    "gloo/transport",
    "Connection closed by peer",
    "Connection reset by peer",
    "DistBackendError",
    "NCCL error",
)
"""What a worker's error says when another worker of its group has died."""


def run_workers(job: Job, request: Request, storage: str) -> tuple[Outcome, list[tuple[int, dict[str, float]]]]:
    """Run one attempt on several workers and wait for it.

    Args:
        job: the attempt.
        request: how many workers, and what each takes.
        storage: folder for Ray Train's own files, never read back.

    Returns:
        How it ended, and all epochs that rank 0 reported: a message on its way when the run ends may be late.
    """
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    failure = Path(job.folder) / FAILURE
    failure.unlink(missing_ok=True)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job.to_json()},
        torch_config=TorchConfig(backend="nccl" if request.gpus_per_worker else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=request.workers,
            use_gpu=request.gpus_per_worker > 0,
            resources_per_worker=worker_resources(request),
        ),
        run_config=ray.train.RunConfig(
            name=f"{job.trial_id}-{job.attempt}",
            storage_path=storage,
            callbacks=[TuneReportCallback()],
            failure_config=ray.train.FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )
    try:
        answer = json.loads(trainer.fit().return_value)
    except ray.train.TrainingFailedError as error:
        if failure.exists():
            return Outcome(**json.loads(failure.read_text())), []
        return Outcome(LOST, reason=one_line(f"a worker of its Ray Train run died: {error}")), []
    return Outcome(**answer["outcome"]), [(epoch, metrics) for epoch, metrics in answer["epochs"]]


def worker_resources(request: Request) -> dict[str, float]:
    """What Ray reserves for one worker."""
    gpus = {"GPU": request.gpus_per_worker} if request.gpus_per_worker else {}
    return {"CPU": request.cpus_per_worker, **gpus}


def _worker(config: dict[str, Any]) -> str:
    """One worker of the run; answers rank 0's outcome and epochs as JSON."""
    import ray.train

    from cdkd.distributed import World

    job = Job.from_json(config["job"])
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    epochs: list[tuple[int, dict[str, float]]] = []

    def on_epoch(epoch: int, metrics: dict[str, float]) -> bool:
        epochs.append((epoch, metrics))
        ray.train.report({"message": encode_epoch(job, epoch, metrics)})  # every rank must, it is a barrier
        return job.stop_file.exists()

    outcome = run_job(job, on_epoch, world)
    if outcome.state in (keys.FAILED, keys.DIVERGED):
        if not any(sign in outcome.details for sign in PEER_LOST):
            _tell_failure(job, outcome)
        # The other workers may be waiting for this one in a collective: the whole group has to go.
        raise RuntimeError(outcome.reason)
    return json.dumps({"outcome": dataclasses.asdict(outcome), "epochs": epochs})


def _tell_failure(job: Job, outcome: Outcome) -> None:
    """Leave the reason where the trial's actor finds it; the first worker that fails knows best."""
    try:
        with (Path(job.folder) / FAILURE).open("x") as file:
            json.dump(dataclasses.asdict(outcome), file)
    except FileExistsError:
        return
