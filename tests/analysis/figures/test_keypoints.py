"""Differences to the baseline by keypoint."""

from __future__ import annotations

import pytest
from scipy import stats

from analysis.errors import NotDrawable
from analysis.figures import keypoints
from analysis.figures.keypoints import Keypoints
from analysis.figures.source import Source
from analysis.figures.style import Page
from tests.analysis.recorded import StudyBuilder


@pytest.fixture(scope="module")
def found(parts: Source) -> Keypoints:
    return keypoints.data(parts)


def test_single_keypoints_stand_from_head_to_foot_without_their_groups(found: Keypoints) -> None:
    assert found.keypoints == ("head_top", "left_knee", "right_knee", "left_ankle", "right_ankle")


def test_differences_are_paired_by_seed_in_percentage_points(found: Keypoints) -> None:
    row = found.differences.set_index("keypoint").loc["right_ankle"]
    gains = [2.0, 4.0, 6.0]
    low, high = stats.t.interval(0.95, 2, loc=4.0, scale=stats.sem(gains))
    assert (row["mean"], row["baseline"], row["n"]) == (pytest.approx(4.0), pytest.approx(51.0), 3)
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))


def test_an_arm_without_a_common_seed_is_not_shown(found: Keypoints) -> None:
    assert set(found.differences["arm"]) == {"ours"}
    assert list(found.arms) == ["ours"]


def test_a_score_without_keypoints_or_a_study_without_a_baseline_has_none(
    modules_source: Source, tuning_source: Source
) -> None:
    with pytest.raises(NotDrawable, match="no values of single keypoints"):
        keypoints.data(modules_source)
    with pytest.raises(NotDrawable, match="names no baseline"):
        keypoints.data(tuning_source)


@pytest.fixture(scope="module")
def tuning_source(workbench, tuning: StudyBuilder) -> Source:
    from tests.analysis.figures.studies import source

    return source(workbench, "tuning")


@pytest.mark.parametrize(("arms", "columns"), [(1, 1), (4, 2), (8, 3)])
def test_there_is_a_panel_for_each_arm(found: Keypoints, arms: int, columns: int) -> None:
    several = {str(index): found.arms["ours"] for index in range(arms)}
    figure = keypoints.draw(Keypoints(**{**vars(found), "arms": several}), Page.of("single"))
    assert len(figure.axes) == arms
    assert len({round(axes.get_position().x0, 2) for axes in figure.axes}) == columns
    assert figure.axes[0].yaxis_inverted()


def test_the_drawing_names_keypoints_and_unit(found: Keypoints) -> None:
    figure = keypoints.draw(found, Page.of("single"))
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()][:2] == ["head top", "left knee"]
    assert figure.get_supxlabel() == "PCKh@0.5 val, difference to plain (percentage points)"
    assert axes.get_title() == "CDKD"
    assert len(axes.collections[0].get_segments()) == 5
