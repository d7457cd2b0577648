"""Random views of an instance: half body, scale, rotation, flip, in this order (method 6.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cdkd.config import AugmentationConfig
from cdkd.data.crops import Matrix, affine, center_scale
from cdkd.instances import PersonInstance
from cdkd.keypoints import KeypointSet

HALF_BODY_MORE_THAN = 8
"""Labelled keypoints a person must exceed to be cut in half."""
HALF_BODY_PADDING = 1.5
"""Factor on the square around the chosen half."""


@dataclass(frozen=True)
class View:
    """Which square of the image is seen, and how.

    Attributes:
        center: middle of the square, pixels of the image as it is on disk (also when flipped).
        scale: side of the square in units of 200 image pixels.
        rotation_degrees: rotation of the (possibly mirrored) image.
        is_flipped: mirrored; left and right keypoints change their names.
    """

    center: tuple[float, float]
    scale: float
    rotation_degrees: float = 0.0
    is_flipped: bool = False

    def affine(self, output_size: int) -> Matrix:
        """The (2, 3) map from image pixels to the pixels of a crop of this view.

        Args:
            output_size: crop pixels that the square becomes, see `cdkd.config.span`.
        """
        return affine(self.center, self.scale, self.rotation_degrees, output_size, self.is_flipped)


def plain_view(instance: PersonInstance, box_padding: float) -> View:
    """The view used for evaluation: the padded square around the box."""
    return View(*center_scale(instance.box, box_padding))


def sample_view(
    instance: PersonInstance,
    config: AugmentationConfig,
    keypoint_set: KeypointSet,
    box_padding: float,
    rng: np.random.Generator,
) -> View:
    """Draw a random view.

    All random numbers are drawn whether used or not, so that changing one option leaves what the others
    do unchanged.
    """
    half_body_chance, rotation_chance, flip_chance = rng.random(3).tolist()
    half_body_choice, scale_deviate, rotation_deviate = rng.standard_normal(3).tolist()

    view = plain_view(instance, box_padding)
    if half_body_chance < config.half_body_probability:
        view = _half_body(instance, keypoint_set, half_body_choice) or view

    spread, limit = config.scale_factor, 2 * config.rotation_degrees
    zoom = min(max(1 + scale_deviate * spread, 1 - spread), 1 + spread)
    is_rotated = rotation_chance < config.rotation_probability
    rotation = min(max(rotation_deviate * config.rotation_degrees, -limit), limit) if is_rotated else 0.0
    return replace(
        view,
        scale=view.scale * zoom,
        rotation_degrees=rotation,
        is_flipped=flip_chance < config.flip_probability,
    )


def _half_body(instance: PersonInstance, keypoint_set: KeypointSet, choice: float) -> View | None:
    """The square around the upper or the lower body; None where too few keypoints are labelled.

    `choice` is a normal deviate compared with 0.5, which picks the upper body in 69 % of cases: a quirk
    of HRNet's code that its published recipe contains.
    """
    labelled = instance.visibility > 0
    if labelled.sum() <= HALF_BODY_MORE_THAN:
        return None
    is_upper = np.isin(np.arange(keypoint_set.count), keypoint_set.upper_body)
    upper = instance.keypoints_image[labelled & is_upper].astype(np.float64)
    lower = instance.keypoints_image[labelled & ~is_upper].astype(np.float64)
    wants_upper = choice < 0.5 and len(upper) > 2
    chosen = upper if wants_upper or len(lower) <= 2 else lower
    extent = np.ptp(chosen, axis=0).max() if len(chosen) >= 2 else 0.0
    if extent <= 0:
        return None
    center_x, center_y = chosen.mean(axis=0)
    _, scale = center_scale((0.0, 0.0, extent, extent), HALF_BODY_PADDING)
    return View((float(center_x), float(center_y)), scale)
