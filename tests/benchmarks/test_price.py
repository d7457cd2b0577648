"""The benchmark of prices on a study of seconds, with a stand-in for the run by the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import price
from orchestrator.cli import main
from orchestrator.price import Span

BASE = """
data: {kind: synthetic, synthetic: {train_images: 24, val_images: 8, image_size: 64}}
student: {backbone: hrnet_w16, input_size: 32}
distill: {sape: {enabled: false}, cca: {enabled: false}}
train: {epochs: 1, batch_size: 8}
evaluation: {flip_test: false}
runtime: {device: cpu, threads: 1}
"""
STUDY = """
study: benchmark-price
base: small
metric: {name: val/pckh@0.5}
ablation: {arms: {none: {}}}
"""


def test_what_happened_is_compared_with_the_estimate() -> None:
    found = price._compared(Span(10.0, 8.0, 12.0), 11.0)
    assert found["actual_to_estimate"] == pytest.approx(1.1)
    assert found["is_in_range"]
    assert not price._compared(Span(10.0, 8.0, 12.0), 13.0)["is_in_range"]


def test_a_study_is_priced_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "small.yaml").write_text(BASE)
    (tmp_path / "study.yaml").write_text(STUDY)
    results = tmp_path / "results"

    def run(study: str, changes: list[str], results: Path) -> None:
        words = [word for change in changes for word in ("--set", change)]
        assert main(["run", study, *words, "--in-process", "--results", str(results)]) == 0

    monkeypatch.setattr(price, "run", run)
    monkeypatch.setattr("orchestrator.verbs.run.executor", lambda args: "ray")  # whose times are remembered
    study = str(tmp_path / "study.yaml")
    by_pilot = price.measure(study, ["ablation.seeds=[0]"], results, by_pilot=True)
    assert by_pilot["cpu_hours"]["actual"] > 0
    by_history = price.measure(study, ["ablation.seeds=[0, 1]"], results, by_pilot=False)
    assert 0 < by_history["cpu_hours"]["actual"] < 3 * by_pilot["cpu_hours"]["actual"]  # the second seed alone
    assert 0 < by_history["wall_s"]["actual"] < 600
