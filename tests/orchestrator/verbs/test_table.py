"""`cdkd table` on a real store, from the arguments to the files."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from orchestrator import keys
from orchestrator.errors import Refused, UserError
from orchestrator.verbs import table
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
    assert names == ["small.csv", "small.html", "small.json", "small.md", "small.tex"]


def test_mixed_protocols_are_refused_with_exit_code_3_unless_allowed(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(Refused, match=r"epochs: 3 \(a\); 4 \(b\)") as error:
        call(table, "mixed", "--results", results, "--output", tmp_path)
    assert error.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
    assert call(table, "mixed", "--results", results, "--output", tmp_path, "--allow", "epochs") == 0
    assert "Protocols differ in epochs, as allowed: 3 (a); 4 (b)." in capsys.readouterr().out


@pytest.mark.parametrize("extension", table.FORMATS)
def test_a_committed_table_is_checked_against_the_store(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture, extension: str
) -> None:
    call(table, "small", "--results", results, "--output", tmp_path)
    file = tmp_path / f"small.{extension}"
    before = sorted(path.name for path in tmp_path.iterdir())
    assert call(table, "small", "--results", results, "--check", file) == 0
    assert f"{file} matches the store" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    file.write_text(file.read_text().replace("50", "51"))
    with pytest.raises(Refused, match="no longer matches the store: 1 difference") as error:
        call(table, "small", "--results", results, "--check", file)
    assert error.value.exit_code == 3
    told = capsys.readouterr().out
    assert (
        told.startswith("row b ") if extension == "csv" else told.startswith("row b, column AP val (%): committed 51")
    )
    assert "the store has 50" in told


def test_a_file_without_a_table_is_bad_input(results: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.md").write_text("# Nothing\n")
    with pytest.raises(UserError, match="holds no table as `cdkd table` writes it in md"):
        call(table, "small", "--results", results, "--check", tmp_path / "empty.md")


def test_a_check_is_short(
    results: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    call(table, "small", "--results", results, "--output", tmp_path, "--format", "csv")
    (tmp_path / "small.csv").write_text((tmp_path / "small.csv").read_text().replace("5", "6"))
    monkeypatch.setattr(table, "MOST_LINES", 1)
    capsys.readouterr()
    with pytest.raises(Refused, match="2 differences"):
        call(table, "small", "--results", results, "--check", tmp_path / "small.csv")
    assert capsys.readouterr().out.splitlines()[1:] == ["and 1 more"]


def test_the_reader_chooses_interval_and_epochs(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ("small", "--results", results, "--output", tmp_path, "--side-by-side", "--interval", "bca")
    assert call(table, *arguments) == 0
    assert "AP val (%), last epoch" in capsys.readouterr().out
    assert json.loads((tmp_path / "small.json").read_text())["interval"] == "bca"


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
        (("small", "--format", "md,docx"), "got docx"),
        (("small", "--check", "absent.md"), "absent.md: cannot be read"),
        (("small", "--check", "table.docx"), "its suffix must be one of md, csv, tex, html"),
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
