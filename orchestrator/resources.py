"""What trials ask of a machine or cluster, and how many of them fit at the same time."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from orchestrator.errors import UserError
from orchestrator.plan import Resources


@dataclass(frozen=True)
class Machine:
    """What there is: CPUs and GPUs, of one machine or of all nodes of a cluster."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Request:
    """What one trial takes."""

    workers: int
    cpus_per_worker: float
    gpus_per_worker: float

    @property
    def cpus(self) -> float:
        """CPUs of all workers."""
        return self.workers * self.cpus_per_worker

    @property
    def gpus(self) -> float:
        """GPUs of all workers; a fraction is rounded up to an equal share of one GPU, since no worker spans two."""
        part = self.gpus_per_worker
        return self.workers * (1 / math.floor(1 / part) if 0 < part < 1 else part)

    @property
    def threads(self) -> int:
        """CPU threads of a worker."""
        return max(1, int(self.cpus_per_worker))

    def times(self, machine: Machine) -> int:
        """How many such trials fit on a machine."""
        by_cpu = math.floor(machine.cpus / self.cpus + 1e-9) if self.cpus else math.inf
        by_gpu = math.floor(machine.gpus / self.gpus + 1e-9) if self.gpus else math.inf
        return int(min(by_cpu, by_gpu, 1_000_000))


def this_machine(resources: Resources) -> Machine:
    """This machine. GPUs are counted (which imports torch) only when trials ask for some."""
    cpus = len(os.sched_getaffinity(0))
    if not resources.gpus_per_worker:
        return Machine(cpus, 0)
    import torch

    return Machine(cpus, torch.cuda.device_count())


def student_request(resources: Resources) -> Request:
    """What a student's training takes."""
    return Request(resources.num_workers, resources.cpus_per_worker, resources.gpus_per_worker)


def teacher_request(resources: Resources, machine: Machine, teachers: int) -> Request:
    """What a teacher's training takes: an equal share of all CPUs, since no student runs before it is done.

    Args:
        resources: of a student.
        machine: what there is.
        teachers: how many teachers are still to be trained.
    """
    share = math.floor(machine.cpus / max(1, teachers) / resources.num_workers)
    return Request(resources.num_workers, max(resources.cpus_per_worker, share), resources.gpus_per_worker)


def check(resources: Resources, machine: Machine) -> None:
    """Refuse trials that can never run.

    Raises:
        UserError: one trial asks for more than there is.
    """
    request = student_request(resources)
    if request.times(machine) >= 1:
        return
    for name, asked, there in (("cpus", request.cpus, machine.cpus), ("gpus", request.gpus, machine.gpus)):
        if asked > there:
            workers = f"{resources.num_workers} x " if resources.num_workers > 1 else ""
            each = resources.cpus_per_worker if name == "cpus" else resources.gpus_per_worker
            raise UserError(
                f"resources.{name}_per_worker: one trial asks for {workers}{each:g} {name.upper()[:-1]}s, "
                f"this machine or cluster has {there:g}"
            )


class Meter:
    """Counts what running trials hold."""

    def __init__(self, machine: Machine, max_concurrent_trials: int) -> None:
        self._machine = machine
        self._limit = max_concurrent_trials or math.inf
        self._held: dict[str, Request] = {}

    def fits(self, request: Request) -> bool:
        """Whether one more trial can begin."""
        cpus = sum(held.cpus for held in self._held.values()) + request.cpus
        gpus = sum(held.gpus for held in self._held.values()) + request.gpus
        is_room = cpus <= self._machine.cpus + 1e-9 and gpus <= self._machine.gpus + 1e-9
        return is_room and len(self._held) < self._limit

    def take(self, name: str, request: Request) -> None:
        """A trial begins."""
        self._held[name] = request

    def give(self, name: str) -> None:
        """A trial has left."""
        self._held.pop(name, None)
