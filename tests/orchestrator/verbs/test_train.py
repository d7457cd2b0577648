"""`cdkd train` and `evaluate`: one real training of seconds, and what can be done with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import main

REPOSITORY = Path(__file__).resolve().parents[3]
CONFIG = {
    "data": {"synthetic": {"train_images": 24, "val_images": 8, "image_size": 64}},
    "student": {"backbone": "hrnet_w16", "input_size": 32},
    "teacher": {"backbone": "hrnet_w16", "input_size": 64, "epochs": 1, "batch_size": 8},
    "train": {"epochs": 2, "batch_size": 8},
    "evaluation": {"flip_test": False},
    "runtime": {"device": "cpu", "threads": 1},
}
WITHOUT_PACKAGES = """
import sys
for name in ("ray", "mlflow", "optuna", "yaml", "rich", "pandas"):
    sys.modules[name] = None
from orchestrator.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of `cdkd train` with a teacher, in a process that has torch, NumPy and OpenCV only."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.json").write_text(json.dumps(CONFIG))
    arguments = ["train", str(folder / "small.json"), "--results", str(folder), "--set", "train.epochs=1"]
    command = [sys.executable, "-c", WITHOUT_PACKAGES, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "best/val/pckh@0.5" in done.stdout
    assert "teacher hrnet_w16 at 64" in done.stderr
    return folder


def test_a_training_leaves_network_and_summary_and_shares_its_teacher(trained: Path) -> None:
    folder = trained / "trained" / "small"
    assert json.loads((folder / "summary.json").read_text())["config"]["train"]["epochs"] == 1
    (teacher,) = (trained / "teachers").glob("*/best.pt")
    assert (teacher.parent / "summary.json").exists()


def test_the_same_command_again_trains_nothing(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", str(trained / "small.json"), "--results", str(trained), "--set", "train.epochs=1"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "teacher" not in said.err
    assert said.err.count("epoch 1/1") == 1


def test_a_checkpoint_is_scored_as_the_training_scored_it(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained / "trained" / "small"
    assert main(["evaluate", str(folder), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    summary = json.loads((folder / "summary.json").read_text())["summary"]
    assert scores["pckh@0.5"] == pytest.approx(summary["best/val/pckh@0.5"])
    assert scores["ap"] == pytest.approx(summary["best/val/ap"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "nowhere.json"], "nowhere.json: No such file or directory"),
        (["train", "CONFIG", "--set", "train.epochz=1"], "did you mean 'train.epochs'?"),
        (["train", "CONFIG", "--set", "train.epochs=many"], "train.epochs: must be a whole number"),
        (["train", "CONFIG", "--set", "train.epochs"], "--set train.epochs: must be KEY=VALUE"),
        (["evaluate", "nowhere.pt"], "nowhere.pt"),
    ],
)
def test_mistakes_are_one_line(
    trained: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert main([str(trained / "small.json") if word == "CONFIG" else word for word in arguments]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
