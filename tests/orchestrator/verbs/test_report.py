"""`cdkd report` and `cdkd repro` on a real study of seconds: what they print trains the same network again."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from orchestrator.cli import main
from orchestrator.verbs import run

REPOSITORY = Path(__file__).resolve().parents[3]
BASE = """
data: {kind: synthetic, synthetic: {train_images: 16, val_images: 8, image_size: 64}}
student: {backbone: hrnet_w16, input_size: 32}
teacher: {backbone: hrnet_w16, input_size: 64, epochs: 1, batch_size: 8}
distill: {sape: {enabled: false}}
train: {epochs: 1, batch_size: 8}
evaluation: {flip_test: false}
runtime: {device: cpu, threads: 1}
"""
STUDY = """
# Does a teacher help?
study: helped
base: small
metric: {name: val/pckh@0.5, mode: max, select: best}
ablation:
  arms: {alone: {distill.cca.enabled: false}, +CCA: {}}
  seeds: [3]
table: {baseline: alone, columns: [val/pckh@0.5, params_m]}
"""
LAPTOP = """
import sys
for name in ("torch", "ray", "optuna", "mlflow", "cv2"):
    sys.modules[name] = None
from orchestrator.cli import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Done:
    """A study that was run: its file, its results, and the run ids of its trials by kind or arm."""

    file: Path
    results: Path
    runs: dict[str, str]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    from analysis.store import Store

    folder = tmp_path_factory.mktemp("study")
    (folder / "bases").mkdir()
    (folder / "bases" / "small.yaml").write_text(BASE)
    file = folder / "helped.yaml"
    file.write_text(STUDY)
    results = folder / "results"
    assert main(["run", str(file), "--in-process", "--results", str(results), "--set", "train.weight_decay=0.001"]) == 0
    trials = Store(f"sqlite:///{results / 'mlflow.db'}").read("helped").trials
    return Done(file, results, dict(zip(trials["arm"], trials["run_id"])))


def store_of(done: Done) -> list[str]:
    return ["--results", str(done.results)]


def test_a_laptop_without_torch_ray_and_mlflow_writes_the_report(done: Done, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LAPTOP, "report", str(done.file), *store_of(done), "--output", str(tmp_path)]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [str(tmp_path / "report.html"), str(tmp_path / "report.md")]
    text = (tmp_path / "report.md").read_text()
    assert "3 of 3 trainings have finished, as the store had it" in text
    assert "| distill.cca.enabled | false | true |" in text
    assert f"\ncdkd run {done.file} --set train.weight_decay=0.001\n" in text
    assert "torch 2" in text
    assert "1 CPU " in text or " CPUs (" in text


def test_by_default_the_report_goes_to_the_studys_results(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "helped", *store_of(done)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(done.results / "helped" / "report" / "report.html")


def test_a_submission_knows_the_teachers_file(done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "helped", *store_of(done), "--submission", "--output", str(tmp_path)]) == 0
    assert str(tmp_path / "checksums.txt") in capsys.readouterr().out
    (teacher,) = (done.results / "teachers").glob("*/best.pt")
    from orchestrator.fingerprint import file_digest

    assert f"teacher {teacher.parent.name} sha256 {file_digest(teacher)}" in (tmp_path / "checksums.txt").read_text()
    assert str(done.results) not in (tmp_path / "commands.txt").read_text()


def test_a_submissions_command_trains_the_row_again(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.store import Store

    assert main(["report", "helped", *store_of(done), "--submission", "--output", str(tmp_path)]) == 0
    monkeypatch.chdir(tmp_path)
    lines = [line for line in Path("commands.txt").read_text().splitlines() if not line.startswith("#")]
    command = lines[0].replace("for seed in 3; do ", "").replace("; done", "").replace("$seed", "3")
    assert main(shlex.split(command)[1:]) == 0
    summary = json.loads(Path("repeat/alone-seed3/summary.json").read_text())["summary"]
    trials = Store(f"sqlite:///{done.results / 'mlflow.db'}").read("helped").trials.set_index("arm")
    assert summary["best/val/pckh@0.5"] == trials.loc["alone", "metrics.best/val/pckh@0.5"]


def test_the_recorded_command_says_what_is_trained_and_not_where_it_goes() -> None:
    parser = argparse.ArgumentParser()
    run.configure(parser)
    words = ["my study.yaml", "--profile", "tiny", "--set", "a=[1, 2]", "--tracking-uri", "http://me:secret@host"]
    assert run.command_again(parser.parse_args(words)) == "cdkd run 'my study.yaml' --set 'a=[1, 2]' --profile tiny"


def test_a_printed_configuration_and_command_train_the_same_network(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["repro", done.runs["+CCA"][:16], *store_of(done)]) == 0
    printed = capsys.readouterr().out
    Path("config.yaml").write_text(printed)
    fields = {line[2:14].strip(): line[14:] for line in printed.splitlines() if line.startswith("# ")}
    (teacher,) = (done.results / "teachers").glob("*/best.pt")
    assert f"teacher.checkpoint={teacher}" in fields["command"]
    assert fields["in a study"].endswith("--set train.weight_decay=0.001 --set 'ablation.seeds=[3]'")
    assert fields["data"].endswith("(the same here)")
    assert fields["teacher"] == f"{teacher.parent.name}, verified: {teacher}"
    assert main(shlex.split(fields["command"])[1:]) == 0
    summary = json.loads((tmp_path / "repeat" / done.runs["+CCA"] / "summary.json").read_text())["summary"]
    name, value = fields["expect"].split(" = ")
    assert summary[name] == float(value)


def test_written_files_hold_the_same_and_are_run_by_a_shell(
    done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "again"
    assert main(["repro", done.runs["alone"], *store_of(done), "--output", str(folder)]) == 0
    command = capsys.readouterr().out
    assert command == f"cdkd train {folder}/config.yaml --output {folder}\n"
    assert (folder / "command.sh").read_text().endswith(f"\n{command}")
    subprocess.run(["sh", "-n", str(folder / "command.sh")], check=True)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["seed"], config["train"]["weight_decay"]) == (3, 0.001)
    assert "teacher     none needed" in (folder / "config.yaml").read_text()


def test_a_lost_teacher_is_trained_again(done: Done, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(done.results, tmp_path / "results", ignore=shutil.ignore_patterns("teachers"))
    uri = f"sqlite:///{tmp_path / 'results' / 'mlflow.db'}"
    assert main(["repro", done.runs["+CCA"], "--tracking-uri", uri]) == 0
    printed = capsys.readouterr().out
    assert "not in this results folder: the command trains it first" in printed
    assert "teacher.checkpoint=" not in printed


def test_a_teachers_run_is_repeated_like_any_other(done: Done, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repro", done.runs["teacher"], *store_of(done)]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["student"]["input_size"] == 64
    assert "ablation.seeds" not in printed


@pytest.mark.parametrize("arguments", [["repro", "zzzz"], ["report", "absent"], ["report", "absent", "--submission"]])
def test_bad_input_is_one_line(done: Done, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, *store_of(done)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert arguments[1] in said
