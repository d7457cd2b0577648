"""Draws learning curves: the score per epoch and what each distillation loss contributes to the gradient."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.columns import column
from analysis.curves import RATIOS, Curves
from orchestrator import keys

# Okabe and Ito's palette: told apart by readers with any colour vision.
PALETTE = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800")
CHARACTERS_PER_INCH = 11  # of the caption, so that it stays within the figure
DASHES = ("-", "--", "-.")  # from the ninth arm on a colour comes again with another dash
RATIO_TITLES = {
    "diag/gradient_ratio_feature": "gradient of feature loss / task loss",
    "diag/gradient_ratio_logit": "gradient of logit loss / task loss",
}


def draw(curves: Curves) -> Figure:
    """One panel for the score and one for each gradient ratio that any trial recorded."""
    recorded = set(curves.bands["metric"]) | set(curves.singles["metric"])
    metrics = [curves.metric, *(name for name in RATIOS if name in recorded)]
    figure = Figure(figsize=(4.6 * len(metrics), 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: nothing global, and no display needed
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics):
        _panel(axes, curves, metric)
    handles, labels = _legend(figure.axes)
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=min(2 * len(metrics), len(labels)), frameon=False
        )
    caption = textwrap.fill(_caption(curves), width=int(CHARACTERS_PER_INCH * figure.get_figwidth()))
    figure.suptitle(f"{curves.study}\n{caption}", fontsize="medium")
    return figure


def save(figure: Figure, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Writes the figure as `<stem>.<format>` and returns the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{extension}") for extension in formats]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths


def _panel(axes: Axes, curves: Curves, metric: str) -> None:
    scale = 1.0 if metric in RATIOS else column(metric, "last").scale
    for index, (arm, label) in enumerate(curves.arms.items()):
        style = {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index // len(PALETTE) % len(DASHES)]}
        _band(axes, _of(curves.bands, arm, metric), scale, label, style)
        for _, single in _of(curves.singles, arm, metric).groupby("seed"):
            _single(axes, single, scale, label, style["color"])
    axes.set_title(_title(metric), fontsize="medium")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _band(axes: Axes, band: pd.DataFrame, scale: float, label: str, style: dict[str, Any]) -> None:
    if band.empty:
        return
    mean, std = scale * band["mean"], scale * band["std"].fillna(0.0)  # one seed: a line without a band
    marker = "o" if len(band) == 1 else ""
    axes.plot(band["epoch"], mean, label=label, marker=marker, linewidth=1.6, **style)
    axes.fill_between(band["epoch"], mean - std, mean + std, color=style["color"], alpha=0.15, linewidth=0)


def _single(axes: Axes, single: pd.DataFrame, scale: float, label: str, colour: str) -> None:
    """A dotted line that ends in a dot while the trial runs and in a cross where it ended early."""
    marker = "." if single["state"].iloc[0] == keys.RUNNING else "x"
    style: dict[str, Any] = {
        "color": colour,
        "linestyle": ":",
        "linewidth": 1.2,
        "marker": marker,
        "markevery": [len(single) - 1],
    }
    axes.plot(single["epoch"], scale * single["value"], label=f"{label} (unfinished)", **style)


def _of(frame: pd.DataFrame, arm: str, metric: str) -> pd.DataFrame:
    return frame[(frame["arm"] == arm) & (frame["metric"] == metric)].sort_values("epoch")


def _title(metric: str) -> str:
    return RATIO_TITLES.get(metric) or column(metric, "last").title


def _legend(panels: Sequence[Axes]) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _caption(curves: Curves) -> str:
    counts = curves.bands["n"]
    low, high = (counts.min(), counts.max()) if len(counts) else (0, 0)
    n = f"n = {low}" if low == high else f"n = {low} to {high}"
    text = f"mean {'± standard deviation ' if high > 1 else ''}over finished seeds ({n})"
    return text + ("; dotted: in no mean, running (dot) or ended early (cross)" if len(curves.singles) else "")
