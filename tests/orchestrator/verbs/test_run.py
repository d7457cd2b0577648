"""`cdkd run`, `status` and `stop` on a real study of seconds, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.compiler import compile_study
from orchestrator.history import History
from orchestrator.ledger import Ledger, read_from
from orchestrator.study import load_study

BASE = """
data: {kind: synthetic, synthetic: {train_images: 24, val_images: 8, image_size: 64}}
student: {backbone: hrnet_w16, input_size: 32}
teacher: {backbone: hrnet_w16, input_size: 64, epochs: 1, batch_size: 8}
distill: {sape: {enabled: false}, cca: {enabled: false}}
train: {epochs: 2, batch_size: 8}
evaluation: {flip_test: false}
runtime: {device: cpu, threads: 1}
"""
STUDY = """
# Does weight decay matter?
study: decay
base: small
metric: {name: val/pckh@0.5, mode: max, select: best}
ablation:
  arms: {none: {}, some: {train.weight_decay: 0.01}}
  seeds: [0]
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study file; results go to the folder beside it."""
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "small.yaml").write_text(BASE)
    path = tmp_path / "decay.yaml"
    path.write_text(STUDY)
    monkeypatch.setenv("CDKD_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return path


def test_a_study_is_run_once_and_its_table_printed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(study), "--in-process"]) == 0
    first = capsys.readouterr()
    assert "| none " in first.out
    assert "2/2 trials, 2 finished" in first.err
    ledger = (study.parent / "results" / "decay" / "ledger.jsonl").read_text()
    assert main(["run", str(study)]) == 0  # nothing to do: no Ray is started
    again = capsys.readouterr()
    assert again.out == first.out
    assert (study.parent / "results" / "decay" / "ledger.jsonl").read_text().count('"epoch"') == ledger.count('"epoch"')
    assert main(["status", "decay"]) == 0
    assert capsys.readouterr().out.startswith("decay: not running\n2/2 trials, 2 finished")
    assert main(["stop", "decay"]) == 0
    assert capsys.readouterr().out == "decay is not running\n"


def test_a_failed_trial_gives_exit_code_one(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study.write_text(STUDY.replace("train.weight_decay: 0.01", "train.batch_size: 100000"))
    assert main(["run", str(study), "--in-process"]) == 1
    assert "failed" in capsys.readouterr().err


def test_a_second_driver_is_refused_and_names_the_first(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger.open(study.parent / "results" / "decay" / "ledger.jsonl", writer=True):
        assert main(["run", str(study), "--in-process"]) == 3
        assert "pid" in capsys.readouterr().err
        assert main(["stop", "decay", "--timeout", "0.1"]) == 3


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("resources.cpus_per_worker=10000", "--set:1: resources.cpus_per_worker: one trial asks for 10000 CPUs"),
        ("resources.gpus_per_worker=64", "--set:1: resources.gpus_per_worker: one trial asks for 64 GPUs"),
        ("train.epochz=2", "epochz"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    study: Path, capsys: pytest.CaptureFixture[str], change: str, complaint: str
) -> None:
    assert main(["run", str(study), "--set", change]) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.err.count("\n") == 1
    assert not (study.parent / "results").exists()


def test_a_teacher_file_of_another_network_is_refused_before_anything_starts(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    file = study.parent / "teacher.pt"
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, file)
    changes = ["--set", f"teacher.checkpoint={file}", "--set", "distill.cca.enabled=true"]
    assert main(["run", str(study), "--in-process", *changes]) == 2
    assert "teacher.pt" in capsys.readouterr().err
    assert not (study.parent / "results").exists()


def test_a_study_that_was_never_run_has_no_status(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(study)]) == 2
    assert "has not been run yet" in capsys.readouterr().err
    assert main(["stop", str(study)]) == 2


def test_begun_afresh_everything_is_trained_again_and_the_rest_is_kept(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(study), "--in-process", "--set", "train.epochs=1"]) == 0
    first = capsys.readouterr()
    assert main(["run", str(study), "--in-process", "--set", "train.epochs=1", "--fresh"]) == 0
    again = capsys.readouterr()
    assert "-fresh1 finished" in again.err
    assert _scores(again.out) == _scores(first.out)  # the same seeds: the same numbers
    assert main(["plan", str(study), "--set", "train.epochs=1"]) == 0
    assert "nothing is left to train" in capsys.readouterr().out
    ledger = (study.parent / "results" / "decay" / "ledger.jsonl").read_text()
    assert ledger.count('"event":"ended"') == 4


def _scores(table: str) -> list[str]:
    return [line.split("|")[2] for line in table.splitlines() if line.startswith(("| none", "| some"))]


def test_a_used_up_budget_names_what_was_left_out(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study.write_text(STUDY + "budget: {cpu_hours: 0.000001}\n")
    monkeypatch.setattr("orchestrator.verbs.run.executor", lambda args: "ray")  # whose times make prices
    assert main(["run", str(study), "--in-process"]) == 3
    shown = capsys.readouterr().err
    assert "the budget of 1e-06 CPU hours is used up; left out:" in shown
    assert "interrupted after epoch 1 of 2" in shown
    assert "not begun" in shown
    assert main(["plan", str(study)]) == 0
    assert "budget: 1e-06 CPU hours" in capsys.readouterr().out
    study.write_text(STUDY)
    assert main(["run", str(study), "--in-process"]) == 0
    assert "2/2 trials, 2 finished" in capsys.readouterr().err


POPULATION = """
# Which step size when?
study: rates
base: small
metric: {name: val/pckh@0.5, mode: max, select: best}
search:
  trials: 2
  pbt: {interval: 1}
  space: {train.learning_rate: {low: 1e-4, high: 1e-2, log: true}}
"""


def test_a_population_is_run_and_its_best_schedule_can_be_written_into_a_study(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study.write_text(POPULATION)
    assert main(["validate", str(study)]) == 0
    assert "2 search trials (one population) over 1 options" in capsys.readouterr().out
    assert main(["plan", str(study)]) == 0
    assert "search: 2 trials as a population, looked at every 1 epochs, over:" in capsys.readouterr().out
    assert main(["run", str(study), "--in-process"]) == 0
    table = capsys.readouterr()
    assert "2 finished" in table.err
    assert "waits for the other members" not in table.err
    assert main(["status", "rates"]) == 0
    status = capsys.readouterr().out
    assert "population of 2 members: 1 of 1 looks, 1 went on from another's state" in status
    line = next(line for line in status.splitlines() if "in a study: set: " in line).partition("set: ")[2]
    assert f"set: {line}" in table.out
    study.write_text(
        POPULATION.replace("study: rates", "study: fixed").partition("search:")[0]
        + f"ablation: {{arms: {{best: {line}}}}}\n"
    )
    (arm,) = compile_study(load_study(study)).trials
    members = History.replay(read_from(study.parent / "results" / "rates" / "ledger.jsonl")[0]).trials.values()
    assert arm.fingerprint in {member.spec.fingerprint for member in members}
