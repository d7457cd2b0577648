"""A report as sections of blocks, the same for the page and for its Markdown twin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.columns import Heading
from analysis.sheet import Entry, Sheet


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences, each after a word or two that say what it is about."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Grid:
    """A table of its own kind.

    Attributes:
        sheet: what stands in it; its name is printed nowhere.
        is_prose: its entries are sentences or paths, which may be broken.
    """

    sheet: Sheet
    is_prose: bool = False


@dataclass(frozen=True)
class Code:
    """Lines for a shell."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """A table of results, as `cdkd table` prints it."""

    sheet: Sheet


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: of its kind, such as `curves`.
        title: what it shows, in a few words.
        caption: what is seen, and over how many seeds.
        file: SVG.
    """

    name: str
    title: str
    caption: str
    file: Path


Block = Words | Items | Grid | Code | Result | Picture


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """To be linked to: the heading as GitHub makes an anchor of it."""
        return re.sub(r"[^\w -]", "", self.title.lower()).replace(" ", "-")


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        study: its name.
        question: what it asks.
        standing: how many of its trainings have finished, and when that was.
        is_partial: more is to come, or has failed.
        sections: in order.
    """

    study: str
    question: str
    standing: str
    is_partial: bool
    sections: tuple[Section, ...]


def grid(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    alignment: str,
    *,
    rules: tuple[int, ...] = (),
    remarks: Sequence[str] = (),
    is_prose: bool = False,
) -> Grid:
    """A table of texts; `rules` are the rows that begin a new block."""
    sheet = Sheet(
        name="",
        question="",
        caption=(),
        header=tuple(Heading(text) for text in header),
        alignment=alignment,
        rows=tuple(tuple(Entry(text) for text in row) for row in rows),
        footnotes=(),
        remarks=tuple(remarks),
        rules=rules,
    )
    return Grid(sheet, is_prose)
