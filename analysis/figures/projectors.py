"""Accuracy against the number of projectors of SAPE, one line for each SAU variant (the paper's Fig. 6)."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.errors import NotDrawable
from analysis.figures.source import Figured, Source, runs_of, seeds_text
from analysis.figures.style import GREY, Page, grid_lines, legend_below, legend_entries, look, new_figure, styled
from analysis.store import PARAMS

COUNT = PARAMS + "distill.sape.projectors"
ENABLED = PARAMS + "distill.sape.enabled"
SAU, EXTRA = PARAMS + "distill.sape.sau", PARAMS + "distill.sape.extra_fc"
OPERATIONAL = (PARAMS + "runtime.", PARAMS + "seed")  # prefixes of what changes no result, or is a repeat
VARIANTS = {"none": "SAU", "post_gap": "SAU + FC after pooling", "pre_softmax": "SAU + FC before softmax"}
APART = 0.06  # projectors between the lines, so that their error bars stand beside each other
POINT_COLUMNS = ["variant", "projectors", "arm", "mean", "low", "high", "n"]


@dataclass(frozen=True)
class Projectors(Figured):
    """One line a variant.

    Attributes:
        title: of the score, with its unit.
        points: POINT_COLUMNS, by variant and number of projectors; mean and mean -+ standard deviation.
        baseline: mean score of the baseline; NaN without one.
        baseline_label: its text.
    """

    title: str
    points: pd.DataFrame
    baseline: float
    baseline_label: str


def data(source: Source) -> Projectors:
    """Groups arms with SAPE that differ in the number of projectors only.

    Raises:
        NotDrawable: no two arms do.
    """
    trials = source.finished.assign(score=source.values(source.finished, source.score))
    trials = trials[trials["score"].notna()]
    lines = _lines(trials)
    if lines.empty:
        raise NotDrawable("no two finished arms with SAPE differ in the number of projectors only")
    groups = lines.groupby(["line", "variant", "projectors", "arm"], sort=True)["score"]
    points = groups.agg(mean="mean", std="std", n="size").reset_index()
    points["low"], points["high"] = points["mean"] - points["std"], points["mean"] + points["std"]
    own = trials.loc[trials["arm"] == source.baseline, "score"]
    spread = " ± standard deviation" if points["n"].max() > 1 else ""
    caption = (
        f"{source.score.title} against the number of projectors: mean{spread} over finished seeds "
        f"({seeds_text(points['n'])}).",
        *source.remarks,
    )
    used = trials[trials["run_id"].isin(lines["run_id"]) | (trials["arm"] == source.baseline)]
    label = source.arms[source.baseline].label if source.baseline in source.arms else ""
    return Projectors(
        source.study, caption, runs_of(used), source.score.title, points[POINT_COLUMNS], own.mean(), label
    )


def _lines(trials: pd.DataFrame) -> pd.DataFrame:
    """Trials of arms that stand on a line with another arm, with `line`, `variant` and `projectors`."""
    if COUNT not in trials:
        return trials[:0]
    trials = trials[trials[ENABLED] == "true"] if ENABLED in trials else trials
    names = [name for name in trials.columns if name.startswith(PARAMS) and not name.startswith(OPERATIONAL)]
    varying = [name for name in names if name != COUNT and trials[name].nunique(dropna=False) > 1]
    lines = trials.assign(line=_texts(trials, varying), projectors=trials[COUNT].astype(int))
    lines = _with_shared_starts(lines, [name for name in varying if name not in (SAU, EXTRA)])
    is_line = lines.groupby("line")["projectors"].transform("nunique") > 1
    lines = lines[is_line]
    return lines.assign(variant=[_variant(row, _named(lines, varying)) for _, row in lines.iterrows()])


def _texts(trials: pd.DataFrame, names: list[str]) -> pd.Series:
    """What trials with the same values of these options have in common."""
    if not names:
        return pd.Series("", trials.index)
    return trials[names].fillna("").agg(tuple, axis=1).map(str)


def _with_shared_starts(lines: pd.DataFrame, rest: list[str]) -> pd.DataFrame:
    """One projector has nothing to weigh: such a training begins the line of every variant of the unit.

    Args:
        lines: trials with `line` and `projectors`.
        rest: the options besides the unit's that vary; those of a line share them.
    """
    setting = _texts(lines, rest)
    ones = lines["projectors"] == 1
    starts = [lines]
    for _, rows in lines[~ones].groupby("line"):
        known = lines["line"] == rows["line"].iloc[0]
        if not (ones & known).any():
            unit = {name: rows[name].iloc[0] for name in ("line", SAU, EXTRA) if name in rows}
            starts.append(lines[ones & (setting == setting[rows.index[0]])].assign(**unit))
    return pd.concat(starts)


def _named(lines: pd.DataFrame, varying: list[str]) -> list[str]:
    """What else tells the lines apart."""
    return [name for name in varying if name not in (SAU, EXTRA) and lines[name].nunique(dropna=False) > 1]


def _variant(row: pd.Series, named: list[str]) -> str:
    variant = VARIANTS.get(str(row.get(EXTRA, "none")), str(row.get(EXTRA)))
    words = [variant if row.get(SAU, "true") == "true" else "without SAU"]
    return ", ".join([*words, *(f"{name.rsplit('.', 1)[-1]} = {row[name]}" for name in named)])


@styled()
def draw(found: Projectors, page: Page) -> Figure:
    """One panel."""
    figure = new_figure(page, 58 if not page.is_double else 75)
    axes = figure.add_subplot()
    lines = list(found.points.groupby("variant", sort=False))
    for index, (variant, rows) in enumerate(lines):
        style = look(index + 1)  # the first look is the baseline's
        spread = (rows["high"] - rows["mean"]).fillna(0.0)
        options = {"color": style.colour, "marker": style.marker, "linestyle": style.dash, "elinewidth": 0.8}
        places = rows["projectors"] + APART * (index - (len(lines) - 1) / 2)
        axes.errorbar(places, rows["mean"], spread, label=variant, capsize=1.5, **options)
    if pd.notna(found.baseline):
        axes.axhline(found.baseline, color=GREY, linewidth=0.8, linestyle=":", label=found.baseline_label)
    axes.set_xlabel("number of projectors")
    axes.set_ylabel(found.title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid_lines(axes)
    spread_text = "mean ± standard deviation, " if found.points["n"].max() > 1 else ""
    legend_below(figure, legend_entries([axes]), f"{spread_text}{seeds_text(found.points['n'])} seeds")
    return figure
