"""What each distillation loss really does: its gradient against the task's, and the temperature, per epoch."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.errors import NotDrawable
from analysis.figures.bands import (
    arm_entries,
    band_caption,
    band_title,
    bands,
    draw_metric,
    singles,
    unfinished_entries,
)
from analysis.figures.source import Arm, Figured, Source, runs_of
from analysis.figures.style import Page, label_below, legend_below, new_figure, panels, styled
from analysis.store import METRICS

RATIO = "diag/gradient_ratio_"
LEARNED = {"diag/tau": "temperature τ", "diag/alpha": "weight α of the feature loss", "diag/beta": "weight β (logits)"}
LOG_FROM = 30.0  # largest / smallest value from which an axis is logarithmic


@dataclass(frozen=True)
class Gradients(Figured):
    """Diagnostics per epoch.

    Attributes:
        band: a name of figures.BANDS.
        arms: every arm of the study.
        titles: metric -> what stands beside its axis; in the order of the panels.
        bands: bands.BAND_COLUMNS.
        singles: bands.SINGLE_COLUMNS.
    """

    band: str
    arms: dict[str, Arm]
    titles: dict[str, str]
    bands: pd.DataFrame
    singles: pd.DataFrame


def data(source: Source) -> Gradients:
    """Reads the diagnostics of a study's arms; one that never changes is told in the caption instead.

    Raises:
        NotDrawable: no arm distils.
    """
    titles = _recorded(source.trials)
    epochs = source.store.epochs(source.trials, list(titles))
    if epochs.empty:
        raise NotDrawable("no trial has reported a gradient ratio or a temperature: no arm distils, or none has begun")
    values = epochs.groupby("metric")["value"]
    is_constant = values.nunique() == 1
    fixed = {name: float(values.first()[name]) for name in LEARNED if is_constant.get(name, False)}
    if set(epochs["metric"]) == set(fixed):
        raise NotDrawable(f"nothing changes over the epochs: {_fixed_text(fixed)}")
    shown = epochs[~epochs["metric"].isin(fixed)]
    found, others = bands(shown, source.band), singles(shown)
    trials = source.trials[source.trials["run_id"].isin(epochs["run_id"])]
    caption = [
        "Gradient of each distillation loss at the student's head, as a fraction of the task loss's, and what is "
        "learned with it, per epoch.",
        *band_caption(source, found, others),
        *([f"Constant in every trial: {_fixed_text(fixed)}."] if fixed else []),
    ]
    present = {name: title for name, title in titles.items() if name in set(shown["metric"])}
    return Gradients(source.study, tuple(caption), runs_of(trials), source.band, source.arms, present, found, others)


def _recorded(trials: pd.DataFrame) -> dict[str, str]:
    """Every gradient ratio and learned number that a trial has, and its title."""
    names = [name.removeprefix(METRICS) for name in trials.columns if name.startswith(METRICS)]
    ratios = sorted(name for name in names if name.startswith(RATIO))
    return {name: f"‖∇ {name.removeprefix(RATIO)}‖ / ‖∇ task‖" for name in ratios} | {
        name: title for name, title in LEARNED.items() if name in names
    }


def _fixed_text(fixed: dict[str, float]) -> str:
    return ", ".join(f"{name.removeprefix('diag/')} = {value:.4g}" for name, value in fixed.items())


@styled()
def draw(found: Gradients, page: Page) -> Figure:
    """One panel for each diagnostic, below each other in one column and side by side across both."""
    columns = min(len(found.titles), 3) if page.is_double else 1
    rows = -(-len(found.titles) // columns)
    figure = new_figure(page, rows * (55 if page.is_double else 38) + 6)
    drawn = panels(figure, len(found.titles), columns, sharex=True)
    for axes, (metric, title) in zip(drawn, found.titles.items()):
        of_metric = found.bands[found.bands["metric"] == metric]
        draw_metric(axes, found.arms, of_metric, found.singles[found.singles["metric"] == metric])
        axes.set_ylabel(title)
        if metric.startswith(RATIO):
            _scale_ratio(axes, of_metric)
    label_below(drawn, columns, "epoch")
    figure.align_ylabels(drawn)
    shown = [*found.bands["arm"], *found.singles["arm"]]
    entries = arm_entries(found.arms, shown) | unfinished_entries(found.singles)
    legend_below(figure, entries, band_title(found.band, found.bands))
    return figure


def _scale_ratio(axes: Axes, rows: pd.DataFrame) -> None:
    """From zero, or by decades where the arms are far apart."""
    values = rows["mean"].dropna()
    if len(values) and values.min() > 0 and values.max() / values.min() > LOG_FROM:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
