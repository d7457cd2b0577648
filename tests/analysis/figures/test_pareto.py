"""Accuracy against cost and the front."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from analysis.errors import MixedProtocols, NotDrawable
from analysis.figures import pareto
from analysis.figures.pareto import Pareto, front
from analysis.figures.source import Source
from analysis.figures.style import Page
from tests.analysis.figures.studies import SEARCH, source
from tests.analysis.recorded import PROTOCOL, Workbench, best, specification_of


@pytest.fixture(scope="module")
def found(search: Source) -> Pareto:
    return pareto.data(search)


def test_the_front_by_hand() -> None:
    assert front([1, 2, 3, 3], [5, 4, 6, 7], "max") == [True, False, False, True]
    assert front([1, 2, 3, 3], [5, 4, 6, 7], "min") == [True, True, False, False]
    assert front([1, 1], [5, 5], "max") == [True, True]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_front_agrees_with_a_slow_loop(mode: str) -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, size=(40, 2)).astype(float)
    own = front(list(points[:, 0]), list(points[:, 1]), mode)
    sign = 1 if mode == "max" else -1
    beaten = set()
    for one, other in product(range(40), repeat=2):
        no_worse = points[other, 0] <= points[one, 0] and sign * points[other, 1] >= sign * points[one, 1]
        if no_worse and tuple(points[other]) != tuple(points[one]):
            beaten.add(one)
    assert own == [index not in beaten for index in range(40)]


def test_trials_that_were_pruned_are_no_points(found: Pareto, search: Source) -> None:
    trials = found.points[found.points["kind"] == "trial"]
    assert len(trials) == 16
    assert "search-0004" not in set(trials["name"])
    assert set(found.runs["state"]) == {"finished"}


def test_the_base_stands_beside_but_not_on_the_front(found: Pareto) -> None:
    base = found.points[found.points["kind"] == "arm"].iloc[0]
    assert (base["name"], base["cost"], base["score"], base["is_front"]) == ("base", 15.0, pytest.approx(55.0), False)


def test_long_times_are_printed_in_minutes(found: Pareto) -> None:
    assert found.cost_title == "Training time (min)"


def test_arms_are_means_over_seeds(modules_source: Source) -> None:
    found = pareto.data(modules_source)
    plain = found.points.set_index("name").loc["plain"]
    assert (plain["cost"], plain["cost_std"], plain["n"]) == (110.0, 10.0, 3)
    assert plain["score"] == pytest.approx(70.0)
    assert list(found.points[found.points["is_front"]]["name"]) == ["full"]  # not one seed of `ensemble`


def test_another_cost_may_be_asked_for(workbench: Workbench, sizes: Source) -> None:
    found = pareto.data(source(workbench, "sizes", against="gflops"))
    assert found.cost_title == "GFLOPs"
    assert list(found.points[found.points["is_front"]]["name"]) == ["CDKD", "CDKD-48"]


def test_a_single_point_or_a_single_cost_is_no_figure(workbench: Workbench, modules_source: Source) -> None:
    with pytest.raises(NotDrawable, match="fewer than two finished arms"):
        pareto.data(source(workbench, "modules", against="gflops"))
    with pytest.raises(NotDrawable, match=r"every arm has the same params_m \(28\.5\)"):
        pareto.data(source(workbench, "modules", against="params_m"))


def test_a_base_of_another_protocol_is_refused(workbench: Workbench) -> None:
    builder = workbench.study("far-base", specification_of("far-base", seeds=[0], search=SEARCH))
    builder.trial("base", 0, best(0.5, train_seconds=1.0), protocol=PROTOCOL | {"epochs": 9})
    builder.trial("search", 0, best(0.6, train_seconds=1.0))
    with pytest.raises(MixedProtocols, match="epochs"):
        pareto.data(source(workbench, "far-base"))


def test_the_drawing_shows_trials_front_and_base(found: Pareto) -> None:
    figure = pareto.draw(found, Page.of("single"))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Training time (min)", "PCKh@0.5 val (%)")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["trial of the search", "Pareto front", "base"]
    assert len(axes.lines[0].get_xdata()) == 16
