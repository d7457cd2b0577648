"""Accuracy against GFLOPs, the area of a bubble for the parameters (the paper's Fig. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.columns import column
from analysis.errors import NotDrawable
from analysis.figures.labels import Label, place
from analysis.figures.paper import paper_points
from analysis.figures.source import Arm, Figured, Source, arm_trials, records, runs_of, seeds_text
from analysis.figures.style import GREY, Page, grid_lines, legend_below, new_figure, styled
from analysis.store import PARAMS
from orchestrator import keys

POINT_COLUMNS = ["study", "arm", "size", "gflops", "params_m", "mean", "std", "n"]
LARGEST = 9.0  # radius of the largest bubble, points
SIZE = PARAMS + "student.input_size"
MOST_NAMED = 6  # bubbles of ours up to which each has its name beside it
LOG_FROM = 20.0  # largest / smallest cost from which the axis is logarithmic


@dataclass(frozen=True)
class Cost(Figured):
    """Points of a cost figure.

    Attributes:
        title: of the score, with its unit.
        arms: every arm of the studies.
        points: POINT_COLUMNS, one row an arm and input size; scores in the printed unit.
        paper: paper.POINT_COLUMNS.
        paper_title: where these stand; empty: nowhere.
    """

    title: str
    arms: dict[str, Arm]
    points: pd.DataFrame
    paper: pd.DataFrame
    paper_title: str


def data(source: Source) -> Cost:
    """Reads score, GFLOPs and parameters of every arm, and the paper's where it reports the same score.

    Raises:
        NotDrawable: no arm finished, or all cost the same and the paper has nothing to stand beside.
        MixedProtocols: the studies differ in a protocol field that may not.
    """
    finished = _finished(source)
    notes = source.check(finished)
    points = _points(source, finished)
    if points.empty:
        raise NotDrawable("no arm has a finished trial with the score, GFLOPs and parameters")
    metric = source.metric or source.record.specification["metric"]["name"]
    title, paper = paper_points(finished["protocol"].iloc[0], metric, set(points["size"]))
    if paper.empty and points["gflops"].nunique() == 1:
        raise NotDrawable(
            f"all arms cost the same {points['gflops'].iloc[0]:.3g} GFLOPs, and the paper reports nothing comparable: "
            "the table says more (another study beside: --with)"
        )
    caption = [
        f"{source.score.title} against GFLOPs of one student's forward pass; the area of a bubble is its number of "
        f"parameters. Filled: mean over finished seeds ({seeds_text(points['n'])})"
        + (" ± standard deviation." if points["n"].max() > 1 else "."),
        *([f"Hollow: as printed in the paper, {title}."] if title else []),
        *notes,
        *source.absences,
    ]
    return Cost(source.study, tuple(caption), runs_of(finished), source.score.title, source.arms, points, paper, title)


def _finished(source: Source) -> pd.DataFrame:
    """Finished trials of all studies with the column `study`."""
    frames = [_of(source.study, source.trials), *(_of(other.study, arm_trials(other)) for other in source.others)]
    return pd.concat(frames, ignore_index=True)


def _of(study: str, trials: pd.DataFrame) -> pd.DataFrame:
    return trials[trials["state"] == keys.FINISHED].assign(study=study)


def _points(source: Source, trials: pd.DataFrame) -> pd.DataFrame:
    values = {name: source.values(trials, column(name, "last")) for name in ("gflops", "params_m")}
    sizes = pd.to_numeric(trials[SIZE]) if SIZE in trials else pd.Series(0, index=trials.index)
    frame = trials[["study", "arm"]].assign(size=sizes, score=source.values(trials, source.score), **values)
    groups = frame.dropna().groupby(["study", "arm", "size", "gflops", "params_m"], sort=False)["score"]
    return groups.agg(mean="mean", std="std", n="size").reset_index().astype({"size": int})[POINT_COLUMNS]


@styled()
def draw(found: Cost, page: Page) -> Figure:
    """Ours filled in the arm's colour, the paper's hollow and grey, each with its name beside it."""
    figure = new_figure(page, 75 if not page.is_double else 90)
    axes = figure.add_subplot()
    largest = max(found.points["params_m"].max(), found.paper["params_m"].max() if len(found.paper) else 0.0)
    texts = [*_draw_ours(axes, found, largest), *_draw_paper(axes, found, largest)]
    axes.set_xlabel("GFLOPs")
    axes.set_ylabel(found.title)
    axes.margins(x=0.12, y=0.12)
    _scale(axes, [*found.points["gflops"], *found.paper["gflops"]])
    grid_lines(axes, "both")
    title = f"{sizes[0]}x{sizes[0]} input" if len(sizes := _sizes(found)) == 1 and sizes[0] else ""
    legend_below(figure, _entries(found, largest) | _numbered(found), title, handlelength=2.0, labelspacing=1.0)
    place(axes, texts)
    return figure


def _sizes(found: Cost) -> list[int]:
    return sorted({*found.points["size"], *found.paper["size"]})


def _draw_paper(axes: Axes, found: Cost, largest: float) -> list[Label]:
    """Drawn last, so that no bubble of ours hides one."""
    labels = []
    for row in records(found.paper):
        radius = _radius(row["params_m"], largest)
        style: dict[str, Any] = {
            "markerfacecolor": "none",
            "markeredgecolor": GREY,
            "markeredgewidth": 0.8,
            "linestyle": "",
        }
        axes.plot(row["gflops"], row["value"], marker="o", markersize=2 * radius, **style)
        labels.append(Label(row["gflops"], row["value"], _text(found, row["label"], row["size"]), radius, GREY))
    return labels


def _draw_ours(axes: Axes, found: Cost, largest: float) -> list[Label]:
    labels = []
    is_crowded = len(found.points) > MOST_NAMED
    for number, row in enumerate(records(found.points), start=1):
        arm, radius = found.arms[row["arm"]], _radius(row["params_m"], largest)
        axes.plot(
            row["gflops"],
            row["mean"],
            marker="o",
            linestyle="",
            markersize=2 * radius,
            color=arm.look.colour,
            alpha=0.7,
        )
        if not math.isnan(row["std"]):
            axes.errorbar(row["gflops"], row["mean"], row["std"], color="black", elinewidth=0.8, capsize=1.5)
        text = str(number) if is_crowded else _text(found, arm.label, row["size"])
        labels.append(Label(row["gflops"], row["mean"], text, radius))
    return labels


def _text(found: Cost, label: str, size: int) -> str:
    return f"{label} {size}" if len(_sizes(found)) > 1 else label


def _radius(params_m: float, largest: float) -> float:
    """Of a bubble whose area is proportional to the parameters, in points."""
    return LARGEST * math.sqrt(params_m / largest)


def _scale(axes: Axes, costs: Sequence[float]) -> None:
    if min(costs) > 0 and max(costs) / min(costs) > LOG_FROM:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)


def _numbered(found: Cost) -> dict[str, Line2D]:
    """What the numbers beside the bubbles stand for, where there are too many for names."""
    if len(found.points) <= MOST_NAMED:
        return {}
    rows = enumerate(records(found.points), start=1)
    return {
        f"{number} {_text(found, found.arms[row['arm']].label, row['size'])}": Line2D(
            [], [], marker="o", linestyle="", color=found.arms[row["arm"]].look.colour
        )
        for number, row in rows
    }


def _entries(found: Cost, largest: float) -> dict[str, Line2D]:
    """Two sizes of bubbles; ours and the paper's where there are both."""
    style: dict[str, Any] = {"marker": "o", "linestyle": "", "markerfacecolor": "none", "markeredgecolor": GREY}
    sizes = [_round(largest / 4), _round(largest)]
    entries = {
        f"{size:g} M parameters": Line2D([], [], markersize=2 * _radius(size, largest), **style) for size in sizes
    }
    if found.paper_title:
        entries["ours"] = Line2D([], [], marker="o", linestyle="", color=GREY)
        entries[f"paper, {found.paper_title}"] = Line2D([], [], **style)
    return entries


def _round(value: float) -> float:
    """One significant digit."""
    return float(f"{value:.0e}")
