"""Learning curves: the score per epoch of every arm."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from analysis.columns import DETECTED, SPLITS, column
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
from analysis.figures.style import Page, legend_below, new_figure, styled


@dataclass(frozen=True)
class Curves(Figured):
    """The score per epoch.

    Attributes:
        title: of the score, with its unit.
        band: a name of figures.BANDS.
        arms: every arm of the study.
        bands: bands.BAND_COLUMNS.
        singles: bands.SINGLE_COLUMNS.
    """

    title: str
    band: str
    arms: dict[str, Arm]
    bands: pd.DataFrame
    singles: pd.DataFrame


def data(source: Source) -> Curves:
    """Reads the epochs of a study's arms.

    Raises:
        NotDrawable: no trial has reported an epoch of the score.
    """
    metric = epoch_metric(source)
    printed = column(metric, "last")
    epochs = source.store.epochs(source.trials, [metric])
    if epochs.empty:
        raise NotDrawable(f"no trial of an arm has reported an epoch of {metric} yet")
    epochs["value"] = printed.scale * epochs["value"]
    found, others = bands(epochs, source.band), singles(epochs)
    trials = source.trials[source.trials["run_id"].isin(epochs["run_id"])]
    caption = (f"{printed.title} per epoch.", *band_caption(source, found, others))
    return Curves(source.study, caption, runs_of(trials), printed.title, source.band, source.arms, found, others)


def epoch_metric(source: Source) -> str:
    """The score as it is reported every epoch: only the validation split is scored then, and on given boxes."""
    own = source.metric or source.record.specification["metric"]["name"]
    split, _, score = own.partition("/")
    return f"{SPLITS[0]}/{score.removesuffix(DETECTED)}" if split in SPLITS else own


@styled()
def draw(found: Curves, page: Page) -> Figure:
    """One panel."""
    figure = new_figure(page, 58 if not page.is_double else 75)
    axes = figure.add_subplot()
    draw_metric(axes, found.arms, found.bands, found.singles)
    axes.set_ylabel(found.title)
    shown = [*found.bands["arm"], *found.singles["arm"]]
    entries = arm_entries(found.arms, shown) | unfinished_entries(found.singles)
    legend_below(figure, entries, band_title(found.band, found.bands))
    return figure
