"""Metric names to columns: which summary metric is meant, what stands above it and in which unit it is printed."""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("val", "test")
SELECTED = {"best": "best", "last": "final"}  # selection rule -> prefix of the summary metric

_PRINTED = {
    "pckh@0.5": "PCKh@0.5",
    "pckh@0.1": "PCKh@0.1",
    "pck@0.2": "PCK@0.2",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "apm": "APM",
    "apl": "APL",
    "ar": "AR",
}
# Architecture and cost: heading, unit, decimals.
_COSTS = {
    "params_m": ("Params", "M", 2),
    "gmacs": ("MACs", "G", 3),
    "gflops": ("GFLOPs", "", 3),
    "train_seconds": ("Training time", "s", 1),
    "best/epoch": ("Best epoch", "", 1),
}


@dataclass(frozen=True)
class Column:
    """One metric of a table.

    Attributes:
        metric: as the study names it.
        stored: name of the summary metric it is read from.
        heading: printed above it, without the unit.
        unit: `%` for scores, else the cost's own; may be empty.
        scale: printed value = scale * stored value.
        decimals: digits printed.
        mode: `max` or `min` where a best value is set in bold, else empty.
    """

    metric: str
    stored: str
    heading: str
    unit: str
    scale: float
    decimals: int
    mode: str

    @property
    def title(self) -> str:
        """Heading with unit."""
        return f"{self.heading} ({self.unit})" if self.unit else self.heading


def summary_name(metric: str, select: str) -> str:
    """The summary metric that a column means: `val/ap` selected by `best` is `best/val/ap`; a cost is itself.

    Raises:
        ValueError: if the selection rule is unknown.
    """
    if select not in SELECTED:
        raise ValueError(f"select must be one of {', '.join(SELECTED)}, got {select!r}")
    return f"{SELECTED[select]}/{metric}" if metric.split("/")[0] in SPLITS else metric


def column(metric: str, select: str, mode: str = "") -> Column:
    """Describes the column of one metric.

    Args:
        metric: name in the study's table or its metric.
        select: the study's selection rule.
        mode: `max` or `min` for the study's metric; other scores are maximised, costs have no best.
    """
    stored = summary_name(metric, select)
    if metric in _COSTS:
        heading, unit, decimals = _COSTS[metric]
        return Column(metric, stored, heading, unit, 1.0, decimals, mode)
    if not _is_score(stored):
        return Column(metric, stored, metric, "", 1.0, 4, mode)
    return Column(metric, stored, _score_heading(stored), "%", 100.0, 2, mode or "max")


def _is_score(stored: str) -> bool:
    parts = stored.split("/")
    return len(parts) > 2 and parts[1] in SPLITS and "loss" not in parts[2]


def _score_heading(stored: str) -> str:
    _, split, score, *keypoint = stored.split("/")
    words = [_PRINTED.get(score, score), *(part.replace("_", " ") for part in keypoint), split]
    return " ".join(words)
