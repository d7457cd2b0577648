"""Painting: shaded, patterned convex shapes on a float canvas that remembers what covers each pixel.

Colour planes come first, (3, H, W): NumPy is several times slower when its inner loop runs over three values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Outline = NDArray[np.float32]
Colour = tuple[float, float, float]

SHIFT = 4  # binary places of sub-pixel positions in OpenCV's drawing
UNOWNED = 0  # owner of the background
IN_FRONT = 255  # owner of everything drawn before the figure
TURN = np.float32(2 * np.pi)
CIRCLE = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Fabric:
    """A surface: two colours (0-255 RGB), how they alternate, and over what length (pixels)."""

    colour: Colour
    second: Colour = (0.0, 0.0, 0.0)
    pattern: str = "plain"
    period: float = 8.0
    relief: float = 1.0


@dataclass(frozen=True)
class Shape:
    """A union of convex outlines painted as one rounded thing.

    Attributes:
        name: the part it belongs to.
        outlines: (N, 2) pixels each, convex.
        depth: painted in increasing order; larger is nearer to the viewer.
        fabric: its surface.
        axis: (2, 2) start and end that the pattern follows.
    """

    name: str
    outlines: Sequence[Outline]
    depth: float
    fabric: Fabric
    axis: Outline = field(default_factory=lambda: np.array([[0, 0], [0, 1]], dtype=np.float32))


@dataclass(frozen=True)
class Light:
    """Direction the light comes from in the image (unit vector, y down), and how strongly it models shapes."""

    direction: tuple[float, float]
    strength: float
    ambient: float

    @cached_property
    def slope_kernel(self) -> Pixels:
        """(3, 3) derivative along the light's direction (Scharr's weights)."""
        weights, step = np.array([3.0, 10.0, 3.0]) / 16.0, np.array([-0.5, 0.0, 0.5])
        kernel = self.direction[0] * np.outer(weights, step) + self.direction[1] * np.outer(step, weights)
        return (self.strength * kernel).astype(np.float32)


@dataclass(frozen=True)
class Canvas:
    """An image in the making.

    Attributes:
        pixels: (3, H, W) RGB, 0-255.
        owner: (H, W) number of the shape seen at each pixel.
        light: lights all shapes.
    """

    pixels: Pixels
    owner: NDArray[np.uint8]
    light: Light

    def paint(self, shape: Shape, owner: int) -> None:
        """Paint a shape over what is there and take its pixels into `owner`'s possession."""
        blur = int(min(max(_thickness(shape.outlines) * 0.3, 1.0), self.owner.shape[0] / 24))
        region = self._region(shape.outlines, 2 * blur + 1)
        if region is None:
            return
        rows, columns = region
        mask = _coverage(
            shape.outlines, columns.start, rows.start, (rows.stop - rows.start, columns.stop - columns.start)
        )
        target = self.pixels[:, rows, columns]
        colour = _albedo(shape, mask.shape, columns.start, rows.start)
        if shape.fabric.relief > 0:
            shade, shadow = self._relief(shape, mask, blur)
            target *= shadow
            colour = colour * shade
        target += (mask * np.float32(1 / 255)) * (colour - target)
        self.owner[rows, columns][mask > 127] = owner

    def _region(self, outlines: Sequence[Outline], margin: int) -> tuple[slice, slice] | None:
        """Rows and columns that hold the outlines and a margin for their shadow; None outside the image."""
        x, y, box_width, box_height = cv2.boundingRect(np.concatenate(outlines))
        height, width = self.owner.shape
        left, top = max(x - margin, 0), max(y - margin, 0)
        right, bottom = min(x + box_width + margin, width), min(y + box_height + margin, height)
        return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None

    def _relief(self, shape: Shape, mask: NDArray[np.uint8], blur: int) -> tuple[Pixels, Pixels]:
        """Factors on the shape's colour (rounded, lit from the light's side) and on what is behind it (shadow)."""
        size = (2 * blur + 1, 2 * blur + 1)
        soft = cv2.blur(cv2.blur(mask, size), size).astype(np.float32) * np.float32(1 / 255)
        slope = cv2.filter2D(soft, cv2.CV_32F, self.light.slope_kernel)
        slope = slope * np.float32(shape.fabric.relief * (4 * blur + 1) / 3.0)
        shade = np.float32(self.light.ambient) + np.float32(0.45) * np.maximum(soft, np.float32(0.3))
        shade -= np.minimum(np.maximum(slope, np.float32(-0.55)), np.float32(0.55))
        return shade, np.float32(1.0) - np.float32(0.22) * soft


def _coverage(outlines: Sequence[Outline], left: int, top: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    mask = np.zeros(size, dtype=np.uint8)
    for outline in outlines:
        points = np.round((outline - (left, top)) * 2**SHIFT).astype(np.int32)
        cv2.fillConvexPoly(mask, points, 255, cv2.LINE_AA, SHIFT)
    return mask


def _thickness(outlines: Sequence[Outline]) -> float:
    """Smaller width of the widest outline, pixels."""
    return max(min(cv2.minAreaRect(outline)[1]) for outline in outlines)


def _albedo(shape: Shape, size: tuple[int, ...], left: int, top: int) -> Pixels:
    """(3, H, W) or (3, 1, 1) colour of the surface before light."""
    fabric = shape.fabric
    first = np.array(fabric.colour, dtype=np.float32)[:, None, None]
    if fabric.pattern == "plain":
        return first
    along, across = _pattern_coordinates(shape, size, left, top)
    mixed = PATTERNS[fabric.pattern](along, across)
    return first + mixed * (np.array(fabric.second, dtype=np.float32)[:, None, None] - first)


def _pattern_coordinates(shape: Shape, size: tuple[int, ...], left: int, top: int) -> tuple[Pixels, Pixels]:
    """Position along and across the shape's axis, in periods."""
    start, stop = shape.axis
    direction = (stop - start) / max(float(np.linalg.norm(stop - start)), 1e-6) / shape.fabric.period
    x = np.arange(size[1], dtype=np.float32)[None] + np.float32(left - start[0])
    y = np.arange(size[0], dtype=np.float32)[:, None] + np.float32(top - start[1])
    u, v = np.float32(direction[0]), np.float32(direction[1])
    return x * u + y * v, y * u - x * v


def _step(wave: Pixels) -> Pixels:
    """The wave cut to [0, 1]."""
    cut: Pixels = np.minimum(np.maximum(wave, np.float32(0)), np.float32(1))
    return cut


def _stripes(along: Pixels, across: Pixels) -> Pixels:
    return _step(np.sin(TURN * along) * 3 + 0.5)


def _pinstripes(along: Pixels, across: Pixels) -> Pixels:
    return _step(np.sin(TURN * across) * 3 - 1.2)


def _plaid(along: Pixels, across: Pixels) -> Pixels:
    half = np.float32(0.5)
    return half * _step(np.sin(TURN * along) * 3) + half * _step(np.sin(TURN * across) * 3)


def _blotches(along: Pixels, across: Pixels) -> Pixels:
    wave = np.sin(5.1 * along + 1.7 * np.sin(3.3 * across)) + np.sin(4.3 * across + 2.1 * np.sin(2.7 * along))
    return _step(wave * 1.5 + 0.4)


def _dots(along: Pixels, across: Pixels) -> Pixels:
    return _step((np.sin(TURN * along) + np.sin(TURN * across)) * 2 - 1.5)


PATTERNS = {"stripes": _stripes, "pinstripes": _pinstripes, "plaid": _plaid, "blotches": _blotches, "dots": _dots}


def hull(points: NDArray[np.floating]) -> Outline:
    """(M, 2) convex hull of (N, 2) points."""
    return np.asarray(cv2.convexHull(points.astype(np.float32, copy=False))[:, 0], dtype=np.float32)


def disc(centre: NDArray[np.floating], radius: float) -> Outline:
    """(12, 2) outline of a circle."""
    return np.asarray(centre + radius * CIRCLE, dtype=np.float32)


def capsule(
    start: NDArray[np.floating], stop: NDArray[np.floating], start_radius: float, stop_radius: float
) -> Outline:
    """Hull of two circles, pixels."""
    return hull(np.concatenate([disc(start, start_radius), disc(stop, stop_radius)]))


def colour_from_hsv(hue: float, saturation: float, value: float) -> Colour:
    """RGB 0-255 of a hue in turns and saturation and value in [0, 1]."""
    sextant = hue % 1.0 * 6.0
    offsets = (0.0, 4.0, 2.0)
    parts = [min(abs((sextant + offset) % 6.0 - 3.0) - 1.0, 1.0) for offset in offsets]
    red, green, blue = (255 * value * (1 - saturation * (1 - max(part, 0.0))) for part in parts)
    return red, green, blue
