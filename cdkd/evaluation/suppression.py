"""How sure a top-down pose estimator is of a person, and which of several predictions of one person remain.

Both as the released evaluation of HRNet does, which SimCC and CDKD share (method section 7).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cdkd.evaluation.similarity import FloatArray, mean_similarity, variances_of


def person_scores(keypoint_scores: ArrayLike, box_scores: ArrayLike, threshold: float) -> FloatArray:
    """(N,) mean of a person's keypoint scores above `threshold` (0 where there is none) times the box's score.

    Args:
        keypoint_scores: (N, J).
        box_scores: (N,) of the detector; 1 for an annotated box.
        threshold: keypoints scored at or below it are left out (IN_VIS_THRE).
    """
    confidences = np.asarray(keypoint_scores, dtype=np.float64)
    is_kept = confidences > threshold
    totals = np.where(is_kept, confidences, 0.0).sum(axis=1)
    means = totals / np.maximum(is_kept.sum(axis=1), 1)
    scores: FloatArray = means * np.asarray(box_scores, dtype=np.float64)
    return scores


def box_areas(boxes: ArrayLike, padding: float) -> FloatArray:
    """(N,) areas of the padded squares around boxes (N, 4): what the network saw of a person."""
    sides: FloatArray = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)[:, 2:].max(axis=1) * padding
    return sides**2


def suppress(
    images: Sequence[Hashable],
    keypoints: ArrayLike,
    scores: ArrayLike,
    areas: ArrayLike,
    sigmas: Sequence[float],
    threshold: float,
) -> NDArray[np.bool_]:
    """OKS suppression: from the highest score down, a kept person removes those more similar to it than `threshold`.

    Two predictions' similarity is OKS over all keypoints at the mean of their areas. Of equal scores the earlier
    goes first.

    Args:
        images: which image each prediction is of; those of different images never meet.
        keypoints: (N, J, 2) image pixels.
        scores: (N,) from `person_scores`.
        areas: (N,) from `box_areas`.
        sigmas: J constants of OKS.
        threshold: largest OKS that both survive; at 1 all do.

    Returns:
        (N,) True where a prediction is kept.
    """
    points, sizes = np.asarray(keypoints, dtype=np.float64), np.asarray(areas, dtype=np.float64)
    is_kept = np.ones(len(points), dtype=bool)
    members: dict[Hashable, list[int]] = {}
    for index in np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable").tolist():
        members.setdefault(images[index], []).append(index)
    for ranked in members.values():
        for stronger, weaker in _rivals(points[ranked], sizes[ranked], sigmas, threshold):
            # In order of the stronger: whether it is kept itself is settled by then.
            is_kept[ranked[weaker]] &= not is_kept[ranked[stronger]]
    return is_kept


def _rivals(points: FloatArray, areas: FloatArray, sigmas: Sequence[float], threshold: float) -> list[tuple[int, int]]:
    """Pairs of ranked predictions that are too similar, the stronger first, in the order of their ranks."""
    stronger, weaker = np.triu_indices(len(points), 1)
    offsets = points[stronger] - points[weaker]
    squared = offsets[..., 0] ** 2 + offsets[..., 1] ** 2
    similarity = mean_similarity(squared, variances_of(sigmas), (areas[stronger] + areas[weaker]) / 2)
    too_similar = similarity > threshold
    return list(zip(stronger[too_similar].tolist(), weaker[too_similar].tolist(), strict=True))
