"""MLflow's database read by SQL: what it does to the file, which files it takes, and what it says of the others."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from analysis import database as database_module
from analysis.database import Database, is_database, shown
from analysis.errors import StoreError
from analysis.store import Store
from tests.analysis.recorded import StudyBuilder, Workbench
from tests.analysis.servers import free_port


@pytest.fixture
def copied(workbench: Workbench, modules: StudyBuilder, tmp_path: Path) -> Path:
    """A copy of the store to do harm to; its artifacts stay where they were."""
    return Path(shutil.copy(workbench.results / "mlflow.db", tmp_path))


def uri(path: Path) -> str:
    return f"sqlite:///{path}"


@contextmanager
def changing(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, timeout=0.1, isolation_level=None)) as connection:
        yield connection


def test_reading_leaves_the_file_and_its_folder_alone(copied: Path) -> None:
    before = copied.read_bytes()
    assert len(Store(uri(copied)).read("modules").trials) == 13
    assert [path.name for path in copied.parent.iterdir()] == ["mlflow.db"]
    assert copied.read_bytes() == before


def test_nothing_can_be_written(copied: Path) -> None:
    with (
        pytest.raises(StoreError, match="readonly"),
        Database(uri(copied))._reading() as connection,
    ):
        connection.execute(sa.text("DELETE FROM runs"))


def test_an_absent_store_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with pytest.raises(StoreError, match=f"no MLflow store at {path}: nothing has been recorded"):
        Store(uri(path))
    with pytest.raises(StoreError, match="nothing has been recorded"):
        Store("sqlite://")
    assert not path.exists()


def test_a_path_with_signs_of_addresses_is_found(copied: Path) -> None:
    moved = copied.rename(copied.with_name("a %20b?mode=rwc#.db"))
    assert "modules" in Store(uri(moved).replace("%", "%25").replace("?", "%3f")).studies()


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_table_can_be_made_while_the_driver_writes(copied: Path, journal: str) -> None:
    with changing(copied) as writer:
        writer.execute(f"PRAGMA journal_mode = {journal}")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM latest_metrics")
        trials = Store(uri(copied)).read("modules").trials
        writer.execute("COMMIT")
    assert trials["metrics.best/val/pckh@0.5"].notna().any()


def test_a_reading_shows_the_store_at_one_moment(copied: Path) -> None:
    with changing(copied) as writer:
        writer.execute("PRAGMA journal_mode = wal")  # so that the writer is not kept waiting
        database = Database(uri(copied))

        def interfere(_connection, _cursor, statement: str, *_) -> None:
            if statement.startswith("SELECT"):
                writer.execute("DELETE FROM tags")

        sa.event.listen(database._engine, "after_cursor_execute", interfere)
        rows = database.trials("modules")
        assert len(set(rows.tags.run_ids)) == len(rows.started) == 13
        assert not database.trials("modules").started


def test_a_lock_held_for_long_is_one_line(
    copied: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, database_module.__name__)
    monkeypatch.setattr(database_module, "LOCK_TIMEOUT_S", 0.05)
    with changing(copied) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        with pytest.raises(StoreError, match=f"cannot read the MLflow store {copied}: database is locked$"):
            Store(uri(copied))
        assert time.monotonic() - started < 4
    assert not caplog.records


def test_what_a_killed_driver_left_half_written_is_undone(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    killed = (
        "import os, sqlite3, sys; writer = sqlite3.connect(sys.argv[1]); writer.execute('PRAGMA cache_size = 1');"
        "writer.execute('DELETE FROM latest_metrics'); writer.execute('DELETE FROM tags'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", killed, copied], check=False).returncode == 9
    assert copied.with_name("mlflow.db-journal").stat().st_size > 0
    with caplog.at_level(logging.INFO, database_module.__name__):
        trials = Store(uri(copied)).read("modules").trials
    assert len(trials) == 13
    assert "rolling back" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is not an MLflow store: it has no table alembic_version"), (b"no database" * 999, "is not a database")],
)
def test_another_file_is_one_line_and_stays_as_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message) as failure:
        Store(uri(path))
    assert "\n" not in str(failure.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("change", ["params ADD COLUMN unit TEXT", "runs DROP COLUMN source_version"])
def test_columns_that_do_not_matter_decide_how_it_is_read(
    copied: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = Store(uri(copied)).read("modules").trials
    with changing(copied) as writer:
        writer.execute(f"ALTER TABLE {change}")
    is_known = "DROP" in change  # older stores lack what is not needed
    assert (Database(uri(copied)).unknown == "") == is_known
    pd.testing.assert_frame_equal(Store(uri(copied)).read("modules").trials, expected)
    assert ("through MLflow's client, slowly: in its tables params.unit is new" not in caplog.text) == is_known


def test_unknown_tables_of_another_mlflow_are_refused_and_not_migrated(copied: Path) -> None:
    with changing(copied) as writer:
        writer.execute("ALTER TABLE latest_metrics RENAME COLUMN is_nan TO absent")
        writer.execute("UPDATE alembic_version SET version_num = 'another'")
        writer.execute("DROP TABLE webhooks")  # the client would make it
    before = copied.read_bytes()
    with pytest.raises(StoreError, match=r"latest_metrics.is_nan is missing, .*absent is new, .*revision another"):
        Store(uri(copied))
    assert copied.read_bytes() == before


def test_a_study_of_another_workspace_is_another_study(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with changing(copied) as writer:
        writer.execute("UPDATE experiments SET workspace = 'lab' WHERE name = 'modules'")
    assert "modules" not in Store(uri(copied)).studies()
    with pytest.raises(StoreError, match="no study 'modules'"):
        Store(uri(copied)).read("modules")
    monkeypatch.setenv("MLFLOW_WORKSPACE", "lab")
    assert Store(uri(copied)).studies() == ["modules"]


def test_a_store_from_before_workspaces_is_read(copied: Path) -> None:
    with changing(copied) as writer:
        writer.execute("CREATE TABLE older AS SELECT experiment_id, name, lifecycle_stage FROM experiments")
        writer.execute("DROP TABLE experiments")
        writer.execute("ALTER TABLE older RENAME TO experiments")
    assert len(Store(uri(copied)).read("modules").trials) == 13


def test_points_are_read_in_portions(
    workbench: Workbench, modules: StudyBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(workbench.uri)
    trials = store.read("modules").trials
    whole = store.epochs(trials, ["val/pckh@0.5"])
    monkeypatch.setattr(database_module, "RUNS_A_QUERY", 3)
    pd.testing.assert_frame_equal(store.epochs(trials, ["val/pckh@0.5"]), whole)
    assert len(whole) == 30


def test_a_copied_results_folder_has_its_specification(copied: Path, workbench: Workbench) -> None:
    shutil.copytree(workbench.results / "artifacts" / "modules", copied.parent / "artifacts" / "modules")
    with changing(copied) as writer:
        writer.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, 'file:///', 'file:///elsewhere/')")
    store = Store(uri(copied))
    assert store.specification("modules")["study"] == "modules"
    shutil.rmtree(copied.parent / "artifacts")
    with pytest.raises(StoreError, match=f"No such file.*{copied.parent}"):
        store.specification("modules")


@pytest.mark.skipif(find_spec("psycopg") is None, reason="psycopg is not installed")
def test_a_database_server_that_is_away_is_one_line_without_the_password() -> None:
    with pytest.raises(StoreError, match=r"cannot read the MLflow store postgresql") as failure:
        Store(f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/mlflow")
    assert "secret" not in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.skipif(find_spec("psycopg") is None, reason="psycopg is not installed")
def test_a_database_server_is_not_waited_for_long_unless_the_address_says_so() -> None:
    address = "postgresql+psycopg://127.0.0.1/mlflow"
    asked = [
        database_module._postgresql(sa.make_url(one)).url.query for one in (address, f"{address}?connect_timeout=3")
    ]
    assert [one["connect_timeout"] for one in asked] == ["10", "3"]


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "DRIVERS", ("psycopg_that_is_absent",))
    with pytest.raises(StoreError, match=r"PostgreSQL needs the package psycopg_that_is_absent: pip install"):
        Store("postgresql://127.0.0.1/mlflow")


def test_an_address_that_is_none_is_one_line() -> None:
    with pytest.raises(StoreError, match="cannot read the MLflow store postgresql://x:y: "):
        Store("postgresql://x:y")


def test_which_addresses_are_databases() -> None:
    databases = ["sqlite:///a.db", "postgresql://x/y", "postgresql+psycopg2://x/y"]
    assert [is_database(one) for one in databases] == [True] * 3
    others = ["http://x", "https://x", "mysql://x/y", "file:///a", "./mlruns", "databricks"]
    assert [is_database(one) for one in others] == [False] * 6


def test_credentials_are_not_shown() -> None:
    text = "cannot reach postgresql://me:p@ss@host:1/db\n or http://you@there/x, mail a@b"
    assert shown(text) == "cannot reach postgresql://host:1/db or http://there/x, mail a@b"
