"""Square crops: the affine map between an image and the input of a network.

Pixel centres are at whole coordinates and no half-pixel term is added (method 6.4), so the maps to two
input sizes differ by one factor: `affine(..., m * S) == m * affine(..., S)`. With `data.warp: size_minus_one` a box
becomes S - 1 pixels instead of S, from the centre of a crop's first pixel to that of its last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cdkd.config import span

PIXELS_PER_SCALE = 200.0
"""Length of one unit of `scale` in image pixels, the convention of MPII's files and of HRNet."""

EXPANDED_PER_CROPPED = 16
"""Source pixels up to which, for each pixel of the crops, copying them into four channels pays (measured: 18)."""

LEAST_CANVAS_BYTES = 2**23
"""NumPy asks for huge pages from 4 MB on; with them a warp, which runs across the rows, takes 0.85 of the time."""

Matrix = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


def center_scale(box: Sequence[float], padding: float) -> tuple[tuple[float, float], float]:
    """Centre and scale of the smallest square around a box, enlarged.

    Args:
        box: (left, top, width, height), image pixels.
        padding: factor on the square's side.

    Returns:
        The centre in image pixels, and the side in units of 200 image pixels.
    """
    left, top, width, height = box
    return (left + width / 2, top + height / 2), max(width, height) * padding / PIXELS_PER_SCALE


def affine(
    center: Sequence[float], scale: float, rotation_degrees: float, output_size: int, is_flipped: bool = False
) -> Matrix:
    """The (2, 3) map from image pixels to crop pixels.

    The centre goes to the middle of the crop. A flip mirrors the image about the vertical line through
    the centre before it is rotated; this equals mirroring the whole image (x -> W-1-x) and the centre
    with it, without touching a pixel.

    Args:
        center: middle of the crop, image pixels.
        scale: side of the crop in units of 200 image pixels.
        rotation_degrees: rotation of the view; image content turns counter-clockwise on the screen.
        output_size: crop pixels that the crop's square becomes, see `cdkd.config.span`.
        is_flipped: mirror left and right.
    """
    zoom = output_size / (PIXELS_PER_SCALE * scale)
    cosine = zoom * math.cos(math.radians(rotation_degrees))
    sine = zoom * math.sin(math.radians(rotation_degrees))
    mirror = -1.0 if is_flipped else 1.0
    linear = np.array([[mirror * cosine, sine], [-mirror * sine, cosine]])
    offset = output_size / 2 - linear @ np.asarray(center, dtype=np.float64)
    return np.concatenate([linear, offset[:, None]], axis=1)


def invert_affine(matrix: Matrix) -> Matrix:
    """The (2, 3) map back, from crop pixels to image pixels."""
    (a, b, x), (c, d, y) = matrix.tolist()
    determinant = a * d - b * c
    a, b, c, d = d / determinant, -b / determinant, -c / determinant, a / determinant
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])


def warp_points(points: npt.ArrayLike, matrix: Matrix) -> Matrix:
    """Map points (..., 2) by a (2, 3) matrix."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def crop(image: Pixels, matrix: Matrix, size: int) -> Pixels:
    """Cut a (size, size, 3) crop out of an (H, W, 3) image, bilinear, black outside the image.

    The small crop is sampled from the full image without anti-aliasing, as in the released code (method
    6.4): a low-resolution input is an aliased one.
    """
    out = np.empty((size, size, 3), np.uint8)
    _warp(image, matrix, out)
    return out


class Cropper:
    """Cuts crops of several sizes out of one view of an image: the very pixels of `crop`, in less time.

    OpenCV warps four channels in less than half the time of three. So the rectangle of the image that the view
    can touch is first copied, where it is not too large, to its place on a four-channel canvas of the image's
    size. The rest of the canvas is left over from other images; no crop reads it.

    It is not to be used by two threads at once.
    """

    def __init__(self) -> None:
        self._canvas = np.empty(0, np.uint8)
        self._warped: dict[int, Pixels] = {}

    def __reduce__(self) -> tuple[type[Cropper], tuple[()]]:
        """Leave the memory behind when sent to another process."""
        return Cropper, ()

    def cut(self, image: Pixels, matrix: Matrix, outputs: Sequence[Pixels], warp: str = "size") -> None:
        """Fill each (S, S, 3) output with the crop of its size.

        Args:
            image: (H, W, 3).
            matrix: the (2, 3) map from image pixels to those of the first output; to the others it is scaled.
            outputs: the crops' memory, contiguous.
            warp: how a square fits into a crop (`data.warp`).
        """
        sizes = [len(output) for output in outputs]
        matrices = [matrix * (span(size, warp) / span(sizes[0], warp)) for size in sizes]
        height, width = image.shape[:2]
        left, top, right, bottom = touched(matrix, sizes[0], width, height)
        if not 0 < (right - left) * (bottom - top) <= EXPANDED_PER_CROPPED * sum(size**2 for size in sizes):
            for output, scaled in zip(outputs, matrices):
                _warp(image, scaled, output)
            return
        canvas = self._canvas_of(height, width)
        part = slice(top, bottom), slice(left, right)
        cv2.cvtColor(image[part], cv2.COLOR_RGB2RGBA, dst=canvas[part])
        for output, scaled in zip(outputs, matrices):
            warped = self._warped_of(len(output))
            _warp(canvas, scaled, warped)
            cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=output)

    def _canvas_of(self, height: int, width: int) -> Pixels:
        """Memory that is not touched is not used, however large the image."""
        size = height * width * 4
        if self._canvas.size < size:
            self._canvas = np.empty(max(size, LEAST_CANVAS_BYTES), np.uint8)
        return self._canvas[:size].reshape(height, width, 4)

    def _warped_of(self, size: int) -> Pixels:
        if size not in self._warped:
            self._warped[size] = np.empty((size, size, 4), np.uint8)
        return self._warped[size]


def touched(matrix: Matrix, size: int, width: int, height: int) -> tuple[int, int, int, int]:
    """The rectangle of an image that a crop interpolates between: left, top, right, bottom; empty if it is outside.

    Args:
        matrix: the (2, 3) map from image pixels to crop pixels.
        size: of the crop.
        width: of the image.
        height: of the image.
    """
    (a, b, x), (c, d, y) = invert_affine(matrix).tolist()
    left, right = _reach(x, a * size, b * size, width)
    top, bottom = _reach(y, c * size, d * size, height)
    return left, top, right, bottom


def _reach(corner: float, along: float, down: float, count: int) -> tuple[int, int]:
    """Columns (or rows) of an image under a crop and next to it, and one more for rounding: begin and end.

    Args:
        corner: x (or y) of the crop's first corner in the image.
        along: what its upper edge adds.
        down: what its left edge adds.
        count: columns (or rows) of the image.
    """
    first = math.floor(corner + min(along, 0.0) + min(down, 0.0)) - 2
    last = math.floor(corner + max(along, 0.0) + max(down, 0.0)) + 4
    begin = min(max(first, 0), count)
    return begin, max(begin, min(last, count))


def _warp(image: Pixels, matrix: Matrix, out: Pixels) -> None:
    size = (out.shape[1], out.shape[0])
    cv2.warpAffine(image, matrix, size, dst=out, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
