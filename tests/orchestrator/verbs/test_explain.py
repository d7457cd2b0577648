"""`cdkd explain` on a real store, with scores per person among the artifacts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from orchestrator import keys
from orchestrator.cli import main
from orchestrator.errors import UserError
from orchestrator.verbs import explain

SPECIFICATION = {
    "study": "small",
    "question": "?",
    "metric": {"name": "val/ap", "mode": "max", "select": "best"},
    "table": {"columns": ["params_m"], "baseline": "a", "arms": ["a", "b"], "labels": {"b": "CDKD"}},
    "seeds": [0],
    "search": None,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("small", artifact_location=(folder / "artifacts" / "small").as_uri())
    parent = client.create_run(experiment, tags={keys.KIND: "study"})
    client.log_dict(parent.info.run_id, SPECIFICATION, keys.SPECIFICATION)
    count = np.arange(6)
    for arm, oks in (("a", 0.6), ("b", 0.8)):
        tags = {keys.KIND: "student", keys.ARM: arm, keys.SEED: "0", keys.STATE: keys.FINISHED}
        tags |= {keys.TRIAL: f"{arm}-seed0", keys.PROTOCOL: json.dumps({"epochs": 3})}
        run = client.create_run(experiment, tags=tags).info.run_id
        client.log_metric(run, "best/val/ap", oks)
        client.log_metric(run, "params_m", 1.0)
        file = folder / "instances_val.npz"
        scores = {"image_id": count // 2, "annotation_id": count, "score": count, "counted": count * 0 + 3}
        np.savez(file, **scores, oks=np.full(6, oks))
        client.log_artifact(run, str(file))
    return folder


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    explain.configure(parser)
    return explain.run(parser.parse_args([str(argument) for argument in arguments]))


def test_a_cell_is_explained(results: Path, capsys: pytest.CaptureFixture) -> None:
    assert call("small", "CDKD", "val/ap", "--results", results) == 0
    told = capsys.readouterr().out
    assert told.startswith("small: CDKD, AP val (%)\n80.00 (1)\n")
    assert "trial b-seed0" in told


def test_machines_are_told_in_json(results: Path, capsys: pytest.CaptureFixture) -> None:
    assert call("small", "b", "val/ap", "--results", results, "--json") == 0
    assert [run["value"] for run in json.loads(capsys.readouterr().out)["runs"]] == [0.8]


def test_evaluation_noise_is_read_from_the_runs_artifacts(results: Path, capsys: pytest.CaptureFixture) -> None:
    """OKS 0.6 and 0.8 of all persons: right at 3 and at 7 of the ten thresholds, whichever images are drawn."""
    assert call("small", "b", "val/ap", "--against", "a", "--results", results) == 0
    told = capsys.readouterr().out
    assert "which of 3 images are in the split" in told
    assert "seed 0: +40.00 [+40.00, +40.00] %" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("small", "c", "val/ap"), "small: the table has no row 'c' \\("),
        (("small", "b", "val/app"), "no column 'val/app' \\(did you mean 'val/ap'"),
        (("small", "b", "val/ap", "--against", "zz"), "no row 'zz'"),
        (("small", "b", "params_m", "--against", "a"), "not of params_m"),
        (("absent", "b", "val/ap"), "no study 'absent'"),
    ],
)
def test_bad_input_is_one_line(results: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        call(*arguments, "--results", results)
    assert len(error.value.lines) == 1


def test_the_command_line_knows_it(results: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["explain", "small", "nobody", "val/ap", "--results", str(results)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
