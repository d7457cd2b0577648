"""What the arms of a study have in common, and what makes each of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

import pandas as pd

from analysis.factors import NONE
from analysis.report.document import Grid, grid
from analysis.report.trials import ARMS, SEARCHED
from analysis.store import PARAMS

SEED = "seed"
OF_THE_MACHINE = ("data.root", "runtime.")  # options that change no result and name folders and devices
MOST_COLUMNS = 6  # arms that stand beside each other; more stand below each other
LONG_NUMBER = 8


@dataclass(frozen=True)
class Configuration:
    """The options of a study's arms.

    Attributes:
        shared: dotted path -> value, the same in all arms.
        arms: label -> dotted path -> value, of the options in which arms differ.
    """

    shared: dict[str, str]
    arms: dict[str, dict[str, str]]

    @property
    def differing(self) -> tuple[str, ...]:
        """Paths in which arms differ."""
        return tuple(dict.fromkeys(path for options in self.arms.values() for path in options))


def configuration(trials: pd.DataFrame, without: Collection[str] = OF_THE_MACHINE) -> Configuration:
    """Compares the configurations of the arms, of each its first training; a study with a search alone, of that.

    Args:
        trials: as `trials_of` gives them.
        without: paths, or their beginnings, that are left out.
    """
    students = trials[trials["role"] == ARMS]
    students = students if len(students) else trials[trials["role"] == SEARCHED].head(1)
    first = students.drop_duplicates("label")
    names = [name for name in map(str, first) if name.startswith(PARAMS) and _is_shown(name[len(PARAMS) :], without)]
    options = first[names].fillna(NONE).set_axis(first["label"]).rename(columns=lambda name: name.removeprefix(PARAMS))
    options = options.loc[:, (options != NONE).any()].map(in_print)
    is_shared = options.nunique() == 1
    shared = {str(path): str(options[path].iloc[0]) for path in options.columns[is_shared]}
    return Configuration(shared, options.loc[:, ~is_shared].to_dict("index"))  # type: ignore[arg-type]


def _is_shown(path: str, without: Collection[str]) -> bool:
    return path != SEED and not any(path == name or path.startswith(name) for name in without)


def in_print(text: str) -> str:
    """An option's value as people write it: six digits, lists without quotes and braces, nothing as a dash."""
    try:
        value = json.loads(text)
    except ValueError:
        return text or NONE
    if isinstance(value, float) and len(text) > LONG_NUMBER:
        return f"{value:.6g}"
    return _listed(value) if isinstance(value, list) else text


def _listed(values: list[object]) -> str:
    return ", ".join(_member(value) for value in values) or NONE


def _member(value: object) -> str:
    if isinstance(value, dict):
        return " with ".join(str(part) for part in value.values() if part)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def shared_grid(found: Configuration) -> Grid:
    """Option and value, twice beside each other, to be read down first the one and then the other."""
    return grid(
        ["Option", "Value"] * 2, [[*left, *right] for left, right in _halves(found.shared)], "llll", is_prose=True
    )


def _halves(options: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    items = list(options.items())
    middle = (len(items) + 1) // 2
    return zip_longest(items[:middle], items[middle:], fillvalue=("", ""))


def differing_grid(found: Configuration) -> Grid:
    """The arms beside each other, or below each other where they are many."""
    paths, arms = found.differing, found.arms
    if len(arms) <= MOST_COLUMNS:
        rows = [[path, *(options.get(path, NONE) for options in arms.values())] for path in paths]
        return grid(["Option", *arms], rows, "l" + "c" * len(arms))
    rows = [[label, *(options.get(path, NONE) for path in paths)] for label, options in arms.items()]
    return grid(["Arm", *paths], rows, "l" + "c" * len(paths))
