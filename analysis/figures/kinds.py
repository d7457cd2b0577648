"""From a study to its figures: which kinds there are, which its data can give, and their files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.database import shown
from analysis.errors import NotDrawable
from analysis.figures import (
    cost,
    curves,
    gradients,
    importance,
    keypoints,
    parallel,
    pareto,
    projectors,
    slices,
)
from analysis.figures.source import Arm, Figured, Source
from analysis.figures.style import Page, save


@dataclass(frozen=True)
class Kind:
    """What makes the numbers of a figure, and what draws them."""

    data: Callable[[Source], Any]
    draw: Callable[[Any, Page], Figure]


MAKERS: dict[str, Kind] = {
    "curves": Kind(curves.data, curves.draw),
    "cost": Kind(cost.data, cost.draw),
    "projectors": Kind(projectors.data, projectors.draw),
    "importance": Kind(importance.data, importance.draw),
    "slice": Kind(slices.data, slices.draw),
    "parallel": Kind(parallel.data, parallel.draw),
    "pareto": Kind(pareto.data, pareto.draw),
    "gradients": Kind(gradients.data, gradients.draw),
    "keypoints": Kind(keypoints.data, keypoints.draw),
}


@dataclass(frozen=True)
class Made:
    """One kind of figure of a study: its numbers, or why there are none."""

    kind: str
    found: Figured | None
    reason: str = ""


def make(source: Source, kinds: Iterable[str]) -> list[Made]:
    """The numbers of each kind.

    Raises:
        StoreError: the store cannot be read.
        MixedProtocols: results of different protocols would stand in one figure.
    """
    return [_make(source, kind) for kind in kinds]


def _make(source: Source, kind: str) -> Made:
    try:
        return Made(kind, MAKERS[kind].data(source))
    except NotDrawable as reason:
        return Made(kind, None, str(reason))


def write(made: Made, folder: Path, formats: Sequence[str], page: Page, uri: str) -> list[Path]:
    """Draws a figure as `<study>-<kind>.<format>` with the sidecar `<study>-<kind>.json`; returns the paths."""
    assert made.found is not None
    stem = folder / f"{made.found.study}-{made.kind}"
    paths = save(MAKERS[made.kind].draw(made.found, page), stem, formats)
    beside = stem.with_name(f".{stem.name}.json.{os.getpid()}")
    beside.write_text(sidecar(made.kind, made.found, uri), encoding="utf-8")
    return [*paths, beside.replace(stem.with_name(f"{stem.name}.json"))]


def sidecar(kind: str, found: Figured, uri: str) -> str:
    """JSON: the caption, the runs, everything drawn, and the store it was read from (without credentials)."""
    content = {
        "figure": kind,
        "store": shown(uri),
        **{item.name: _plain(getattr(found, item.name)) for item in fields(found)},
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Values of a figure's data as JSON has them; NaN as null."""
    if isinstance(value, pd.DataFrame):
        return json.loads(value.to_json(orient="records", double_precision=15))
    if isinstance(value, Arm):
        return {"label": value.label, "colour": value.look.colour}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return None if value != value else value
    return _plain(vars(value)) if is_dataclass(value) else value
