"""MLflow as a projection of the ledger: runs are looked up before they are made, rows are keyed by what the ledger
says, so that delivering again changes nothing and an empty store is filled again. The only file that knows MLflow.

One MLflow experiment a study; in it one parent run (the study) and one child run a trial. A metric's row is
(name, value, epoch, time of the ledger's record): MLflow keeps one copy of identical rows. Infinite values are
stored by MLflow as the largest float, NaN as NaN.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from orchestrator import keys
from orchestrator.errors import Refused
from orchestrator.failpoints import failpoint
from orchestrator.history import History, TrialHistory
from orchestrator.ledger import Ledger, Record, read_from
from orchestrator.population import member_tags, moving_options

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Metric, Run

logger = logging.getLogger(__name__)

CURSOR = "mlflow.cursor"  # beside the ledger: how far it was delivered, by store
SQLITE = "sqlite:///"
STUDY_RUN = ""  # stands for the parent run where trial ids stand for theirs
SUMMARY_STEP = 0  # one that no epoch has, and that does not depend on when a summary is delivered
CONFIG = "config.yaml"  # artifact of a child run
STATUS = {
    keys.RUNNING: "RUNNING",
    keys.FINISHED: "FINISHED",
    keys.PRUNED: "KILLED",
    keys.INTERRUPTED: "KILLED",
    keys.FAILED: "FAILED",
    keys.DIVERGED: "FAILED",
}
# MLflow's limits: for one request, for a parameter's name and for the values of parameters and tags.
METRICS_A_REQUEST, PARAMETERS_A_REQUEST = 1000, 100
NAME_LENGTH, PARAMETER_LENGTH, TAG_LENGTH = 250, 6000, 8000
# Answers that asking again does not change, unlike an outage.
FINAL_ERRORS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "BAD_REQUEST"}
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 30.0
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # MLflow's own waits of minutes would only hide an outage from the loop below, which waits better.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class ForeignStudyError(Refused):
    """The store holds a study of this name that another results folder owns."""


def default_tracking_uri(results: Path) -> str:
    """The SQLite store of a results folder."""
    return f"{SQLITE}{results.resolve()}/mlflow.db"


def sync(tracking_uri: str, artifact_root: Path | None, ledger: Path, *, study: str = "", full: bool = False) -> int:
    """Deliver what is not in the store yet, waiting for it. Returns how many records were new to the store.

    Args:
        full: deliver everything again, also what the cursor says was delivered (after a store was restored).

    Raises:
        Refused: the study is running (and delivers by itself), or the store's study belongs to another folder.
        mlflow.exceptions.MlflowException: the store cannot be reached.
    """
    with Ledger.open(ledger, writer=True) as held:
        projection = MlflowProjection(tracking_uri, artifact_root, ledger, study=study)
        if full:
            projection.cursor_path.unlink(missing_ok=True)
        projection.take(held.records())
        new = projection.lag
        projection.interrupt()
        projection.flush()
        return new


@dataclass
class _Mark:
    """What of one trial is in the store."""

    epochs: set[int] = field(default_factory=set)
    is_described: bool = False  # parameters and config.yaml
    status: tuple[str, float | None] = ("", None)


class MlflowProjection:
    """Brings one study's part of an MLflow store up to date with its ledger.

    Args:
        tracking_uri: of the store, absolute.
        artifact_root: folder for artifacts of a store without a server; `<results>/artifacts` by default.
        ledger: the ledger's file; its records are handed in by `deliver`, and read again only for runs that
            somebody deleted.
        study: the experiment's name; by default the name of the ledger's folder.
    """

    def __init__(self, tracking_uri: str, artifact_root: Path | None, ledger: Path, *, study: str = "") -> None:
        self.tracking_uri = tracking_uri
        self.study = study or ledger.parent.name
        self.cursor_path = ledger.with_name(CURSOR)
        self.refused: dict[str, str] = {}  # trial id -> why MLflow does not accept it
        self._artifact_root = artifact_root or ledger.parent.parent / "artifacts"
        self._ledger = ledger
        self._ledger_id = ""
        self._history = History()
        self._marks: dict[str, _Mark] = {}
        self._pending: dict[str, None] = {}  # trial ids in order; STUDY_RUN for the parent run
        self._seq = self._delivered = -1
        self._last: Record | None = None
        self._runs: _Runs | None = None

    @property
    def lag(self) -> int:
        """How many of the records taken in are not in the store."""
        return max(0, self._seq - self._delivered)

    def deliver(self, records: Iterable[Record]) -> None:
        """Take `records`, the ledger's next ones, and bring the store up to date; idempotent.

        Raises:
            ForeignStudyError: another results folder owns the study of this name.
            mlflow.exceptions.MlflowException: the store cannot be reached; call `flush` again later.
        """
        self.take(records)
        self.flush()

    def take(self, records: Iterable[Record]) -> None:
        """Note what `records` change, without touching the store."""
        records = list(records)
        if self._seq < 0 and records:
            self._ledger_id = _identity(records[0])
            self._delivered = _read_cursor(self.cursor_path, self.tracking_uri, records)
        for record in records:
            self._take(record)

    def flush(self) -> None:
        """Write everything noted and not yet written, then move the cursor."""
        if self._seq < 0:
            return
        self._attached()
        while self._pending:
            key = next(iter(self._pending))
            self._deliver_or_refuse(key)
            del self._pending[key]
        if self._last is not None and self.lag:
            _write_cursor(self.cursor_path, self.tracking_uri, self._last)
        self._delivered = self._seq

    def interrupt(self) -> None:
        """Nobody runs the study: show the trials that did not end as interrupted."""
        self._pending.update(dict.fromkeys([*self._history.interrupt(), STUDY_RUN]))

    def recheck(self) -> None:
        """Look at the store afresh with the next `flush`: what somebody deleted there is made again."""
        self._runs = None

    def _take(self, record: Record) -> None:
        self._seq, self._last = record.seq, record
        changed = self._history.apply(record)
        if record.seq > self._delivered:
            self._note(record, changed)
        elif changed and record.event == keys.EPOCH:
            self._settle(record.data["trial_id"], record.data["epoch"])

    def _note(self, record: Record, changed: tuple[str, ...]) -> None:
        self._pending.update(dict.fromkeys(changed))
        if record.event in (keys.INVOKED, keys.EXTENDED, keys.STOPPED):
            self._pending[STUDY_RUN] = None
        if record.event in (keys.STARTED, keys.REUSED):
            self._mark(changed[0]).is_described = False
        for trial_id in changed if record.event in (keys.EVOLVED, keys.ENDED) else ():
            self._mark(trial_id).is_described &= not self._is_member(trial_id)

    def _is_member(self, trial_id: str) -> bool:
        """Whether this is a member of a population, whose configuration changes while it trains."""
        return bool(member_tags(self._history, self._history.trials[trial_id]))

    def _mark(self, trial_id: str) -> _Mark:
        return self._marks.setdefault(trial_id, _Mark(is_described=True))

    def _settle(self, trial_id: str, epoch: int) -> None:
        """The store has this epoch: its numbers need no more memory."""
        self._mark(trial_id).epochs.add(epoch)
        self._history.trials[trial_id].epochs[epoch] = {}

    def _attached(self) -> _Runs:
        if self._runs is None:
            origin = {keys.LEDGER: self._ledger_id, keys.RESULTS: _place(self.tracking_uri, self._ledger)}
            runs = _Runs(_client(self.tracking_uri), self.study, origin)
            runs.find(None if _has_server(self.tracking_uri) else self._artifact_root, self._history.began)
            if runs.is_new:
                self._pending[STUDY_RUN] = None
            self._forget([key for key in self._history.trials if key in runs.doubtful or key not in runs.by_trial])
            self._runs = runs
        return self._runs

    def _forget(self, trial_ids: list[str]) -> None:
        """These trials' runs are gone or in doubt: everything the ledger has of them is pending again."""
        lost = [key for key in trial_ids if self._mark(key).epochs]
        epochs = _epochs(self._ledger, set(lost)) if lost else {}
        for trial_id in trial_ids:
            self._marks[trial_id] = _Mark()
            self._pending[trial_id] = None
            self._history.trials[trial_id].epochs.update(epochs.get(trial_id, {}))

    def _deliver_or_refuse(self, key: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._deliver_one(key)
        except MlflowException as error:
            if error.error_code not in FINAL_ERRORS:
                raise
            self._deliver_again(key)

    def _deliver_again(self, key: str) -> None:
        """The store refused a run: somebody deleted it or its experiment, or the store never accepts it."""
        from mlflow.exceptions import MlflowException

        self._runs = None
        self._attached()
        if key != STUDY_RUN:
            self._forget([key])
        try:
            self._deliver_one(key)
        except MlflowException as error:
            if error.error_code not in FINAL_ERRORS:
                raise
            self.refused[key or self.study] = tell(error, self.tracking_uri)
            logger.warning("MLflow does not accept %s: %s", key or self.study, self.refused[key or self.study])

    def _deliver_one(self, key: str) -> None:
        if key == STUDY_RUN:
            self._attached().describe_study(self._history)
        else:
            self._deliver_trial(key)

    def _deliver_trial(self, trial_id: str) -> None:
        runs, trial, mark = self._attached(), self._history.trials[trial_id], self._mark(trial_id)
        run_id = runs.by_trial.get(trial_id) or runs.create(trial, _revision(self._history.specification))
        if not mark.is_described:
            runs.describe(run_id, trial, moving_options(self._history, trial))
            mark.is_described = True
        new = [epoch for epoch in trial.epochs if epoch not in mark.epochs]
        tags = _state_tags(trial) | _whole(member_tags(self._history, trial))
        runs.log(run_id, [*_epoch_metrics(trial, new), *_summary_metrics(trial)], tags)
        for epoch in new:
            self._settle(trial_id, epoch)
        if mark.status != (trial.state, trial.ended):
            runs.log_files(run_id, self._ledger.parent / "trials" / trial_id)
            runs.set_status(run_id, trial.state, trial.ended)
            mark.status = (trial.state, trial.ended)


@dataclass
class _Runs:
    """The runs of one study in a store, found or made.

    Attributes:
        parent: run id of the study's own run.
        by_trial: run ids of the trials.
        doubtful: trials of which more than one run was found; one is kept and must be written anew.
        is_new: the parent run was made just now.
    """

    client: MlflowClient
    study: str
    origin: dict[str, str]
    experiment: str = ""
    parent: str = ""
    by_trial: dict[str, str] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    is_new: bool = False

    def find(self, artifact_root: Path | None, began: float | None) -> None:
        """Look the study up in the store; make its experiment and parent run where they are missing."""
        self.experiment = _experiment(self.client, self.study, artifact_root)
        self._supersede()
        found = self._search(keys.LEDGER, self.origin[keys.LEDGER])
        self._adopt_parent([run for run in found if run.data.tags.get(keys.KIND) == "study"], began)
        for run in found:
            if keys.TRIAL in run.data.tags:
                self._adopt_child(run)

    def create(self, trial: TrialHistory, revision: str) -> str:
        """Make the run of a trial; its tags identify it from its first moment on."""
        failpoint("before_run_create")
        tags = {**self.origin, keys.PARENT: self.parent, **_identity_tags(self.study, trial, revision)}
        run_id = self._create(trial.spec.trial_id, trial.started, tags)
        failpoint("after_run_create")
        self.by_trial[trial.spec.trial_id] = run_id
        return run_id

    def describe(self, run_id: str, trial: TrialHistory, moving: Collection[str] = ()) -> None:
        """Log the configuration. What a run already says stands: MLflow's parameters cannot be changed.

        Args:
            run_id: of the trial's run.
            trial: of which.
            moving: options that may still change, which only the file names for now.
        """
        from mlflow.entities import Param

        known = self.client.get_run(run_id).data.params
        values = parameters(trial.spec.config)
        new = [Param(name, value) for name, value in values.items() if name not in known and name not in moving]
        for start in range(0, len(new), PARAMETERS_A_REQUEST):
            self.client.log_batch(run_id, params=new[start : start + PARAMETERS_A_REQUEST])
        self.client.log_text(run_id, _yaml(trial.spec.config), CONFIG)

    def describe_study(self, history: History) -> None:
        """Bring the parent run up to date: what tables need, and whether the study runs."""
        specification = history.specification
        self.client.log_text(self.parent, json.dumps(specification, indent=2), keys.SPECIFICATION)
        state, status = _study_state(history)
        tags = {keys.STATE: state, keys.REASON: history.stopped_reason, keys.REVISION: _revision(specification)}
        if specification.get("question"):
            tags["mlflow.note.content"] = str(specification["question"])
        self.log(self.parent, [], tags)
        self._set_status(self.parent, status, history.stopped)

    def log(self, run_id: str, metrics: list[Metric], tags: Mapping[str, str]) -> None:
        """Log metrics and tags."""
        from mlflow.entities import RunTag

        failpoint("before_metrics")
        run_tags = [RunTag(key, value[:TAG_LENGTH]) for key, value in tags.items()]
        for start in range(0, max(len(metrics), 1), METRICS_A_REQUEST):
            self.client.log_batch(run_id, metrics=metrics[start : start + METRICS_A_REQUEST], tags=run_tags)
            run_tags = []
        failpoint("after_metrics")

    def log_files(self, run_id: str, folder: Path) -> None:
        """Send the scores of single persons that a training leaves in its folder, where it was trained here."""
        for file in sorted(folder.glob(keys.INSTANCES)):
            self.client.log_artifact(run_id, str(file))

    def set_status(self, run_id: str, state: str, ended: float | None) -> None:
        """Show a trial's state as a run's status."""
        failpoint("before_run_end")
        self._set_status(run_id, STATUS[state], ended)
        failpoint("after_run_end")

    def _set_status(self, run_id: str, status: str, ended: float | None) -> None:
        if status == "RUNNING" or ended is None:
            self.client.update_run(run_id, status=status)
        else:
            self.client.set_terminated(run_id, status=status, end_time=_milliseconds(ended))

    def _create(self, name: str, started: float | None, tags: Mapping[str, str]) -> str:
        start = None if started is None else _milliseconds(started)
        cut = {key: value[:TAG_LENGTH] for key, value in tags.items()}
        run = self.client.create_run(self.experiment, start_time=start, tags=cut, run_name=name)
        return str(run.info.run_id)

    def _search(self, tag: str, value: str) -> list[Run]:
        query = f"tags.`{tag}` = '{value}'"
        found: list[Run] = []
        page = self.client.search_runs([self.experiment], query, max_results=1000)
        found.extend(page)
        while page.token:
            page = self.client.search_runs([self.experiment], query, max_results=1000, page_token=page.token)
            found.extend(page)
        return found

    def _supersede(self) -> None:
        """Put aside what an earlier, deleted ledger of this results folder left; refuse to mix with another's."""
        for run in self._search(keys.KIND, "study"):
            tags = run.data.tags
            if tags.get(keys.LEDGER) == self.origin[keys.LEDGER]:
                continue
            if tags.get(keys.RESULTS) != self.origin[keys.RESULTS]:
                raise ForeignStudyError(_foreign(self.study, tags.get(keys.RESULTS, "elsewhere")))
            self._put_aside(tags[keys.LEDGER])

    def _put_aside(self, ledger_id: str) -> None:
        logger.warning("study %s was begun anew: its earlier runs go to MLflow's deleted runs", self.study)
        old = self._search(keys.LEDGER, ledger_id)
        for run in sorted(old, key=lambda run: run.data.tags.get(keys.KIND) == "study"):
            self.client.delete_run(run.info.run_id)

    def _adopt_parent(self, parents: list[Run], began: float | None) -> None:
        self.is_new = not parents
        if self.is_new:
            tags = {**self.origin, keys.KIND: "study", keys.STUDY: self.study}
            self.parent = self._create(self.study, began, tags)
        else:
            self.parent = parents[0].info.run_id
        for run in parents[1:]:
            self.client.delete_run(run.info.run_id)

    def _adopt_child(self, run: Run) -> None:
        trial_id = run.data.tags[keys.TRIAL]
        if trial_id in self.by_trial:  # a deleted run came back with its restored experiment
            self.client.delete_run(run.info.run_id)
            self.doubtful.add(trial_id)
            return
        self.by_trial[trial_id] = run.info.run_id
        if run.data.tags.get(keys.PARENT) != self.parent:
            self.client.set_tag(run.info.run_id, keys.PARENT, self.parent)


class ProjectionThread:
    """Follows a ledger and delivers it in the background. Nothing that trains ever waits for MLflow.

    While the store is away it tries again, after a second, then two, up to half a minute; what is not delivered
    when the process ends is delivered by the next run of the study, or by `sync`.
    """

    def __init__(
        self, tracking_uri: str, artifact_root: Path | None, ledger: Path, *, study: str = "", poll_s: float = 0.5
    ) -> None:
        self._projection = MlflowProjection(tracking_uri, artifact_root, ledger, study=study)
        self._ledger = ledger
        self._poll_s = poll_s
        self._offset = self._delivered_offset = 0
        self._failures = 0
        self._problem = ""
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow-projection", daemon=True)

    def start(self) -> ProjectionThread:
        """Begin to deliver."""
        self._thread.start()
        return self

    @property
    def problem(self) -> str:
        """Why the last attempt to deliver failed, one line; empty when it did not."""
        return self._problem

    @property
    def refused(self) -> dict[str, str]:
        """Trials that MLflow does not accept, with its reason."""
        return dict(self._projection.refused)

    def lag(self) -> int:
        """How many records of the ledger are not delivered yet."""
        return _count_lines(self._ledger, self._delivered_offset)

    def close(self, timeout: float) -> int:
        """Deliver what is left, for `timeout` seconds at most. Returns how many records remain undelivered."""
        self._is_closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return self.lag()

    def _follow(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._is_closing.is_set()
            if is_last:
                self._projection.recheck()
            self._attempt()
            self._is_closing.wait(0 if is_last else self._delay())

    def _delay(self) -> float:
        if not self._failures:
            return self._poll_s
        return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(self._failures - 1, 10)))

    def _attempt(self) -> None:
        try:
            self._deliver()
        except Exception as error:  # whatever MLflow raises must not end the study, nor this thread
            self._failed(error)
        else:
            self._succeeded()

    def _deliver(self) -> None:
        records, offset = read_from(self._ledger, self._offset)
        self._projection.take(records)
        self._offset = offset
        if self._projection.lag or self._failures or self._is_closing.is_set():
            self._projection.flush()
        self._delivered_offset = offset

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._problem = tell(error, self._projection.tracking_uri)
        if self._failures == 1:
            logger.warning("MLflow is behind, results are kept in %s: %s", self._ledger, self._problem)

    def _succeeded(self) -> None:
        if self._failures:
            logger.info("MLflow is up to date again after %d failed attempts", self._failures)
        self._failures, self._problem = 0, ""


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """The flattened configuration as MLflow's parameters: dotted path -> text, within MLflow's limits.

    A name or value that is too long is cut and ends in a digest of the whole, so that two of them stay different.
    """
    return {_shorten(name, NAME_LENGTH): _shorten(value, PARAMETER_LENGTH) for name, value in _flatten("", config)}


def tell(error: BaseException, tracking_uri: str) -> str:
    """An error in one line, without the credentials that `tracking_uri` may carry."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    credentials = _credentials(tracking_uri)
    return text.replace(credentials, "") if credentials else text


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and (value or not prefix):
        for key, child in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else str(key), child)
        return
    yield prefix, value if isinstance(value, str) else json.dumps(value)


def _shorten(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{text[: length - len(digest) - 1]}:{digest}"


def _epoch_metrics(trial: TrialHistory, epochs: Iterable[int]) -> Iterator[Metric]:
    from mlflow.entities import Metric

    for epoch in epochs:
        timestamp = _milliseconds(trial.epoch_times[epoch])
        for name, value in trial.epochs[epoch].items():
            yield Metric(keys.mlflow_name(name), float(value), timestamp, epoch)


def _summary_metrics(trial: TrialHistory) -> Iterator[Metric]:
    from mlflow.entities import Metric

    if trial.ended is None:
        return
    for name, value in trial.summary.items():
        yield Metric(keys.mlflow_name(name), float(value), _milliseconds(trial.ended), SUMMARY_STEP)


def _identity_tags(study: str, trial: TrialHistory, revision: str) -> dict[str, str]:
    spec = trial.spec
    return {
        keys.STUDY: study,
        keys.KIND: spec.kind,
        keys.TRIAL: spec.trial_id,
        keys.ARM: spec.arm,
        keys.SEED: str(spec.seed),
        keys.FINGERPRINT: spec.fingerprint,
        keys.PROTOCOL: json.dumps(spec.protocol, sort_keys=True),
        keys.TEACHER: spec.teacher,
        keys.REVISION: revision,
    }


def _whole(tags: Mapping[str, str]) -> dict[str, str]:
    """JSON texts that MLflow would have to cut are left empty: config.yaml holds the schedule too."""
    return {name: text if len(text) <= TAG_LENGTH else "" for name, text in tags.items()}


def _state_tags(trial: TrialHistory) -> dict[str, str]:
    return {
        keys.STATE: trial.state,
        keys.ATTEMPT: str(trial.attempt),
        keys.REASON: trial.reason,
        keys.REUSED_FROM: trial.reused_from,
    }


def _study_state(history: History) -> tuple[str, str]:
    if not history.is_stopped:
        return keys.RUNNING, "RUNNING"
    if history.stopped_reason in ("", keys.FINISHED):
        return keys.FINISHED, "FINISHED"
    return keys.INTERRUPTED, "KILLED"


def _revision(specification: Mapping[str, Any]) -> str:
    return str(specification.get("revision", ""))


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(config), sort_keys=False)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _identity(record: Record) -> str:
    text = json.dumps(asdict(record), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _epochs(ledger: Path, trial_ids: set[str]) -> dict[str, dict[int, dict[str, float]]]:
    replayed = History.replay(read_from(ledger)[0])
    return {key: trial.epochs for key, trial in replayed.trials.items() if key in trial_ids}


def _client(uri: str) -> MlflowClient:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    if uri.startswith(SQLITE):
        _check_sqlite(Path(uri.removeprefix(SQLITE)))
    return MlflowClient(tracking_uri=uri)


def _check_sqlite(path: Path) -> None:
    """Raise at once when the file cannot be written: MLflow would try for minutes, with a warning each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()


def _experiment(client: MlflowClient, study: str, artifact_root: Path | None) -> str:
    """The id of the study's experiment: found, restored after somebody deleted it, or created."""
    found: Experiment | None = client.get_experiment_by_name(study)
    if found is None:
        location = None if artifact_root is None else (artifact_root.resolve() / study).as_uri()
        return str(client.create_experiment(study, artifact_location=location))
    if found.lifecycle_stage == "deleted":
        logger.warning("the MLflow experiment %s was deleted: restoring it", study)
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _has_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _place(uri: str, ledger: Path) -> str:
    folder = str(ledger.resolve().parent)
    return f"{socket.gethostname()}:{folder}" if _has_server(uri) else folder


def _foreign(study: str, place: str) -> str:
    return (
        f"the MLflow store already holds a study {study} from {place}: "
        "give this one another name or store, or delete that experiment's runs first"
    )


def _credentials(uri: str) -> str:
    user, separator, _ = urlsplit(uri).netloc.rpartition("@")
    return user + separator


def _cursors(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}  # a lost cursor only costs delivering again
    return content if isinstance(content, dict) else {}


def _store_name(uri: str) -> str:
    credentials = _credentials(uri)
    return uri.replace(credentials, "", 1) if credentials else uri


def _read_cursor(path: Path, uri: str, records: list[Record]) -> int:
    """The last record delivered to this store; -1 when unknown, or when it is not in this ledger."""
    entry = _cursors(path).get(_store_name(uri))
    if not isinstance(entry, dict) or not isinstance(entry.get("seq"), int):
        return -1
    seq: int = entry["seq"]
    is_known = 0 <= seq < len(records) and _identity(records[seq]) == entry.get("record")
    return seq if is_known else -1


def _write_cursor(path: Path, uri: str, last: Record) -> None:
    content = {**_cursors(path), _store_name(uri): {"seq": last.seq, "record": _identity(last)}}
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    beside.replace(path)


def _count_lines(path: Path, offset: int) -> int:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read().count(b"\n")
    except FileNotFoundError:
        return 0
