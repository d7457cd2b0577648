"""Runs a study's trials one after the other in this process: for debugging, for tests, and where Ray is not."""

from __future__ import annotations

import time

from orchestrator.conductor import WAIT, Conductor
from orchestrator.execution import run_job
from orchestrator.resources import Machine, student_request
from orchestrator.stopping import POLL_S, StopFile


def run_in_process(conductor: Conductor, machine: Machine) -> None:
    """Run everything the conductor asks for. A stop takes effect at the end of the epoch that runs."""
    stop_file = StopFile(conductor.paths.stop_file)
    threads = max(student_request(conductor.plan.resources).threads, int(machine.cpus))

    def poll() -> None:
        if stop_file.is_there():
            conductor.request_stop("cdkd stop")

    while (spec := conductor.next_trial()) is not None:
        poll()
        if spec is WAIT:
            time.sleep(POLL_S)
            continue
        job = conductor.on_started(spec, {"cpus": threads, "gpus": machine.gpus}).with_threads(threads)

        def on_epoch(
            epoch: int, metrics: dict[str, float], name: str = job.trial_id, attempt: int = job.attempt
        ) -> bool:
            poll()
            return conductor.on_epoch(name, attempt, epoch, metrics)

        conductor.on_outcome(job.trial_id, job.attempt, run_job(job, on_epoch))
