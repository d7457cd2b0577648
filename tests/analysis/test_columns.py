"""Which summary metric a column means and how it is headed."""

from __future__ import annotations

import pytest

from analysis.columns import column, summary_name


@pytest.mark.parametrize(
    ("metric", "select", "stored"),
    [
        ("val/pckh@0.5", "best", "best/val/pckh@0.5"),
        ("val/pckh@0.5", "last", "final/val/pckh@0.5"),
        ("test/ap", "best", "best/test/ap"),
        ("params_m", "best", "params_m"),
        ("best/epoch", "last", "best/epoch"),
        ("final/val/ap", "best", "final/val/ap"),
    ],
)
def test_a_score_is_taken_from_the_selected_epoch(metric: str, select: str, stored: str) -> None:
    assert summary_name(metric, select) == stored


def test_an_unknown_selection_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'median'"):
        summary_name("val/ap", "median")


@pytest.mark.parametrize(
    ("metric", "title", "scale", "mode"),
    [
        ("val/pckh@0.5", "PCKh@0.5 val (%)", 100.0, "max"),
        ("val/pckh@0.5/left_knee", "PCKh@0.5 left knee val (%)", 100.0, "max"),
        ("test/ap50", "AP50 test (%)", 100.0, "max"),
        ("params_m", "Params (M)", 1.0, ""),
        ("gflops", "GFLOPs", 1.0, ""),
        ("train_seconds", "Training time (s)", 1.0, ""),
        ("best/epoch", "Best epoch", 1.0, ""),
        ("val/loss", "val/loss", 1.0, ""),
    ],
)
def test_scores_are_percent_and_costs_keep_their_unit(metric: str, title: str, scale: float, mode: str) -> None:
    found = column(metric, "best")
    assert (found.title, found.scale, found.mode) == (title, scale, mode)
