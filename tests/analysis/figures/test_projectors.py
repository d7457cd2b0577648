"""The number of projectors, one line for each SAU variant."""

from __future__ import annotations

import pytest

from analysis.errors import NotDrawable
from analysis.figures import projectors
from analysis.figures.projectors import Projectors
from analysis.figures.source import Source
from analysis.figures.style import Page
from tests.analysis.figures.studies import source
from tests.analysis.recorded import Workbench, specification_of


@pytest.fixture(scope="module")
def found(count: Source) -> Projectors:
    return projectors.data(count)


def test_a_line_is_made_of_arms_that_differ_in_the_number_only(found: Projectors) -> None:
    assert set(found.points["variant"]) == {"SAU", "SAU + FC after pooling"}
    assert list(found.points[found.points["variant"] == "SAU"]["projectors"]) == [1, 2, 3, 4]
    assert "alpha" not in set(found.points["arm"])  # another loss weight: on no line


def test_points_are_means_over_seeds(found: Projectors) -> None:
    point = found.points[(found.points["variant"] == "SAU") & (found.points["projectors"] == 2)].iloc[0]
    mean = 100 * (0.72 + 0.02 - 0.012 + 0.005)
    assert (point["arm"], point["n"]) == ("none-2", 2)
    assert point["mean"] == pytest.approx(mean)
    assert point["high"] - point["mean"] == pytest.approx(1 / 2**0.5)


def test_the_baseline_stands_beside_them(found: Projectors) -> None:
    assert found.baseline == pytest.approx(70.5)


def test_one_projector_begins_the_line_of_every_variant_that_has_none_of_its_own(workbench: Workbench) -> None:
    builder = workbench.study("one-start", specification_of("one-start", table={"arms": [], "baseline": ""}))
    for number, extra, alpha in ((1, "none", 1.0), (3, "none", 1.0), (3, "post_gap", 1.0), (3, "post_gap", 5.0)):
        params = {"distill.sape.projectors": number, "distill.sape.extra_fc": extra, "distill.alpha": alpha}
        builder.trial(f"{number}-{extra}-{alpha}", 0, {"best/val/pckh@0.5": number / 10}, params=params)
    points = projectors.data(source(workbench, "one-start")).points
    assert points.groupby("variant")["arm"].agg(list).to_dict() == {
        "SAU": ["1-none-1.0", "3-none-1.0"],
        "SAU + FC after pooling": ["1-none-1.0", "3-post_gap-1.0"],
    }


def test_what_else_differs_between_lines_is_named(workbench: Workbench) -> None:
    builder = workbench.study("two-alphas", specification_of("two-alphas", table={"arms": [], "baseline": ""}))
    for alpha in (1.0, 5.0):
        for number in (1, 3):
            params = {"distill.sape.projectors": number, "distill.alpha": alpha, "distill.sape.sau": "false"}
            builder.trial(f"{alpha}-{number}", 0, {"best/val/pckh@0.5": 0.5}, params=params)
    found = projectors.data(source(workbench, "two-alphas"))
    assert sorted(set(found.points["variant"])) == ["without SAU, alpha = 1.0", "without SAU, alpha = 5.0"]


def test_a_study_of_something_else_has_none(sizes: Source) -> None:
    with pytest.raises(NotDrawable, match="differ in the number of projectors only"):
        projectors.data(sizes)


def test_the_drawing_has_a_line_for_each_variant(found: Projectors) -> None:
    figure = projectors.draw(found, Page.of("single"))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("number of projectors", "PCKh@0.5 val (%)")
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {"baseline", *found.points["variant"]}
    assert len(axes.containers) == 2
