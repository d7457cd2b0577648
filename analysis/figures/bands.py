"""Metrics per epoch: mean and band over the finished seeds of each arm, and the seeds that are in no mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.figures import BANDS
from analysis.figures.source import Arm, Source, seeds_text
from analysis.figures.style import GREY, every, grid_lines
from orchestrator import keys

BAND_COLUMNS = ["arm", "metric", "epoch", "mean", "low", "high", "n"]
SINGLE_COLUMNS = ["arm", "seed", "state", "metric", "epoch", "value"]
IN_PRINT = {"std": "± standard deviation", "range": "with the range"}
UNFINISHED = {"running": ".", "ended early": "x"}  # what a line that is in no mean ends in


def bands(epochs: pd.DataFrame, band: str) -> pd.DataFrame:
    """Mean and band per arm, metric and epoch (BAND_COLUMNS) over finished trials only.

    Trials that ended early would change the composition of the mean from one epoch to the next. A NaN stays one.

    Args:
        epochs: rows of Store.epochs.
        band: `std` (mean -+ sample standard deviation) or `range`; NaN for a single seed.
    """
    groups = epochs[epochs["state"] == keys.FINISHED].groupby(["arm", "metric", "epoch"], sort=True)["value"]
    found = groups.agg(mean="mean", std="std", low="min", high="max", known="count", n="size").reset_index()
    if band == "std":
        found["low"], found["high"] = found["mean"] - found["std"], found["mean"] + found["std"]
    is_whole = found["known"] == found["n"]
    found["mean"] = found["mean"].where(is_whole)
    found[["low", "high"]] = found[["low", "high"]].where(is_whole & (found["n"] > 1))
    return found[BAND_COLUMNS]


def singles(epochs: pd.DataFrame) -> pd.DataFrame:
    """The epochs of trials that are in no mean (SINGLE_COLUMNS)."""
    return epochs.loc[epochs["state"] != keys.FINISHED, SINGLE_COLUMNS].reset_index(drop=True)


def band_caption(source: Source, found: pd.DataFrame, others: pd.DataFrame) -> list[str]:
    """What the lines and bands are."""
    is_repeated = len(found) > 0 and found["n"].max() > 1
    band = f" with a band of {BANDS[source.band]}" if is_repeated else ""
    sentences = [f"Lines: mean over finished seeds ({seeds_text(found['n'])}){band}."]
    if len(others):
        sentences.append("Dotted: trials in no mean, running (ending in a dot) or ended early (in a cross).")
    return [*sentences, *source.remarks]


def band_title(band: str, found: pd.DataFrame) -> str:
    """The same in a few words, for the legend."""
    if found.empty:
        return ""
    extent = f" {IN_PRINT[band]}" if found["n"].max() > 1 else ""
    return f"mean{extent}, {seeds_text(found['n'])} seeds"


def draw_metric(axes: Axes, arms: dict[str, Arm], found: pd.DataFrame, others: pd.DataFrame) -> None:
    """The lines of one metric in one panel.

    Args:
        axes: the panel.
        arms: in the order of the legend.
        found: rows of `bands` of this metric.
        others: rows of `singles` of this metric.
    """
    for index, (name, arm) in enumerate(arms.items()):
        _band(axes, arm, found[found["arm"] == name], every(found["epoch"].nunique(), index, len(arms)))
        for _, single in others[others["arm"] == name].groupby("seed"):
            _single(axes, arm, single.sort_values("epoch"))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    grid_lines(axes)


def _band(axes: Axes, arm: Arm, rows: pd.DataFrame, marked: tuple[int, int]) -> None:
    if rows.empty:
        return
    style: dict[str, Any] = {
        "color": arm.look.colour,
        "linestyle": arm.look.dash,
        "marker": arm.look.marker,
        "markevery": marked,
    }
    axes.plot(rows["epoch"], rows["mean"], label=arm.label, **style)
    axes.fill_between(rows["epoch"], rows["low"], rows["high"], color=arm.look.colour, alpha=0.13, linewidth=0)


def _single(axes: Axes, arm: Arm, rows: pd.DataFrame) -> None:
    """A dotted line from the arm's mark, hollow, to one that says how it ended."""
    style: dict[str, Any] = {"color": arm.look.colour, "markerfacecolor": "white"}
    first, last = rows.iloc[:1], rows.iloc[-1:]
    axes.plot(rows["epoch"], rows["value"], linestyle=":", linewidth=0.9, color=arm.look.colour)
    axes.plot(first["epoch"], first["value"], linestyle="", marker=arm.look.marker, **style)
    end = UNFINISHED["running" if rows["state"].iloc[0] == keys.RUNNING else "ended early"]
    axes.plot(last["epoch"], last["value"], linestyle="", marker=end, markersize=5, color=arm.look.colour)


def unfinished_entries(others: pd.DataFrame) -> dict[str, Line2D]:
    """What the legend says of trials that are in no mean."""
    states = set(others["state"])
    wanted = {"running": keys.RUNNING in states, "ended early": bool(states - {keys.RUNNING})}
    style: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 0.9}
    return {
        f"one seed, {name}": Line2D([], [], marker=UNFINISHED[name], markersize=5, markevery=[1], **style)
        for name, is_there in wanted.items()
        if is_there
    }


def arm_entries(arms: dict[str, Arm], names: Sequence[str]) -> dict[str, Line2D]:
    """Legend entries of these arms, in the study's order."""
    shown = [arm for name, arm in arms.items() if name in set(names)]
    return {
        arm.label: Line2D([], [], color=arm.look.colour, linestyle=arm.look.dash, marker=arm.look.marker)
        for arm in shown
    }
