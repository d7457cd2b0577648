"""MLflow as a projection of the ledger, against real stores: every row exactly once, whatever dies or is deleted."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import keys, tracking
from orchestrator.errors import Refused
from orchestrator.failpoints import EXIT_CODE
from orchestrator.ledger import Ledger, read_from
from orchestrator.plan import TrialSpec
from orchestrator.tracking import ForeignStudyError, MlflowProjection, ProjectionThread, default_tracking_uri, sync

REPOSITORY = Path(__file__).parents[2]
STUDY = "table4"
CONFIG = {"seed": 0, "distill": {"sape": {"sau": True, "kernels": [1, 3]}, "teacher": None}, "train": {"rate": 1e-3}}
SPECIFICATION = {"study": STUDY, "question": "Which part matters?", "revision": "abc123", "seeds": [0, 1]}


def spec(trial_id: str, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": "student", "arm": "full", "seed": 1, "config": CONFIG, "overrides": {}}
    values |= {"fingerprint": "f" * 16, "teacher": "t" * 16, "protocol": {"split": "val", "flip": True}}
    return asdict(TrialSpec(trial_id=trial_id, **{**values, **changes}))


def train(ledger: Ledger, trial_id: str, *, epochs: int = 3, state: str = keys.FINISHED, attempt: int = 1) -> None:
    ledger.append(keys.STARTED, {"trial": spec(trial_id), "attempt": attempt})
    for epoch in range(1, epochs + 1):
        metrics = {"val/pckh@0.5": epoch / 10, "val/pckh@0.5/left_knee": epoch / 20, "train/loss": 1 / epoch}
        ledger.append(keys.EPOCH, {"trial_id": trial_id, "attempt": attempt, "epoch": epoch, "metrics": metrics})
    if state == keys.RUNNING:
        return
    summary = {"best/val/pckh@0.5": epochs / 10, "params_m": 28.5}
    end = {"trial_id": trial_id, "attempt": attempt, "state": state, "summary": summary, "reason": "", "epoch": epochs}
    ledger.append(keys.ENDED, end)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """An SQLite store with its tables: making them takes seconds, copying them does not."""
    results = tmp_path_factory.mktemp("store")
    tracking._client(default_tracking_uri(results))
    return results / "mlflow.db"


@pytest.fixture
def results(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def path(results: Path) -> Path:
    return results / STUDY / "ledger.jsonl"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger.open(path, writer=True) as opened:
        opened.append(keys.INVOKED, {"specification": SPECIFICATION})
        yield opened


def projection(ledger: Ledger) -> MlflowProjection:
    return MlflowProjection(default_tracking_uri(ledger.path.parents[1]), None, ledger.path)


def deliver(ledger: Ledger, *, is_cursor_kept: bool = True) -> MlflowProjection:
    if not is_cursor_kept:
        ledger.path.with_name(tracking.CURSOR).unlink(missing_ok=True)
    fresh = projection(ledger)
    fresh.deliver(ledger.records())
    return fresh


def query(results: Path, statement: str) -> list[Any]:
    connection = sqlite3.connect(results / "mlflow.db")
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def rows(results: Path) -> list[Any]:
    """Every metric row of runs that are not deleted, with the trial it belongs to."""
    statement = """SELECT t.value, m.key, m.step, m.timestamp, m.value, m.is_nan FROM metrics m
        JOIN runs r ON r.run_uuid = m.run_uuid AND r.lifecycle_stage = 'active'
        JOIN tags t ON t.run_uuid = m.run_uuid AND t.key = 'cdkd.trial_id' ORDER BY 1, 2, 3, 4"""
    return query(results, statement)


def children(results: Path) -> dict[str, Any]:
    """The active child runs by trial id; fails if a trial has two."""
    client = tracking._client(default_tracking_uri(results))
    experiment = client.get_experiment_by_name(STUDY)
    found = [run for run in client.search_runs([experiment.experiment_id]) if keys.TRIAL in run.data.tags]
    by_trial = {run.data.tags[keys.TRIAL]: run for run in found}
    assert len(by_trial) == len(found)
    return by_trial


def parent(results: Path) -> Any:
    client = tracking._client(default_tracking_uri(results))
    experiment = client.get_experiment_by_name(STUDY)
    (run,) = client.search_runs([experiment.experiment_id], "tags.`cdkd.kind` = 'study'")
    return run


def expected_rows(ledger: Ledger) -> list[Any]:
    """The rows that a ledger without repeats asks for, by a plain loop over it."""
    found = []
    for record in ledger.records():
        data, when = record.data, round(record.time * 1000)
        trial_id = data.get("trial_id") or data.get("trial", {}).get("trial_id")
        for metric, value in data.get("metrics", {}).items():
            found.append((trial_id, metric.replace("@", ":"), data["epoch"], when, value, 0))
        for metric, value in data.get("summary", {}).items():
            found.append((trial_id, metric.replace("@", ":"), 0, when, value, 0))
    return sorted(found)


# What a study looks like in MLflow.


def test_a_trial_becomes_one_child_run_with_tags_parameters_and_config(ledger: Ledger, results: Path) -> None:
    train(ledger, "full-seed1")
    ledger.append(keys.STOPPED, {"reason": ""})
    deliver(ledger)
    (run,) = children(results).values()
    study = parent(results)
    assert run.info.status == "FINISHED"
    expected = {
        "cdkd.study": STUDY, "cdkd.kind": "student", "cdkd.trial_id": "full-seed1", "cdkd.arm": "full",
        "cdkd.seed": "1", "cdkd.state": "finished", "cdkd.fingerprint": "f" * 16, "cdkd.teacher": "t" * 16,
        "cdkd.revision": "abc123", "cdkd.attempt": "1", "mlflow.parentRunId": study.info.run_id,
    }  # fmt: skip
    assert expected.items() <= run.data.tags.items()
    assert json.loads(run.data.tags["cdkd.protocol"]) == {"split": "val", "flip": True}
    assert run.data.params == {
        "seed": "0", "distill.sape.sau": "true", "distill.sape.kernels": "[1, 3]", "distill.teacher": "null",
        "train.rate": "0.001",
    }  # fmt: skip
    artifacts = results / "artifacts" / STUDY
    assert yaml.safe_load((artifacts / run.info.run_id / "artifacts/config.yaml").read_text()) == CONFIG
    start = [record.time for record in ledger.records() if record.event == keys.STARTED]
    assert run.info.start_time == round(start[0] * 1000)
    assert json.loads((artifacts / study.info.run_id / "artifacts/specification.json").read_text()) == SPECIFICATION
    assert (study.info.status, study.data.tags["mlflow.note.content"]) == ("FINISHED", "Which part matters?")


def test_metrics_carry_the_epoch_the_ledgers_time_and_a_name_that_can_be_searched(
    ledger: Ledger, results: Path
) -> None:
    train(ledger, "full-seed1")
    deliver(ledger)
    assert rows(results) == expected_rows(ledger)
    client = tracking._client(default_tracking_uri(results))
    experiment = client.get_experiment_by_name(STUDY).experiment_id
    assert len(client.search_runs([experiment], "metrics.`val/pckh:0.5` > 0.25")) == 1
    assert keys.metric_name(keys.mlflow_name("val/pckh@0.5/left_knee")) == "val/pckh@0.5/left_knee"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (keys.FINISHED, "FINISHED"),
        (keys.PRUNED, "KILLED"),
        (keys.FAILED, "FAILED"),
        (keys.DIVERGED, "FAILED"),
        (keys.INTERRUPTED, "KILLED"),
        (keys.RUNNING, "RUNNING"),
    ],
)
def test_each_state_shows_as_a_run_status(ledger: Ledger, results: Path, state: str, status: str) -> None:
    train(ledger, "a", state=state)
    deliver(ledger)
    run = children(results)["a"]
    assert (run.info.status, run.data.tags[keys.STATE]) == (status, state)
    assert (run.info.end_time is None) == (state == keys.RUNNING)


def test_a_result_taken_over_says_from_where(ledger: Ledger, results: Path) -> None:
    data = {"trial": spec("a"), "source": "other/full-seed1", "summary": {"best/val/ap": 0.4}}
    ledger.append(keys.REUSED, data)
    deliver(ledger)
    run = children(results)["a"]
    assert run.data.tags[keys.REUSED_FROM] == "other/full-seed1"
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"best/val/ap": 0.4})


def test_a_failed_trial_that_is_retried_keeps_its_run_and_its_epochs_once(ledger: Ledger, results: Path) -> None:
    train(ledger, "a", epochs=2, state=keys.RUNNING)
    ledger.append(
        keys.ENDED,
        {"trial_id": "a", "attempt": 1, "state": keys.FAILED, "summary": {}, "reason": "no memory", "epoch": 2},
    )
    first = deliver(ledger)
    failed = children(results)["a"]
    assert failed.data.tags[keys.REASON] == "no memory"
    before = len(ledger.records())
    train(ledger, "a", epochs=3, attempt=2)
    first.deliver(ledger.records()[before:])
    run = children(results)["a"]
    assert run.info.run_id == failed.info.run_id
    assert (run.info.status, run.data.tags[keys.REASON], run.data.tags[keys.ATTEMPT]) == ("FINISHED", "", "2")
    assert [row[2] for row in rows(results) if row[1] == "train/loss"] == [1, 2, 3]


def test_nan_is_a_row_of_its_own_once(ledger: Ledger, results: Path) -> None:
    ledger.append(keys.STARTED, {"trial": spec("a"), "attempt": 1})
    ledger.append(
        keys.EPOCH, {"trial_id": "a", "attempt": 1, "epoch": 1, "metrics": {"train/loss": math.nan, "g": math.inf}}
    )
    deliver(ledger)
    deliver(ledger, is_cursor_kept=False)
    assert [row[5] for row in rows(results) if row[1] == "train/loss"] == [1]
    assert math.isnan(children(results)["a"].data.metrics["train/loss"])
    assert [row[4] for row in rows(results) if row[1] == "g"] == [sys.float_info.max]


def test_a_changed_operational_setting_does_not_stop_a_retried_trial(ledger: Ledger, results: Path) -> None:
    train(ledger, "a", state=keys.INTERRUPTED)
    deliver(ledger)
    changed = spec("a", config={**CONFIG, "seed": 0, "train": {"rate": 1e-3, "workers": 4}, "distill": {"sape": 1}})
    ledger.append(keys.STARTED, {"trial": {**changed}, "attempt": 2})
    changed["config"]["seed"] = 5
    ledger.append(keys.STARTED, {"trial": {**changed}, "attempt": 3})
    assert deliver(ledger).refused == {}
    assert children(results)["a"].data.params["seed"] == "0"
    assert children(results)["a"].data.params["train.workers"] == "4"


# Within MLflow's limits.


def test_long_names_and_values_are_cut_and_stay_different(ledger: Ledger, results: Path) -> None:
    long = {"a" * 300: 1, "a" * 300 + "b": 2, "value": "v" * 7000, **{f"k{number}": number for number in range(250)}}
    texts = tracking.parameters(long)
    assert len(texts) == 253
    assert max(map(len, texts)) == 250
    assert len(texts["value"]) == 6000
    ledger.append(keys.STARTED, {"trial": spec("a", config=long, protocol={"x": "y" * 9000}), "attempt": 1})
    assert deliver(ledger).refused == {}
    assert children(results)["a"].data.params == texts


def test_a_trial_that_mlflow_does_not_accept_does_not_hold_up_the_others(ledger: Ledger, results: Path) -> None:
    ledger.append(keys.STARTED, {"trial": spec("bad"), "attempt": 1})
    ledger.append(keys.EPOCH, {"trial_id": "bad", "attempt": 1, "epoch": 1, "metrics": {"a=b": 1.0}})
    train(ledger, "good")
    done = deliver(ledger)
    assert "a=b" in done.refused["bad"]
    assert children(results)["good"].info.status == "FINISHED"
    assert done.lag == 0


def test_no_value_of_the_environment_reaches_the_store(ledger: Ledger, results: Path, monkeypatch) -> None:
    monkeypatch.setenv("CDKD_TEST_SECRET", "hunter2-hunter2")
    train(ledger, "a")
    deliver(ledger)
    content = b"".join(file.read_bytes() for file in results.rglob("*") if file.is_file())
    assert b"hunter2" not in content


def test_credentials_of_a_store_stay_out_of_messages_and_files() -> None:
    uri = "http://user:pass@host:5000/x"
    assert tracking.tell(ValueError(f"cannot reach {uri}\nmore"), uri) == "cannot reach http://host:5000/x"
    assert tracking._store_name(uri) == "http://host:5000/x"


# Delivering again.


def test_delivering_everything_twice_changes_nothing(ledger: Ledger, results: Path) -> None:
    train(ledger, "a")
    train(ledger, "b", state=keys.PRUNED)
    deliver(ledger)
    first = rows(results), query(results, "SELECT COUNT(*) FROM runs")
    deliver(ledger)
    deliver(ledger, is_cursor_kept=False)
    assert (rows(results), query(results, "SELECT COUNT(*) FROM runs")) == first
    assert first == (expected_rows(ledger), [(3,)])


def test_delivering_in_pieces_by_successive_processes_gives_the_same_rows(ledger: Ledger, results: Path) -> None:
    train(ledger, "a")
    train(ledger, "b")
    for size in range(1, len(ledger.records()) + 1):
        projection(ledger).deliver(ledger.records()[:size])
    assert rows(results) == expected_rows(ledger)


def test_a_result_taken_over_in_pieces_has_its_summary_once(ledger: Ledger, results: Path) -> None:
    ledger.append(keys.REUSED, {"trial": spec("a"), "source": "other/a", "summary": {"best/val/ap": 0.4}})
    current = deliver(ledger)
    for epoch in (1, 2):
        report = {"trial_id": "a", "attempt": 0, "epoch": epoch, "metrics": {"val/ap": epoch / 5}}
        current.deliver([ledger.append(keys.EPOCH, report)])
    deliver(ledger, is_cursor_kept=False)
    assert rows(results) == expected_rows(ledger)


def test_a_store_that_was_lost_is_filled_again_in_spite_of_the_cursor(
    ledger: Ledger, results: Path, empty_store: Path
) -> None:
    train(ledger, "a")
    deliver(ledger)
    shutil.copy(empty_store, results / "mlflow.db")
    deliver(ledger)
    assert rows(results) == expected_rows(ledger)


@pytest.mark.parametrize("content", ["", "garbage", "[]", '{"x": 1}', None])
def test_a_damaged_cursor_only_costs_delivering_again(ledger: Ledger, results: Path, content: str | None) -> None:
    train(ledger, "a")
    done = deliver(ledger)
    done.cursor_path.write_text(content if content is not None else json.dumps({done.tracking_uri: {"seq": 10**6}}))
    deliver(ledger)
    assert rows(results) == expected_rows(ledger)


def test_the_cursor_saves_delivering_what_was_delivered(ledger: Ledger, results: Path) -> None:
    train(ledger, "a")
    deliver(ledger)
    query_all = "SELECT COUNT(*) FROM metrics"
    connection = sqlite3.connect(results / "mlflow.db")
    connection.execute("DELETE FROM metrics")
    connection.commit()
    connection.close()
    deliver(ledger)
    assert query(results, query_all) == [(0,)], "nothing was sent again"
    sync_full(ledger)
    assert rows(results) == expected_rows(ledger)


def sync_full(ledger: Ledger) -> None:
    ledger.close()
    assert sync(default_tracking_uri(ledger.path.parents[1]), None, ledger.path, full=True) == len(ledger.records())


def test_a_study_begun_anew_in_the_same_folder_puts_the_old_runs_aside(ledger: Ledger, results: Path) -> None:
    train(ledger, "a")
    deliver(ledger)
    ledger.close()
    shutil.rmtree(ledger.path.parent)
    with Ledger.open(ledger.path, writer=True) as anew:
        anew.append(keys.INVOKED, {"specification": SPECIFICATION})
        train(anew, "a", epochs=1)
        deliver(anew)
        assert rows(results) == expected_rows(anew)
        assert len(children(results)) == 1
        parent(results)


def test_a_study_of_the_same_name_from_another_folder_is_refused_and_not_mixed(
    ledger: Ledger, results: Path, tmp_path: Path
) -> None:
    train(ledger, "a")
    deliver(ledger)
    before = rows(results)
    with Ledger.open(tmp_path / "elsewhere" / STUDY / "ledger.jsonl", writer=True) as other:
        other.append(keys.INVOKED, {"specification": SPECIFICATION})
        train(other, "a")
        with pytest.raises(ForeignStudyError, match="another name"):
            MlflowProjection(default_tracking_uri(results), None, other.path).deliver(other.records())
    assert rows(results) == before


# What somebody deletes in the UI.


@pytest.mark.parametrize("what", ["run", "parent", "experiment", "everything"])
@pytest.mark.parametrize("when", ["mid-study", "between runs"])
def test_what_is_deleted_in_the_ui_comes_back_with_the_same_tags(
    ledger: Ledger, results: Path, what: str, when: str
) -> None:
    train(ledger, "done")
    train(ledger, "a", state=keys.RUNNING)
    current = deliver(ledger)
    before = {key: dict(run.data.tags) for key, run in children(results).items()}
    client = tracking._client(default_tracking_uri(results))
    study = parent(results)
    if what in ("run", "everything"):
        client.delete_run(children(results)["a"].info.run_id)
    if what in ("parent", "everything"):
        client.delete_run(study.info.run_id)
    if what in ("experiment", "everything"):
        client.delete_experiment(study.info.experiment_id)
    if when == "between runs":
        current = deliver(ledger)
    delivered = len(ledger.records())
    ledger.append(keys.EPOCH, {"trial_id": "a", "attempt": 1, "epoch": 4, "metrics": {"train/loss": 0.1}})
    ledger.append(keys.STOPPED, {"reason": "asked"})
    current.deliver(ledger.records()[delivered:])
    after = children(results)
    assert rows(results) == expected_rows(ledger)
    assert set(after) == {"done", "a"}
    assert {run.data.tags[keys.PARENT] for run in after.values()} == {parent(results).info.run_id}
    unsettled = {keys.STATE, keys.PARENT}
    for key, tags in before.items():
        assert {name: after[key].data.tags[name] for name in tags if name not in unsettled} == {
            name: tags[name] for name in tags if name not in unsettled
        }
    assert after["a"].info.status == "KILLED"
    assert parent(results).info.status == "KILLED"


def test_a_deleted_run_that_comes_back_beside_its_replacement_leaves_one_whole_run(
    ledger: Ledger, results: Path
) -> None:
    names = [f"trial{number}" for number in range(5)]
    for name in names:
        train(ledger, name, epochs=1, state=keys.RUNNING)
    deliver(ledger)
    client = tracking._client(default_tracking_uri(results))
    for run in children(results).values():
        client.delete_run(run.info.run_id)
    for name in names:
        report = {"trial_id": name, "attempt": 1, "epoch": 2, "metrics": {"train/loss": 0.5}}
        ledger.append(keys.EPOCH, report)
    deliver(ledger)
    client.delete_experiment(parent(results).info.experiment_id)  # restoring it restores every run it ever had
    deliver(ledger)
    assert sorted(children(results)) == names
    assert rows(results) == expected_rows(ledger)


def test_a_finished_run_deleted_mid_study_comes_back_when_the_thread_closes(ledger: Ledger, results: Path) -> None:
    train(ledger, "a")
    thread = ProjectionThread(default_tracking_uri(results), None, ledger.path, poll_s=0.02).start()
    wait_until(lambda: thread.lag() == 0)
    tracking._client(default_tracking_uri(results)).delete_run(children(results)["a"].info.run_id)
    assert thread.close(30) == 0
    assert rows(results) == expected_rows(ledger)


# Crashes.


def deliver_and_crash(ledger: Ledger, point: str) -> int:
    """Deliver in a process of its own that dies at `point`; its exit code."""
    child = os.fork()  # not a fresh interpreter, which would import MLflow for seconds
    if child == 0:
        os.environ["CDKD_CRASH_AT"] = point
        try:
            projection(ledger).deliver(read_from(ledger.path)[0])
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    "point",
    [
        "before_run_create",
        "after_run_create",
        "after_run_create:2",
        "before_metrics:2",
        "after_metrics",
        "after_metrics:3",
        "before_run_end",
        "after_run_end",
    ],
)
def test_after_a_crash_at_any_step_every_run_and_row_is_there_once(ledger: Ledger, results: Path, point: str) -> None:
    train(ledger, "a")
    train(ledger, "b")
    assert deliver_and_crash(ledger, point) == EXIT_CODE
    assert rows(results) != expected_rows(ledger) or point in ("after_run_end", "after_metrics:3")
    deliver(ledger)
    assert rows(results) == expected_rows(ledger)
    assert {run.info.status for run in children(results).values()} == {"FINISHED"}
    assert {len(run.data.params) for run in children(results).values()} == {5}
    assert query(results, "SELECT COUNT(*) FROM runs") == [(3,)]


# The thread, and stores that are away.


def wait_until(is_true: Any, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not is_true():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def test_the_thread_delivers_while_the_ledger_grows_and_drains_on_close(ledger: Ledger, results: Path) -> None:
    thread = ProjectionThread(default_tracking_uri(results), None, ledger.path, poll_s=0.02).start()
    train(ledger, "a")
    wait_until(lambda: thread.lag() == 0)
    assert len(children(results)) == 1
    train(ledger, "b")
    assert thread.close(30) == 0
    assert thread.problem == ""
    assert rows(results) == expected_rows(ledger)


def unreachable() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_while_the_server_is_away_nothing_waits_and_the_lag_is_told(ledger: Ledger, results: Path) -> None:
    thread = ProjectionThread(unreachable(), None, ledger.path, poll_s=0.02).start()
    began = time.monotonic()
    train(ledger, "a", epochs=50)
    assert time.monotonic() - began < 5
    wait_until(lambda: thread.problem != "")
    began = time.monotonic()
    assert thread.close(20) == len(ledger.records())
    assert time.monotonic() - began < 15
    assert "\n" not in thread.problem
    assert "a" not in thread.refused
    deliver(ledger)
    assert rows(results) == expected_rows(ledger)


def test_a_server_that_accepts_and_never_answers_does_not_hold_up_close(ledger: Ledger) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        thread = ProjectionThread(f"http://127.0.0.1:{deaf.getsockname()[1]}", None, ledger.path).start()
        time.sleep(0.5)
        began = time.monotonic()
        assert thread.close(1) == 1
        assert time.monotonic() - began < 3
    thread._thread.join(30)


def test_the_thread_recovers_when_the_store_is_back(ledger: Ledger, results: Path, monkeypatch) -> None:
    monkeypatch.setattr(tracking, "FIRST_DELAY_S", 0.05)
    (results / "mlflow.db").rename(results / "away.db")
    (results / "mlflow.db").mkdir()  # a store that cannot be opened
    thread = ProjectionThread(default_tracking_uri(results), None, ledger.path, poll_s=0.02).start()
    train(ledger, "a")
    wait_until(lambda: thread.problem != "")
    assert thread.lag() == len(ledger.records())
    (results / "mlflow.db").rmdir()
    (results / "away.db").rename(results / "mlflow.db")
    wait_until(lambda: thread.lag() == 0)
    assert thread.problem == ""
    assert thread.close(30) == 0
    assert rows(results) == expected_rows(ledger)


def test_sync_delivers_the_rest_and_shows_unfinished_trials_as_interrupted(ledger: Ledger, results: Path) -> None:
    train(ledger, "a", state=keys.RUNNING)
    uri = default_tracking_uri(results)
    with pytest.raises(Refused, match="being run by"):
        sync(uri, None, ledger.path)
    ledger.close()
    assert sync(uri, None, ledger.path) == 5
    assert sync(uri, None, ledger.path) == 0
    assert children(results)["a"].data.tags[keys.STATE] == keys.INTERRUPTED
    assert children(results)["a"].info.status == "KILLED"


QUIET = """
import logging, sys
from pathlib import Path
from orchestrator import tracking
assert "mlflow" not in sys.modules
tracking._client(tracking.default_tracking_uri(Path(sys.argv[1])))
"""


def test_the_import_is_light_and_a_new_store_is_made_without_a_word(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path / "new")], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
    assert (tmp_path / "new" / "mlflow.db").exists()


@pytest.mark.slow
def test_a_real_server_that_goes_away_and_comes_back_has_every_row_once(ledger: Ledger, results: Path) -> None:
    uri = unreachable()
    port = uri.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{results}/mlflow.db"]
    command += ["--artifacts-destination", f"{results}/served", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}

    def serve() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=environment, cwd=results, start_new_session=True, stderr=subprocess.DEVNULL
        )

    def stop(server: subprocess.Popen[bytes]) -> None:
        os.killpg(server.pid, 9)
        server.wait()

    thread = ProjectionThread(uri, None, ledger.path, poll_s=0.05).start()
    server = serve()
    try:
        train(ledger, "a")
        wait_until(lambda: thread.lag() == 0, 90)
        stop(server)
        train(ledger, "b")
        wait_until(lambda: thread.problem != "", 30)
        server = serve()
        wait_until(lambda: thread.lag() == 0, 90)
        train(ledger, "c")
        assert thread.close(60) == 0
    finally:
        stop(server)
    assert rows(results) == expected_rows(ledger)
    assert len(children(results)) == 3
    assert list((results / "served").rglob("config.yaml"))


def test_the_thread_is_a_daemon_so_that_no_outage_keeps_a_process_alive(ledger: Ledger, results: Path) -> None:
    thread = ProjectionThread(default_tracking_uri(results), None, ledger.path).start()
    (follower,) = [found for found in threading.enumerate() if found.name == "mlflow-projection"]
    assert follower.daemon
    thread.close(30)


SPACE = {"distill.alpha": {"type": "float"}}
POPULATION = SPECIFICATION | {"search": {"pbt": {"interval": 1}, "space": SPACE, "trials": 2}}


def member(number: int, alpha: float, *steps: tuple[int, float]) -> dict[str, Any]:
    schedule = [{"epoch": epoch, "value": value, "option": "distill.alpha"} for epoch, value in steps]
    config = {"seed": 0, "distill": {"alpha": alpha}, "schedule": schedule}
    overrides = {"distill.alpha": alpha, "schedule": schedule}
    return spec(f"search-{number}", arm="search", number=number, config=config, overrides=overrides)


def test_a_members_lineage_and_schedule_are_tags_and_its_parameters_those_it_ends_with(path: Path) -> None:
    """MLflow's parameters cannot be changed, so none is written that may still change."""
    with Ledger.open(path, writer=True) as ledger:
        ledger.append(keys.INVOKED, {"specification": POPULATION})
        for number, alpha in enumerate((0.5, 2.0)):
            ledger.append(keys.STARTED, {"trial": member(number, alpha), "attempt": 1})
        target = projection(ledger)
        target.deliver(ledger.records())
        before = runs_of(target)["search-0"].data
        assert before.params == {"seed": "0"}
        assert json.loads(before.tags[keys.SCHEDULE]) == {"distill.alpha": [[1, 0.5]]}
        exploit = {"trial": member(0, 2.0, (2, 1.6)), "donor": "search-1", "values": {"distill.alpha": 1.6}}
        ledger.append(keys.EVOLVED, {"epoch": 1, "exploits": [exploit]})
        ledger.append(keys.STARTED, {"trial": exploit["trial"], "attempt": 2})
        end = {"trial_id": "search-0", "attempt": 2, "state": keys.FINISHED, "summary": {}, "reason": "", "epoch": 3}
        ledger.append(keys.ENDED, end)
        target.deliver(ledger.records()[3:])
        after = runs_of(target)["search-0"]
    assert json.loads(after.data.tags[keys.LINEAGE]) == [[1, "search-1"], [2, "search-0"]]
    assert json.loads(after.data.tags[keys.SCHEDULE]) == {"distill.alpha": [[1, 2.0], [2, 1.6]]}
    assert after.data.params["distill.alpha"] == "2.0"
    assert json.loads(after.data.params["schedule"]) == exploit["trial"]["config"]["schedule"]
    assert keys.SCHEDULE not in plain_tags(target)


def runs_of(target: MlflowProjection) -> dict[str, Any]:
    """The study's runs in the store by trial id."""
    attached = target._attached()
    found = attached.client.search_runs([attached.experiment])
    return {run.data.tags.get(keys.TRIAL, ""): run for run in found}


def plain_tags(target: MlflowProjection) -> dict[str, str]:
    """The tags of the study's own run."""
    return dict(runs_of(target)[""].data.tags)
