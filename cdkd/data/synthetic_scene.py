"""Surroundings of a drawn person: backgrounds, clutter, things in front, and the camera's faults."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cdkd.data.synthetic_paint import (
    IN_FRONT,
    PATTERNS,
    UNOWNED,
    Canvas,
    Colour,
    Fabric,
    Light,
    Outline,
    Pixels,
    Shape,
    capsule,
    colour_from_hsv,
    disc,
    hull,
)

LIMB_COLOURS: tuple[Colour, ...] = ((228, 180, 150), (190, 132, 96), (112, 74, 50), (50, 60, 96), (60, 58, 56))
MIDDLE_GREY = 118.0
NOISE_CELLS = ((3, 7.0), (9, 9.0), (30, 9.0))  # cell size in 1/192 of the image, amplitude


def empty_canvas(rng: np.random.Generator, size: int) -> Canvas:
    """A background of `size` pixels a side (a room, the open, or blurred patches) under a random light."""
    angle = rng.normal(-np.pi / 2, 0.7)
    light = Light(
        (float(np.cos(angle)), float(np.sin(angle))), float(rng.uniform(0.5, 1.3)), float(rng.uniform(0.5, 0.66))
    )
    kinds = (_room, _open_air, _patches)
    pixels = kinds[rng.choice(len(kinds), p=[0.45, 0.4, 0.15])](rng, size)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return Canvas(_textured(rng, planes), np.full((size, size), UNOWNED, dtype=np.uint8), light)


def paint_clutter(rng: np.random.Generator, canvas: Canvas) -> None:
    """Furniture, poles, balls and limb-like sticks behind the person."""
    size = canvas.owner.shape[0]
    makers = (_box, _box, _pole, _ball, _sticks, _sticks, _blob)
    for maker in rng.choice(len(makers), size=rng.integers(2, 9)):
        canvas.paint(makers[maker](rng, size), UNOWNED)


def paint_ground_shadow(canvas: Canvas, centre: tuple[float, float], half_width: float) -> None:
    """Darken the ground in a soft flat ellipse, pixels."""
    height, width = canvas.owner.shape
    x = (np.arange(width, dtype=np.float32) - np.float32(centre[0])) / np.float32(half_width)
    y = (np.arange(height, dtype=np.float32) - np.float32(centre[1])) / np.float32(half_width * 0.25)
    shade = np.float32(1.0) - np.float32(0.45) * np.outer(np.exp(-y * y), np.exp(-x * x))
    np.multiply(canvas.pixels, shade, out=canvas.pixels)


def paint_in_front(rng: np.random.Generator, canvas: Canvas, extent: tuple[float, float, float, float]) -> None:
    """Now and then one or two things in front of the person, whose extent is (left, top, right, bottom)."""
    for _ in range(rng.choice(3, p=[0.62, 0.28, 0.10])):
        canvas.paint(_obstacle(rng, canvas.owner.shape[0], extent), IN_FRONT)


def photograph(rng: np.random.Generator, canvas: Canvas) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: exposure, colour cast, contrast, slight blur and sensor noise."""
    gain = rng.uniform(0.7, 1.2) * rng.normal(1.0, 0.05, size=3)
    contrast = gain * rng.uniform(0.75, 1.15)
    noise = rng.standard_normal(canvas.owner.shape, dtype=np.float32) * np.float32(rng.uniform(1, 9))
    sigma = rng.uniform(0.3, 0.9) * canvas.owner.shape[0] / 192 if rng.random() < 0.5 else 0.0
    planes = [cv2.GaussianBlur(plane, (5, 5), sigma) if sigma else plane.copy() for plane in canvas.pixels]
    for plane, factor, middle in zip(planes, contrast, MIDDLE_GREY * (gain - contrast), strict=True):
        plane *= np.float32(factor)
        plane += noise + np.float32(middle)
    return np.asarray(np.clip(cv2.merge(planes), 0, 255), dtype=np.uint8)


# Backgrounds: (S, S, 3) float32.


def _colour(rng: np.random.Generator, saturation: float = 0.45) -> Colour:
    return colour_from_hsv(rng.random(), rng.uniform(0, saturation), rng.uniform(0.25, 0.92))


def _gradient(rng: np.random.Generator, rows: int, size: int, colour: Colour, spread: float) -> Pixels:
    """A surface of one colour, brighter towards one corner."""
    down, across = rng.uniform(-spread, spread, size=2)
    shade = 1 + down * np.linspace(-1, 1, rows)[:, None] + across * np.linspace(-1, 1, size)[None]
    return np.asarray(cv2.merge([np.float32(value) * shade.astype(np.float32) for value in colour]), dtype=np.float32)


def _room(rng: np.random.Generator, size: int) -> Pixels:
    horizon = int(size * rng.uniform(0.5, 0.95))
    wall = _gradient(rng, horizon, size, _colour(rng, 0.35), 0.25)
    if rng.random() < 0.35:
        wall = _papered(rng, wall)
    floor = _gradient(rng, size - horizon, size, _colour(rng, 0.4), 0.2)
    return np.concatenate([wall, floor])


def _papered(rng: np.random.Generator, wall: Pixels) -> Pixels:
    """Wallpaper, bricks or curtains."""
    pattern = PATTERNS[str(rng.choice(sorted(PATTERNS)))]
    period = wall.shape[1] * rng.uniform(0.03, 0.15)
    y, x = np.mgrid[: wall.shape[0], : wall.shape[1]].astype(np.float32) / np.float32(period)
    second = np.array(_colour(rng, 0.4), dtype=np.float32)
    papered: Pixels = wall + np.float32(0.5) * pattern(y, x)[..., None] * (second - wall)
    return papered


def _open_air(rng: np.random.Generator, size: int) -> Pixels:
    horizon = int(size * rng.uniform(0.25, 0.85))
    sky = _gradient(
        rng, horizon, size, colour_from_hsv(rng.normal(0.57, 0.03), rng.uniform(0.05, 0.5), rng.uniform(0.6, 1.0)), 0.2
    )
    hue = rng.choice([0.25, 0.10, 0.0]) + rng.normal(0, 0.03)
    ground = _gradient(
        rng, size - horizon, size, colour_from_hsv(hue, rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.75)), 0.2
    )
    pixels = np.concatenate([sky, ground])
    if rng.random() < 0.7:
        _add_trees(rng, pixels, horizon)
    return pixels


def _add_trees(rng: np.random.Generator, pixels: Pixels, horizon: int) -> None:
    """A hedge or wood along the horizon: overlapping dark green discs."""
    size = pixels.shape[1]
    for _ in range(rng.integers(6, 30)):
        radius = int(size * rng.uniform(0.03, 0.13))
        centre = (int(rng.uniform(0, size)), int(horizon - abs(rng.normal(0, 0.12)) * size))
        green = colour_from_hsv(rng.normal(0.3, 0.05), rng.uniform(0.2, 0.6), rng.uniform(0.12, 0.5))
        cv2.circle(pixels, centre, radius, green, -1, cv2.LINE_AA)


def _patches(rng: np.random.Generator, size: int) -> Pixels:
    """Large blurred patches of colour, as an out-of-focus background."""
    cells = int(rng.integers(3, 9))
    colours = [_colour(rng, 0.6) for _ in range(cells * cells)]
    small = np.array(colours, dtype=np.float32).reshape(cells, cells, 3)
    return np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _textured(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Add to (3, S, S) pixels noise of several cell sizes: grass, plaster, gravel."""
    size, strength = pixels.shape[1], rng.uniform(0.3, 1.8)
    for cell, amplitude in NOISE_CELLS:
        cells = max(size * 192 // (cell * size) + 1, 2)
        small = rng.standard_normal((cells, cells), dtype=np.float32) * np.float32(amplitude * strength)
        pixels += cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    return pixels


# Things.


def _fabric(rng: np.random.Generator, size: int, relief: float = 1.0) -> Fabric:
    pattern = str(rng.choice(sorted(PATTERNS))) if rng.random() < 0.3 else "plain"
    return Fabric(_colour(rng, 0.8), _colour(rng, 0.8), pattern, size * rng.uniform(0.02, 0.1), relief)


def _quadrangle(rng: np.random.Generator, centre: NDArray[np.float64], width: float, height: float) -> Outline:
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2)
    return hull(centre + corners * rng.normal(1, 0.06, size=(4, 2)))


def _somewhere(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    return rng.uniform(0, size, size=2)


def _box(rng: np.random.Generator, size: int) -> Shape:
    width, height = rng.uniform(0.08, 0.4, size=2) * size
    return Shape("box", [_quadrangle(rng, _somewhere(rng, size), width, height)], 0.0, _fabric(rng, size, 0.4))


def _pole(rng: np.random.Generator, size: int) -> Shape:
    x, lean = rng.uniform(0, size), rng.normal(0, 0.08) * size
    radius = rng.uniform(0.006, 0.025) * size
    ends = np.array([[x, rng.uniform(-0.2, 0.3) * size], [x + lean, rng.uniform(0.7, 1.1) * size]])
    return Shape("pole", [capsule(ends[0], ends[1], radius, radius)], 0.0, _fabric(rng, size))


def _ball(rng: np.random.Generator, size: int) -> Shape:
    return Shape("ball", [disc(_somewhere(rng, size), rng.uniform(0.02, 0.07) * size)], 0.0, _fabric(rng, size))


def _blob(rng: np.random.Generator, size: int) -> Shape:
    centre = _somewhere(rng, size)
    discs = [disc(centre + rng.normal(0, 0.05, 2) * size, rng.uniform(0.03, 0.08) * size) for _ in range(4)]
    return Shape("blob", discs, 0.0, _fabric(rng, size))


def _sticks(rng: np.random.Generator, size: int) -> Shape:
    """Two joined sticks of a limb's length, thickness and colour."""
    points = [_somewhere(rng, size)]
    for _ in range(2):
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.08, 0.22) * size
        points.append(points[-1] + length * np.array([np.cos(angle), np.sin(angle)]))
    radii = rng.uniform(0.012, 0.028) * size * np.array([1.2, 1.0, 0.8])
    outlines = [capsule(points[index], points[index + 1], radii[index], radii[index + 1]) for index in range(2)]
    colour = LIMB_COLOURS[rng.integers(len(LIMB_COLOURS))]
    return Shape("sticks", outlines, 0.0, Fabric(colour) if rng.random() < 0.6 else _fabric(rng, size))


def _obstacle(rng: np.random.Generator, size: int, extent: tuple[float, float, float, float]) -> Shape:
    """A table, post, ball or bar that hides some of the person."""
    left, top, right, bottom = extent
    width, height = right - left, bottom - top
    centre = np.array([rng.uniform(left, right), rng.uniform(top + 0.25 * height, bottom)])
    kind = rng.random()
    if kind < 0.35:  # a table, wall or hedge that hides the lowest part
        hidden = rng.uniform(0.08, 0.3) * height
        middle = np.array([(left + right) / 2 + rng.normal(0, 0.3) * width, bottom - hidden / 2 + 0.1 * size])
        outline = _quadrangle(rng, middle, rng.uniform(0.6, 2.0) * width, hidden + 0.2 * size)
        return Shape("table", [outline], 0.0, _fabric(rng, size, 0.4))
    if kind < 0.6:
        radius = rng.uniform(0.008, 0.025) * size
        ends = np.array([[centre[0], -10.0], [centre[0] + rng.normal(0, 0.05) * size, size + 10.0]])
        return Shape("post", [capsule(ends[0], ends[1], radius, radius)], 0.0, _fabric(rng, size))
    if kind < 0.8:
        return Shape("thing", [disc(centre, rng.uniform(0.03, 0.09) * max(width, height))], 0.0, _fabric(rng, size))
    reach = np.array([np.cos(angle := rng.uniform(0, np.pi)), np.sin(angle)]) * rng.uniform(0.15, 0.5) * height
    radius = rng.uniform(0.008, 0.03) * size
    return Shape("bar", [capsule(centre - reach, centre + reach, radius, radius)], 0.0, _fabric(rng, size))
