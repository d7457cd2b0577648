"""The trials of a search as numbers: each option of the space as a dimension, each trial's place in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.errors import NotDrawable
from analysis.figures.source import Source
from analysis.store import PARAMS
from orchestrator import keys

CATEGORICAL = "categorical"
FLAG = "enabled"  # says nothing without the name before it


@dataclass(frozen=True)
class Dimension:
    """One option of a search space.

    Attributes:
        path: dotted, as in the configuration.
        name: the end of the path that is unlike the others'.
        kind: `float`, `int` or `categorical`.
        is_log: whether it was sampled by decades.
        choices: texts of a categorical option, in the order of the study file; else empty.
        low: smallest value that may be sampled; NaN for a categorical option.
        high: largest, likewise.
    """

    path: str
    name: str
    kind: str
    is_log: bool
    choices: tuple[str, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Searched:
    """A search.

    Attributes:
        dimensions: in the order of the study file.
        trials: one row a trial, oldest first: run_id, trial_id, state, `score` (printed unit; NaN unless finished:
            a part of the budget is no result) and one column for every path: a number, the text of a choice, or
            None where the option was not in use.
    """

    dimensions: tuple[Dimension, ...]
    trials: pd.DataFrame

    @property
    def finished(self) -> pd.DataFrame:
        """Trials with a score."""
        return self.trials[self.trials["score"].notna()]


def searched(source: Source) -> Searched:
    """Reads a study's search.

    Raises:
        NotDrawable: the study has none, or no trial of it finished.
    """
    trials = source.searched
    space: Mapping[str, Mapping[str, Any]] = source.record.specification["search"].get("space") or {}
    space = {path: item for path, item in space.items() if PARAMS + path in trials}
    scores = source.values(trials, source.score).where(trials["state"] == keys.FINISHED)
    if not space or scores.notna().sum() == 0:
        raise NotDrawable("no trial of the search has finished yet")
    names = short_names(list(space))
    values = [_values(row, space) for row in trials[[PARAMS + path for path in space]].to_dict("records")]
    columns = {path: pd.Series([row[path] for row in values], dtype=object) for path in space}
    frame = trials[["run_id", "trial_id", "state"]].assign(score=scores, **columns)
    return Searched(tuple(_dimension(path, names[path], space[path], frame[path]) for path in space), frame)


def _values(row: Mapping[Any, Any], space: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a trial sampled: a run's parameters also hold the base's value of options that were not in use."""
    found: dict[str, Any] = {}
    read = {path: _read(row[PARAMS + path]) for path in space}
    for path, declaration in space.items():
        conditions: Mapping[str, Sequence[Any]] = declaration.get("when") or {}
        # A parent stands before its children in the space, and is None where it is not in use itself.
        is_used = all(
            found.get(parent) is not None and read.get(parent) in wanted for parent, wanted in conditions.items()
        )
        value = choice_text(read[path]) if declaration["type"] == CATEGORICAL else read[path]
        found[path] = value if is_used else None
    return found


def _read(text: Any) -> Any:
    """A parameter as it was configured: JSON, or a plain text."""
    if not isinstance(text, str):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def choice_text(choice: Any) -> str | None:
    """A choice in print: `3-5-7-7` for a list, `none` for an empty one, `true` or `false`."""
    if choice is None:
        return None
    if isinstance(choice, list):
        return "-".join(map(str, choice)) or "none"
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def _dimension(path: str, name: str, declaration: Mapping[str, Any], values: pd.Series) -> Dimension:
    kind = str(declaration["type"])
    if kind == CATEGORICAL:
        choices = tuple(
            str(choice_text(choice)) for choice in declaration.get("choices") or sorted(set(values.dropna()))
        )
        return Dimension(path, name, kind, False, choices, math.nan, math.nan)
    low, high = (declaration.get(key) for key in ("low", "high"))
    known = values.dropna().astype(float)
    bounds = (known.min() if low is None else low, known.max() if high is None else high)
    return Dimension(path, name, kind, bool(declaration.get("log")), (), *map(float, bounds))


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The shortest end of each dotted path that no other path shares; a bare `enabled` keeps what it enables."""
    return {path: next(end for end in _ends(path) if _is_telling(end, path, paths)) for path in paths}


def _ends(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]


def _is_telling(end: str, path: str, paths: Sequence[str]) -> bool:
    is_shared = any(other != path and f".{other}".endswith(f".{end}") for other in paths)
    return end == path or not (is_shared or end == FLAG)
