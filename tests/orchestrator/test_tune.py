"""The study on a real Ray cluster, started for each test in a temporary folder of its own."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator import keys
from orchestrator.ray_session import _free_port, protect_token, reap
from tests.orchestrator.drive import drive, numbers, small_study
from tests.orchestrator.plans import METRIC, learning_rates, make_plan, states, student
from tests.orchestrator.test_in_process import NO_DATA, ended, start, wait_for_epochs

# Ray leaves the processes of a cluster it ends to the garbage collector, without waiting for them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def processes_of(folder: Path) -> dict[int, str]:
    """Processes of the Ray cluster whose session a study notes, workers included: pid -> title."""
    session = (folder / "ray" / "session").read_text()
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if session in title:
            found[int(entry.name)] = title
        elif title.startswith("ray::"):
            found[int(entry.name)] = f"{title} {parent}"
    raylets = {pid for pid, title in found.items() if "raylet" in title and session in title}
    return {pid: title for pid, title in found.items() if session in title or int(title.split()[-1]) in raylets}


class WorkerKiller:
    """Kills the worker of a trial once, when it has reported its first epoch."""

    def __init__(self, folder: Path, trial_id: str) -> None:
        self.folder = folder
        self.trial_id = trial_id
        self.killed: list[int] = []

    def hear(self, record: Any) -> None:
        if self.killed or record.event != keys.EPOCH or record.data["trial_id"] != self.trial_id:
            return
        workers = [pid for pid, title in processes_of(self.folder).items() if title.startswith("ray::Implicit")]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        self.killed = workers


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The numbers of the small study, run in one process."""
    return numbers(drive(small_study(), tmp_path_factory.mktemp("undisturbed"), "in_process"))


def test_a_study_outlives_its_failures_and_a_killed_worker(tmp_path: Path) -> None:
    plan = make_plan(
        student("a"),
        student("diverges", {"train.learning_rate": 1e18}),
        student("fails", NO_DATA),
        student("works"),
    )
    killer = WorkerKiller(tmp_path / "tiny", "a-seed0")
    conductor = drive(plan, tmp_path, "ray", listeners=[killer.hear])
    assert killer.killed
    assert states(conductor) == {
        "a-seed0": keys.FINISHED,
        "diverges-seed0": keys.DIVERGED,
        "fails-seed0": keys.FAILED,
        "works-seed0": keys.FINISHED,
    }
    assert conductor.history.trials["a-seed0"].attempt == 2
    assert "/nowhere" in conductor.history.trials["fails-seed0"].reason
    undisturbed = numbers(drive(make_plan(student("a"), student("works")), tmp_path / "in_process", "in_process"))
    assert {name: values for name, values in numbers(conductor).items() if name in undisturbed} == undisturbed
    assert not (tmp_path / "tiny" / "ray" / "session").exists()


def test_a_killed_driver_is_continued_and_gives_the_same_numbers(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    killed = start(tmp_path, "ray")
    wait_for_epochs(tmp_path, 4, killed)
    left = processes_of(tmp_path / "tiny")
    killed.kill()
    killed.wait()
    assert (tmp_path / "tiny" / "ray" / "session").exists()
    conductor = drive(small_study(), tmp_path, "ray")
    assert numbers(conductor) == undisturbed
    assert ended(tmp_path) == Counter(undisturbed.keys())
    assert left
    assert not [pid for pid in left if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_a_search_prunes_on_ray(tmp_path: Path) -> None:
    """A pruned trial leaves after an epoch, is told PRUNED, and its actor goes on with the next one."""
    from tests.orchestrator.test_sampler import stored

    options = {"min_resource": 1, "reduction_factor": 2}
    space = {"train.learning_rate": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True, "step": None, "when": {}}}
    search = learning_rates(trials=4, pruner="asha", pruner_options=options, space=space)
    plan = make_plan(search=search)
    conductor = drive(plan, tmp_path, "ray")
    found = Counter(states(conductor).values())
    assert set(found) <= {keys.FINISHED, keys.PRUNED}
    assert sum(found.values()) == 4
    told = {trial.user_attrs["trial_id"]: trial for trial in stored(tmp_path)}
    for name, trial in conductor.history.trials.items():
        expected = {epoch: metrics[METRIC.name] for epoch, metrics in trial.epochs.items()}
        assert told[name].intermediate_values == expected
        assert told[name].state.name == {keys.FINISHED: "COMPLETE", keys.PRUNED: "PRUNED"}[trial.state]


@pytest.mark.slow
def test_a_stopped_study_ends_soon_and_can_go_on(tmp_path: Path) -> None:
    driver = start(tmp_path, "ray")
    wait_for_epochs(tmp_path, 2, driver)
    driver.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert driver.wait(60) == 130
    assert time.monotonic() - began < 30
    conductor = drive(small_study(), tmp_path, "in_process")
    assert set(states(conductor).values()) == {keys.FINISHED}


def test_the_token_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    protect_token()
    token = tmp_path / ".ray" / "auth_token"
    first = token.read_text()
    assert len(first) == 64
    token.chmod(0o644)
    protect_token()
    assert token.read_text() == first
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_reaping_touches_only_folders_of_our_own(tmp_path: Path) -> None:
    from orchestrator.paths import StudyPaths

    paths = StudyPaths(tmp_path, "tiny")
    precious = tmp_path / "precious"
    precious.mkdir()
    paths.ray.mkdir(parents=True)
    (paths.ray / "session").write_text(str(precious))
    reap(paths)
    assert precious.is_dir()
    assert 1024 < _free_port() < 65536
