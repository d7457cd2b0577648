from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator import keys
from orchestrator.ledger import read_from
from tests.orchestrator.drive import drive, numbers, small_study
from tests.orchestrator.plans import make_plan, states, student

REPOSITORY = Path(__file__).resolve().parents[2]
NO_FILES = [{"annotations": "a.json", "images": "i"}]
NO_DATA = {"data.kind": "coco_layout", "data.root": "/nowhere", "data.train": NO_FILES}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The numbers of the small study, run without disturbance."""
    return numbers(drive(small_study(), tmp_path_factory.mktemp("undisturbed"), "in_process"))


def start(results: Path, executor: str = "in_process", **environment: str) -> subprocess.Popen[bytes]:
    """A driver of the small study in a process of its own."""
    command = [sys.executable, "-m", "tests.orchestrator.drive", str(results), executor]
    return subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | environment)


def ended(results: Path) -> Counter[str]:
    """How often each trial finished, by the ledger."""
    records = read_from(results / "tiny" / "ledger.jsonl")[0]
    return Counter(
        record.data["trial_id"]
        for record in records
        if record.event == keys.ENDED and record.data["state"] == keys.FINISHED
    )


def wait_for_epochs(results: Path, count: int, process: subprocess.Popen[bytes], timeout_s: float = 300) -> None:
    """Wait until the ledger holds so many epochs."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        records = read_from(results / "tiny" / "ledger.jsonl")[0]
        if sum(record.event == keys.EPOCH for record in records) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {count} epochs in time; the driver's exit code is {process.poll()}")


def test_every_kind_of_ending_is_recorded_with_its_reason_and_the_study_goes_on(tmp_path: Path) -> None:
    plan = make_plan(
        student("diverges", {"train.learning_rate": 1e18}),
        student("fails", NO_DATA),
        student("too_large", {"train.batch_size": 100_000}),
        student("works"),
    )
    conductor = drive(plan, tmp_path, "in_process")
    assert states(conductor) == {
        "diverges-seed0": keys.DIVERGED,
        "fails-seed0": keys.FAILED,
        "too_large-seed0": keys.FAILED,
        "works-seed0": keys.FINISHED,
    }
    trials = conductor.history.trials
    assert "loss" in trials["diverges-seed0"].reason
    assert "/nowhere" in trials["fails-seed0"].reason
    assert "batch_size" in trials["too_large-seed0"].reason
    assert conductor.has_failures()


def test_a_stop_leaves_at_an_epoch_and_the_next_run_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    plan = make_plan(student("a"))

    def stop(record: Any) -> None:
        if record.event == keys.EPOCH:
            first_conductor.paths.stop_file.touch()
            time.sleep(0.6)  # the file is looked for twice a second

    from orchestrator.in_process import run_in_process
    from tests.orchestrator.drive import CPUS
    from tests.orchestrator.plans import open_conductor

    first_conductor = open_conductor(plan, tmp_path / "stopped", listeners=[stop])
    run_in_process(first_conductor, CPUS)
    first_conductor.close(first_conductor.stop_reason)
    first_conductor._ledger.close()
    assert first_conductor.stop_reason == "cdkd stop"
    assert states(first_conductor) == {"a-seed0": keys.INTERRUPTED}
    assert first_conductor.history.trials["a-seed0"].last_epoch < 3
    second = drive(plan, tmp_path / "stopped", "in_process")
    assert second.history.trials["a-seed0"].attempt == 2
    assert numbers(second) == numbers(drive(plan, tmp_path / "undisturbed", "in_process"))


SLOW_POINTS = [pytest.param(point, marks=pytest.mark.slow) for point in ("after_write:4", "after_ended:2")]


@pytest.mark.parametrize("point", ["after_epoch:5", *SLOW_POINTS])
def test_a_driver_that_dies_at_a_durable_step_loses_and_repeats_nothing(
    tmp_path: Path, point: str, undisturbed: dict[str, Any]
) -> None:
    assert start(tmp_path, CDKD_CRASH_AT=point).wait(300) == 137
    before = ended(tmp_path)
    conductor = drive(small_study(), tmp_path, "in_process")
    assert numbers(conductor) == undisturbed
    assert ended(tmp_path) == Counter(undisturbed.keys())
    assert set(before) <= set(undisturbed)


def test_sigkill_and_sigterm_of_the_driver_leave_a_study_that_goes_on(
    tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    killed = start(tmp_path)
    wait_for_epochs(tmp_path, 3, killed)
    killed.kill()
    killed.wait()
    terminated = start(tmp_path)
    wait_for_epochs(tmp_path, 5, terminated)
    terminated.send_signal(signal.SIGTERM)
    assert terminated.wait(60) == 130
    history = read_from(tmp_path / "tiny" / "ledger.jsonl")[0]
    assert history[-1].data["reason"] == "SIGTERM"
    conductor = drive(small_study(), tmp_path, "in_process")
    assert numbers(conductor) == undisturbed
    assert ended(tmp_path) == Counter(undisturbed.keys())
