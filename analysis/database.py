"""Reads MLflow's database by SQL, SQLite and PostgreSQL alike. MLflow's own client makes an object of every value.

Nothing is ever written. Every reading is one transaction, so it shows the store at one moment. A SQLite file is opened
read-only; no file is created, and a writer waits for the time of one reading at most. (SQLite itself leaves an empty
`-wal` and a `-shm` beside a file in write-ahead mode, which MLflow does not use, until its next writer.)
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from analysis.errors import StoreError
from analysis.frames import STUDY_KIND, TAG_COLUMNS, TRIAL_KINDS, Cells, Names, Parent, Points, TrialRows, columns_of
from orchestrator import keys

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 10.0  # MLflow's own transactions take milliseconds
CONNECT_TIMEOUT_S = "10"
RUNS_A_QUERY = 500
ACTIVE = "active"  # lifecycle stage of what is not deleted
DRIVERS = ("psycopg", "psycopg2")  # for PostgreSQL, the preferred one first
VERSION_TABLE = "alembic_version"
# Columns that are needed, and those known beside them: all that MLflow's migrations up to 3.17 give these tables. A
# table with others may mean something else than it did.
NEEDED = {
    "experiments": {"experiment_id", "name", "lifecycle_stage"},
    "runs": {"run_uuid", "experiment_id", "start_time", "lifecycle_stage", "artifact_uri"},
    "latest_metrics": {"run_uuid", "key", "value", "is_nan"},
    "metrics": {"run_uuid", "key", "value", "is_nan", "timestamp", "step"},
    "params": {"run_uuid", "key", "value"},
    "tags": {"run_uuid", "key", "value"},
}
KNOWN = {
    "experiments": {"artifact_location", "creation_time", "last_update_time", "workspace"},
    "runs": {"name", "source_type", "source_name", "source_version", "entry_point_name", "user_id"}
    | {"status", "end_time", "deleted_time"},
    "latest_metrics": {"timestamp", "step"},
}


def _table(name: str, *others: str) -> sa.TableClause:
    types = {"is_nan": sa.Boolean()}  # a number in SQLite
    return sa.table(name, *(sa.column(column, types.get(column)) for column in sorted({*NEEDED[name], *others})))


EXPERIMENTS, RUNS, PARAMS, TAGS = _table("experiments", "workspace"), _table("runs"), _table("params"), _table("tags")
LATEST, HISTORY = _table("latest_metrics"), _table("metrics")
REVISION = sa.table(VERSION_TABLE, sa.column("version_num")).c.version_num
KIND = TAGS.alias("kind")
STARTED = sa.func.coalesce(RUNS.c.start_time, 0).label("started")


class Database:
    """One MLflow database.

    Args:
        uri: `sqlite:///<file>` or `postgresql://...`.

    Attributes:
        folder: where the SQLite file is; None for PostgreSQL.
        revision: of MLflow's tables.
        unknown: what about them is not known here, in words; empty when they can be read.

    Raises:
        StoreError: if there is no database, it cannot be read or it is not MLflow's.
    """

    def __init__(self, uri: str) -> None:
        self._name, self._engine, self.folder = _open(uri)
        with self._reading() as connection:
            columns = _layout(connection, self._name)
            self.revision = str(connection.scalar(sa.select(REVISION)))
        self.unknown = _unknown(columns)
        self._is_current = EXPERIMENTS.c.lifecycle_stage == ACTIVE
        if "workspace" in columns["experiments"]:
            self._is_current &= EXPERIMENTS.c.workspace == (os.environ.get("MLFLOW_WORKSPACE") or "default")

    def studies(self) -> list[str]:
        """Names of the studies in it, in any order."""
        with self._reading() as connection:
            return _columns(connection, self._runs((STUDY_KIND,), EXPERIMENTS.c.name).distinct())[0]

    def parent(self, study: str) -> Parent | None:
        """The study's own run, the newest if there are several; None if there is no such study."""
        columns = (STARTED, RUNS.c.run_uuid, sa.func.coalesce(RUNS.c.artifact_uri, ""))
        with self._reading() as connection:
            found = max(zip(*_columns(connection, self._runs((STUDY_KIND,), *columns, study=study))), default=None)
        return Parent(*found[1:]) if found else None

    def trials(self, study: str, metrics: Names = None, params: Names = None) -> TrialRows:
        """The trials of a study, with metrics and parameters of these stored names."""
        trials = self._runs(TRIAL_KINDS, STARTED, RUNS.c.run_uuid, study=study)
        with self._reading() as connection:
            return TrialRows(
                started=list(zip(*_columns(connection, trials))),
                metrics=_cells(connection, trials, LATEST, _value(LATEST), metrics),
                params=_cells(connection, trials, PARAMS, PARAMS.c.value, params),
                tags=_cells(connection, trials, TAGS, TAGS.c.value, TAG_COLUMNS.values()),
            )

    def points(self, run_ids: Sequence[str], names: Sequence[str]) -> Points:
        """Everything that these runs reported under these names, as stored."""
        columns = (HISTORY.c.run_uuid, HISTORY.c.key, HISTORY.c.step, HISTORY.c.timestamp, _value(HISTORY))
        statement = sa.select(*columns).where(HISTORY.c.key.in_(names))
        with self._reading() as connection:
            chunks = [run_ids[start : start + RUNS_A_QUERY] for start in range(0, len(run_ids), RUNS_A_QUERY)]
            found = [_columns(connection, statement.where(HISTORY.c.run_uuid.in_(chunk))) for chunk in chunks]
        return Points(*([value for part in parts for value in part] for parts in zip([[]] * 5, *found)))

    def _runs(self, kinds: Sequence[str], *columns: sa.ColumnElement[Any], study: str | None = None) -> sa.Select[Any]:
        """Columns of the runs of these kinds, of one study or of all; deleted ones are none."""
        is_kind = (KIND.c.run_uuid == RUNS.c.run_uuid) & (KIND.c.key == keys.KIND) & KIND.c.value.in_(kinds)
        tables = sa.join(RUNS, EXPERIMENTS, EXPERIMENTS.c.experiment_id == RUNS.c.experiment_id).join(KIND, is_kind)
        runs = sa.select(*columns).select_from(tables).where(self._is_current, RUNS.c.lifecycle_stage == ACTIVE)
        return runs if study is None else runs.where(EXPERIMENTS.c.name == study)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """One transaction; what goes wrong in it is one line."""
        driver = self._engine.dialect.loaded_dbapi
        try:
            with self._engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, driver.Error) as error:
            raise StoreError(f"cannot read the MLflow store {self._name}: {_reason(error)}") from error


def is_database(uri: str) -> bool:
    """Whether a tracking URI names a database that can be read here."""
    return uri.split(":")[0].split("+")[0] in ("sqlite", "postgresql")


def shown(text: str) -> str:
    """One line without the credentials that addresses in it may carry."""
    return re.sub(r"//[^/\s]*@", "//", " ".join(text.split()))


def _cells(
    connection: sa.Connection, trials: sa.Select[Any], table: sa.TableClause, value: sa.ColumnElement[Any], names: Names
) -> Cells:
    of_trials = trials.subquery()
    cells = sa.select(table.c.run_uuid, table.c.key, value).join(of_trials, of_trials.c.run_uuid == table.c.run_uuid)
    return Cells(*_columns(connection, cells if names is None else cells.where(table.c.key.in_(names))))


def _value(table: sa.TableClause) -> sa.ColumnElement[Any]:
    """A metric's value. MLflow writes 0 for NaN and says so beside it."""
    return sa.case((table.c.is_nan, sa.null()), else_=table.c.value)


def _columns(connection: sa.Connection, statement: sa.Select[Any]) -> list[list[Any]]:
    """The columns of the result, from the driver's own tuples: SQLAlchemy's rows take half as long again."""
    with connection.execute(statement) as result:
        assert result.cursor is not None
        return columns_of(cast(Iterable[Sequence[Any]], result.cursor), len(statement.selected_columns))


def _layout(connection: sa.Connection, name: str) -> dict[str, set[str]]:
    """The columns of the tables read here."""
    absent = {VERSION_TABLE, *NEEDED} - set(sa.inspect(connection).get_table_names())
    if absent:
        raise StoreError(f"{name} is not an MLflow store: it has no table {', '.join(sorted(absent))}")
    nothing = {table: sa.select(sa.text("*")).select_from(sa.table(table)).where(sa.false()) for table in NEEDED}
    return {table: set(connection.execute(statement).keys()) for table, statement in nothing.items()}


def _unknown(columns: dict[str, set[str]]) -> str:
    lacking = [f"{name}.{column} is missing" for name in NEEDED for column in sorted(NEEDED[name] - columns[name])]
    known = {name: NEEDED[name] | KNOWN.get(name, set()) for name in NEEDED}
    other = [f"{name}.{column} is new" for name in NEEDED for column in sorted(columns[name] - known[name])]
    return ", ".join(lacking + other)


def _open(uri: str) -> tuple[str, sa.Engine, Path | None]:
    """The store's name in messages, how to connect to it, and the folder of a file."""
    try:
        url = sa.make_url(uri)
        engine = _postgresql(url) if url.get_backend_name() == "postgresql" else None
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise StoreError(f"cannot read the MLflow store {shown(uri)}: {_reason(error)}") from error
    if engine:
        return shown(uri), engine, None
    path = Path(url.database or "").absolute()
    if not path.is_file():
        raise StoreError(f"no MLflow store at {path}: nothing has been recorded there yet")
    return str(path), _sqlite(path), path.parent


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine("sqlite://", creator=lambda: _connect(path), poolclass=sa.NullPool)
    # Python's driver begins no transaction for a SELECT.
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _connect(path: Path) -> sqlite3.Connection:
    try:
        return _connect_to(path, "ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
    # A writer was killed, and whoever reads next has to undo its half of a transaction, as SQLite does by itself.
    logger.info("rolling back what a killed process left half written in %s", path)
    _connect_to(path, "rw").close()
    return _connect_to(path, "ro")


def _connect_to(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?mode={mode}", timeout=LOCK_TIMEOUT_S, isolation_level=None, uri=True)
    try:
        with closing(connection.execute("SELECT 1 FROM sqlite_master")) as cursor:
            cursor.fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _postgresql(url: sa.URL) -> sa.Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername=f"postgresql+{_driver()}")
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": CONNECT_TIMEOUT_S})
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return sa.create_engine(url, poolclass=sa.NullPool, execution_options=options)


def _driver() -> str:
    """SQLAlchemy's own choice changed between its versions; this is the one that is installed."""
    found = [name for name in DRIVERS if importlib.util.find_spec(name)]
    if not found:
        raise ImportError(f"PostgreSQL needs the package {DRIVERS[0]}: pip install 'cdkd[postgres]'")
    return found[0]


def _reason(error: Exception) -> str:
    return shown(str(error.orig if isinstance(error, DBAPIError) and error.orig else error))
