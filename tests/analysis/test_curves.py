"""Learning curves: numbers by plain pandas, the drawing as a smoke test."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.curves import Curves, curves
from analysis.errors import StoreError
from analysis.figure import draw, save
from analysis.store import Store
from tests.analysis.recorded import StudyBuilder, Workbench


@pytest.fixture(scope="session")
def found(workbench: Workbench, modules: StudyBuilder) -> Curves:
    return curves(Store(workbench.uri), workbench.read("modules"))


def test_bands_are_mean_and_deviation_over_finished_seeds(found: Curves) -> None:
    score = found.bands[(found.bands["metric"] == "val/pckh@0.5") & (found.bands["arm"] == "plain")]
    peak = pd.Series([0.70, 0.71, 0.69])
    assert list(score["epoch"]) == [1, 2, 3]
    assert list(score["mean"]) == pytest.approx([peak.mean() - 0.1, peak.mean(), peak.mean() - 0.01])
    assert list(score["std"]) == pytest.approx([peak.std()] * 3)
    assert list(score["n"]) == [3, 3, 3]


def test_trials_that_did_not_finish_are_in_no_mean_but_shown(found: Curves) -> None:
    assert set(found.bands["arm"]) == {"plain", "projector", "full"}
    assert {(row.arm, row.state, row.epoch) for row in found.singles.itertuples()} == {
        ("ensemble", "diverged", 1),
        ("etht_only", "running", 1),
        ("etht_only", "running", 2),
    }


def test_a_metric_of_the_summary_has_no_curve(workbench: Workbench, modules: StudyBuilder) -> None:
    with pytest.raises(StoreError, match="got 'best/val/ap'"):
        curves(Store(workbench.uri), workbench.read("modules"), "best/val/ap")


def test_the_drawing_has_a_line_for_each_arm_in_percent(found: Curves) -> None:
    score, ratio = draw(found).axes
    peaks = {line.get_label(): max(line.get_ydata()) for line in score.lines}
    assert peaks["SimCC"] == pytest.approx(70.0)
    assert peaks["etht_only (unfinished)"] == pytest.approx(40.0)
    assert len(score.lines) == 5
    assert max(ratio.lines[0].get_ydata()) == pytest.approx(0.3)


@pytest.mark.parametrize("extension", ["png", "svg", "pdf"])
def test_the_drawing_is_written(found: Curves, tmp_path: Path, extension: str) -> None:
    (path,) = save(draw(found), tmp_path / "figures" / "modules-curves", [extension])
    assert path == tmp_path / "figures" / f"modules-curves.{extension}"
    assert path.stat().st_size > 5_000


def test_nothing_recorded_still_draws(found: Curves) -> None:
    assert len(draw(Curves("s", "val/ap", {}, found.bands[:0], found.singles[:0])).axes) == 1
