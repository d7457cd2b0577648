"""Appendices of a paper as LaTeX: the configuration with what each arm changes, and what the study cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from analysis.latex import escape_latex, latex
from analysis.report.configuration import Configuration, differing_grid, shared_grid
from analysis.report.document import Grid
from analysis.report.spending import Spending, cost_grid

MOST_OPTIONS = 88  # of one table, in two columns: what fits a page
LONG_VALUE = 34  # letters from which on a value stands below the table


def hyperparameters(study: str, found: Configuration) -> str:
    """The options that all arms share, and those in which they differ."""
    tables = []
    if found.differing:
        caption = f"What the arms of {study} change; all other options are those of the following table."
        tables.append(_table(differing_grid(found), f"{study}-arms", caption))
    return "\n".join([*tables, *_shared(study, found.shared)])


def compute(study: str, found: Spending) -> str:
    """What was spent."""
    return _table(cost_grid(found), f"{study}-compute", f"Compute used by {study}.")


def figures(captions: Mapping[str, str]) -> str:
    """A `figure` for each file, with its caption; label `fig:<stem>`."""
    return "\n".join(_figure(file, caption) for file, caption in captions.items())


def _figure(file: str, caption: str) -> str:
    lines = [
        "% Made by `cdkd report --submission`; needs \\usepackage{graphicx}.",
        r"\begin{figure}",
        r"  \centering",
        rf"  \includegraphics[width=\linewidth]{{{file}}}",
        rf"  \caption{{{escape_latex(caption)}}}",
        rf"  \label{{fig:{file.removesuffix('.pdf')}}}",
        r"\end{figure}",
    ]
    return "\n".join(lines) + "\n"


def _shared(study: str, options: Mapping[str, str]) -> Iterator[str]:
    """In tables of a page each."""
    items = list(options.items())
    for start in range(0, len(items), MOST_OPTIONS):
        part = items[start : start + MOST_OPTIONS]
        short = {path: value for path, value in part if len(value) <= LONG_VALUE}
        long = tuple(f"{path}: {value}." for path, value in part if path not in short)
        table = Grid(replace(shared_grid(Configuration(short, {})).sheet, remarks=long))
        end, name = (" (continued).", f"-{start + 1}") if start else (".", "")
        caption = f"Configuration of {study}: options that are the same in all arms{end}"
        yield _table(table, f"{study}-configuration{name}", caption)


def _table(found: Grid, name: str, caption: str) -> str:
    text = latex(replace(found.sheet, name=name, caption=(caption,)))
    return text.replace("Made by `cdkd table`", "Made by `cdkd report --submission`", 1)
