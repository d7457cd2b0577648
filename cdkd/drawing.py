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
TRUTH_COLOUR: Colour = (255, 255, 255)
PIXELS_PER_LINE_WIDTH = 110  # image side for one pixel of line width
SHIFT = 4  # binary places of sub-pixel positions in OpenCV's drawing
FAR = 2e4  # pixels; what lies farther off is drawn there
DASH = 3.5  # line widths
MARK_HEIGHT, MARK_WIDTH = 20, 46  # pixels of a legend's small pictures
MARK_ENDS = (np.array([8.0, 9.5]), np.array([37.0, 9.5]))


def draw_skeleton(
    image: Image, keypoints: ArrayLike, keypoint_set: KeypointSet, *, line_width: float | None = None
) -> Image:
    """Draw one person's keypoints and limbs on a copy of the image.

    The person's left side is dark blue, the right side light orange, the middle pale, all outlined.

    Args:
        image: (H, W, 3) RGB.
        keypoints: (J, 2) image pixels; a keypoint that is not finite is not drawn, nor are its limbs.
        keypoint_set: names and limbs.
        line_width: pixels; None: in proportion to the image.

    Raises:
        ValueError: an image that is not (H, W, 3) uint8, or keypoints of another length.
    """
    points = _checked(image, keypoints, keypoint_set)
    width = line_width or line_width_of(image)
    canvas = image.copy()
    for first, second in _drawn_limbs(points, keypoint_set):
        colour = side_colour(keypoint_set.names[first], keypoint_set.names[second])
        _line(canvas, points[first], points[second], colour, width)
    for index in _drawn_keypoints(points):
        _dot(canvas, points[index], side_colour(keypoint_set.names[index]), 1.2 * width)
    return canvas


def draw_truth(
    image: Image, keypoints: ArrayLike, keypoint_set: KeypointSet, *, line_width: float | None = None
) -> Image:
    """Draw labelled keypoints on a copy of the image so that no print confuses them with predicted ones.

    Limbs are dashed white lines, keypoints squares in the colour of their side with a white rim, so that left and
    right that were taken for each other are seen. Arguments and errors as in `draw_skeleton`.
    """
    points = _checked(image, keypoints, keypoint_set)
    width = 0.7 * (line_width or line_width_of(image))
    canvas = image.copy()
    for first, second in _drawn_limbs(points, keypoint_set):
        _dashes(canvas, points[first], points[second], width)
    for index in _drawn_keypoints(points):
        _square(canvas, points[index], side_colour(keypoint_set.names[index]), 1.4 * width)
    return canvas


def draw_box(image: Image, corners: ArrayLike, line_width: float, *, is_dashed: bool = False) -> Image:
    """Draw a white quadrangle with its four corners (4, 2) on a copy of the image."""
    points, width = np.asarray(corners, dtype=np.float64), 0.7 * line_width
    canvas = image.copy()
    for start, stop in zip(points, np.roll(points, -1, axis=0), strict=True):
        if is_dashed:
            _dashes(canvas, start, stop, width)
        else:
            _line(canvas, start, stop, TRUTH_COLOUR, width)
    return canvas


def draw_cross(image: Image, place: ArrayLike) -> Image:
    """Draw a white cross on a copy of the image, outlined, its middle left open."""
    centre, width = np.asarray(place, dtype=np.float64), line_width_of(image)
    canvas = image.copy()
    for direction in np.array([(1, 0), (-1, 0), (0, 1), (0, -1)]):
        _line(canvas, centre + 2 * width * direction, centre + 5 * width * direction, TRUTH_COLOUR, 0.7 * width)
    return canvas


def draw_square(image: Image, place: ArrayLike) -> Image:
    """Draw the mark of one labelled keypoint on a copy of the image, as `draw_truth` does."""
    canvas = image.copy()
    _square(canvas, np.asarray(place, dtype=np.float64), TRUTH_COLOUR, line_width_of(image))
    return canvas


def pose_marks(*, has_truth: bool) -> list[tuple[Image, str]]:
    """Legend of `draw_skeleton` and, where labelled keypoints are drawn too, of `draw_truth`."""
    sides = (("the person's left", LEFT_COLOUR), ("right", RIGHT_COLOUR), ("middle", MIDDLE_COLOUR))
    marks = []
    for name, colour in sides:
        canvas = _mark_paper()
        _line(canvas, *MARK_ENDS, colour, 3.0)
        for end in MARK_ENDS:
            _dot(canvas, end, colour, 3.6)
        marks.append((canvas, f"predicted, {name}"))
    if has_truth:
        canvas = _mark_paper()
        _dashes(canvas, *MARK_ENDS, 2.0)
        for end in MARK_ENDS:
            _square(canvas, end, LEFT_COLOUR, 2.8)
        marks.append((canvas, "ground truth, in the same colours"))
    return marks


def box_marks() -> list[tuple[Image, str]]:
    """Legend of `draw_box`, as a picture of a person's box and of the square around it uses it."""
    solid, dashed = _mark_paper(), _mark_paper()
    _line(solid, *MARK_ENDS, TRUTH_COLOUR, 2.0)
    _dashes(dashed, *MARK_ENDS, 2.0)
    return [(solid, "box"), (dashed, "what the network sees")]


def attention_marks(*, has_truth: bool) -> list[tuple[Image, str]]:
    """Legend of `draw_cross` and, where a labelled keypoint is drawn too, of `draw_square`."""
    middle, large = np.mean(MARK_ENDS, axis=0), _mark_paper()
    marks = [(draw_cross(large, middle), "place of the largest logits")]
    return [*marks, (draw_square(large, middle), "ground truth")] if has_truth else marks


def _mark_paper() -> Image:
    return np.full((MARK_HEIGHT, MARK_WIDTH, 3), 128, dtype=np.uint8)


def line_width_of(image: Image) -> float:
    """Width of lines on an image of this size, pixels."""
    return float(max(1.0, max(image.shape[:2]) / PIXELS_PER_LINE_WIDTH))


def side_colour(*names: str) -> Colour:
    """Colour of a keypoint, or of a limb by its two ends (an end in the middle takes the other's side)."""
    if any(name.startswith("left_") for name in names):
        return MIDDLE_COLOUR if any(name.startswith("right_") for name in names) else LEFT_COLOUR
    return RIGHT_COLOUR if any(name.startswith("right_") for name in names) else MIDDLE_COLOUR


def contact_sheet(images: Sequence[Image], columns: int, *, gap: int = 4, background: int = 255) -> Image:
    """Put images on one sheet, row by row, each at the top left of its cell.

    A column is as wide as its widest image, a row as high as its highest.

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
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    lefts = _starts([max(image.shape[1] for image in images[column::columns]) for column in range(columns)], gap)
    tops = _starts([max(image.shape[0] for image in row) for row in rows], gap)
    sheet = np.full((tops[-1] - gap, lefts[-1] - gap, 3), background, dtype=np.uint8)
    for top, row in zip(tops, rows, strict=False):
        for left, image in zip(lefts, row, strict=False):
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def _starts(sizes: Sequence[int], gap: int) -> list[int]:
    """Where cells of these sizes begin, and where one more would."""
    return [0, *np.cumsum(np.array(sizes) + gap).tolist()]


def _checked(image: Image, keypoints: ArrayLike, keypoint_set: KeypointSet) -> NDArray[np.float64]:
    points = np.asarray(keypoints, dtype=np.float64)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"the image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if points.shape != (keypoint_set.count, 2):
        raise ValueError(f"{keypoint_set.name} has {keypoint_set.count} keypoints, got an array {points.shape}")
    return points


def _drawn_keypoints(points: NDArray[np.float64]) -> list[int]:
    return np.flatnonzero(np.isfinite(points).all(axis=-1)).tolist()


def _drawn_limbs(points: NDArray[np.float64], keypoint_set: KeypointSet) -> list[tuple[int, int]]:
    drawn = set(_drawn_keypoints(points))
    return [limb for limb in keypoint_set.skeleton if drawn.issuperset(limb)]


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


def _dashes(canvas: Image, start: NDArray[np.float64], stop: NDArray[np.float64], width: float) -> None:
    """An outlined white line in dashes of equal length, the first and the last at the ends."""
    start, stop = (np.clip(end, -FAR, FAR) for end in (start, stop))
    count = 2 * max(1, round(float(np.linalg.norm(stop - start)) / (2 * DASH * width))) + 1
    ends = np.linspace(start, stop, count + 1)
    for number in range(0, count, 2):
        _line(canvas, ends[number], ends[number + 1], TRUTH_COLOUR, width)


def _square(canvas: Image, centre: NDArray[np.float64], colour: Colour, radius: float) -> None:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    for reach, fill in ((radius * 1.9, OUTLINE_COLOUR), (radius * 1.5, TRUTH_COLOUR), (radius, colour)):
        cv2.fillConvexPoly(canvas, _fixed_point(centre + reach * corners), fill, cv2.LINE_AA, SHIFT)


def _fixed_point(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """OpenCV's fixed-point coordinates, kept far from overflow for keypoints far outside the image."""
    return np.asarray(np.round(np.clip(points, -FAR, FAR) * 2**SHIFT), dtype=np.int32)
