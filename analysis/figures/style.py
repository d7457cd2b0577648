"""How every figure looks: page, type, one look for each arm, legends, files. The only file that sets rcParams."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.figures import FORMATS, WIDTHS

MM = 1 / 25.4  # in inches
POINT = 1 / 72
TEXT, SMALL = 8.0, 7.0  # points; the small size for ticks and for text among the data
GREY, LIGHT = "#6E6E6E", "#D8D8D8"
# Okabe and Ito's colours: told apart by readers with any colour vision. Their yellow is too light for a line.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C7A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.4, 1.2, 1.4)), (0, (9, 2)))
LABEL_LENGTH = 44  # characters of a legend's line
SETTINGS: dict[Any, Any] = {
    "font.size": TEXT,
    "axes.labelsize": TEXT,
    "axes.titlesize": TEXT,
    "legend.fontsize": SMALL,
    "legend.title_fontsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "errorbar.capsize": 0,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "legend.columnspacing": 1.2,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.045,
    "pdf.fonttype": 42,  # TrueType: text stays text, and publishers refuse type 3
    "svg.fonttype": "none",
    "svg.hashsalt": "cdkd",  # the same figure is the same file
    "savefig.dpi": 300,
}
# Neither date nor version: the same figure is the same file.
METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Look:
    """What tells one line from another: by any of the three, so that grey print is enough."""

    colour: str
    marker: str
    dash: Any


@dataclass(frozen=True)
class Page:
    """Where a figure will stand: one column of text, or both."""

    width_mm: float

    @classmethod
    def of(cls, name: str) -> Page:
        """A page by the name of its width: `single` or `double`."""
        return cls(WIDTHS[name])

    @property
    def is_double(self) -> bool:
        """Whether the figure spans both columns."""
        return self.width_mm > WIDTHS["single"]


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's defaults with SETTINGS, whatever the user's matplotlibrc says; undone at the end."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        with matplotlib.rc_context(SETTINGS):
            yield


def look(index: int) -> Look:
    """The look of the arm in a place of the study's order; all differ up to 40 arms."""
    return Look(COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])


def looks(arms: Iterable[str], baseline: str = "") -> dict[str, Look]:
    """One look for each arm. The baseline's is always the first, black and solid; the others follow in their order."""
    names = list(dict.fromkeys(arms))
    ordered = [name for name in names if name == baseline] + [name for name in names if name != baseline]
    return {name: look(index) for index, name in enumerate(ordered)}


def new_figure(page: Page, height_mm: float) -> Figure:
    """An empty figure of exactly that size. No pyplot: nothing global, and no display needed."""
    figure = Figure(figsize=(page.width_mm * MM, height_mm * MM), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(figure: Figure, count: int, columns: int, **options: Any) -> list[Axes]:
    """`count` axes in rows of `columns`; the places left over stay empty."""
    rows = -(-count // columns)
    grid = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for axes in grid[count:]:
        axes.remove()
    return grid[:count]


def columns_of(count: int, most: int) -> int:
    """Columns for `count` panels, at most `most`, so that rows are equally full."""
    rows = -(-count // most)
    return -(-count // rows) if rows else 1


def label_below(drawn: Sequence[Axes], columns: int, title: str = "") -> None:
    """Ticks and title of the common x axis under the lowest panel of each column only, also where rows are not full."""
    for axes in drawn[:-columns]:
        axes.tick_params(labelbottom=False)
        axes.set_xlabel("")
    for axes in drawn[-columns:]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(title)


def grid_lines(axes: Axes, axis: Literal["x", "y", "both"] = "y") -> None:
    """Faint lines behind the data, across the axis that is read."""
    axes.grid(axis=axis, color=LIGHT, linewidth=0.4)
    axes.set_axisbelow(True)


def wrapped(text: str, letters: int) -> str:
    """A text in lines of about `letters`, broken between words and before the `+` of an arm's components."""
    lines = [""]
    for part in re.findall(r"\+?[^+\s]+\s*|\+\s*", text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > letters:
            lines.append("")
        lines[-1] += part
    return "\n".join(textwrap.fill(line, letters) for line in lines)


def legend_below(figure: Figure, entries: Mapping[str, Any], title: str = "", **options: Any) -> None:
    """A legend under all axes, in as many columns as fit; the figure grows by its height.

    Args:
        figure: with its axes, in constrained layout.
        entries: label -> what is drawn beside it.
        title: a line above the entries.
        options: further ones of Figure.legend.
    """
    handles, labels = list(entries.values()), [wrapped(label, LABEL_LENGTH) for label in entries]
    for columns in range(max(len(labels), 1), 0, -1):
        legend = figure.legend(
            handles, labels, loc="outside lower center", ncols=columns, title=title or None, alignment="left", **options
        )
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def legend_entries(axes: Iterable[Axes]) -> dict[str, Any]:
    """Label -> handle of everything labelled in these axes, each label once."""
    found: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels()):
            found.setdefault(label, handle)
    return found


def every(points: int, index: int, count: int) -> tuple[int, int]:
    """`markevery` for line `index` of `count`: all points of a short line, few of a long one."""
    step = max(1, round(points / 8)) if points > 12 else 1
    return (index * step // max(count, 1), step)


def save(figure: Figure, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Writes `<stem>.<format>` for every format and returns the paths.

    Raises:
        ValueError: if a format is unknown.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {', '.join(unknown)}")
    stem.parent.mkdir(parents=True, exist_ok=True)
    return [_write(figure, stem.with_name(f"{stem.name}.{extension}"), extension) for extension in formats]


def _write(figure: Figure, path: Path, extension: str) -> Path:
    """Writes beside, then renames: a paper that includes the file never sees half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with styled():
        figure.savefig(beside, format=extension, metadata=METADATA[extension])
    beside.replace(path)
    return path
