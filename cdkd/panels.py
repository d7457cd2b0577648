"""Parts of pictures for people: enlarged network inputs, heat maps over them, captions and legends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdkd.drawing import MARK_HEIGHT, MARK_WIDTH, Image, contact_sheet

PANEL_SIDE = 256
"""Side of an enlarged network input, pixels, where the input divides it."""
LARGEST_PANEL = 512
IMAGE_SHARE = 0.35
"""Brightness of the image below a heat map; the map's colours add the rest."""

FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
INK, PAPER = (25, 25, 25), 255
LINE_HEIGHT, MARGIN = 18, 4


def panel_side(input_sizes: Sequence[int]) -> int:
    """A side near PANEL_SIDE to which all these input sizes can be enlarged, by whole factors if possible."""
    common = math.lcm(*input_sizes)
    if common > LARGEST_PANEL:
        return max(PANEL_SIDE, *input_sizes)
    return common * max(1, round(PANEL_SIDE / common))


def enlarged(image: Image, side: int) -> Image:
    """A square image with every pixel drawn as a block of one colour."""
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def resized(image: Image, height: int) -> Image:
    """The image smoothly scaled to a height."""
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)


def resized_points(points: ArrayLike, before: Image, after: Image) -> NDArray[np.float64]:
    """Where points (..., 2) of an image lie in its resized version; a pixel's middle is at whole coordinates."""
    zoom = np.array([after.shape[1] / before.shape[1], after.shape[0] / before.shape[0]])
    return np.asarray((np.asarray(points, dtype=np.float64) + 0.5) * zoom - 0.5)


def with_heat(image: Image, heat: ArrayLike) -> Image:
    """The image in dim grey, and a map (h, w) of values in [0, 1] over it, brighter for more.

    The map is stretched over the image, each value at the middle of its cell, linear between.

    Raises:
        ValueError: a value outside [0, 1].
    """
    values = np.asarray(heat, dtype=np.float32)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"a heat map must lie in [0, 1], got values from {values.min()} to {values.max()}")
    stretched = cv2.resize(values, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    levels = np.round(np.clip(stretched, 0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return np.asarray(np.round(IMAGE_SHARE * grey + (1 - IMAGE_SHARE) * colours), dtype=np.uint8)


def heat_mark() -> Image:
    """A small picture of the colours of `with_heat`, from 0 to 1, for a legend."""
    grey = np.full((MARK_HEIGHT, MARK_WIDTH, 3), 64, dtype=np.uint8)
    return with_heat(grey, np.linspace(0, 1, MARK_WIDTH)[None])


def captioned(image: Image, text: str) -> Image:
    """The image with text below it, wrapped to the image's width."""
    return np.concatenate([image, text_strip(text, image.shape[1])])


def text_strip(text: str, width: int) -> Image:
    """Text on paper of a width, wrapped between words; a word that is too long loses its beginning.

    Characters outside ASCII, which OpenCV's fonts may lack, become question marks.
    """
    lines = list(_wrapped(text.encode("ascii", "replace").decode(), width - 2 * MARGIN))
    strip = np.full((LINE_HEIGHT * len(lines) + MARGIN, width, 3), PAPER, dtype=np.uint8)
    for number, line in enumerate(lines, start=1):
        cv2.putText(strip, line, (MARGIN, LINE_HEIGHT * number - MARGIN), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
    return strip


def legend(entries: Sequence[tuple[Image, str]], width: int) -> Image:
    """Small pictures, each before its meaning, in as many rows as the width needs."""
    items = [contact_sheet([mark, text_strip(text, _text_width(text) + 4 * MARGIN)], 2) for mark, text in entries]
    rows: list[list[Image]] = [[]]
    for item in items:
        if rows[-1] and sum(part.shape[1] for part in [*rows[-1], item]) > width:
            rows.append([])
        rows[-1].append(item)
    return contact_sheet([contact_sheet(row, len(row), gap=0) for row in rows], 1)


def _wrapped(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        longer = f"{line} {word}".lstrip()
        if line and _text_width(longer) > width:
            yield line
            longer = word
        line = _shortened(longer, width)
    yield line


def _shortened(word: str, width: int) -> str:
    """File names differ in their ends, so the end is what is kept."""
    kept = word
    while kept and _text_width(word) > width:
        kept = kept[1:]
        word = f"...{kept}"
    return word


def _text_width(text: str) -> int:
    (width, _height), _baseline = cv2.getTextSize(text, FONT, FONT_SCALE, 1)
    return int(width)
