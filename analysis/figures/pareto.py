"""Accuracy against cost, and which points no other beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.columns import Column, column
from analysis.errors import NotDrawable
from analysis.figures.source import Arm, Figured, Source, records, runs_of, seeds_text
from analysis.figures.style import GREY, LIGHT, Page, grid_lines, legend_below, legend_entries, new_figure, styled
from analysis.front import unbeaten
from orchestrator import keys

POINT_COLUMNS = ["kind", "name", "cost", "score", "cost_std", "score_std", "n", "is_front"]
ARM, TRIAL = "arm", "trial"
UNITS = (("h", 3600.0, 3 * 3600.0), ("min", 60.0, 600.0))  # unit, seconds in it, from which cost on


@dataclass(frozen=True)
class Pareto(Figured):
    """Points in the plane of cost and score.

    Attributes:
        title: of the score, with its unit.
        cost_title: of the cost, likewise.
        mode: `max` or `min`, of the score; the cost is always to be small.
        arms: every arm of the study.
        points: POINT_COLUMNS: arms (mean and standard deviation over seeds) and trials of a search (one run each); the
            front is of the trials where there are any, else of the arms with all their seeds.
    """

    title: str
    cost_title: str
    mode: str
    arms: dict[str, Arm]
    points: pd.DataFrame


def data(source: Source) -> Pareto:
    """Reads score and cost of arms and of a search's trials that used their whole budget.

    Raises:
        NotDrawable: fewer than two of either, or all cost the same.
        MixedProtocols: arms and search differ in a protocol field that may not.
    """
    score, cost = source.score, column(source.against, "last")
    searched = source.searched if source.record.specification.get("search") else source.trials[:0]
    searched = searched[searched["state"] == keys.FINISHED]
    notes = source.check(pd.concat([searched, source.finished])[["arm", "protocol"]])
    mode = score.mode or "min"
    points = pd.concat([_trial_points(source, searched, cost), _arm_points(source, cost)], ignore_index=True)
    kind = TRIAL if (points["kind"] == TRIAL).any() else ARM
    points, cost_title = _in_unit(_marked(points, kind, mode, cost), cost)
    runs = runs_of(pd.concat([searched, source.finished]))
    caption = (_caption(score, cost_title, points, kind), *notes, *source.absences)
    return Pareto(source.study, caption, runs, score.title, cost_title, mode, source.arms, points[POINT_COLUMNS])


def _caption(score: Column, cost_title: str, points: pd.DataFrame, kind: str) -> str:
    arms = points[points["kind"] == ARM]
    spread = f"mean ± standard deviation ({seeds_text(arms['n'])}); " if len(arms) else ""
    unbeaten = "trials" if kind == TRIAL else "arms with all seeds"
    cost = cost_title[:1].lower() + cost_title[1:] if cost_title[1:2].islower() else cost_title
    return f"{score.title} against {cost}, as measured; {spread}line: {unbeaten} that no other beats in both."


def _marked(points: pd.DataFrame, kind: str, mode: str, cost: Column) -> pd.DataFrame:
    """The points with `is_front`: of the trials, or of the arms with all their seeds.

    Raises:
        NotDrawable: there are fewer than two of that kind, or all cost the same.
    """
    same = points[points["kind"] == kind]
    if len(same) < 2:
        raise NotDrawable(f"fewer than two finished {kind}s have both the score and {cost.stored}")
    if same["cost"].nunique() == 1:
        raise NotDrawable(f"every {kind} has the same {cost.stored} ({same['cost'].iloc[0]:.4g})")
    rivals = same[same["n"] == same["n"].max()]  # an arm with a lucky half of its seeds beats nobody
    unbeaten = pd.Series(front(list(rivals["cost"]), list(rivals["score"]), mode), rivals.index)
    return points.assign(is_front=unbeaten.reindex(points.index, fill_value=False))


def front(costs: Sequence[float], scores: Sequence[float], mode: str) -> list[bool]:
    """Which points are beaten by none: no other is at least as good in both and better in one.

    Args:
        costs: to be small.
        scores: one for each cost.
        mode: `max` or `min`, of the scores.
    """
    return unbeaten(list(zip(costs, scores, strict=True)), ["min", mode])


def _trial_points(source: Source, trials: pd.DataFrame, cost: Column) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "kind": TRIAL,
            "name": trials["trial_id"],
            "cost": source.values(trials, cost),
            "score": source.values(trials, source.score),
            "n": 1,
        }
    )
    return frame.dropna()


def _arm_points(source: Source, cost: Column) -> pd.DataFrame:
    trials = source.finished
    values = {"cost": source.values(trials, cost), "score": source.values(trials, source.score)}
    groups = trials[["arm"]].assign(**values).dropna().groupby("arm", sort=False)
    found = groups.agg(
        cost=("cost", "mean"),
        score=("score", "mean"),
        cost_std=("cost", "std"),
        score_std=("score", "std"),
        n=("score", "size"),
    )
    return found.reset_index(names="name").assign(kind=ARM)


def _in_unit(points: pd.DataFrame, cost: Column) -> tuple[pd.DataFrame, str]:
    """Long times in minutes or hours."""
    unit, seconds = next(((u, s) for u, s, first in UNITS if points["cost"].max() >= first), ("s", 1.0))
    if cost.unit != "s" or unit == "s":
        return points, cost.title
    scaled = points.assign(cost=points["cost"] / seconds, cost_std=points["cost_std"] / seconds)
    return scaled, f"{cost.heading} ({unit})"


@styled()
def draw(found: Pareto, page: Page) -> Figure:
    """Trials as grey dots, arms as in every figure, the front as steps."""
    figure = new_figure(page, 62 if not page.is_double else 80)
    axes = figure.add_subplot()
    trials = found.points[(found.points["kind"] == TRIAL)]
    if len(trials):
        style: dict[str, Any] = {"linestyle": "", "marker": "o", "markeredgecolor": GREY}
        axes.plot(trials["cost"], trials["score"], label="trial of the search", markerfacecolor="white", **style)
        best = trials[trials["is_front"]]
        axes.plot(best["cost"], best["score"], markerfacecolor=GREY, **style)
    for name, arm in found.arms.items():
        _arm(axes, arm, found.points[(found.points["kind"] == ARM) & (found.points["name"] == name)])
    _front(axes, found)
    axes.set_xlabel(found.cost_title)
    axes.set_ylabel(found.title)
    axes.margins(0.08)
    grid_lines(axes, "both")
    arms = found.points[found.points["kind"] == ARM]
    is_repeated = len(arms) > 0 and arms["n"].max() > 1
    title = f"mean ± standard deviation, {seeds_text(arms['n'])} seeds" if is_repeated else ""
    legend_below(figure, legend_entries([axes]), title)
    return figure


def _front(axes: Axes, found: Pareto) -> None:
    best = found.points[found.points["is_front"]].sort_values(["cost", "score"])
    # Broad and light, so that it is told from the error bars, which run the same ways.
    style: dict[str, Any] = {"color": LIGHT, "linewidth": 3.0, "drawstyle": "steps-post", "zorder": 1}
    axes.plot(best["cost"], best["score"], label="Pareto front", **style)


def _arm(axes: Axes, arm: Arm, rows: pd.DataFrame) -> None:
    for row in records(rows.fillna({"cost_std": 0.0, "score_std": 0.0})):
        style: dict[str, Any] = {
            "color": arm.look.colour,
            "marker": arm.look.marker,
            "linestyle": "",
            "elinewidth": 0.8,
        }
        axes.errorbar(row["cost"], row["score"], row["score_std"], row["cost_std"], label=arm.label, **style)
