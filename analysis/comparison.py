"""A committed table against the store: which cells no longer are what the store says.

Headings and cells are compared as they are printed, bold and underline included. Text around the table is not: authors
write their own captions. Comments with run ids are not either: a store built anew has other ids and equal numbers.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.errors import AnalysisError
from analysis.render import FORMATS
from analysis.sheet import Sheet

ABSENT = "absent"
CSV_KEYS = (("arm", "metric"), ("trial",))  # columns that name a line of an ablation's or a search's CSV file
_LATEX_TEXT = {
    r"$\pm$": "±",
    "$-$": "−",
    "---": "—",
    r"\checkmark": "✓",
    r"$\times$": "×",
    r"$\Delta$": "Δ",
    r"\_": "_",
    r"\%": "%",
    r"\&": "&",
}
_LATEX_COMMANDS = re.compile(r"\\(begin|end)\{tabular\}(\[.\]\{@\{\}.@\{\}\})?|\\\\(\[-?\d+pt\])?|\\[a-z]+\b ?|[{}]")


class NoTable(AnalysisError):
    """A file that should hold a table holds none."""


@dataclass(frozen=True)
class Mismatch:
    """One place where a committed table differs from the store.

    Attributes:
        row, column: where; an empty column stands for a whole row, the headings or the order of the rows.
        committed, stored: in print; ABSENT where there is nothing.
    """

    row: str
    column: str
    committed: str
    stored: str

    def __str__(self) -> str:
        if ABSENT in (self.committed, self.stored):
            return f"row {self.row}: not in the {'committed table' if self.committed == ABSENT else 'store'}"
        where = f"row {self.row}, column {self.column}" if self.column else self.row
        return f"{where}: committed {self.committed}, the store has {self.stored}"


@dataclass(frozen=True)
class _Grid:
    """A table as printed: headings and, by name, rows; every field as text with its markup."""

    header: list[str]
    rows: dict[str, list[str]]


def compare(committed: str, sheet: Sheet, extension: str) -> list[Mismatch]:
    """Compares a committed table with what the store says now.

    Args:
        committed: the file's text.
        sheet: the same table, made from the store now.
        extension: format, one of FORMATS.

    Raises:
        NoTable: if no table is found in the text.
    """
    stored = FORMATS[extension](sheet)
    if committed == stored:
        return []
    read, plain = _READERS[extension]
    theirs, ours = (_grid(read(text), plain, extension) for text in (committed, stored))
    if theirs.header != ours.header:
        return [Mismatch("headings", "", _shown(theirs.header, plain), _shown(ours.header, plain))]
    names = ours.header if extension == "csv" else [heading.text for heading in sheet.header]
    found = [one for row in [*theirs.rows, *ours.rows] for one in _compared(row, theirs, ours, (names, plain))]
    order = [row for row in theirs.rows if row in ours.rows]
    if order != [row for row in ours.rows if row in theirs.rows]:
        found.append(Mismatch("order of rows", "", ", ".join(theirs.rows), ", ".join(ours.rows)))
    return list(dict.fromkeys(found))


def _compared(
    row: str, theirs: _Grid, ours: _Grid, naming: tuple[Sequence[str], Callable[[str], str]]
) -> Iterator[Mismatch]:
    names, plain = naming
    if row not in theirs.rows or row not in ours.rows:
        texts = [_shown(grid.rows[row], plain) if row in grid.rows else ABSENT for grid in (theirs, ours)]
        yield Mismatch(row, "", *texts)
        return
    for name, committed, stored in zip(names, theirs.rows[row], ours.rows[row]):
        if committed != stored:
            is_markup = plain(committed) == plain(stored)  # such as a bold that moved
            yield Mismatch(
                row, name, *((text if is_markup else plain(text)) or "nothing" for text in (committed, stored))
            )


def _shown(fields: Sequence[str], plain: Callable[[str], str]) -> str:
    return " | ".join(map(plain, fields))


def _grid(lines: Sequence[Sequence[str]], plain: Callable[[str], str], extension: str) -> _Grid:
    if not lines:
        raise NoTable(f"holds no table as `cdkd table` writes it in {extension}")
    header, *rows = [[" ".join(field.split()) for field in line] for line in lines]
    keys = next((keys for keys in CSV_KEYS if {*keys} <= {*header}), ()) if extension == "csv" else ()
    positions = [header.index(key) for key in keys] or [0]
    seen: Counter[str] = Counter()
    named = {}
    for row in rows:
        name = " ".join(_unmarked(plain(row[position])) for position in positions)
        seen[name] += 1
        named[f"{name} ({seen[name]})" if seen[name] > 1 else name] = row
    return _Grid(header, named)


def _unmarked(text: str) -> str:
    return text.rstrip("⁰¹²³⁴⁵⁶⁷⁸⁹,")


# ------------------------------------------------------------------------------------------- readers


def _markdown_lines(text: str) -> list[list[str]]:
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [row for row in rows if not all(re.fullmatch(r"\s*:?-+:?\s*", field) for field in row)]


def _markdown_text(field: str) -> str:
    return re.sub(r"\*\*|</?ins>|\\(?=[\\|*<`_])", "", field)


def _csv_lines(text: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text)) if row]


def _latex_lines(text: str) -> list[list[str]]:
    body = re.search(r"\\toprule(.*)\\bottomrule", text, re.DOTALL)
    if body is None:
        return []
    head, _, rest = body.group(1).partition(r"\midrule")
    rows = [line for line in rest.splitlines() if line.strip() and line.strip() != r"\midrule"]
    return [re.split(r"(?<!\\)&", line) for line in (" ".join(head.split()), *(_without_end(row) for row in rows))]


def _without_end(line: str) -> str:
    return re.sub(r"\\\\(\[2pt\])?\s*$", "", line)


def _latex_text(field: str) -> str:
    field = re.sub(r"\\rlap\{.*?\}\}", "", field)
    for written, meant in _LATEX_TEXT.items():
        field = field.replace(written, meant)
    return " ".join(_LATEX_COMMANDS.sub(" ", field).split())


def _html_lines(text: str) -> list[list[str]]:
    table = re.search(r"<table>(.*?)</table>", text, re.DOTALL)
    if table is None:
        return []
    head, _, body = table.group(1).partition("</thead>")
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [re.findall(r"<t[hd].*?</t[hd]>", part, re.DOTALL) for part in (head, *rows)]


def _html_text(field: str) -> str:
    return html.unescape(re.sub(r"<sup>.*?</sup>|<[^>]*>", "", field))


_READERS: Mapping[str, tuple[Callable[[str], list[list[str]]], Callable[[str], str]]] = {
    "md": (_markdown_lines, _markdown_text),
    "csv": (_csv_lines, str),
    "tex": (_latex_lines, _latex_text),
    "html": (_html_lines, _html_text),
}
