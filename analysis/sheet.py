"""A table laid out: headings, entries and footnotes as plain text, the same for every format; numbers in print."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.columns import Column, Heading
from analysis.factors import NONE
from analysis.statistics import Difference, Repeats

MINUS = "−"
ARCHITECTURE = (  # properties of the networks, the same for every seed
    *("params_m", "gmacs", "gflops", "teacher_params_m", "teacher_gmacs", "teacher_gflops"),
    *("adapter_params_m", "adapter_gmacs"),
)
CONFIDENCE = "95 %"
SELECTION = {"best": "best epoch on val", "last": "last epoch"}


@dataclass(frozen=True)
class Entry:
    """One field of the printed table.

    Attributes:
        text: without markup.
        is_best: set in bold.
        is_second: underlined.
        marks: numbers of footnotes.
    """

    text: str
    is_best: bool = False
    is_second: bool = False
    marks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A table ready to be written in any format.

    Attributes:
        name: stem of its files and its LaTeX label.
        question: the study's, or empty.
        caption: sentences at the table: metric, selection rule, what a cell is.
        header: one heading per column.
        alignment: `l`, `c` or `r` per column.
        rows: entries in print.
        rules: indices of rows that begin a new block.
        footnotes: numbered from 1.
        remarks: further notes without a mark.
        records: the same numbers for machines, one mapping per line of the CSV file.
        provenance: run ids behind every cell, for the sidecar file.
        origins: one line of run ids per row, for comments.
    """

    name: str
    question: str
    caption: tuple[str, ...]
    header: tuple[Heading, ...]
    alignment: str
    rows: tuple[tuple[Entry, ...], ...]
    footnotes: tuple[str, ...]
    remarks: tuple[str, ...]
    rules: tuple[int, ...] = ()
    records: tuple[dict[str, Any], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    origins: tuple[str, ...] = ()


def cell_text(statistics: Repeats, each: Column) -> str:
    """`78.37 ± 0.02 (5)`; one seed has no deviation, and what does not vary with the seed is one number."""
    if not statistics.n:
        return NONE
    mean = number(statistics.mean, each.decimals)
    if each.metric in ARCHITECTURE and not statistics.std > 0:
        return mean
    if statistics.n == 1:
        return f"{mean} (1)"
    return f"{mean} ± {number(statistics.std, each.decimals)} ({statistics.n})"


def difference_text(difference: Difference | None, decimals: int) -> str:
    """`+0.36 [+0.20, +0.52] (5)`: mean, interval where there is one, number of pairs."""
    if difference is None or not difference.n:
        return NONE
    mean = signed(difference.mean, decimals)
    if math.isnan(difference.low):
        return f"{mean} ({difference.n})"
    return f"{mean} [{signed(difference.low, decimals)}, {signed(difference.high, decimals)}] ({difference.n})"


def number(value: float, decimals: int) -> str:
    """Fixed decimals, with a true minus sign and no negative zero."""
    text = f"{value:.{decimals}f}"
    return (MINUS + text[1:] if float(text) else text[1:]) if text.startswith("-") else text


def signed(value: float, decimals: int) -> str:
    """`number` with a plus sign where it is positive."""
    return ("+" if float(f"{value:.{decimals}f}") > 0 else "") + number(value, decimals)


def probability(p: float) -> str:
    """`0.031`, `<0.001`; nothing to print where there is no claim."""
    if math.isnan(p):
        return NONE
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def seeds_text(seeds: Sequence[int]) -> str:
    """`seed 3`, `seeds 0, 4, 5`, `seeds 0 to 7`."""
    is_range = len(seeds) > 3 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    which = f"{seeds[0]} to {seeds[-1]}" if is_range else ", ".join(map(str, seeds))
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {which}"


def value_and_spread(text: str) -> tuple[str, str]:
    """`78.37 ± 0.02 (5)` as `78.37` and ` ± 0.02 (5)`, which formats with several sizes print smaller."""
    found = re.fullmatch(rf"([+{MINUS}]?[0-9.]+)( [±(\[].*)", text)
    return (found.group(1), found.group(2)) if found else (text, "")


def metric_sentence(each: Column, select: str) -> str:
    """Which number of a training the table is about."""
    direction = "minimised" if each.mode == "min" else "maximised"
    return f"Metric: {each.heading} ({each.metric}) at the {SELECTION[select]}, {direction}."
