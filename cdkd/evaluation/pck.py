"""Percentage of correct keypoints: PCKh and PCK on any keypoint set, and MPII's own PCKh (method 7).

A keypoint is correct when its distance to the truth is at most `threshold` times the person's
normalising length. Unlabelled keypoints are never counted. Scores are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdkd.instances import MPII_HEAD_BOX_FACTOR
from cdkd.keypoints import KEYPOINT_SETS, printed_groups

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

LEFT_OUT_OF_MEAN = ("pelvis", "thorax")  # as MPII does (method 7): no limb ends there


@dataclass(frozen=True)
class KeypointCounts:
    """How many keypoints were right.

    Attributes:
        correct: (J,) correct keypoints.
        counted: (J,) labelled keypoints of the persons that have a normaliser.
        left_out: persons without a normaliser (unlabelled, or of length zero), not counted above.
    """

    correct: IntArray
    counted: IntArray
    left_out: int

    def per_keypoint(self) -> FloatArray:
        """(J,) part of each keypoint that is correct; NaN where none was labelled."""
        counted = np.where(self.counted > 0, self.counted, 1)
        return np.where(self.counted > 0, self.correct / counted, np.nan)

    def overall(self, leave_out: Sequence[int] = ()) -> float:
        """Part of all counted keypoints that is correct, without the keypoints `leave_out`; NaN when none is left.

        This is the mean of `per_keypoint` weighted by how often each keypoint is labelled.
        """
        is_kept = np.ones(len(self.counted), dtype=bool)
        is_kept[list(leave_out)] = False
        total = int(self.counted[is_kept].sum())
        return float(self.correct[is_kept].sum()) / total if total else float("nan")


def segment_length(truth: ArrayLike, visibility: ArrayLike, segment: tuple[int, int]) -> FloatArray:
    """(N,) distance between the two keypoints of `segment`; NaN where one of them is not labelled.

    Args:
        truth: (N, J, 2) labelled keypoints, image pixels.
        visibility: (N, J) 0 for unlabelled keypoints.
        segment: indices of the two end points.
    """
    first, second = segment
    points, is_labelled = np.asarray(truth, dtype=np.float64), np.asarray(visibility) > 0
    has_both = is_labelled[:, first] & is_labelled[:, second]
    return np.where(has_both, np.linalg.norm(points[:, first] - points[:, second], axis=-1), np.nan)


def pck(
    predictions: ArrayLike, truth: ArrayLike, visibility: ArrayLike, normaliser: ArrayLike, threshold: float
) -> KeypointCounts:
    """Count the keypoints within `threshold` normalising lengths of the truth; all else as in `correctness`."""
    correct, counted = correctness(predictions, truth, visibility, normaliser, threshold)
    length = np.asarray(normaliser, dtype=np.float64)
    left_out = int((~(np.isfinite(length) & (length > 0))).sum())
    return KeypointCounts(correct.sum(axis=0), counted.sum(axis=0), left_out)


def correctness(
    predictions: ArrayLike, truth: ArrayLike, visibility: ArrayLike, normaliser: ArrayLike, threshold: float
) -> tuple[BoolArray, BoolArray]:
    """Which keypoints lie within `threshold` normalising lengths of the truth, and which of them count.

    Args:
        predictions: (N, J, 2) predicted keypoints, image pixels.
        truth: (N, J, 2) labelled keypoints in the same frame; unlabelled ones may hold anything.
        visibility: (N, J) 0 for unlabelled keypoints.
        normaliser: (N,) pixels; persons whose length is NaN or not positive do not count.
        threshold: largest allowed distance in normalising lengths; a distance equal to it is correct.

    Returns:
        Two (N, J) arrays; what is correct counts.

    Raises:
        ValueError: shapes do not fit, or a labelled keypoint has a non-finite prediction or truth.
    """
    predicted, labelled = np.asarray(predictions, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    is_labelled, length = np.asarray(visibility) > 0, np.asarray(normaliser, dtype=np.float64)
    _check_shapes(predicted, labelled, is_labelled, length)
    _check_finite(predicted, is_labelled, "prediction")
    _check_finite(labelled, is_labelled, "truth")
    has_length = np.isfinite(length) & (length > 0)
    counted = is_labelled & has_length[:, None]
    distance = np.linalg.norm(np.where(counted[..., None], predicted - labelled, 0.0), axis=-1)
    correct = counted & (distance / np.where(has_length, length, 1.0)[:, None] <= threshold)
    return correct, counted


def pckh(
    predictions: ArrayLike, truth: ArrayLike, visibility: ArrayLike, head_size: ArrayLike, threshold: float
) -> KeypointCounts:
    """PCK normalised by the head's size (N,), in pixels; arguments and errors as in `pck`."""
    return pck(predictions, truth, visibility, head_size, threshold)


def summary(counts: KeypointCounts, names: Sequence[str]) -> dict[str, float]:
    """The counts as the scores that tables print, each in [0, 1]; one that nobody's labels bear on is absent.

    Args:
        counts: of `pck`.
        names: the J keypoints.

    Returns:
        'mean' over all labelled keypoints and 'unweighted', the plain mean over keypoints, both without pelvis and
        thorax; every one of `printed_groups` that the keypoints have, the plain mean of its left and right; every
        keypoint. A keypoint that bears a group's name is that group.
    """
    per_keypoint = counts.per_keypoint()
    left_out = [index for index, name in enumerate(names) if name in LEFT_OUT_OF_MEAN]
    values = {name: float(value) for name, value in zip(names, per_keypoint, strict=True)}
    values |= {group: _plain_mean(per_keypoint[list(members)]) for group, members in printed_groups(names).items()}
    values |= {"mean": counts.overall(left_out), "unweighted": _plain_mean(np.delete(per_keypoint, left_out))}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def mpii_pckh(
    predictions: ArrayLike, truth: ArrayLike, missing: ArrayLike, head_boxes: ArrayLike, threshold: float
) -> dict[str, float]:
    """MPII's PCKh of the arrays of `gt_valid.mat`, persons first (method 7).

    Args:
        predictions: (N, 16, 2) in the ground truth's frame (1-based image pixels).
        truth: (N, 16, 2) `pos_gt_src`.
        missing: (N, 16) `jnt_missing`, true where a keypoint is not labelled.
        head_boxes: (N, 2, 2) `headboxes_src`: two corners (x, y) of the head box.
        threshold: 0.5, or 0.1 (some published code reads 0.11 from a table of thresholds instead).

    Returns:
        As `summary`: 'head' to 'ankle', 'mean', 'unweighted' and every keypoint.

    Raises:
        ValueError: not 16 keypoints, or as `pck` raises.
    """
    if np.shape(missing)[-1:] != (16,):
        raise ValueError(f"MPII has 16 keypoints a person, `missing` has shape {np.shape(missing)}")
    corners = np.asarray(head_boxes, dtype=np.float64)
    head_size = MPII_HEAD_BOX_FACTOR * np.linalg.norm(corners[:, 1] - corners[:, 0], axis=-1)
    counts = pckh(predictions, truth, np.asarray(missing) == 0, head_size, threshold)
    return summary(counts, KEYPOINT_SETS["mpii16"].names)


def _plain_mean(values: FloatArray) -> float:
    """Mean of the values that are not NaN; NaN of none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _check_shapes(predicted: FloatArray, labelled: FloatArray, is_labelled: BoolArray, length: FloatArray) -> None:
    if predicted.ndim != 3 or predicted.shape[-1] != 2 or predicted.shape != labelled.shape:
        raise ValueError(f"predictions and truth must both be (N, J, 2), got {predicted.shape} and {labelled.shape}")
    if is_labelled.shape != predicted.shape[:2]:
        raise ValueError(f"visibility must be {predicted.shape[:2]} like the keypoints, got {is_labelled.shape}")
    if length.shape != predicted.shape[:1]:
        raise ValueError(f"there must be one normaliser a person, {predicted.shape[:1]}, got {length.shape}")


def _check_finite(points: FloatArray, is_labelled: BoolArray, name: str) -> None:
    is_bad = is_labelled & ~np.isfinite(points).all(axis=-1)
    if is_bad.any():
        person, keypoint = (int(index) for index in np.argwhere(is_bad)[0])
        raise ValueError(f"the {name} of labelled keypoint {keypoint} of person {person} is not finite")
