"""Difference to the baseline for every keypoint, paired by seed, with a 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.errors import NotDrawable
from analysis.figures.source import Arm, Figured, Source, runs_of, seeds_text
from analysis.figures.style import (
    GREY,
    SMALL,
    Page,
    columns_of,
    grid_lines,
    label_below,
    new_figure,
    panels,
    styled,
    wrapped,
)
from analysis.statistics import paired_difference
from analysis.store import METRICS

# From top to bottom of a person. Of a group and a side alike: `left_knee` is a knee.
PARTS = ("head_top", "nose", "eye", "ear", "head", "neck", "upper_neck", "thorax", "shoulder", "elbow", "wrist",
         "pelvis", "hip", "knee", "ankle")  # fmt: skip
SIDES = ("left_", "right_")
SUMS = ("mean", "unweighted")  # scores of all keypoints, stored beside theirs
DIFFERENCE_COLUMNS = ["arm", "keypoint", "baseline", "mean", "low", "high", "n"]
ROW_MM, FRAME_MM = 3.4, 13.0
CROWDED = 6  # arms from which on panels are small, so that they still fit a page
CROWDED_ROW_MM = 2.7
LETTERS_A_MM = 0.66
NAMES_MM = 22.0  # width of the keypoints' names


@dataclass(frozen=True)
class Keypoints(Figured):
    """Differences in percentage points.

    Attributes:
        title: of the score, without its unit.
        arms: those compared, in the study's order.
        baseline: what they are compared to, in print.
        keypoints: from head to foot.
        differences: DIFFERENCE_COLUMNS; `baseline` is the baseline's mean score, low and high the interval (NaN for
            fewer than two pairs).
    """

    title: str
    arms: dict[str, Arm]
    baseline: str
    keypoints: tuple[str, ...]
    differences: pd.DataFrame


def data(source: Source) -> Keypoints:
    """Reads the score of every single keypoint.

    Raises:
        NotDrawable: the study has no baseline, its score none of keypoints, or no seed is there of an arm and it.
    """
    if not source.baselines:
        raise NotDrawable("the study names no baseline to take differences to (table.baseline)")
    names = single_keypoints(source)
    if not names:
        raise NotDrawable(f"{source.score.stored} has no values of single keypoints")
    scores = {arm: _scores(source, arm, names) for arm in source.arms}
    rows = [_difference(scores, baseline, arm, name) for arm, baseline in source.baselines.items() for name in names]
    differences = pd.DataFrame([row for row in rows if row["n"]], columns=DIFFERENCE_COLUMNS)
    if differences.empty:
        raise NotDrawable("no seed has finished both for a baseline and for another arm")
    shown = {name: arm for name, arm in source.arms.items() if name in set(differences["arm"])}
    baselines = list(dict.fromkeys(source.baselines[name] for name in shown))
    label = source.arms[baselines[0]].label if len(baselines) == 1 else "the baseline of its block"
    used = source.finished[source.finished["arm"].isin([*baselines, *shown])]
    caption = (
        f"{source.score.title} of every keypoint, difference to {label}: mean of the differences paired by seed "
        f"({seeds_text(differences['n'])}) with 95 % interval by Student's t, of each keypoint by itself.",
        *source.remarks,
    )
    return Keypoints(source.study, caption, runs_of(used), source.score.heading, shown, label, names, differences)


def single_keypoints(source: Source) -> tuple[str, ...]:
    """Keypoints the score is recorded of, from head to foot; groups of them only where there is nothing else."""
    prefix = f"{METRICS}{source.score.stored}/"
    names = [name.removeprefix(prefix) for name in source.trials.columns if name.startswith(prefix)]
    found = [name for name in names if name not in SUMS]
    sides = {name.removeprefix(side) for name in found for side in SIDES if name.startswith(side)}
    is_group = {name for name in found if name in sides or (name == "head" and "head_top" in found)}
    return tuple(sorted(set(found) - is_group, key=_place))


def _place(name: str) -> tuple[int, str, str]:
    part = name.removeprefix(SIDES[0]).removeprefix(SIDES[1])
    return (PARTS.index(part) if part in PARTS else len(PARTS), part, name)


def _scores(source: Source, arm: str, names: tuple[str, ...]) -> dict[str, dict[int, float]]:
    """Keypoint -> seed -> score of an arm's finished trials, printed unit."""
    columns = {f"{METRICS}{source.score.stored}/{name}": name for name in names}
    trials = source.finished.loc[source.finished["arm"] == arm, ["seed", *columns]].set_index("seed")
    scores = (source.score.scale * trials).rename(columns=columns)
    return {name: {int(str(seed)): value for seed, value in scores[name].dropna().items()} for name in names}


def _difference(
    scores: dict[str, dict[str, dict[int, float]]], baseline: str, arm: str, keypoint: str
) -> dict[str, Any]:
    ours, theirs = scores[arm][keypoint], scores[baseline][keypoint]
    found = paired_difference(ours, theirs)
    paired = [theirs[seed] for seed in theirs if seed in ours]
    mean = sum(paired) / len(paired) if paired else math.nan
    numbers = {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
    return {"arm": arm, "keypoint": keypoint, "baseline": mean, **numbers}


@styled()
def draw(found: Keypoints, page: Page) -> Figure:
    """One panel for each arm, side by side, on the same scale."""
    is_crowded = len(found.arms) > CROWDED
    columns = columns_of(len(found.arms), (5 if is_crowded else 4) if page.is_double else (3 if is_crowded else 2))
    rows = -(-len(found.arms) // columns)
    height = rows * (FRAME_MM + (CROWDED_ROW_MM if is_crowded else ROW_MM) * len(found.keypoints))
    figure = new_figure(page, height)
    drawn = panels(figure, len(found.arms), columns, sharex=True, sharey=True)
    for axes, (name, arm) in zip(drawn, found.arms.items()):
        _panel(axes, arm, found.differences[found.differences["arm"] == name], found.keypoints)
        letters = round(LETTERS_A_MM * (page.width_mm - NAMES_MM) / columns)
        axes.set_title(wrapped(arm.label, letters), fontsize=SMALL)
    drawn[0].invert_yaxis()
    label_below(drawn, columns)
    title = f"{found.title}, difference to {found.baseline} (percentage points)"
    figure.supxlabel(wrapped(title, round(LETTERS_A_MM * page.width_mm)), fontsize="medium")
    return figure


def _panel(axes: Axes, arm: Arm, rows: pd.DataFrame, keypoints: tuple[str, ...]) -> None:
    places = [keypoints.index(name) for name in rows["keypoint"]]
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.hlines(places, rows["low"], rows["high"], color=arm.look.colour, linewidth=1.0)
    axes.plot(rows["mean"], places, linestyle="", marker=arm.look.marker, color=arm.look.colour)
    axes.set_yticks(range(len(keypoints)), [name.replace("_", " ") for name in keypoints], fontsize=SMALL)
    grid_lines(axes, "both")
