"""Text beside points, where it covers neither a point nor another text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from numpy.typing import NDArray

from analysis.figures.style import GREY, SMALL

Box = NDArray[np.float64]  # left, bottom, right, top
RINGS = (2.0, 9.0, 18.0, 28.0)  # distances from the point's edge that are tried, in points
# Right first, as one reads; then left, above, below and the diagonals.
DIRECTIONS = (0, 180, 90, 270, 45, 315, 135, 225)


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point; `radius` of the point's mark, in points."""

    x: float
    y: float
    text: str
    radius: float = 2.0
    colour: str = "#000000"


@dataclass(frozen=True)
class _Place:
    """One place of a text: its nearest corner or side, in points from the point."""

    dx: float
    dy: float
    horizontal: str
    vertical: str
    is_near: bool

    def box(self, x: float, y: float, width: float, height: float, pixels: float) -> Box:
        """What a text covers there, in pixels (`pixels` in a point)."""
        left = x + self.dx * pixels - {"left": 0.0, "center": width / 2, "right": width}[self.horizontal]
        bottom = y + self.dy * pixels - {"bottom": 0.0, "center": height / 2, "top": height}[self.vertical]
        return np.array([left, bottom, left + width, bottom + height])


def place(axes: Axes, labels: Sequence[Label]) -> list[Annotation]:
    """Writes the labels, from top to bottom, each in the first free place around its point.

    A label that had to go further away gets a line to its point; one without any free place takes the least covered.
    The layout must be final but for these texts, which change nothing in it.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    taken = np.array([_mark(axes, label, pixels) for label in labels])
    written = []
    for label in sorted(labels, key=lambda label: (-label.y, label.x)):
        chosen, box = _choose(axes, label, taken, pixels)
        taken = np.vstack([taken, box])
        written.append(_write(axes, label, chosen))
    return written


def _choose(axes: Axes, label: Label, taken: Box, pixels: float) -> tuple[_Place, Box]:
    x, y = axes.transData.transform((label.x, label.y))
    width, height = _extent(axes, label.text)
    inside = np.array([axes.bbox.extents])
    found: list[tuple[float, _Place, Box]] = []
    for each in _places(label.radius):
        box = each.box(x, y, width, height, pixels)
        outside = width * height - _overlap(box, inside)
        found.append((max(outside, 0.0) + _overlap(box, taken), each, box))
        if found[-1][0] < 1.0:  # a pixel: sums of areas are not exact
            break
    _, chosen, box = min(found, key=lambda one: one[0])
    return chosen, box


def _extent(axes: Axes, text: str) -> tuple[float, float]:
    """Width and height of a text in pixels."""
    probe = axes.text(0.5, 0.5, text, transform=axes.transAxes, fontsize=SMALL)
    box = probe.get_window_extent()
    probe.remove()
    return box.width, box.height


def _places(radius: float) -> Iterator[_Place]:
    """Near places first."""
    for ring in RINGS:
        for direction in DIRECTIONS:
            dx, dy = math.cos(math.radians(direction)), math.sin(math.radians(direction))
            horizontal = "left" if dx > 0.1 else "right" if dx < -0.1 else "center"
            vertical = "bottom" if dy > 0.1 else "top" if dy < -0.1 else "center"
            yield _Place(dx * (radius + ring), dy * (radius + ring), horizontal, vertical, ring == RINGS[0])


def _write(axes: Axes, label: Label, chosen: _Place) -> Annotation:
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkA": 0.5, "shrinkB": label.radius}
    return axes.annotate(
        label.text,
        (label.x, label.y),
        (chosen.dx, chosen.dy),
        textcoords="offset points",
        ha=chosen.horizontal,
        va=chosen.vertical,
        fontsize=SMALL,
        color=label.colour,
        in_layout=False,
        arrowprops=None if chosen.is_near else line,
    )


def _mark(axes: Axes, label: Label, pixels: float) -> Box:
    """The box of a point's mark, in pixels."""
    x, y = axes.transData.transform((label.x, label.y))
    radius = label.radius * pixels
    return np.array([x - radius, y - radius, x + radius, y + radius])


def _overlap(box: Box, others: Box) -> float:
    """The area a box shares with each of the others, summed, in pixels squared."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    return float(np.clip(high - low, 0.0, None).prod(axis=1).sum())
