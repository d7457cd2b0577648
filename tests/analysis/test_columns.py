"""Which summary metric a column means and how it is headed."""

from __future__ import annotations

import pytest

from analysis.columns import Heading, column, headed, summary_name, table_columns


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


METRIC = {"name": "val/ap", "mode": "max", "select": "best"}


def test_the_studys_metric_is_a_column_listed_or_not() -> None:
    assert [one.metric for one in table_columns({"columns": ["params_m"]}, METRIC)] == ["val/ap", "params_m"]
    assert [one.metric for one in table_columns({"columns": ["params_m", "val/ap"]}, METRIC)] == ["params_m", "val/ap"]


def test_side_by_side_doubles_scores_and_not_costs() -> None:
    found = table_columns({"columns": ["val/ap", "params_m"], "side_by_side": True}, METRIC | {"select": "last"})
    assert [one.stored for one in found] == ["best/val/ap", "final/val/ap", "params_m"]
    assert [one.title for one in found] == ["AP val (%), best epoch", "AP val (%), last epoch", "Params (M)"]


def test_the_direction_is_that_of_the_studys_metric_alone() -> None:
    found = table_columns({"columns": ["val/ap", "val/ar"]}, METRIC | {"mode": "min"})
    assert [one.mode for one in found] == ["min", "max"]


def test_decimals_are_the_columns_own_then_those_of_all_scores() -> None:
    layout = {"columns": ["val/ap", "val/ar", "params_m"], "decimals": {"scores": 1, "val/ar": 3}}
    assert [one.decimals for one in table_columns(layout, METRIC)] == [1, 3, 2]


def test_neighbours_of_one_score_share_a_heading() -> None:
    names = ["val/pckh@0.5/head", "val/pckh@0.5/left_knee", "val/pckh@0.5", "val/pckh@0.1", "params_m"]
    groups = headed([column(name, "best") for name in names])
    assert [len(group) for group in groups] == [3, 1, 1]
    assert [heading.short for _, heading in groups[0]] == ["head", "left knee", "all"]
    assert {heading.group for _, heading in groups[0]} == {"PCKh@0.5 val (%)"}
    assert groups[1][0][1] == Heading("PCKh@0.1 val (%)")


def test_two_epochs_of_one_metric_share_a_heading() -> None:
    [group] = headed(table_columns({"side_by_side": True}, METRIC))
    assert [(heading.group, heading.short) for _, heading in group] == [
        ("AP val (%)", "best epoch"),
        ("AP val (%)", "last epoch"),
    ]
