"""`cdkd plan` after real trainings of seconds: what changed, and what the rest costs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.changes import Standing
from orchestrator.cli import main
from orchestrator.compiler import compile_study
from orchestrator.history import History
from orchestrator.price import Pricer
from orchestrator.study import load_study
from orchestrator.verbs.pricing import _budget_lines, jobs_left, kinds_of

BASE = """
data: {kind: synthetic, synthetic: {train_images: 24, val_images: 8, image_size: 64}}
student: {backbone: hrnet_w16, input_size: 32}
teacher: {backbone: hrnet_w16, input_size: 64, epochs: 1, batch_size: 8}
simcc: {split_ratio: 2.0}
distill: {sape: {enabled: false}, cca: {enabled: false}}
train: {epochs: 1, batch_size: 8}
evaluation: {flip_test: false}
runtime: {device: cpu, threads: 1}
"""
STUDY = """
# Does weight decay matter?
study: pricing
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
    path = tmp_path / "pricing.yaml"
    path.write_text(STUDY)
    monkeypatch.setenv("CDKD_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # Times of one trial alone in this process do not tell those of several beside each other; here they are to.
    monkeypatch.setattr("orchestrator.verbs.run.executor", lambda args: "ray")
    return path


def plan(study: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(["plan", str(study), *words]) == 0
    return capsys.readouterr().out


def test_without_any_history_it_says_how_to_get_a_price(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = plan(study, capsys)
    assert re.search(r"^none, some +2 +2 +\? +nothing yet$", shown, re.MULTILINE)
    assert "no price: trainings like those of none, some were never run here; --pilot measures" in shown


def test_after_a_run_the_rest_is_priced_by_it(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(study), "--in-process"]) == 0
    assert "nothing is left to train" in plan(study, capsys)
    study.write_text(STUDY.replace("seeds: [0]", "seeds: [0, 1]"))
    shown = plan(study, capsys)
    assert "since the last run: 2 of 4 trials reused" in shown
    assert re.search(r"^none, some +2 +2 +[\d.]+ \([\d.]+ to [\d.]+\) +2 trainings of pricing$", shown, re.MULTILINE)
    price = re.search(r"price of what is left: ([\d.e-]+) \(([\d.e-]+) to ([\d.e-]+)\) CPU hours, about", shown)
    assert price is not None
    middle, low, high = map(float, price.groups())
    assert 0 < low < middle < high
    enough = plan(study, capsys, "--set", f"budget.cpu_hours={middle * 100:.10f}")
    assert "enough by this estimate" in enough
    assert "used up after 0 of 2 trainings; left out: none seed 1" in plan(
        study, capsys, "--set", "budget.cpu_hours=1e-9"
    ).replace("1e-09", "")


def test_a_pilot_prices_what_was_never_run(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = plan(study, capsys, "--pilot", "--set", "ablation.arms={none: {}}")
    assert re.search(r"^none +1 +1 +[\d.]+ \([\d.]+ to [\d.]+\) +pilot$", shown, re.MULTILINE)
    assert "price of what is left" in shown


def test_trials_that_do_not_fit_here_have_no_price(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = plan(study, capsys, "--set", "resources.cpus_per_worker=10000")
    assert "no price: resources.cpus_per_worker: one trial asks for 10000 CPUs" in shown


def test_repeats_and_a_refit_are_described_and_priced(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study.write_text(STUDY.replace("seeds: [0]", "repeats: {min: 2, max: 5, until: ci95(difference) <= 0.01}"))
    shown = plan(study, capsys)
    assert "repeats: 2 to 5 of each arm, added while half the 95 % interval of the difference" in shown
    assert re.search(r"^none, some +10 +10 ", shown, re.MULTILINE)
    search = "search: {space: {distill.alpha: {low: 0.1, high: 1}}, trials: 4, refit: {top: 2, seeds: [7, 8]}}"
    study.write_text(STUDY[: STUDY.index("ablation:")] + search)
    shown = plan(study, capsys)
    assert "then the best 2 again on seeds 7 8 beside the base: 4 trainings more" in shown
    assert re.search(r"^base, search, refit +10 +10 ", shown, re.MULTILINE)  # 2 of the base, 4 proposals, 4 refits
    assert "10 student trainings, 0 teachers, 10 student epochs" in shown


def test_what_a_budget_leaves_out_names_the_refit(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = "search: {space: {distill.alpha: {low: 0.1, high: 1}}, trials: 4, refit: {top: 2, seeds: [7, 8]}}"
    study.write_text(STUDY[: STUDY.index("ablation:")] + "budget: {cpu_hours: 1}\n" + search)
    asked = compile_study(load_study(study))
    jobs, _ = jobs_left(asked, History(), Standing({}, {}, (), (), (), frozenset(), frozenset(), 0, is_first=True))
    monkeypatch.setattr(Pricer, "within", lambda *_: 0)
    (line,) = _budget_lines(asked, Pricer({}, kinds_of(asked)), jobs, History())
    assert line.endswith("left out: base seed 7, base seed 8, trials of the search, the refit of its best")


def test_a_grid_is_counted_by_its_cells(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = "search: {sampler: grid, space: {distill.alpha: {choices: [0.5, 1]}}, trials: 40}"
    study.write_text(STUDY[: STUDY.index("ablation:")] + grid)
    shown = plan(study, capsys)
    assert "2 student trainings, 0 teachers, 2 student epochs" in shown
    assert re.search(r"^search +2 +2 ", shown, re.MULTILINE)


def test_trainings_in_process_and_on_clusters_are_not_remembered(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.verbs.run.executor", lambda args: "in_process")
    assert main(["run", str(study), "--in-process", "--set", "ablation.arms={none: {}}"]) == 0
    study.write_text(STUDY.replace("seeds: [0]", "seeds: [0, 1]"))
    assert re.search(r"no price: trainings like those of (none, some|some, none)", plan(study, capsys))


def test_a_failed_arm_is_told_and_not_priced(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study.write_text(STUDY.replace("train.weight_decay: 0.01", "train.batch_size: 100000"))
    assert main(["run", str(study), "--in-process"]) == 1
    shown = plan(study, capsys)
    assert "1 failed and are not priced: cdkd run --retry-failed" in shown
    assert "nothing is left to train" in shown
