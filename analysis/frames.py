"""What a store holds, as rows, to tidy frames. Every reader of a store ends here, so that all give equal frames.

Values are as they were logged: MLflow stores an infinite one as the largest float, which is turned back here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import StoreError
from orchestrator import keys

SEARCH_ARM = "search"
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
    "attempt": keys.ATTEMPT,
    "lineage": keys.LINEAGE,
    "schedule": keys.SCHEDULE,
}
STUDY_KIND, TRIAL_KINDS = "study", ("student", "teacher")  # values of the tag keys.KIND
IDENTITY = ["run_id", "trial_id", "arm", "seed", "state"]
EPOCH_COLUMNS = [*IDENTITY, "epoch", "metric", "value"]
Names = Collection[str] | None  # None: all
_TEXT = pd.Series(["text"]).dtype  # `str` from pandas 3 on, `object` before
_LARGEST = np.finfo(np.float64).max


@dataclass(frozen=True)
class Cells:
    """What runs recorded under names, as three columns of equal length; None stands for NaN and for no text."""

    run_ids: Sequence[str]
    names: Sequence[str]
    values: Sequence[Any]


@dataclass(frozen=True)
class Points:
    """What runs reported over time, as five columns of equal length; a value of None stands for NaN."""

    run_ids: Sequence[str]
    names: Sequence[str]
    steps: Sequence[int]
    timestamps: Sequence[int]
    values: Sequence[float | None]


@dataclass(frozen=True)
class Parent:
    """The run that stands for a study.

    Attributes:
        run_id: its id.
        artifacts: URI of its artifacts.
    """

    run_id: str
    artifacts: str


@dataclass(frozen=True)
class TrialRows:
    """The trials of a study as a store holds them; deleted runs are not among them.

    Attributes:
        started: (ms since 1970, run id) of each trial, in any order.
        metrics: latest value of every metric, by stored name.
        params: their parameters.
        tags: their tags, at least those of TAG_COLUMNS.
    """

    started: Sequence[tuple[int, str]]
    metrics: Cells
    params: Cells
    tags: Cells


def trials_frame(rows: TrialRows) -> pd.DataFrame:
    """One row per run, oldest first, with the columns of StudyRecord.trials; parameters and metrics by name.

    Raises:
        StoreError: if a tag cannot be read.
    """
    runs = sorted(rows.started)
    position = {run_id: index for index, (_, run_id) in enumerate(runs)}
    tags, params = _texts(rows.tags, position, ""), _texts(rows.params, position, np.nan)
    metrics = _matrix(rows.metrics, position, as_logged(rows.metrics.values), np.nan)
    none = _text_array([""] * len(runs))
    frame = pd.DataFrame(
        {
            "run_id": _text_array(list(position)),
            "started": np.array([started for started, _ in runs], dtype=np.int64),
            **{column: tags.get(tag, none) for column, tag in TAG_COLUMNS.items()},
            **{PARAMS + name: values for name, values in params.items()},
            **{METRICS + keys.metric_name(name): values for name, values in metrics.items()},
        }
    )
    frame["seed"] = np.array(_read(frame, "seed", lambda text: int(text or -1)), dtype=np.int64)
    frame["protocol"] = pd.Series(_read(frame, "protocol", _protocol), dtype=object)
    frame["state"] = frame["state"].replace("", keys.RUNNING)
    return frame


def epochs_frame(trials: pd.DataFrame, metrics: Sequence[str], points: Points) -> pd.DataFrame:
    """One row per trial, epoch and metric (EPOCH_COLUMNS), in the order of the trials, the metrics and the epochs.

    Args:
        trials: rows of StudyRecord.trials.
        metrics: names as reported.
        points: what the store has of these trials and metrics, in any order.
    """
    latest = _latest(trials, metrics, points)
    identity = trials[IDENTITY].iloc[latest["trial"].to_numpy()].reset_index(drop=True)
    names = _text_array(metrics).take(latest["which"].to_numpy())
    return identity.assign(epoch=latest["epoch"], metric=names, value=latest["value"])


def wide_epochs_frame(trials: pd.DataFrame, metrics: Sequence[str], points: Points) -> pd.DataFrame:
    """One row per trial and epoch: IDENTITY, `epoch` and `metrics.<name>` for every metric.

    A metric that was not reported in an epoch is NaN there, like one that was reported as NaN.

    Args:
        trials, metrics, points: as for epochs_frame.
    """
    table = _latest(trials, metrics, points).pivot(index=["trial", "epoch"], columns="which", values="value")
    table = table.reindex(columns=range(len(metrics)))
    identity = trials[IDENTITY].iloc[table.index.get_level_values("trial")].reset_index(drop=True)
    values = {METRICS + name: table[which].to_numpy(dtype=np.float64) for which, name in enumerate(metrics)}
    return identity.assign(epoch=table.index.get_level_values("epoch"), **values)


def as_logged(values: Sequence[float | None]) -> NDArray[np.float64]:
    """Stored values as an array: None is NaN, the largest floats are the infinite values they stand for."""
    array = np.array(values, dtype=np.float64)
    return np.where(np.abs(array) == _LARGEST, np.copysign(np.inf, array), array)


def columns_of(rows: Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows of `width` values as columns. (`zip(*rows)` keeps all rows, which the garbage collector then walks.)"""
    values = list(chain.from_iterable(rows))
    return [values[index::width] for index in range(width)]


def _latest(trials: pd.DataFrame, metrics: Sequence[str], points: Points) -> pd.DataFrame:
    """The points with trials and metrics by position, in order; of an epoch reported again the latest value."""
    frame = pd.DataFrame(
        {
            "trial": _codes(points.run_ids, {run_id: index for index, run_id in enumerate(trials["run_id"])}),
            "which": _codes(points.names, {keys.mlflow_name(name): index for index, name in enumerate(metrics)}),
            "epoch": np.array(points.steps, dtype=np.int64),
            "timestamp": np.array(points.timestamps, dtype=np.int64),
            "value": as_logged(points.values),
        }
    )
    frame = frame.sort_values(["trial", "which", "epoch", "timestamp", "value"], na_position="first")
    return frame.drop_duplicates(["trial", "which", "epoch"], keep="last", ignore_index=True)


def _text_array(texts: Sequence[str | float]) -> Any:
    return pd.Series(texts, dtype=_TEXT).array


def _codes(values: Sequence[Hashable], index: Mapping[Any, int]) -> NDArray[np.intp]:
    return np.fromiter(map(index.__getitem__, values), np.intp, len(values))


def _matrix(cells: Cells, position: Mapping[str, int], values: NDArray[Any], missing: float) -> dict[str, NDArray[Any]]:
    """Name -> one value per run, names in alphabetical order."""
    names = sorted(set(cells.names))
    table = np.full((len(names), len(position)), missing, dtype=values.dtype)
    index = {name: row for row, name in enumerate(names)}
    table[_codes(cells.names, index), _codes(cells.run_ids, position)] = values
    return dict(zip(names, table))


def _texts(cells: Cells, position: Mapping[str, int], missing: str | float) -> dict[str, Any]:
    """Name -> one text per run. Each distinct text is made once: most are the same for all runs of a study."""
    known = {text: code for code, text in enumerate(dict.fromkeys([missing, *cells.values]))}
    vocabulary = _text_array([missing if text is None else text for text in known])
    codes = _matrix(cells, position, _codes(cells.values, known), 0)
    return {name: vocabulary.take(row) for name, row in codes.items()}


def _read(frame: pd.DataFrame, column: str, read: Callable[[str], Any]) -> list[Any]:
    """`read` of the texts of a column, once for each distinct one."""
    found: dict[str, Any] = {}
    for run_id, text in frame.drop_duplicates(column)[["run_id", column]].itertuples(index=False):
        try:
            found[text] = read(text)
        except ValueError as error:
            raise StoreError(f"run {run_id} carries an unreadable tag {TAG_COLUMNS[column]}: {error}") from error
    return [found[text] for text in frame[column]]


def _protocol(text: str) -> dict[str, Any]:
    protocol = json.loads(text or "{}")
    if not isinstance(protocol, dict):
        raise ValueError(f"must be a JSON object, got {text}")
    return protocol
