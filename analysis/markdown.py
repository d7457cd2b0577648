"""A sheet as GitHub's Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from analysis.sheet import Entry, Sheet

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_ALIGNED: dict[str, Callable[[str, int], str]] = {"l": str.ljust, "r": str.rjust, "c": str.center}
_RULES = {"l": ":{}-", "r": "-{}:", "c": ":{}:"}


def markdown(sheet: Sheet) -> str:
    """GitHub's Markdown, columns aligned so that the raw text is readable."""
    grid = [[escape_markdown(heading.text) for heading in sheet.header]]
    grid += [[_entry(entry) for entry in row] for row in sheet.rows]
    widths = [max(3, *(len(row[index]) for row in grid)) for index in range(len(sheet.header))]
    rule = [_RULES[side].format("-" * (width - 2)) for side, width in zip(sheet.alignment, widths)]
    lines = [_line(row, sheet.alignment, widths) for row in grid]
    lines.insert(1, _line(rule, sheet.alignment, widths))
    notes = [f"{_superscript([index])} {text}" for index, text in enumerate(sheet.footnotes, start=1)]
    notes = [escape_markdown(note) for note in [*notes, *sheet.remarks]]
    caption = escape_markdown(" ".join(sheet.caption))
    question = [escape_markdown(sheet.question)] if sheet.question else []
    blocks = [f"### {sheet.name}", *question, caption, "\n".join(lines), *notes]
    return "\n\n".join(blocks) + "\n"


def _line(texts: Sequence[str], alignment: str, widths: Sequence[int]) -> str:
    padded = [_ALIGNED[side](text, width) for text, side, width in zip(texts, alignment, widths)]
    return f"| {' | '.join(padded)} |"


def _entry(entry: Entry) -> str:
    text = escape_markdown(entry.text)
    text = f"**{text}**" if entry.is_best else text
    text = f"<ins>{text}</ins>" if entry.is_second else text  # GitHub's own way to underline
    return text + _superscript(entry.marks)


def escape_markdown(text: str) -> str:
    """Text that GitHub shows as it stands, in one line."""
    # `_` and `*` inside words such as params_m are literal in GitHub's Markdown only when escaped on both sides.
    return re.sub(r"([\\|*<`])|(?<!\w)(_)|(_)(?!\w)", lambda found: "\\" + found.group(0), " ".join(text.split()))


def _superscript(marks: Iterable[int]) -> str:
    return ",".join(str(mark) for mark in marks).translate(_SUPERSCRIPTS)
