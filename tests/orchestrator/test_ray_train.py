"""Trials with several workers, on a real Ray cluster by real Ray Train runs."""

from __future__ import annotations

import os
import signal
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator import keys
from orchestrator.plan import Resources
from orchestrator.ray_train import PEER_LOST
from tests.orchestrator.drive import drive, numbers
from tests.orchestrator.plans import learning_rates, make_plan, states, student
from tests.orchestrator.test_in_process import NO_DATA
from tests.orchestrator.test_tune import processes_of

# Ray leaves the processes of a cluster it ends to the garbage collector, without waiting for them.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


def test_two_workers_give_the_losses_of_one(tmp_path: Path) -> None:
    two = drive(make_plan(student("a"), resources=Resources(num_workers=2)), tmp_path / "two", "ray")
    one = drive(make_plan(student("a")), tmp_path / "one", "in_process")
    assert states(two) == {"a-seed0": keys.FINISHED}
    expected, found = (numbers(conductor)["a-seed0"][1] for conductor in (one, two))
    assert sorted(found) == sorted(expected) == [1, 2, 3]
    for epoch, tolerance in ((1, 2e-4), (2, 1e-3), (3, 1e-3)):  # Adam's first steps amplify rounding
        assert found[epoch]["train/loss_task"] == pytest.approx(expected[epoch]["train/loss_task"], rel=tolerance)


def test_the_error_of_a_worker_whose_peer_died_is_known_as_such(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_lose_peer, args=(str(tmp_path),), nprocs=2, join=True)
    details = (tmp_path / "details").read_text()
    assert any(sign in details for sign in PEER_LOST)


def _lose_peer(rank: int, folder: str) -> None:
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.distributed.barrier()
    if rank == 1:
        os._exit(0)
    try:
        torch.distributed.all_reduce(torch.zeros(1))
    except RuntimeError:
        (Path(folder) / "details").write_text(traceback.format_exc())


def test_a_failure_and_a_killed_worker_of_a_group(tmp_path: Path) -> None:
    """One worker's own error ends the group with its reason; a killed worker is a lost attempt that goes on."""
    killed: list[int] = []

    def kill(record: Any) -> None:
        if killed or record.event != keys.EPOCH:
            return
        title = "ray::RayTrainWorker"
        killed.extend([pid for pid, name in processes_of(tmp_path / "tiny").items() if name.startswith(title)][:1])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    plan = make_plan(student("fails", NO_DATA), student("a"), resources=Resources(num_workers=2))
    conductor = drive(plan, tmp_path, "ray", listeners=[kill])
    assert killed
    assert states(conductor) == {"fails-seed0": keys.FAILED, "a-seed0": keys.FINISHED}
    assert "/nowhere" in conductor.history.trials["fails-seed0"].reason
    assert conductor.history.trials["a-seed0"].attempt == 2


def test_a_pruned_trial_of_several_workers_leaves_nothing_behind(tmp_path: Path) -> None:
    """No placement group stays, so that the whole machine is free again (ray#54305)."""
    seen: dict[str, Any] = {}

    def look() -> None:
        import ray
        from ray.util import placement_group_table

        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            seen["states"] = [group["state"] for group in placement_group_table().values()]
            seen["free"], seen["all"] = ray.available_resources().get("CPU", 0), ray.cluster_resources()["CPU"]
            if seen["free"] == seen["all"]:
                return
            time.sleep(0.5)

    options = {"lower": 2.0}  # no score is: every trial is stopped at its first epoch
    space = {"train.learning_rate": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True, "step": None, "when": {}}}
    search = learning_rates(trials=2, pruner="threshold", pruner_options=options, space=space)
    plan = make_plan(search=search, resources=Resources(num_workers=2))
    conductor = drive(plan, tmp_path, "ray", before_the_end=look)
    assert keys.PRUNED in states(conductor).values()
    assert seen["states"]
    assert set(seen["states"]) == {"REMOVED"}
    assert seen["free"] == seen["all"] > 0
