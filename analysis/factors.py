"""Options of the arms as columns: kernel sizes as counts (Table VI), names as check marks (VII), else the value."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ON = "✓"
NONE = "—"

_HEADINGS = {
    "student.backbone": "Backbone",
    "student.input_size": "Input size",
    "teacher.backbone": "Teacher",
    "teacher.input_size": "Teacher's input",
    "distill.sape.kernels": "Kernels",
    "distill.sape.projectors": "Projectors",
    "distill.sape.projector": "Projector",
    "distill.sape.extra_fc": "Extra FC",
    "distill.alpha": "α",
    "distill.beta": "β",
    "distill.etht.learn": "Learned",
    "distill.etht.init_tau": "τ at the start",
    "distill.etht.schedule": "Schedule of ξ",
    "distill.etht.direction": "Direction",
    "simcc.split_ratio": "Bins per pixel",
    "train.epochs": "Epochs",
    "train.batch_size": "Batch size",
}
_LEARNED = {"tau": "τ", "alpha": "α", "beta": "β"}  # in the order of Table VII
_WORDS = {"hrnet_w": "HRNet-W", "resnet": "ResNet-"}


@dataclass(frozen=True)
class FactorColumn:
    """One printed column of an option.

    Attributes:
        path: dotted path of the option.
        group: printed above this column and its neighbours of the same option; empty where it stands alone.
        heading: printed above the column.
        text: printed entry by the option's value.
    """

    path: str
    group: str
    heading: str
    text: Callable[[Any], str]

    @property
    def title(self) -> str:
        """Heading that stands by itself."""
        return f"{self.group}: {self.heading}" if self.group else self.heading


def factor_columns(factors: Mapping[str, Mapping[str, Any]]) -> tuple[FactorColumn, ...]:
    """The columns of every option, in the order in which the arms name them.

    Args:
        factors: arm -> dotted path -> value; None for an option that the arm makes no use of.
    """
    paths = dict.fromkeys(path for options in factors.values() for path in options)
    values = {path: [options[path] for options in factors.values() if path in options] for path in paths}
    return tuple(each for path, found in values.items() for each in _columns(path, found))


def plain(value: Any) -> str:
    """An option's value for the CSV file: a text as it is, nothing for an option not in use, else JSON."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _columns(path: str, values: Sequence[Any]) -> list[FactorColumn]:
    words = path.rsplit(".", 1)[-1].replace("_", " ")
    heading = _HEADINGS.get(path, words[:1].upper() + words[1:])
    lists = [value for value in values if isinstance(value, list)]
    if not lists or not all(isinstance(value, list | None) for value in values):
        return [FactorColumn(path, "", heading, _scalar)]
    members = list(dict.fromkeys(member for value in lists for member in value))
    if members and all(isinstance(member, int) for member in members):
        return [FactorColumn(path, heading, f"{size}×{size}", _count_of(size)) for size in sorted(members)]
    if any(isinstance(member, float) for member in members):
        return [FactorColumn(path, "", heading, _scalar)]
    return [FactorColumn(path, heading, _LEARNED.get(name, name), _mark_of(name)) for name in _in_order(members)]


def _in_order(names: Iterable[str]) -> list[str]:
    order = list(_LEARNED)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def _count_of(member: int) -> Callable[[Any], str]:
    return lambda value: NONE if value is None else str(value.count(member))


def _mark_of(member: str) -> Callable[[Any], str]:
    return lambda value: ON if member in (value or ()) else ""


def _scalar(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return ON if value else ""
    if isinstance(value, list):
        return ", ".join(map(_scalar, value))
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return next((text.replace(start, word) for start, word in _WORDS.items() if text.startswith(start)), text)
