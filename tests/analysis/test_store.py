"""A real MLflow store read into tidy frames: what every way of reading it has to give."""

from __future__ import annotations

import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric

from analysis import store as store_module
from analysis.database import Database
from analysis.errors import StoreError
from analysis.frames import EPOCH_COLUMNS, IDENTITY
from analysis.store import Client, Store
from orchestrator import keys
from tests.analysis.recorded import PROTOCOL, StudyBuilder, Workbench, best
from tests.analysis.servers import free_port, mlflow_server, postgresql_programs, postgresql_server

READERS = {"sql": Database, "client": Client}


@pytest.fixture(params=READERS)
def store(request: pytest.FixtureRequest, workbench: Workbench) -> Store:
    """The SQLite store of the tests, opened in each of the two ways."""
    return Store(workbench.uri, READERS[request.param](workbench.uri))


@pytest.fixture(scope="module")
def messy(workbench: Workbench) -> StudyBuilder:
    return messy_study(workbench, "messy")


def messy_study(workbench: Workbench, study: str) -> StudyBuilder:
    """Runs of every kind that a store has been seen to hold, not written in the order of their start."""
    builder = workbench.study(study)
    builder.started = 500
    builder.trial("full", 1, best(0.8, **{"best/val/loss": math.nan}), params={"a": 1, "b": "x y"}, reason="é\n")
    builder.started = 50
    builder.trial("base", 0, {"worst": -math.inf, "worse": math.inf}, params={"b": ""}, teacher="t")
    for seed in (5, 3, 4):
        builder.started = 100
        curve = {"val/pckh@0.5": [0.1, math.nan, 0.3], "val/loss": [2.0, 1.0]}
        builder.trial("tie", seed, {}, epochs=curve, state="", protocol=PROTOCOL | {"epochs": seed})
    builder.trial("teacher", 0, best(0.9), kind="teacher")
    builder.trial("other", 0, best(0.1), kind="something else")
    builder.client.create_run(builder.experiment, start_time=7)
    builder.client.delete_run(builder.trial("gone", 0, best(0.99, never=1.0), params={"never": 1}))
    return builder


def equal_frames(one: Store, other: Store, study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The trials and epochs of a study, after the two stores gave the same: dtypes, NaN, rows and order."""
    trials = one.read(study).trials
    pd.testing.assert_frame_equal(trials, other.read(study).trials, check_exact=True)
    metrics = ["val/pckh@0.5", "val/absent", "val/loss"]
    epochs = one.epochs(trials, metrics)
    pd.testing.assert_frame_equal(epochs, other.epochs(trials, metrics), check_exact=True)
    pd.testing.assert_frame_equal(one.wide_epochs(trials, metrics), other.wide_epochs(trials, metrics))
    assert one.studies() == other.studies()
    assert one.specification(study) == other.specification(study)
    return trials, epochs


def test_sql_and_client_give_equal_frames(workbench: Workbench, messy: StudyBuilder) -> None:
    trials, epochs = equal_frames(Store(workbench.uri), Store(workbench.uri, Client(workbench.uri)), "messy")
    assert list(trials["arm"]) == ["base", *["tie"] * 3, "teacher", "full"]
    assert set(trials["run_id"]) <= set(messy.names)
    assert len(epochs) == 15


@pytest.mark.slow
def test_a_server_gives_the_frames_of_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow_server(tmp_path) as uri:
        workbench, database = Workbench(tmp_path, uri), Store(f"sqlite:///{tmp_path / 'mlflow.db'}")
        messy_study(workbench, "messy")
        monkeypatch.setattr(store_module, "PAGE", 2)
        trials, epochs = equal_frames(Store(uri), database, "messy")
        StudyBuilder(workbench.client, "served", None, {"question": "kept by the server"})
        assert Store(uri).specification("served") == {"question": "kept by the server"}
        with pytest.raises(StoreError, match=r"specification.json of run \w+: .*mlflow-artifacts"):
            database.read("served")
    assert (len(trials), len(epochs)) == (6, 15)


@pytest.mark.slow
@pytest.mark.skipif(postgresql_programs() is None, reason="no PostgreSQL server is installed")
@pytest.mark.skipif(find_spec("psycopg") is None, reason="psycopg is not installed")
def test_postgresql_gives_the_frames_of_mlflows_client(tmp_path: Path) -> None:
    programs = postgresql_programs()
    assert programs is not None
    with postgresql_server(programs) as uri:
        with_driver = uri.replace("postgresql:", "postgresql+psycopg:")
        messy_study(Workbench(tmp_path, with_driver), "messy")
        equal_frames(Store(uri), Store(with_driver, Client(with_driver)), "messy")
        with pytest.raises(StoreError, match="no study 'nope' in postgresql://127") as failure:
            Store(uri).read("nope")
        assert "secret" not in str(failure.value)


def test_a_trial_is_one_row_with_its_tags_params_and_metrics(workbench: Workbench) -> None:
    builder = workbench.study("one-row")
    run_id = builder.trial("full", 3, best(0.8), params={"distill.alpha": 0.5}, reused_from="other/x", teacher="abc")
    (row,) = workbench.read("one-row").trials.to_dict("records")
    assert (row["run_id"], row["arm"], row["seed"], row["state"]) == (run_id, "full", 3, "finished")
    assert (row["reused_from"], row["teacher"], row["protocol"]) == ("other/x", "abc", PROTOCOL)
    assert (row["started"], row["reason"]) == (2, "")
    assert row["params.distill.alpha"] == "0.5"
    assert row["metrics.best/val/pckh@0.5"] == 0.8


def test_values_are_as_they_were_logged(store: Store, messy: StudyBuilder) -> None:
    trials = store.read("messy").trials.set_index("arm")
    assert math.isnan(trials.loc["full", "metrics.best/val/loss"])
    assert trials.loc["base", ["metrics.worst", "metrics.worse"]].to_list() == [-math.inf, math.inf]
    assert math.isnan(trials.loc["full", "metrics.worse"])
    assert trials.loc["base", "params.b"] == ""
    assert trials.loc["full", "reason"] == "é\n"


def test_deleted_runs_are_not_read(store: Store, messy: StudyBuilder) -> None:
    trials = store.read("messy").trials
    assert "gone" not in set(trials["arm"])
    assert not {"metrics.never", "params.never"} & set(trials.columns)


def test_a_deleted_study_is_none(store: Store, workbench: Workbench) -> None:
    builder = workbench.study(f"deleted-{type(store._reader).__name__}")
    builder.trial("base", 0, best(0.5))
    run_ids = store.read(builder.study).trials["run_id"]
    workbench.client.delete_experiment(builder.experiment)
    for run_id in [builder.parent, *run_ids]:
        workbench.client.restore_run(run_id)
    assert builder.study not in store.studies()
    with pytest.raises(StoreError, match="no study"):
        store.read(builder.study)


def test_only_what_is_asked_for_is_read(store: Store, modules: StudyBuilder, tuning: StudyBuilder) -> None:
    everything = store.read("tuning").trials
    wanted = ["params.distill.tau", "metrics.final/val/pckh@0.5"]
    found = store.read("tuning", metrics=["final/val/pckh@0.5", "absent"], params=["distill.tau"]).trials
    others = [name for name in everything if name.startswith(("params.", "metrics.")) and name not in wanted]
    pd.testing.assert_frame_equal(found, everything.drop(columns=others))
    nothing = store.read("modules", metrics=(), params=()).trials
    assert len(nothing) == 13
    assert not [name for name in nothing if name.startswith(("params.", "metrics."))]


def test_the_newest_parent_speaks_for_its_study(store: Store, workbench: Workbench) -> None:
    builder = workbench.study(f"again-{type(store._reader).__name__}")
    client = workbench.client
    for start, question in ((30, "new"), (20, "old")):
        run = client.create_run(builder.experiment, start_time=start, tags={keys.KIND: "study"})
        client.log_dict(run.info.run_id, {"question": question}, keys.SPECIFICATION)
    assert store.specification(builder.study) == {"question": "new"}


def test_no_run_is_lost_or_doubled_between_pages(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = workbench.study("paged")
    for seed in range(9):
        builder.started = 10 + seed // 5  # more of one start than fit on a page
        builder.trial("base", seed, best(0.5))
    monkeypatch.setattr(store_module, "PAGE", 2)
    store = Store(workbench.uri, Client(workbench.uri))
    assert sorted(store.read("paged").trials["seed"]) == list(range(9))
    assert "paged" in store.studies()


def test_a_run_deleted_between_pages_hides_no_other(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = workbench.study("shifting")
    run_ids = [builder.trial("base", seed, best(0.5)) for seed in range(6)]
    monkeypatch.setattr(store_module, "PAGE", 2)
    client = Client(workbench.uri)
    search, pages = client._client.search_runs, []

    def search_and_delete(*args, **kwargs):
        pages.append(search(*args, **kwargs))
        if len(pages) == 1:
            workbench.client.delete_run(run_ids[0])
        return pages[-1]

    monkeypatch.setattr(client._client, "search_runs", search_and_delete)
    assert set(client.trials("shifting").started) >= {(seed + 2, run_ids[seed]) for seed in range(1, 6)}
    assert len(pages) > 3


def test_a_study_without_trials_is_an_empty_frame(store: Store, workbench: Workbench) -> None:
    builder = workbench.study(f"nothing-yet-{type(store._reader).__name__}")
    trials = store.read(builder.study).trials
    assert trials.empty
    assert {"arm", "seed", "state", "protocol"} <= set(trials.columns)
    assert store.epochs(trials, ["val/pckh@0.5"]).columns.to_list() == EPOCH_COLUMNS
    assert store.wide_epochs(trials, ["val/pckh@0.5"]).columns.to_list() == [*IDENTITY, "epoch", "metrics.val/pckh@0.5"]


def test_epochs_are_one_row_each_in_order(store: Store, modules: StudyBuilder) -> None:
    trials = store.read("modules").trials
    found = store.epochs(trials[(trials["arm"] == "full") & (trials["seed"] == 0)], ["val/pckh@0.5", "val/absent"])
    assert list(found["epoch"]) == [1, 2, 3]
    assert list(found["value"]) == pytest.approx([0.64, 0.74, 0.73])
    assert set(found["metric"]) == {"val/pckh@0.5"}


def test_of_an_epoch_reported_again_the_latest_counts(store: Store, workbench: Workbench) -> None:
    builder = workbench.study(f"resumed-{type(store._reader).__name__}")
    run_id = builder.trial("base", 0, {})
    points = [Metric("val/ap", value, timestamp, epoch) for value, timestamp, epoch in
              [(0.2, 5, 2), (0.1, 3, 1), (0.9, 4, 2), (0.3, 6, 3), (math.nan, 6, 3)]]  # fmt: skip
    workbench.client.log_batch(run_id, metrics=points)
    epochs = store.epochs(store.read(builder.study).trials, ["val/ap"])
    assert epochs[["epoch", "value"]].to_numpy().tolist() == [[1, 0.1], [2, 0.2], [3, 0.3]]


def test_wide_epochs_are_one_row_per_trial_and_epoch(store: Store, messy: StudyBuilder) -> None:
    trials = store.read("messy").trials
    wide = store.wide_epochs(trials[trials["arm"] == "tie"], ["val/loss", "val/pckh@0.5"])
    assert list(wide.columns) == [*IDENTITY, "epoch", "metrics.val/loss", "metrics.val/pckh@0.5"]
    assert list(wide["epoch"]) == [1, 2, 3] * 3
    assert list(wide["run_id"].unique()) == list(trials.loc[trials["arm"] == "tie", "run_id"])
    one = wide[wide["seed"] == 4]
    np.testing.assert_array_equal(one["metrics.val/loss"], [2.0, 1.0, math.nan])
    np.testing.assert_array_equal(one["metrics.val/pckh@0.5"], [0.1, math.nan, 0.3])


def test_an_unknown_study_names_those_there_are(store: Store, modules: StudyBuilder) -> None:
    for name in ("nope", ""):
        with pytest.raises(StoreError, match=rf"no study '{name}'.*modules"):
            store.read(name)


def test_an_unreadable_tag_names_the_run(store: Store, workbench: Workbench) -> None:
    builder = workbench.study(f"broken-tag-{type(store._reader).__name__}")
    builder.trial("base", 0, best(0.5))
    run_id = builder.trial("base", 1, best(0.5))
    workbench.client.set_tag(run_id, keys.PROTOCOL, "{not json")
    with pytest.raises(StoreError, match=f"{run_id} carries an unreadable tag {keys.PROTOCOL}"):
        store.read(builder.study)


@pytest.mark.parametrize("text", ["{not json", "[1]", None])
def test_an_unreadable_specification_is_one_line(workbench: Workbench, text: str | None) -> None:
    builder = workbench.study(f"specification-{text}")
    (found,) = (workbench.results / "artifacts" / builder.study).rglob(keys.SPECIFICATION)
    found.write_text(text) if text else found.unlink()
    with pytest.raises(StoreError, match=f"{keys.SPECIFICATION} of run {builder.parent}") as failure:
        workbench.read(builder.study)
    assert "\n" not in str(failure.value)


def test_a_server_that_is_away_is_one_line_without_the_password() -> None:
    with pytest.raises(StoreError, match=r"cannot read the MLflow store http://127") as failure:
        Store(f"http://me:secret@127.0.0.1:{free_port()}").read("any")
    assert "secret" not in str(failure.value)
    assert "\n" not in str(failure.value)


def test_reading_needs_neither_torch_nor_ray_and_sqlite_not_even_mlflow(
    workbench: Workbench, modules: StudyBuilder
) -> None:
    program = (
        "import analysis.tables, sys; from analysis.store import Store;"
        f"record = Store({workbench.uri!r}).read('modules'); assert analysis.tables.sheets(record);"
        "sys.exit(','.join({'torch', 'ray', 'cdkd', 'mlflow'} & set(sys.modules)) or 0)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
