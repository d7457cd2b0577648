"""Pictures for people: a pose drawn over its image, and many images on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdkd.keypoints import KeypointSet

Colour = tuple[int, int, int]
Image = NDArray[np.uint8]

# RGB. Far apart in brightness too (grey 84, 171, 233), so that the sides differ in a grey print.
LEFT_COLOUR: Colour = (20, 90, 220)
RIGHT_COLOUR: Colour = (255, 150, 40)
MIDDLE_COLOUR: Colour = (235, 240, 190)
OUTLINE_COLOUR: Colour = (15, 15, 15)
PIXELS_PER_LINE_WIDTH = 110  # image side for one pixel of line width
SHIFT = 4  # binary places of sub-pixel positions in OpenCV's drawing


def draw_skeleton(
    image: Image,
    keypoints: ArrayLike,
    scores: ArrayLike | None,
    keypoint_set: KeypointSet,
    *,
    score_threshold: float = 0.0,
    line_width: float | None = None,
) -> Image:
    """Draw one person's keypoints and limbs on a copy of the image.

    The person's left side is dark blue, the right side light orange, the middle pale, all outlined.

    Args:
        image: (H, W, 3) RGB.
        keypoints: (J, 2) image pixels; a keypoint that is not finite is not drawn, nor are its limbs.
        scores: (J,) keypoint scores, or None to draw every keypoint.
        keypoint_set: names and limbs.
        score_threshold: keypoints scored below it are not drawn, nor are their limbs.
        line_width: pixels; None: in proportion to the image.

    Raises:
        ValueError: an image that is not (H, W, 3) uint8, or keypoints or scores of another length.
    """
    points = np.asarray(keypoints, dtype=np.float64)
    _check(image, points, scores, keypoint_set)
    is_drawn = np.asarray(np.isfinite(points).all(axis=-1))
    if scores is not None:
        is_drawn &= np.asarray(scores) >= score_threshold
    width = line_width or max(1.0, max(image.shape[:2]) / PIXELS_PER_LINE_WIDTH)
    canvas = np.ascontiguousarray(image).copy()
    limbs = [limb for limb in keypoint_set.skeleton if is_drawn[list(limb)].all()]
    for first, second in limbs:
        colour = side_colour(keypoint_set.names[first], keypoint_set.names[second])
        _line(canvas, points[first], points[second], colour, width)
    for index in np.flatnonzero(is_drawn):
        _dot(canvas, points[index], side_colour(keypoint_set.names[index]), 1.2 * width)
    return canvas


def side_colour(*names: str) -> Colour:
    """Colour of a keypoint, or of a limb by its two ends (an end in the middle takes the other's side)."""
    if any(name.startswith("left_") for name in names):
        return MIDDLE_COLOUR if any(name.startswith("right_") for name in names) else LEFT_COLOUR
    return RIGHT_COLOUR if any(name.startswith("right_") for name in names) else MIDDLE_COLOUR


def contact_sheet(images: Sequence[Image], columns: int, *, gap: int = 4, background: int = 255) -> Image:
    """Put images on one sheet, row by row, each at the top left of a cell as large as the largest image.

    Args:
        images: (H, W, 3) RGB each, of any sizes; at least one.
        columns: images in a row.
        gap: pixels between cells.
        background: grey value of the rest.

    Raises:
        ValueError: no image, or fewer than one column.
    """
    if not images or columns < 1:
        raise ValueError(f"a sheet needs images and at least one column, got {len(images)} images, {columns} columns")
    columns = min(columns, len(images))
    height, width = (max(image.shape[axis] for image in images) + gap for axis in (0, 1))
    rows = -(-len(images) // columns)
    sheet = np.full((rows * height - gap, columns * width - gap, 3), background, dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def _check(image: Image, points: NDArray[np.float64], scores: ArrayLike | None, keypoint_set: KeypointSet) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"the image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if points.shape != (keypoint_set.count, 2):
        raise ValueError(f"{keypoint_set.name} has {keypoint_set.count} keypoints, got an array {points.shape}")
    if scores is not None and np.shape(scores) != (keypoint_set.count,):
        raise ValueError(f"{keypoint_set.name} needs {keypoint_set.count} scores, got an array {np.shape(scores)}")


def _line(canvas: Image, start: NDArray[np.float64], stop: NDArray[np.float64], colour: Colour, width: float) -> None:
    """A line as a filled quadrangle, since OpenCV's lines have whole-pixel widths."""
    along = (stop - start) / max(float(np.linalg.norm(stop - start)), 1e-6)
    across = np.array([-along[1], along[0]])
    for half_width, fill in ((width / 2 + width / 3, OUTLINE_COLOUR), (width / 2, colour)):
        corners = [start + across * half_width, stop + across * half_width]
        corners += [stop - across * half_width, start - across * half_width]
        cv2.fillConvexPoly(canvas, _fixed_point(np.array(corners)), fill, cv2.LINE_AA, SHIFT)


def _dot(canvas: Image, centre: NDArray[np.float64], colour: Colour, radius: float) -> None:
    x, y = (int(value) for value in _fixed_point(centre))
    for size, fill in ((radius * 1.4, OUTLINE_COLOUR), (radius, colour)):
        cv2.circle(canvas, (x, y), round(size * 2**SHIFT), fill, -1, cv2.LINE_AA, SHIFT)


def _fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """OpenCV's fixed-point coordinates, kept far from overflow for keypoints far outside the image."""
    return np.asarray(np.round(np.clip(points, -2e4, 2e4) * 2**SHIFT), dtype=np.int32)
