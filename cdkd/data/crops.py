"""Square crops: the affine map between an image and the input of a network.

Pixel centres are at whole coordinates and no half-pixel term is added (method 6.4), so the maps to two
input sizes differ by one factor: `affine(..., m * S) == m * affine(..., S)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

PIXELS_PER_SCALE = 200.0
"""Length of one unit of `scale` in image pixels, the convention of MPII's files and of HRNet."""

Matrix = npt.NDArray[np.float64]


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
        output_size: side of the crop, crop pixels.
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
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def warp_points(points: npt.ArrayLike, matrix: Matrix) -> Matrix:
    """Map points (..., 2) by a (2, 3) matrix."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def crop(image: npt.NDArray[np.uint8], matrix: Matrix, size: int) -> npt.NDArray[np.uint8]:
    """Cut a (size, size, 3) crop out of an (H, W, 3) image, bilinear, black outside the image.

    The small crop is sampled from the full image without anti-aliasing, as in the released code (method
    6.4): a low-resolution input is an aliased one.
    """
    warped = cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return np.asarray(warped, dtype=np.uint8)
