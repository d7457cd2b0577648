"""`cdkd table` and `cdkd figure` on a real store, from the arguments to the files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from orchestrator import keys
from orchestrator.errors import Refused, UserError
from orchestrator.verbs import figure, table
from orchestrator.verbs.stored import store_uri, study_name

SPECIFICATION = {
    "study": "small",
    "question": "?",
    "metric": {"name": "val/ap", "mode": "max", "select": "last"},
    "table": {"columns": [], "baseline": "", "arms": ["a", "b"]},
    "seeds": [0],
    "search": None,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    for study, epochs in (("small", {"a": 3, "b": 3}), ("mixed", {"a": 3, "b": 4})):
        experiment = client.create_experiment(study, artifact_location=(folder / "artifacts" / study).as_uri())
        parent = client.create_run(experiment, tags={keys.KIND: "study"})
        client.log_dict(parent.info.run_id, SPECIFICATION, keys.SPECIFICATION)
        for arm, value in (("a", 0.25), ("b", 0.5)):
            tags = {keys.KIND: "student", keys.ARM: arm, keys.SEED: "0", keys.STATE: keys.FINISHED}
            tags |= {keys.TRIAL: f"{arm}-seed0", keys.PROTOCOL: json.dumps({"epochs": epochs[arm]})}
            run = client.create_run(experiment, tags=tags)
            client.log_metric(run.info.run_id, "final/val/ap", value)
            client.log_metric(run.info.run_id, "val/ap", value, step=1)
    return folder


def call(verb: object, *arguments: object) -> int:
    parser = argparse.ArgumentParser()
    verb.configure(parser)
    return verb.run(parser.parse_args([str(argument) for argument in arguments]))


def test_the_table_is_printed_and_written(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert call(table, "small", "--results", results, "--output", tmp_path, "--format", "md,csv") == 0
    printed = capsys.readouterr()
    assert "**50.00 (1)**" in printed.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.csv", "small.json", "small.md"]
    assert str(tmp_path / "small.md") in printed.err


def test_by_default_all_formats_go_below_the_results(results: Path) -> None:
    assert call(table, "small", "--results", results) == 0
    names = sorted(path.name for path in (results / "small" / "tables").iterdir())
    assert names == ["small.csv", "small.json", "small.md", "small.tex"]


def test_mixed_protocols_are_refused_with_exit_code_3_unless_allowed(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(Refused, match=r"epochs: 3 \(a\); 4 \(b\)") as error:
        call(table, "mixed", "--results", results, "--output", tmp_path)
    assert error.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
    assert call(table, "mixed", "--results", results, "--output", tmp_path, "--allow", "epochs") == 0
    assert "Protocols differ in epochs, as allowed: 3 (a); 4 (b)." in capsys.readouterr().out


def test_a_study_file_names_its_study(tmp_path: Path) -> None:
    path = tmp_path / "file-name.yaml"
    path.write_text("study: small\nablation: {whatever: 1}\n")
    assert study_name(str(path)) == "small"
    path.write_text("base: x\n")
    assert study_name(str(path)) == "file-name"


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden"])
def test_a_name_never_leaves_the_folder(name: str) -> None:
    with pytest.raises(UserError, match="a study's name has"):
        study_name(name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent",), "no study 'absent'"),
        (("small", "--format", "md,html"), "got html"),
        (("nowhere.yaml",), "nowhere.yaml"),
    ],
)
def test_bad_input_is_one_line(results: Path, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        call(table, *arguments, "--results", results)
    assert len(error.value.lines) == 1


def test_without_a_store_nothing_is_created(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no MLflow store"):
        call(table, "small", "--results", tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


def test_the_store_is_the_flag_then_the_results_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert store_uri(None, None) == "http://server"
    assert store_uri("/r", None) == "sqlite:////r/mlflow.db"
    assert store_uri("/r", "sqlite:////x.db") == "sqlite:////x.db"


def test_the_figure_is_written(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert call(figure, "small", "--results", results, "--output", tmp_path) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "small-curves.png")
    with pytest.raises(UserError, match="no trial has reported"):
        call(figure, "small", "--results", results, "--output", tmp_path, "--metric", "val/other")
