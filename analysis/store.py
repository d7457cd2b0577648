"""An MLflow store to tidy frames, one row per trial or per trial and epoch. The only file here that knows MLflow."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from analysis.errors import StoreError
from orchestrator import keys

PAGE = 1000
METRICS = "metrics."  # prefixes of the wide columns, as in the frames of mlflow.search_runs
PARAMS = "params."
TAG_COLUMNS = {
    "kind": keys.KIND,
    "trial_id": keys.TRIAL,
    "arm": keys.ARM,
    "seed": keys.SEED,
    "state": keys.STATE,
    "fingerprint": keys.FINGERPRINT,
    "protocol": keys.PROTOCOL,
    "teacher": keys.TEACHER,
    "revision": keys.REVISION,
    "reused_from": keys.REUSED_FROM,
    "reason": keys.REASON,
}
EPOCH_COLUMNS = ["run_id", "trial_id", "arm", "seed", "state", "epoch", "metric", "value"]


@dataclass(frozen=True)
class StudyRecord:
    """What the store holds of one study.

    Attributes:
        study: its name.
        specification: artifact of the parent run: question, metric, table, seeds, search.
        trials: one row per trial, students and teachers: run_id, started (ms since 1970), the tags of TAG_COLUMNS
            (seed as int, -1 where none; protocol as a dict), `metrics.<name>` (scores in [0, 1]; an epoch metric holds
            its last value), `params.<dotted path>` (text).
        uri: where the store is.
    """

    study: str
    specification: dict[str, Any]
    trials: pd.DataFrame
    uri: str


class Store:
    """Reads studies from an MLflow tracking store; never writes.

    Args:
        uri: MLflow tracking URI; a `sqlite:///` file must exist (MLflow would create it).

    Raises:
        StoreError: if there is no store.
    """

    def __init__(self, uri: str) -> None:
        _check_file(uri)
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # for one file of a kilobyte
        self.uri = uri
        try:
            self._client = MlflowClient(uri)
        except MlflowException as error:
            raise StoreError(f"cannot open the MLflow store {uri}: {_one_line(error)}") from error

    def studies(self) -> list[str]:
        """Names of the studies in the store, in alphabetical order."""
        return sorted(
            experiment.name
            for experiment in _pages(self._client.search_experiments)
            if self._parents(experiment.experiment_id)
        )

    def read(self, study: str) -> StudyRecord:
        """Everything recorded of a study except its epochs.

        Raises:
            StoreError: if the study is not in the store or a record of it cannot be read.
        """
        experiment = self._experiment(study)
        parents = self._parents(experiment)
        if not parents:
            raise StoreError(f"study {study!r} has no parent run in {self.uri} yet")
        runs = [run for run in self._search(experiment) if run.data.tags.get(keys.KIND) in ("student", "teacher")]
        return StudyRecord(study, self._specification(parents[-1]), trials_frame(runs), self.uri)

    def epochs(self, trials: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
        """One row per trial, epoch and metric (EPOCH_COLUMNS).

        Args:
            trials: rows of StudyRecord.trials.
            metrics: names as reported, such as `val/pckh@0.5`.
        """
        rows = [row for trial in trials.to_dict("records") for row in self._history(trial, metrics)]
        return pd.DataFrame(rows, columns=EPOCH_COLUMNS).drop_duplicates(["run_id", "epoch", "metric"], keep="last")

    def _history(self, trial: dict[Any, Any], metrics: Sequence[str]) -> Iterator[list[Any]]:
        identity = [trial[name] for name in EPOCH_COLUMNS[:5]]
        for metric in metrics:
            history = self._client.get_metric_history(trial["run_id"], keys.mlflow_name(metric))
            for point in sorted(history, key=lambda point: (point.step, point.timestamp)):
                yield [*identity, int(point.step), metric, float(point.value)]

    def _experiment(self, study: str) -> str:
        experiment = self._client.get_experiment_by_name(study)
        if experiment is None:
            known = ", ".join(self.studies()) or "none"
            raise StoreError(f"no study {study!r} in {self.uri}; studies there: {known}")
        return str(experiment.experiment_id)

    def _parents(self, experiment: str) -> list[Run]:
        return self._search(experiment, f"tags.`{keys.KIND}` = 'study'")

    def _search(self, experiment: str, where: str = "") -> list[Run]:
        # Oldest first: a run that starts between two pages lands on the last one and moves no other.
        return list(
            _pages(
                self._client.search_runs,
                experiment_ids=[experiment],
                filter_string=where,
                order_by=["attributes.start_time ASC"],
            )
        )

    def _specification(self, parent: Run) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = self._client.download_artifacts(parent.info.run_id, keys.SPECIFICATION, folder)
                content = json.loads(Path(path).read_text(encoding="utf-8"))
            except (MlflowException, OSError, ValueError) as error:
                where = f"{keys.SPECIFICATION} of run {parent.info.run_id}"
                raise StoreError(f"cannot read {where}: {_one_line(error)}") from error
        return dict(content)


def trials_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per run, with the columns of StudyRecord.trials."""
    frame = pd.DataFrame([_row(run) for run in runs])
    return frame if len(frame) else pd.DataFrame(columns=["run_id", "started", *TAG_COLUMNS])


def _row(run: Run) -> dict[str, Any]:
    tags = {column: run.data.tags.get(tag, "") for column, tag in TAG_COLUMNS.items()}
    metrics = {METRICS + keys.metric_name(name): value for name, value in run.data.metrics.items()}
    params = {PARAMS + name: value for name, value in run.data.params.items()}
    row = {"run_id": run.info.run_id, "started": run.info.start_time, **tags, **params, **metrics}
    try:
        row["seed"] = int(tags["seed"] or -1)
        row["protocol"] = dict(json.loads(tags["protocol"] or "{}"))
    except ValueError as error:
        raise StoreError(f"run {run.info.run_id} carries an unreadable tag: {_one_line(error)}") from error
    row["state"] = tags["state"] or keys.RUNNING
    return row


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    """Every result of a paged MLflow search."""
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return


def _check_file(uri: str) -> None:
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not Path(uri.removeprefix(prefix)).is_file():
        raise StoreError(f"no MLflow store at {uri.removeprefix(prefix)}: nothing has been recorded there yet")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
