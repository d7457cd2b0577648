"""Gradient ratios and the temperature per epoch."""

from __future__ import annotations

import pytest

from analysis.errors import NotDrawable
from analysis.figures import gradients
from analysis.figures.gradients import Gradients
from analysis.figures.source import Source
from analysis.figures.style import Page


@pytest.fixture(scope="module")
def found(parts: Source) -> Gradients:
    return gradients.data(parts)


def test_there_is_a_panel_for_each_diagnostic_that_changes(found: Gradients) -> None:
    assert list(found.titles) == ["diag/gradient_ratio_logit", "diag/tau"]
    assert found.titles["diag/gradient_ratio_logit"] == "‖∇ logit‖ / ‖∇ task‖"
    assert "Constant in every trial: alpha = 1." in found.caption


def test_bands_are_over_seeds(found: Gradients) -> None:
    first = found.bands[(found.bands["metric"] == "diag/gradient_ratio_logit") & (found.bands["epoch"] == 1)].iloc[0]
    assert (first["arm"], first["mean"], first["n"]) == ("ours", pytest.approx(0.02), 3)
    assert first["high"] == pytest.approx(0.03)


def test_an_undistilled_study_has_none(sizes: Source) -> None:
    with pytest.raises(NotDrawable, match="no arm distils"):
        gradients.data(sizes)


def test_panels_stand_below_each_other_in_one_column_and_side_by_side_in_both(found: Gradients) -> None:
    single, double = (gradients.draw(found, Page.of(width)) for width in ("single", "double"))
    tops = [{round(axes.get_position().y1, 2) for axes in figure.axes} for figure in (single, double)]
    assert [len(each) for each in tops] == [2, 1]
    assert [axes.get_ylabel() for axes in single.axes] == list(found.titles.values())
    assert [text.get_text() for text in single.legends[0].get_texts()] == ["CDKD"]


def test_a_ratio_starts_at_zero_or_goes_by_decades(found: Gradients) -> None:
    ratio, _ = gradients.draw(found, Page.of("single")).axes
    assert (ratio.get_ylim()[0], ratio.get_yscale()) == (0, "linear")
    wide = found.bands.copy()
    wide.loc[wide["epoch"] == 1, "mean"] = 1e-4
    apart = Gradients(**{**vars(found), "bands": wide})
    assert gradients.draw(apart, Page.of("single")).axes[0].get_yscale() == "log"
