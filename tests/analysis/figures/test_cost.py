"""Accuracy against GFLOPs, ours and the paper's."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.errors import MixedProtocols, NotDrawable
from analysis.figures import cost
from analysis.figures.cost import Cost
from analysis.figures.paper import paper_points
from analysis.figures.source import Source
from analysis.figures.style import Page
from tests.analysis.figures.studies import MPII, source
from tests.analysis.recorded import StudyBuilder, Workbench, specification_of


@pytest.fixture(scope="module")
def found(sizes: Source) -> Cost:
    return cost.data(sizes)


def test_points_are_means_over_seeds_at_their_cost(found: Cost) -> None:
    scores = pd.Series([79.4, 79.6, 79.8])
    point = found.points[found.points["arm"] == "CDKD"].iloc[0]
    assert (point["gflops"], point["params_m"], point["size"], point["n"]) == (0.6, 28.6, 64, 3)
    assert (point["mean"], point["std"]) == (pytest.approx(scores.mean()), pytest.approx(scores.std()))


def test_the_papers_points_are_those_of_the_same_size_with_a_printed_cost(found: Cost) -> None:
    printed = found.paper.set_index("label")["value"]
    assert printed["CDKD"] == 79.4
    assert printed["SimCC"] == 78.3
    assert "SimBase" not in printed  # the paper prints no GFLOPs for it
    assert set(found.paper["size"]) == {64}
    assert found.paper_title == "Table I (MPII val)"


@pytest.mark.parametrize(
    ("protocol", "metric"),
    [
        (MPII | {"splits": "drawn"}, "val/pckh@0.5"),
        (MPII | {"keypoints": "lsp14"}, "val/pckh@0.5"),
        (MPII, "test/pckh@0.5"),
        ({}, "val/pckh@0.5"),
    ],
)
def test_other_data_and_scores_have_no_points_of_the_paper(protocol: dict, metric: str) -> None:
    title, points = paper_points(protocol, metric, {32, 64})
    assert (title, len(points)) == ("", 0)


def test_each_table_of_the_paper_is_found() -> None:
    coco = paper_points({"keypoints": "coco17", "splits": {}}, "val/ap", {32})[1]
    crowd = paper_points({"keypoints": "crowdpose14", "splits": {}}, "test/ap@det", {32, 64})[1]
    assert dict(zip(coco["label"], coco["value"]))["CDKD"] == 30.7
    assert sorted(crowd["value"]) == [23.3, 23.7, 46.5, 47.0]


@pytest.mark.parametrize(
    ("metric", "methods"),
    [
        ("val/pckh@0.1", {"HRNet", "SimCC", "CDKD"}),
        ("val/pckh@0.11", {"SimBase", "Dark", "CAL", "TokenPose", "PRTR"}),
    ],
)
def test_the_papers_two_thresholds_of_one_column_stand_apart(metric: str, methods: set[str]) -> None:
    assert set(paper_points(MPII, metric, {32})[1]["label"]) == methods


def test_arms_of_equal_cost_are_no_figure_without_the_papers_points(workbench: Workbench) -> None:
    builder = workbench.study("equal", specification_of("equal"))
    for arm in ("base", "full"):
        builder.trial(arm, 0, {"best/val/pckh@0.5": 0.5, "gflops": 0.25, "params_m": 1.0})
    with pytest.raises(NotDrawable, match=r"all arms cost the same 0\.25 GFLOPs"):
        cost.data(source(workbench, "equal"))


def test_arms_of_another_study_stand_beside(workbench: Workbench, sizes: Source) -> None:
    builder = workbench.study("third", specification_of("third", table={"arms": ["SimCC", "ResNet"]}))
    score = {"best/val/pckh@0.5": 0.7, "gflops": 2.0, "params_m": 34.0}
    builder.trial("ResNet", 0, score, protocol=MPII, params={"student.input_size": 64})
    found = cost.data(source(workbench, "sizes", others=[workbench.read("third")]))
    assert list(found.points["study"].unique()) == ["sizes", "third"]
    assert list(found.arms) == ["SimCC", "CDKD", "CDKD-48", "ResNet"]


def test_another_study_of_another_protocol_is_refused(
    workbench: Workbench, sizes: Source, modules: StudyBuilder
) -> None:
    with pytest.raises(MixedProtocols):
        cost.data(source(workbench, "sizes", others=[workbench.read("modules")]))


def test_ours_are_filled_and_the_papers_hollow_each_with_its_name(found: Cost) -> None:
    figure = cost.draw(found, Page.of("single"))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("GFLOPs", "PCKh@0.5 val (%)")
    bubbles = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() == "none" for line in bubbles] == [False] * 3 + [True] * len(found.paper)
    names = sorted(text.get_text() for text in axes.texts)
    assert names == sorted(["SimCC", "CDKD", "CDKD W48", *found.paper["label"]])
    assert figure.legends[0].get_title().get_text() == "64x64 input"


def test_the_area_of_a_bubble_is_proportional_to_the_parameters(found: Cost) -> None:
    (axes,) = cost.draw(found, Page.of("single")).axes
    small, _, large = [line.get_markersize() for line in axes.lines if line.get_marker() == "o"][:3]
    assert (large / small) ** 2 == pytest.approx(63.7 / 28.6)


def test_many_bubbles_are_numbered_and_explained_below(found: Cost) -> None:
    points = pd.concat([found.points] * 3, ignore_index=True)
    figure = cost.draw(replace(found, points=points), Page.of("double"))
    assert {"1", "9"} <= {text.get_text() for text in figure.axes[0].texts}
    assert "9 CDKD W48" in {text.get_text() for text in figure.legends[0].get_texts()}


def test_two_sizes_are_told_apart_in_the_names(found: Cost) -> None:
    points = pd.concat([found.points, found.points.assign(size=32, gflops=0.01)], ignore_index=True)
    (axes,) = cost.draw(replace(found, points=points), Page.of("single")).axes
    assert {"CDKD 32", "CDKD 64"} <= {text.get_text() for text in axes.texts}
    assert axes.get_xscale() == "log"
