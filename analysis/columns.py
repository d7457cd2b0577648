"""Metric names to columns: which summary metric is meant, what stands above it and in which unit it is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

SPLITS = ("val", "test")
SELECTED = {"best": "best", "last": "final"}  # selection rule -> prefix of the summary metric
EPOCHS = {"best": "best epoch", "last": "last epoch"}  # in print, where both stand side by side
SCORES = "scores"  # in a study's `decimals`: every score
ALL_KEYPOINTS = "all"

_PRINTED = {
    "pckh@0.5": "PCKh@0.5",
    "pckh@0.1": "PCKh@0.1",
    "pckh@0.11": "PCKh@0.11",
    "pck@0.2": "PCK@0.2",
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "apm": "APM",
    "apl": "APL",
    "ar": "AR",
    "ap_easy": "AP-E",
    "ap_medium": "AP-M",
    "ap_hard": "AP-H",
}
DETECTED = "@det"  # ends the name of a score on a person detector's boxes
# Architecture and cost: heading, unit, decimals.
_COSTS = {
    "params_m": ("Params", "M", 2),
    "gmacs": ("MACs", "G", 3),
    "gflops": ("GFLOPs", "", 3),
    "teacher_params_m": ("Teacher's params", "M", 2),
    "teacher_gmacs": ("Teacher's MACs", "G", 3),
    "teacher_gflops": ("Teacher's GFLOPs", "", 3),
    "adapter_params_m": ("Adapters' params", "M", 2),
    "adapter_gmacs": ("Adapters' MACs", "G", 3),
    "train_seconds": ("Training time", "s", 1),
    "epoch_seconds": ("Time per epoch", "s", 1),
    "peak_memory_mb": ("Peak memory", "MB", 0),
    "converged_epoch": ("Converged epoch", "", 1),
    "best/epoch": ("Best epoch", "", 1),
}
COST_MEANINGS = {
    "converged_epoch": "the first whose validation score is within half a point of the training's best",
    "peak_memory_mb": "the device's, or the process's where it trains on the CPU, while it trains",
    "epoch_seconds": "the mean over all epochs, each with its validation",
    "adapter_params_m": "the distillation's own layers, trained or frozen, never deployed",
}
"""Costs that a table's reader may take for something else: what they are."""


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
        epoch: which epoch, where columns of both stand side by side, else empty.
    """

    metric: str
    stored: str
    heading: str
    unit: str
    scale: float
    decimals: int
    mode: str
    epoch: str = ""

    @property
    def title(self) -> str:
        """Heading with unit, and epoch where that tells two columns apart."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.heading}{unit}{f', {self.epoch}' if self.epoch else ''}"


@dataclass(frozen=True)
class Heading:
    """What stands above a column.

    Attributes:
        text: the whole, for formats with one line of headings.
        group: printed once above neighbours with the same group; empty where the column stands alone.
        short: printed below the group.
    """

    text: str
    group: str = ""
    short: str = ""


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


def table_columns(layout: Mapping[str, Any], metric: Mapping[str, Any]) -> tuple[Column, ...]:
    """The columns of a study's table, its metric among them (in front where the study does not list it).

    Args:
        layout: the study's `table`: columns, side_by_side, decimals.
        metric: the study's `metric`: name, mode, select.
    """
    names = list(layout.get("columns") or ())
    rules = list(SELECTED) if layout.get("side_by_side") else [metric["select"]]
    named = names if metric["name"] in names else [metric["name"], *names]
    found = [_told_apart(name, rule, metric, rules) for name in named for rule in rules]
    return tuple(dict.fromkeys(_with_decimals(each, layout.get("decimals") or {}) for each in found))


def _told_apart(name: str, rule: str, metric: Mapping[str, Any], rules: Sequence[str]) -> Column:
    each = column(name, rule, metric["mode"] if name == metric["name"] else "")
    is_one_of_two = len(rules) > 1 and summary_name(name, rules[0]) != summary_name(name, rules[1])
    return replace(each, epoch=EPOCHS[rule]) if is_one_of_two else each


def _with_decimals(each: Column, decimals: Mapping[str, int]) -> Column:
    of_scores = decimals.get(SCORES, each.decimals) if each.unit == "%" else each.decimals
    return replace(each, decimals=decimals.get(each.metric, of_scores))


def headed(columns: Sequence[Column]) -> list[list[tuple[Column, Heading]]]:
    """The columns in groups, each with what stands above it.

    Neighbours of one score, or of one metric at two epochs, are a group; a column by itself is a group of one.
    """
    groups = [(group, list(members)) for group, members in groupby(columns, _group)]
    return [
        [(each, _heading(each, group if len(members) > 1 else "")) for each in members] for group, members in groups
    ]


def _heading(each: Column, group: str) -> Heading:
    return Heading(each.title, group, _short(each)) if group else Heading(each.title)


def _group(each: Column) -> str:
    """Neighbours of one group stand below one heading."""
    if each.epoch:
        return replace(each, epoch="").title
    if not _is_score(each.stored):
        return each.title
    return f"{_score_heading('/'.join(each.stored.split('/')[:3]))} ({each.unit})"


def _short(each: Column) -> str:
    part = each.stored.split("/")[3:]
    return each.epoch or (part[0].replace("_", " ") if part else ALL_KEYPOINTS)


def _is_score(stored: str) -> bool:
    parts = stored.split("/")
    return len(parts) > 2 and parts[1] in SPLITS and "loss" not in parts[2]


def _score_heading(stored: str) -> str:
    _, split, score, *keypoint = stored.split("/")
    name = score.removesuffix(DETECTED)
    boxes = ["(detector boxes)"] if name != score else []
    words = [_PRINTED.get(name, name), *(part.replace("_", " ") for part in keypoint), split, *boxes]
    return " ".join(words)
