"""From a store of many runs to the finished table: `analysis.store` by SQL against `mlflow.search_runs`.

MLflow itself writes one run of each arm, with 20 metrics and 20 parameters; the others are copies of these rows with
values of their own. Both ways then go through the same code of tables, and their frames are held equal first.

    python -m benchmarks.tables --runs 1000 10000
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.frames import METRICS, PARAMS, TAG_COLUMNS, TRIAL_KINDS
from analysis.store import Store, StudyRecord
from analysis.tables import read, sheets, write
from benchmarks.measure import compare, lines, ratio
from benchmarks.measure import write as write_report
from orchestrator import keys

SEED = 0
STUDY = "many"
METRIC = "val/pckh@0.5"
SUMMARY = ["best/val/pckh@0.5", "params_m", *(f"best/val/pckh@0.5/keypoint_{index:02}" for index in range(16)),
           "final/val/pckh@0.5", "train_seconds"]  # fmt: skip
PARAMETERS = [f"part.option_{index:02}" for index in range(20)]
SEARCHED = 6  # of the parameters
ARMS = {"ablation": ("base", "one", "two", "three", "full"), "search": ("search",)}
TABLES = ("runs", "latest_metrics", "metrics", "params", "tags")
FORMATS = ("md", "csv", "tex")
PEER, OURS, NEEDED, COMMAND = "mlflow.search_runs", "Store.read", "tables.read", "cdkd table"


def build(folder: Path, runs: int, kind: str) -> str:
    """Make a store with one study of `runs` trials; its URI."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    templates = _written_by_mlflow(uri, folder, runs, kind)
    rng = np.random.default_rng(SEED)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        for arm, run_id in templates.items():
            _copy(connection, arm, run_id, runs // len(templates) - 1, rng)
        if kind == "search":
            names = ", ".join(f"'{name}'" for name in PARAMETERS[:SEARCHED])
            connection.execute(f"UPDATE params SET value = abs(random()) % 9973 / 9973.0 WHERE key IN ({names})")
    return uri


def _written_by_mlflow(uri: str, folder: Path, runs: int, kind: str) -> dict[str, str]:
    """A study as the driver records it, with one trial of each arm; arm -> run id."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    experiment = client.create_experiment(STUDY, artifact_location=(folder / "artifacts").as_uri())
    parent = client.create_run(experiment, start_time=1, tags={keys.KIND: "study", keys.STUDY: STUDY}).info.run_id
    client.log_dict(parent, _specification(runs // len(ARMS[kind]), kind), keys.SPECIFICATION)
    found = {}
    for arm in ARMS[kind]:
        tags = {keys.KIND: "student", keys.TRIAL: f"{arm}-0", keys.ARM: arm, keys.SEED: "0", keys.PARENT: parent}
        tags |= {keys.STATE: keys.FINISHED, keys.FINGERPRINT: "0" * 32, keys.TEACHER: "1" * 32, keys.STUDY: STUDY}
        tags |= {keys.PROTOCOL: json.dumps({"data": "mpii", "epochs": 210, "input": {"width": 64, "height": 64}})}
        found[arm] = client.create_run(experiment, start_time=2).info.run_id
        client.log_batch(
            found[arm],
            metrics=[Metric(keys.mlflow_name(name), 0.5, 2, 0) for name in SUMMARY],
            params=[Param(name, f"value of {name}") for name in PARAMETERS],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
    return found


def _specification(seeds: int, kind: str) -> dict[str, Any]:
    table = {"columns": [METRIC, "params_m"], "arms": list(ARMS[kind]), "components": [], "baseline": ""}
    search = {"sampler": "tpe", "trials": seeds, "space": {name: {"type": "float"} for name in PARAMETERS[:SEARCHED]}}
    return {
        "study": STUDY,
        "question": "How long does it take?",
        "metric": {"name": METRIC, "mode": "max", "select": "best"},
        "table": table | ({"baseline": "base"} if kind == "ablation" else {"arms": ["base"]}),
        "seeds": list(range(seeds)) if kind == "ablation" else [0],
        "search": search if kind == "search" else None,
    }


def _copy(connection: sqlite3.Connection, arm: str, run_id: str, copies: int, rng: np.random.Generator) -> None:
    """Copy a run's rows of every table, with an id, a seed, a start and values of each copy's own."""
    connection.execute("CREATE TEMP TABLE copies (run_uuid TEXT, number INTEGER, noise REAL)")
    new = [(uuid.UUID(bytes=rng.bytes(16)).hex, number, rng.normal()) for number in range(1, copies + 1)]
    connection.executemany("INSERT INTO copies VALUES (?, ?, ?)", new)
    changed = {
        "run_uuid": "copies.run_uuid",
        "start_time": "original.start_time + copies.number",
        "metrics.value": "original.value + copies.noise * 0.01",
        "latest_metrics.value": "original.value + copies.noise * 0.01",
        "tags.value": f"CASE original.key WHEN '{keys.SEED}' THEN CAST(copies.number AS TEXT) "
        f"WHEN '{keys.TRIAL}' THEN '{arm}-' || copies.number ELSE original.value END",
    }
    for table in TABLES:
        columns = [column for _, column, *_ in connection.execute(f"PRAGMA table_info({table})")]
        values = [changed.get(f"{table}.{name}") or changed.get(name) or f"original.{name}" for name in columns]
        connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {table} AS original, copies "
            "WHERE original.run_uuid = ?",
            (run_id,),
        )
    connection.execute("DROP TABLE copies")


def with_mlflow(uri: str) -> pd.DataFrame:
    """The trials by MLflow's own function, with the names that the tables know."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    found = mlflow.search_runs(experiment_names=[STUDY], order_by=["attributes.start_time ASC"])
    found = found[found[f"tags.{keys.KIND}"].isin(TRIAL_KINDS)].reset_index(drop=True)
    none = pd.Series([""] * len(found), dtype=found["run_id"].dtype)
    tags = pd.DataFrame({column: found.get(f"tags.{tag}", none) for column, tag in TAG_COLUMNS.items()})
    tags["seed"] = tags["seed"].astype(int)
    tags["protocol"] = pd.Series([json.loads(text) for text in tags["protocol"]], dtype=object)
    started = found["start_time"].astype("datetime64[ms, UTC]").astype("int64").rename("started")
    values = found[sorted(str(name) for name in found if str(name).startswith((PARAMS, METRICS)))]
    return pd.concat([found["run_id"], started, tags, values.rename(columns=keys.metric_name)], axis=1)


def measure(uri: str, runs: int, kind: str, pairs: int, folder: Path) -> dict[str, Any]:
    """Compare the ways to one study's table.

    Raises:
        AssertionError: the frames differ.
    """
    frame = Store(uri).read(STUDY).trials
    pd.testing.assert_frame_equal(frame, with_mlflow(uri), check_like=True)  # of equal starts, too, the same order
    assert len(frame) == runs
    specification = Store(uri).specification(STUDY)
    read_s: dict[str, list[float]] = {}

    def table(name: str, trials: Callable[[], pd.DataFrame]) -> Callable[[], None]:
        def call() -> None:
            started = time.perf_counter()
            record = StudyRecord(STUDY, specification, trials(), uri)
            read_s.setdefault(name, []).append(time.perf_counter() - started)
            for sheet in sheets(record):
                write(sheet, folder / name.replace(" ", "_"), FORMATS, uri)

        return call

    report = compare(
        {
            PEER: table(PEER, lambda: with_mlflow(uri)),
            OURS: table(OURS, lambda: Store(uri).read(STUDY).trials),
            NEEDED: table(NEEDED, lambda: read(Store(uri), STUDY).trials),
            COMMAND: lambda: _command(uri, folder / "command"),
        },
        PEER,
        name=f"tables_{kind}_{runs}",
        pairs=pairs,
        warmups=1,
        units=runs,
        unit="run",
        seed=SEED,
    )
    frames = {name: times[-pairs:] for name, times in read_s.items()}
    rng = np.random.default_rng(SEED)
    faster = {name: ratio(frames[PEER], frames[name], rng) for name in (OURS, NEEDED)}
    return {**report, "frame_seconds": frames, "frame_times_as_fast": faster}


def _command(uri: str, folder: Path) -> None:
    """What a user waits for: start of the interpreter, imports, reading, table, files."""
    program = "import sys; from orchestrator.cli import main; sys.exit(main())"
    arguments = ["table", STUDY, "--tracking-uri", uri, "--output", str(folder), "--format", ",".join(FORMATS)]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)


@contextmanager
def store(runs: int, kind: str) -> Iterator[tuple[str, Path]]:
    """A store for the time of a measurement: its URI and the folder."""
    with tempfile.TemporaryDirectory(prefix="cdkd-tables-") as name:
        yield build(Path(name), runs, kind), Path(name)


def main() -> None:
    """Measure every number of runs and kind of study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1000, 10_000], help="trials of the study")
    parser.add_argument("--kinds", nargs="+", default=list(ARMS), choices=list(ARMS), help="of the study")
    parser.add_argument("--pairs", type=int, default=5, help="counted rounds")
    arguments = parser.parse_args()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for kind in arguments.kinds:
        for runs in arguments.runs:
            with store(runs, kind) as (uri, folder):
                report = measure(uri, runs, kind, arguments.pairs, folder)
            print(lines(report))
            for name, found in report["frame_times_as_fast"].items():
                print(f"  the frame alone: {name}: {found['ratio']:.1f} ({found['low']:.1f} to {found['high']:.1f})")
            print(f"  {write_report(report)}", flush=True)


if __name__ == "__main__":
    main()
