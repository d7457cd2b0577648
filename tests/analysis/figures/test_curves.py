"""Learning curves: numbers by plain pandas, the drawing as a smoke test."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from analysis.errors import NotDrawable
from analysis.figures import curves
from analysis.figures.bands import bands
from analysis.figures.curves import Curves, epoch_metric
from analysis.figures.source import Source
from analysis.figures.style import Page
from orchestrator import keys
from tests.analysis.figures.studies import source
from tests.analysis.recorded import StudyBuilder, Workbench, best, specification_of

PEAKS = pd.Series([70.0, 71.0, 69.0])  # of the arm `plain`, in its second epoch


@pytest.fixture(scope="module")
def found(modules_source: Source) -> Curves:
    return curves.data(modules_source)


def test_a_band_is_mean_and_deviation_over_finished_seeds_in_percent(found: Curves) -> None:
    score = found.bands[found.bands["arm"] == "plain"]
    assert list(score["epoch"]) == [1, 2, 3]
    assert list(score["mean"]) == pytest.approx([PEAKS.mean() - 10, PEAKS.mean(), PEAKS.mean() - 1])
    assert list(score["high"] - score["mean"]) == pytest.approx([PEAKS.std()] * 3)
    assert list(score["mean"] - score["low"]) == pytest.approx([PEAKS.std()] * 3)
    assert list(score["n"]) == [3, 3, 3]


def test_a_band_may_be_the_range(workbench: Workbench, modules: StudyBuilder) -> None:
    found = curves.data(source(workbench, "modules", band="range"))
    peak = found.bands[(found.bands["arm"] == "plain") & (found.bands["epoch"] == 2)].iloc[0]
    assert (peak["low"], peak["high"]) == pytest.approx((69.0, 71.0))
    assert "smallest to largest" in found.caption[1]


def test_trials_that_did_not_finish_are_in_no_mean_but_shown(found: Curves) -> None:
    assert set(found.bands["arm"]) == {"plain", "projector", "full"}
    assert {(row.arm, row.state, row.epoch) for row in found.singles.itertuples()} == {
        ("ensemble", "diverged", 1),
        ("etht_only", "running", 1),
        ("etht_only", "running", 2),
    }


def test_the_runs_are_those_drawn(found: Curves, modules: StudyBuilder) -> None:
    expected = {run_id for run_id, trial_id in modules.names.items() if "teacher" not in trial_id}
    unreported = {run_id for run_id, trial_id in modules.names.items() if trial_id.startswith("ensemble-seed0")}
    assert set(found.runs["run_id"]) == expected - unreported


def test_one_seed_has_no_band_and_a_nan_stays_one() -> None:
    frame = pd.DataFrame(
        {"arm": "a", "metric": "m", "state": keys.FINISHED, "epoch": [1, 2, 2], "value": [1.0, 2.0, math.nan]}
    )
    found = bands(frame, "range")
    assert found["low"].isna().all()
    assert list(found["mean"].isna()) == [False, True]
    assert list(found["n"]) == [1, 2]


@pytest.mark.parametrize(
    ("metric", "reported"),
    [("test/ap", "val/ap"), ("val/ap", "val/ap"), ("test/ap@det", "val/ap"), ("train/loss", "train/loss")],
)
def test_only_the_validation_split_is_scored_every_epoch(
    workbench: Workbench, modules: StudyBuilder, metric: str, reported: str
) -> None:
    assert epoch_metric(source(workbench, "modules", metric=metric)) == reported


def test_without_an_epoch_there_is_no_figure(workbench: Workbench) -> None:
    workbench.study("no-epochs", specification_of("no-epochs")).trial("base", 0, best(0.5))
    with pytest.raises(NotDrawable, match=r"has reported an epoch of val/pckh@0\.5"):
        curves.data(source(workbench, "no-epochs"))


def test_the_drawing_has_a_line_for_each_arm_and_says_what_the_band_is(found: Curves) -> None:
    figure = curves.draw(found, Page.of("single"))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "PCKh@0.5 val (%)")
    peaks = {line.get_label(): max(line.get_ydata()) for line in axes.lines}
    assert peaks["SimCC"] == pytest.approx(70.0)
    assert len(axes.collections) == 3
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == [
        "SimCC",
        "projector",
        "ensemble",
        "CDKD_full",
        "etht_only",
        "one seed, running",
        "one seed, ended early",
    ]
    assert legend.get_title().get_text() == "mean ± standard deviation, n = 3 seeds"


def test_an_arm_has_the_same_colour_in_every_figure(found: Curves, modules_source: Source) -> None:
    (axes,) = curves.draw(found, Page.of("double")).axes
    drawn = {line.get_label(): line.get_color() for line in axes.lines}
    assert drawn["CDKD_full"] == modules_source.arms["full"].look.colour


def test_nothing_recorded_still_draws(found: Curves) -> None:
    empty = replace(found, bands=found.bands[:0], singles=found.singles[:0])
    assert len(curves.draw(empty, Page.of("single")).axes) == 1
