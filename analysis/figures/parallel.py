"""Parallel coordinates: every trial of a search as a line through its options to its score."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.searched import CATEGORICAL, Dimension, searched
from analysis.figures.source import Figured, Source, runs_of
from analysis.figures.style import SMALL, Page, new_figure, styled

NOT_USED = -0.14  # place of "not used" on an axis from 0 to 1
NOT_USED_TEXT = "not used"
SCORE = "score"
TICKS = 5
LETTER_MM = 1.6  # width of a letter


@dataclass(frozen=True)
class Parallel(Figured):
    """Lines by option.

    Attributes:
        title: of the score, with its unit.
        mode: `max` or `min`.
        dimensions: the axes before the score's.
        trials: trial_id, score, and one column a path (None: not used), finished trials, worst first.
    """

    title: str
    mode: str
    dimensions: tuple[Dimension, ...]
    trials: pd.DataFrame


def data(source: Source) -> Parallel:
    """Reads a search.

    Raises:
        NotDrawable: the study has none, or no trial of it finished.
    """
    search = searched(source)
    finished = search.finished.sort_values("score", ascending=source.score.mode == "max", kind="stable")
    trials = finished[["trial_id", "score", *(each.path for each in search.dimensions)]].reset_index(drop=True)
    caption = (
        f"Options and {source.score.title} of {len(finished)} finished trials; the darker a line the better, the best "
        "is drawn thick.",
    )
    used = source.searched[source.searched["run_id"].isin(finished["run_id"])]
    return Parallel(
        source.study, caption, runs_of(used), source.score.title, source.score.mode, search.dimensions, trials
    )


def places(each: Dimension, values: pd.Series) -> NDArray[np.float64]:
    """Where values stand on an axis from 0 to 1; NOT_USED for None."""
    return np.array([NOT_USED if value is None else _place(each, value) for value in values], dtype=np.float64)


def _place(each: Dimension, value: float | str) -> float:
    if each.kind == CATEGORICAL:
        last = len(each.choices) - 1
        return each.choices.index(str(value)) / last if last else 0.5
    low, high, own = (math.log(x) if each.is_log else x for x in (each.low, each.high, float(value)))
    return (own - low) / (high - low) if high > low else 0.5


def score_dimension(found: Parallel) -> Dimension:
    """The score as an axis, over the range that was reached."""
    scores = found.trials[SCORE]
    return Dimension(SCORE, found.title, "float", False, (), float(scores.min()), float(scores.max()))


@styled()
def draw(found: Parallel, page: Page) -> Figure:
    """One vertical axis an option and one for the score."""
    figure = new_figure(page, 62 if not page.is_double else 72)
    axes = figure.add_subplot()
    dimensions = [*found.dimensions, score_dimension(found)]
    grid = np.column_stack([places(each, found.trials[each.path]) for each in dimensions])
    _lines(axes, grid)
    room = page.width_mm / len(dimensions)
    is_tight = any(LETTER_MM * len(each.name) > room for each in dimensions)
    for index, each in enumerate(dimensions):
        _axis(axes, index, each, has_unused=bool((grid[:, index] == NOT_USED).any()))
        is_raised = is_tight and index % 2 == 0
        axes.text(index, 1.16 if is_raised else 1.07, each.name, ha="center", va="bottom")
    axes.set_xlim(-0.35, len(dimensions) - 0.65)
    axes.set_ylim((NOT_USED if (grid == NOT_USED).any() else 0.0) - 0.06, 1.05)
    axes.axis("off")
    return figure


def _lines(axes: Axes, grid: NDArray[np.float64]) -> None:
    """The better the darker, and on top."""
    colours = matplotlib.colormaps["cividis_r"](np.linspace(0.1, 1.0, len(grid))) if len(grid) > 1 else ["black"]
    for index, (row, colour) in enumerate(zip(grid, colours)):
        is_best = index == len(grid) - 1
        axes.plot(range(len(row)), row, color=colour, linewidth=2.0 if is_best else 0.8, clip_on=False)


def _axis(axes: Axes, index: int, each: Dimension, *, has_unused: bool) -> None:
    axes.plot([index, index], [0, 1], color="black", linewidth=0.6, zorder=3)
    ticks = _ticks(each) + ([(NOT_USED, NOT_USED_TEXT)] if has_unused else [])
    for place, text in ticks:
        axes.plot([index], [place], marker="_", markersize=4, color="black", zorder=3)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4}
        axes.text(index - 0.06, place, text, ha="right", va="center", fontsize=SMALL, bbox=box, zorder=4)


def _ticks(each: Dimension) -> list[tuple[float, str]]:
    """Place and text of an axis's ticks."""
    if each.kind == CATEGORICAL:
        return [(_place(each, choice), choice) for choice in each.choices]
    values = _integers(each) if each.kind == "int" else _numbers(each)
    return [(_place(each, value), f"{value:.3g}") for value in values]


def _numbers(each: Dimension) -> list[float]:
    if not each.is_log:
        return [each.low, (each.low + each.high) / 2, each.high]
    decades = range(math.ceil(math.log10(each.low) - 1e-9), math.floor(math.log10(each.high) + 1e-9) + 1)
    return [10.0**decade for decade in decades] if len(decades) > 1 else [each.low, each.high]


def _integers(each: Dimension) -> list[float]:
    step = max(1, math.ceil((each.high - each.low) / TICKS))
    return [float(value) for value in range(int(each.low), int(each.high) + 1, step)]
