"""A sheet as LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from analysis.columns import Heading
from analysis.sheet import Entry, Sheet, value_and_spread

PACKAGES = "booktabs,amssymb,graphicx"
COLUMN_CHARACTERS = 60  # in a row that one of two columns of text can hold
PAGE_CHARACTERS = 120  # and the page
LONG_HEADING = 9
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "±": r"$\pm$",
    "−": r"$-$",
    "Δ": r"$\Delta$",
    "✓": r"\checkmark{}",
    "×": r"$\times$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "τ": r"$\tau$",
    "ξ": r"$\xi$",
    "—": "---",
    "–": "--",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
}
# As wide as it is, and no wider than the column of text it stands in.
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def latex(sheet: Sheet) -> str:
    r"""A `table` environment with booktabs rules, to be `\input`; run ids stand in comments.

    A table too wide for a column of text is one of the page's width; in one too wide for that, deviations and intervals
    stand below their values.
    """
    width = _characters(sheet)
    environment = "table*" if width > COLUMN_CHARACTERS else "table"
    caption = escape_latex(" ".join([sheet.question, *sheet.caption]).strip())
    lines = [
        f"% Made by `cdkd table`; needs \\usepackage{{{PACKAGES}}}.",
        *(f"% {' '.join(line.split())}" for line in sheet.origins),
        rf"\begin{{{environment}}}",
        r"  \centering",
        rf"  \caption{{{caption}}}",
        rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9:.-]', '-', sheet.name)}}}",
        r"  \par\smallskip",
        r"  \setlength{\tabcolsep}{4pt}",
        f"  {_FIT}",
        rf"  \begin{{tabular}}{{{sheet.alignment}}}",
        *(f"    {line}" for line in _tabular(sheet, is_stacked=width > PAGE_CHARACTERS)),
        r"  \end{tabular}}",
        r"  \par\smallskip",
        r"  \begin{minipage}{\linewidth}\footnotesize\raggedright",
        *(rf"    {note}\par" for note in _notes(sheet)),
        r"  \end{minipage}",
        rf"\end{{{environment}}}",
    ]
    return "\n".join(lines) + "\n"


def _notes(sheet: Sheet) -> Iterator[str]:
    """A paragraph for each footnote and one for all remarks."""
    for index, text in enumerate(sheet.footnotes, start=1):
        yield rf"\textsuperscript{{{index}}} {escape_latex(text)}"
    if sheet.remarks:
        yield escape_latex(" ".join(sheet.remarks))


def _characters(sheet: Sheet) -> int:
    """Of a row with the longest text of every column."""
    texts = [[_below(heading) for heading in sheet.header], *([entry.text for entry in row] for row in sheet.rows)]
    return sum(max(map(len, column)) for column in zip(*texts))


def _tabular(sheet: Sheet, *, is_stacked: bool) -> Iterator[str]:
    end = r" \\[2pt]" if is_stacked else r" \\"
    yield r"\toprule"
    yield from _header(sheet, is_stacked=is_stacked)
    yield r"\midrule"
    for index, row in enumerate(sheet.rows):
        if index in sheet.rules:
            yield r"\midrule"
        yield " & ".join(_entry(entry, is_stacked=is_stacked) for entry in row) + end
    yield r"\bottomrule"


def _header(sheet: Sheet, *, is_stacked: bool) -> Iterator[str]:
    """One line of headings, with the groups above it where there are any."""
    if any(heading.group for heading in sheet.header):
        yield " & ".join(_spans(sheet)) + r" \\"
        yield " ".join(_rules(sheet))
    texts = [(_below(heading), side) for heading, side in zip(sheet.header, sheet.alignment)]
    yield " & ".join(_two_lines(*each) if is_stacked else escape_latex(each[0]) for each in texts) + r" \\"


def _below(heading: Heading) -> str:
    return heading.short if heading.group else heading.text


def _two_lines(text: str, side: str) -> str:
    """The text broken at the space nearest to its middle."""
    spaces = [index for index, letter in enumerate(text) if letter == " "]
    if len(text) < LONG_HEADING or not spaces:
        return escape_latex(text)
    middle = min(spaces, key=lambda index: abs(index - len(text) / 2))
    return _stack(escape_latex(text[:middle]), escape_latex(text[middle + 1 :]), f"[b]{{@{{}}{side}@{{}}}}")


def _stack(above: str, below: str, arguments: str, gap: str = "") -> str:
    return rf"\begin{{tabular}}{arguments}{above}\\{gap}{below}\end{{tabular}}"


def _spans(sheet: Sheet) -> Iterator[str]:
    for group, members in groupby(sheet.header, lambda heading: heading.group):
        count = len(list(members))
        yield rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(group)}}}" if group else " & ".join([""] * count)


def _rules(sheet: Sheet) -> Iterator[str]:
    first = 1
    for group, members in groupby(sheet.header, lambda heading: heading.group):
        last = first + len(list(members)) - 1
        if group:
            yield rf"\cmidrule(lr){{{first}-{last}}}"
        first = last + 1


def _entry(entry: Entry, *, is_stacked: bool) -> str:
    value, spread = value_and_spread(entry.text)
    text = escape_latex(value)
    text = rf"\textbf{{{text}}}" if entry.is_best else text
    text = rf"\underline{{{text}}}" if entry.is_second else text
    # The mark takes no room, so that numbers stay aligned.
    text += rf"\rlap{{\textsuperscript{{{','.join(map(str, entry.marks))}}}}}" if entry.marks else ""
    if not spread:
        return text
    small = rf"{{\scriptsize {escape_latex(spread)}}}"
    return _stack(text, small, "[t]{@{}r@{}}", "[-3pt]") if is_stacked else f"{text} {small}"


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands; brackets are guarded, since `\\\\` takes one for an option."""
    escaped = "".join(_SPECIAL.get(letter, letter) for letter in " ".join(text.split()))
    return escaped.replace("[", "{[}").replace("]", "{]}")
