"""A sheet as Markdown, CSV or LaTeX, and the sidecar that traces every cell to its runs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence

from analysis.sheet import Entry, Sheet

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_LATEX = {
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
    "✓": r"\checkmark",
    "×": r"$\times$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "τ": r"$\tau$",
    "—": "---",
}
_ALIGNED: dict[str, Callable[[str, int], str]] = {"l": str.ljust, "r": str.rjust, "c": str.center}
_RULES = {"l": ":{}-", "r": "-{}:", "c": ":{}:"}


def markdown(sheet: Sheet) -> str:
    """GitHub's Markdown, columns aligned so that the raw text is readable."""
    grid = [[_escape_markdown(text) for text in sheet.header]]
    grid += [[_markdown_entry(entry) for entry in row] for row in sheet.rows]
    widths = [max(3, *(len(row[index]) for row in grid)) for index in range(len(sheet.header))]
    rule = [_RULES[side].format("-" * (width - 2)) for side, width in zip(sheet.alignment, widths)]
    lines = [_markdown_line(row, sheet.alignment, widths) for row in grid]
    lines.insert(1, _markdown_line(rule, sheet.alignment, widths))
    notes = [f"{_superscript([index])} {text}" for index, text in enumerate(sheet.footnotes, start=1)]
    notes = [_escape_markdown(note) for note in [*notes, *sheet.remarks]]
    caption = _escape_markdown(" ".join(sheet.caption))
    question = [_escape_markdown(" ".join(sheet.question.split()))] if sheet.question else []
    blocks = [f"### {sheet.name}", *question, caption, "\n".join(lines), *notes]
    return "\n\n".join(blocks) + "\n"


def _markdown_line(texts: Sequence[str], alignment: str, widths: Sequence[int]) -> str:
    padded = [_ALIGNED[side](text, width) for text, side, width in zip(texts, alignment, widths)]
    return f"| {' | '.join(padded)} |"


def _markdown_entry(entry: Entry) -> str:
    text = _escape_markdown(entry.text)
    return (f"**{text}**" if entry.is_bold else text) + _superscript(entry.marks)


def _escape_markdown(text: str) -> str:
    # `_` and `*` inside words such as params_m are literal in GitHub's Markdown only when escaped on both sides.
    return re.sub(r"([\\|*<`])|(?<!\w)(_)|(_)(?!\w)", lambda found: "\\" + found.group(0), " ".join(text.split()))


def _superscript(marks: Iterable[int]) -> str:
    return ",".join(str(mark) for mark in marks).translate(_SUPERSCRIPTS)


def csv_text(sheet: Sheet) -> str:
    """One line per arm and metric (or per trial), full precision, empty where there is no value."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(sheet.records[0]) if sheet.records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_value(value) for name, value in record.items()} for record in sheet.records)
    return stream.getvalue()


def _csv_value(value: object) -> object:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.10g}"


def latex(sheet: Sheet) -> str:
    r"""A `table` environment with booktabs rules, to be `\input`; run ids stand in comments."""
    header = " & ".join(escape_latex(text) for text in sheet.header)
    body = [" & ".join(_latex_entry(entry) for entry in row) + r" \\" for row in sheet.rows]
    notes = [rf"\textsuperscript{{{index}}} {escape_latex(text)}" for index, text in enumerate(sheet.footnotes, 1)]
    notes += [escape_latex(text) for text in sheet.remarks]
    caption = escape_latex(" ".join([sheet.question, *sheet.caption]).strip())
    lines = [
        "% Made by `cdkd table`; needs \\usepackage{booktabs,amssymb}.",
        *(f"% {_comment(line)}" for line in sheet.origins),
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{caption}}}",
        rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9:.-]', '-', sheet.name)}}}",
        rf"  \begin{{tabular}}{{{sheet.alignment}}}",
        r"    \toprule",
        rf"    {header} \\",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        *(rf"  \par{{\footnotesize {note}}}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_entry(entry: Entry) -> str:
    text = escape_latex(entry.text)
    text = rf"\textbf{{{text}}}" if entry.is_bold else text
    return text + (rf"\textsuperscript{{{','.join(map(str, entry.marks))}}}" if entry.marks else "")


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it stands; brackets are guarded, since `\\\\` takes one for an option."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
    return escaped.replace("[", "{[}").replace("]", "{]}")


def _comment(line: str) -> str:
    return " ".join(line.split())


def sidecar(sheet: Sheet, uri: str) -> str:
    """JSON: for every cell the runs, seeds, values and fingerprints it was made from, and the store they are in."""
    # A server's address may carry credentials, and these files are committed beside papers.
    store = re.sub(r"//[^/@]*@", "//", uri)
    return json.dumps({"store": store, **sheet.provenance}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Sheet], str]] = {"md": markdown, "csv": csv_text, "tex": latex}
