"""An MLflow store to tidy frames, one row per trial or per trial and epoch. The only file here that knows MLflow.

A database is read by SQL (analysis.database), a server through MLflow's client, with equal frames. MLflow is imported
for the client only: that takes longer than reading most studies.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd

from analysis.database import ACTIVE, Database, is_database, shown
from analysis.errors import StoreError
from analysis.frames import (
    EPOCH_COLUMNS,
    METRICS,
    PARAMS,
    SEARCH_ARM,
    STUDY_KIND,
    TAG_COLUMNS,
    TRIAL_KINDS,
    Cells,
    Names,
    Parent,
    Points,
    TrialRows,
    columns_of,
    epochs_frame,
    trials_frame,
    wide_epochs_frame,
)
from orchestrator import keys

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["EPOCH_COLUMNS", "METRICS", "PARAMS", "TAG_COLUMNS", "Client", "Reader", "Store", "StudyRecord"]

logger = logging.getLogger(__name__)

PAGE = 1000
REQUESTS_AT_A_TIME = 8  # a history is one request a run and metric
IS_PARENT = f"tags.`{keys.KIND}` = '{STUDY_KIND}'"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # for one file of a kilobyte
    # Whoever reads a table waits seconds for a server that is away, not MLflow's minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}


@dataclass(frozen=True)
class StudyRecord:
    """What the store holds of one study.

    Attributes:
        study: its name.
        specification: artifact of the parent run: question, metric, table, seeds, search.
        trials: one row per trial, students and teachers, oldest first: run_id, started (ms since 1970), the tags of
            TAG_COLUMNS (seed as int, -1 where none; protocol as a dict), `params.<dotted path>` (text),
            `metrics.<name>` (scores in [0, 1]; an epoch metric holds its last value); NaN where a run has none.
        uri: where the store is.
        early: of a search, the metric after the epochs at which its pruner compares trials (EPOCH_COLUMNS), of the
            trials that were trained to the end.
    """

    study: str
    specification: dict[str, Any]
    trials: pd.DataFrame
    uri: str
    early: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=EPOCH_COLUMNS))

    @property
    def searched(self) -> pd.DataFrame:
        """The trials of the study's search; an edited study lists those that it would train another way now."""
        return _searched(self.trials, self.specification)


class Reader(Protocol):
    """One way to get at a store's rows."""

    def studies(self) -> list[str]:
        """Names of the studies, in any order."""

    def parent(self, study: str) -> Parent | None:
        """The study's own run, the newest if there are several; None if there is no such study."""

    def trials(self, study: str, metrics: Names = None, params: Names = None) -> TrialRows:
        """The trials of a study, with metrics and parameters of these stored names."""

    def points(self, run_ids: Sequence[str], names: Sequence[str]) -> Points:
        """Everything that these runs reported under these names, as stored."""


class Store:
    """Reads studies from an MLflow tracking store; never writes.

    Args:
        uri: MLflow tracking URI.
        reader: how to read it; by default a database by SQL and anything else through MLflow's client.

    Raises:
        StoreError: if there is no store or it cannot be read.
    """

    def __init__(self, uri: str, reader: Reader | None = None) -> None:
        self.uri = uri
        self._reader = reader or _reader(uri)

    def studies(self) -> list[str]:
        """Names of the studies in the store, in alphabetical order."""
        return sorted(self._reader.studies())

    def specification(self, study: str) -> dict[str, Any]:
        """What the study file asked for: artifact of the parent run.

        Raises:
            StoreError: if the study is not in the store or its specification cannot be read.
        """
        parent = self._parent(study)
        try:
            content = json.loads(self._artifact(study, parent, parent.run_id, keys.SPECIFICATION))
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot read {keys.SPECIFICATION} of run {parent.run_id}: {shown(str(error))}") from error
        if not isinstance(content, dict):
            raise StoreError(f"{keys.SPECIFICATION} of run {parent.run_id} must be a JSON object, got {content!r:.80}")
        return content

    def read(self, study: str, *, metrics: Names = None, params: Names = None) -> StudyRecord:
        """Everything recorded of a study except its epochs.

        Args:
            study: its name.
            metrics: those to read, as in the frame, such as `best/val/pckh@0.5`; None: all.
            params: those to read, dotted paths; None: all.

        Raises:
            StoreError: if the study is not in the store or a record of it cannot be read.
        """
        stored = None if metrics is None else [keys.mlflow_name(name) for name in metrics]
        specification = self.specification(study)
        trials = _present(trials_frame(self._reader.trials(study, stored, params)), specification)
        return StudyRecord(study, specification, trials, self.uri, self._early(trials, specification))

    def _early(self, trials: pd.DataFrame, specification: dict[str, Any]) -> pd.DataFrame:
        rungs = (specification.get("search") or {}).get("rungs") or ()
        proposed = _searched(trials, specification)
        searched = proposed[proposed["state"] == keys.FINISHED] if rungs else proposed[:0]
        if searched.empty:
            return pd.DataFrame(columns=EPOCH_COLUMNS)
        epochs = self.epochs(searched, [specification["metric"]["name"]])
        return epochs[epochs["epoch"].isin(list(rungs))].reset_index(drop=True)

    def epochs(self, trials: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
        """One row per trial, epoch and metric (EPOCH_COLUMNS), in the order of trials, metrics and epochs.

        Args:
            trials: rows of StudyRecord.trials.
            metrics: names as reported, such as `val/pckh@0.5`.
        """
        return epochs_frame(trials, metrics, self._points(trials, metrics))

    def wide_epochs(self, trials: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
        """One row per trial and epoch: run_id, trial_id, arm, seed, state, epoch, `metrics.<name>` for each metric.

        Args:
            trials, metrics: as for epochs. What an epoch did not report is NaN.
        """
        return wide_epochs_frame(trials, metrics, self._points(trials, metrics))

    def _points(self, trials: pd.DataFrame, metrics: Sequence[str]) -> Points:
        return self._reader.points(list(trials["run_id"]), [keys.mlflow_name(name) for name in metrics])

    def artifact(self, study: str, run_id: str, name: str) -> bytes:
        """A file that a run of a study left.

        Raises:
            StoreError: if the study is not in the store or the run has no such file.
        """
        parent = self._parent(study)
        try:
            return self._artifact(study, parent, run_id, name)
        except OSError as error:
            raise StoreError(f"run {run_id} has no {name}: {shown(str(error))}") from error

    def _parent(self, study: str) -> Parent:
        parent = self._reader.parent(study)
        if parent is None:
            known = ", ".join(self.studies()) or "none"
            raise StoreError(f"no study {study!r} in {shown(self.uri)}; studies there: {known}")
        return parent

    def _artifact(self, study: str, parent: Parent, run_id: str, name: str) -> bytes:
        location = parent.artifacts.replace(parent.run_id, run_id)  # MLflow's rule: <experiment>/<run id>/artifacts
        folder = local_folder(location) if is_database(self.uri) else None
        if folder is None:
            return _download(self.uri, f"{location}/{name}")
        found = folder / name
        if not found.exists() and isinstance(self._reader, Database) and self._reader.folder:
            # A results folder that was copied from elsewhere; this is where the driver keeps artifacts in it.
            found = self._reader.folder / "artifacts" / study / run_id / "artifacts" / name
        return found.read_bytes()


class Client:
    """Reads through MLflow's client: a server's store, or a database whose tables are not known here.

    Args:
        uri: MLflow tracking URI.

    Raises:
        StoreError: if there is no store or it cannot be reached; so do all methods.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        with _mlflow_errors(uri):
            from mlflow.tracking import MlflowClient

            self._client = MlflowClient(uri)

    def studies(self) -> list[str]:
        """Names of the studies, in any order."""
        with _mlflow_errors(self._uri):
            experiments = list(_pages(self._client.search_experiments))
            return [one.name for one in experiments if self._search(one.experiment_id, IS_PARENT)]

    def parent(self, study: str) -> Parent | None:
        """The study's own run, the newest if there are several; None if there is no such study."""
        parents = self._runs(study, IS_PARENT)
        newest = max(parents, key=lambda run: (run.info.start_time, run.info.run_id), default=None)
        return Parent(newest.info.run_id, newest.info.artifact_uri) if newest else None

    def trials(self, study: str, metrics: Names = None, params: Names = None) -> TrialRows:
        """The trials of a study, with metrics and parameters of these stored names."""
        trials = [run for run in self._runs(study) if run.data.tags.get(keys.KIND) in TRIAL_KINDS]
        return TrialRows(
            started=[(run.info.start_time, run.info.run_id) for run in trials],
            metrics=_cells([(run.info.run_id, run.data.metrics) for run in trials], metrics),
            params=_cells([(run.info.run_id, run.data.params) for run in trials], params),
            tags=_cells([(run.info.run_id, run.data.tags) for run in trials], TAG_COLUMNS.values()),
        )

    def points(self, run_ids: Sequence[str], names: Sequence[str]) -> Points:
        """Everything that these runs reported under these names, as stored."""
        asked = [(run_id, name) for run_id in run_ids for name in names]
        with _mlflow_errors(self._uri), ThreadPoolExecutor(REQUESTS_AT_A_TIME) as threads:
            histories = threads.map(lambda pair: self._client.get_metric_history(*pair), asked)
            rows = (
                (*pair, point.step, point.timestamp, point.value)
                for pair, history in zip(asked, histories)
                for point in history
            )
            return Points(*columns_of(rows, 5))

    def _runs(self, study: str, where: str = "") -> list[Run]:
        with _mlflow_errors(self._uri):
            experiment = self._client.get_experiment_by_name(study)
            if experiment is None or experiment.lifecycle_stage != ACTIVE:
                return []
            return self._search(experiment.experiment_id, where)

    def _search(self, experiment: str, where: str) -> list[Run]:
        """All runs of an experiment, each once.

        MLflow's pages are counted from the first run, so a run deleted meanwhile moves another one past the end of a
        page. A page therefore begins at the start time that the page before ended with.
        """
        found: dict[str, Run] = {}
        since, token = 0, None
        while True:
            page = self._client.search_runs(
                [experiment],
                " and ".join([f"attributes.start_time >= {since}", *([where] if where else [])]),
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            found.update((run.info.run_id, run) for run in page)
            if not page.token:
                return list(found.values())
            last = page[-1].info.start_time
            since, token = (last, None) if last > since else (since, page.token)


def local_folder(uri: str) -> Path | None:
    """The folder that an artifact URI names; None if it is not on this machine."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path)) if parts.scheme else Path(uri)


def _reader(uri: str) -> Reader:
    if not is_database(uri):
        return Client(uri)
    database = Database(uri)
    if not database.unknown:
        return database
    _check_revision(uri, database)
    logger.warning("reading %s through MLflow's client, slowly: in its tables %s", shown(uri), database.unknown)
    return Client(uri)


def _check_revision(uri: str, database: Database) -> None:
    """MLflow's client would migrate the tables of an older MLflow, which reading must not.

    Raises:
        StoreError: if they are not those of the MLflow that is installed.
    """
    from mlflow.store.db.utils import _get_latest_schema_revision  # shown nowhere else

    expected = _get_latest_schema_revision()  # type: ignore[no-untyped-call]
    if database.revision != expected:
        raise StoreError(
            f"cannot read the MLflow store {shown(uri)}: in its tables {database.unknown}, and they are of revision "
            f"{database.revision} where the MLflow installed here has {expected}; install the MLflow that wrote them"
        )


def _present(trials: pd.DataFrame, specification: Mapping[str, Any]) -> pd.DataFrame:
    """The trials of the study as it was last begun afresh; teachers are shared by all."""
    generation = int(specification.get("generation", 0))
    is_present = trials["trial_id"].map(keys.generation_of) == generation
    return trials[is_present.astype(bool) | (trials["kind"] == "teacher")].reset_index(drop=True)


def _searched(trials: pd.DataFrame, specification: Mapping[str, Any]) -> pd.DataFrame:
    is_searched = (trials["kind"] == "student") & (trials["arm"] == SEARCH_ARM)
    is_gone = trials["trial_id"].isin(specification.get(keys.SUPERSEDED, ()))
    return trials[is_searched & ~is_gone]


def _cells(recorded: list[tuple[str, dict[str, Any]]], names: Names) -> Cells:
    cells = ((run_id, *item) for run_id, items in recorded for item in items.items())
    return Cells(*columns_of((cell for cell in cells if names is None or cell[1] in names), 3))


def _download(uri: str, artifact: str) -> bytes:
    """The content of an artifact that is not on this machine."""
    with _mlflow_errors(uri), tempfile.TemporaryDirectory() as folder:
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(artifact, dst_path=folder, tracking_uri=uri)).read_bytes()


def _pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Every result of a paged MLflow search."""
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def _mlflow_errors(uri: str) -> Iterator[None]:
    """What MLflow raises, as one line."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise StoreError(f"cannot read the MLflow store {shown(uri)}: {shown(str(error))}") from error
