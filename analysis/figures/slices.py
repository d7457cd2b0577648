"""The score against every searched option, one panel an option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from analysis.figures.searched import CATEGORICAL, Dimension, searched
from analysis.figures.source import Figured, Source, runs_of
from analysis.figures.style import (
    COLOURS,
    Page,
    columns_of,
    grid_lines,
    legend_below,
    legend_entries,
    new_figure,
    panels,
    styled,
)

SLICE_COLUMNS = ["path", "trial_id", "value", "score"]
PANEL_MM = 36.0
MARGIN = 0.06  # beside the range of an option, as a part of it
JITTER = 0.22  # of the distance between two choices, so that equal points do not hide each other


@dataclass(frozen=True)
class Slices(Figured):
    """Points by option.

    Attributes:
        title: of the score, with its unit.
        mode: `max` or `min`.
        dimensions: one a panel.
        points: SLICE_COLUMNS: finished trials that used the option.
    """

    title: str
    mode: str
    dimensions: tuple[Dimension, ...]
    points: pd.DataFrame


def data(source: Source) -> Slices:
    """Reads a search.

    Raises:
        NotDrawable: the study has none, or no trial of it finished.
    """
    search = searched(source)
    frames = [
        search.finished[["trial_id", "score"]].assign(path=each.path, value=search.finished[each.path])
        for each in search.dimensions
    ]
    points = pd.concat(frames, ignore_index=True)
    points = points[points["value"].notna()][SLICE_COLUMNS].reset_index(drop=True)
    caption = (
        f"{source.score.title} of {len(search.finished)} finished trials against each searched option, in those that "
        "used it; the best is ringed.",
    )
    used = source.searched[source.searched["run_id"].isin(search.finished["run_id"])]
    return Slices(
        source.study, caption, runs_of(used), source.score.title, source.score.mode, search.dimensions, points
    )


@styled()
def draw(found: Slices, page: Page) -> Figure:
    """Panels with one common score axis."""
    columns = columns_of(len(found.dimensions), 4 if page.is_double else 2)
    rows = -(-len(found.dimensions) // columns)
    figure = new_figure(page, rows * PANEL_MM + 6)
    drawn = panels(figure, len(found.dimensions), columns, sharey=True)
    for axes, each in zip(drawn, found.dimensions):
        _panel(axes, each, found.points[found.points["path"] == each.path], found.mode)
    for axes in drawn[::columns]:
        axes.set_ylabel(found.title)
    legend_below(figure, legend_entries(drawn))
    return figure


def _panel(axes: Axes, each: Dimension, points: pd.DataFrame, mode: str) -> None:
    places = _places(each, points)
    axes.plot(places, points["score"], linestyle="", marker="o", color=COLOURS[1], alpha=0.75, label="finished trial")
    if len(points):
        best = points["score"].argmax() if mode == "max" else points["score"].argmin()
        ring: dict[str, Any] = {"marker": "o", "markersize": 7, "markerfacecolor": "none", "markeredgecolor": "black"}
        axes.plot(places[best], points["score"].iloc[best], linestyle="", label="best", **ring)
    axes.set_xlabel(each.name)
    _scale(axes, each)
    axes.margins(y=0.1)
    grid_lines(axes)


def _places(each: Dimension, points: pd.DataFrame) -> NDArray[np.float64]:
    """Where the points stand; choices side by side with a little fixed scatter."""
    if each.kind != CATEGORICAL:
        return points["value"].to_numpy(dtype=np.float64)
    places = np.array([each.choices.index(value) for value in points["value"]], dtype=np.float64)
    return places + np.random.default_rng(0).uniform(-JITTER, JITTER, len(places))


def _scale(axes: Axes, each: Dimension) -> None:
    if each.kind == CATEGORICAL:
        axes.set_xticks(range(len(each.choices)), each.choices, rotation=30 if _is_long(each) else 0)
        axes.set_xlim(-0.5, len(each.choices) - 0.5)
        return
    if each.is_log:
        axes.set_xscale("log")
    elif each.kind == "int":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if each.low < each.high:  # the whole range, so that what was never sampled is seen
        margin = (each.high / each.low) ** MARGIN if each.is_log else MARGIN * (each.high - each.low)
        limits = (each.low / margin, each.high * margin) if each.is_log else (each.low - margin, each.high + margin)
        axes.set_xlim(*limits)


def _is_long(each: Dimension) -> bool:
    return sum(map(len, each.choices)) > 14
