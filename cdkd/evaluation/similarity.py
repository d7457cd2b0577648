"""Object keypoint similarity (OKS): how alike two persons' keypoints are, from 0 to 1, for many pairs at once.

The arithmetic follows COCO's evaluation step by step, so that its values come out to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

TINY = float(np.spacing(1))
"""Added to areas, as COCO's evaluation does."""


def variances_of(sigmas: Sequence[float]) -> FloatArray:
    """(J,) squares of twice the sigmas, OKS's per-keypoint scale."""
    return (np.asarray(sigmas, dtype=np.float64) * 2) ** 2


def mean_similarity(squared_distances: FloatArray, variances: FloatArray, areas: FloatArray) -> FloatArray:
    """(P,) OKS of P pairs over K keypoints: the mean of exp(-d^2 / (2 area (2 sigma)^2)).

    Args:
        squared_distances: (P, K) square pixels.
        variances: (K,) or (P, K), from `variances_of`.
        areas: (P,) square pixels.
    """
    exponents = squared_distances / variances / (areas[:, None] + TINY) / 2
    similarity: FloatArray = np.exp(-exponents).sum(axis=1) / squared_distances.shape[1]
    return similarity


def truth_similarity(
    points: FloatArray,
    truth: FloatArray,
    boxes: FloatArray,
    areas: FloatArray,
    sigmas: Sequence[float],
    pairs: tuple[IntArray, IntArray],
) -> FloatArray:
    """OKS of predictions with annotated persons, over the labelled keypoints.

    An annotation without labelled keypoints is a region: a keypoint's distance is its distance to the annotated
    box enlarged by its own size on every side.

    Args:
        points: (D, J, 2) predictions, image pixels.
        truth: (G, J, 3) annotations: x, y and visibility (0: not labelled).
        boxes: (G, 4) left, top, width, height.
        areas: (G,) square pixels.
        sigmas: J constants of OKS.
        pairs: (P,) indices of predictions and (P,) of annotations to compare.

    Returns:
        (P,) similarities.
    """
    is_labelled, variances = truth[..., 2] > 0, variances_of(sigmas)
    labelled_first = np.argsort(~is_labelled, axis=1, kind="stable")
    counts = is_labelled.sum(axis=1)
    similarities = np.empty(len(pairs[0]))
    for count in np.unique(counts[pairs[1]]):  # rows of one length, so that sums run over exactly the labelled ones
        chosen = np.flatnonzero(counts[pairs[1]] == count)
        predicted, person = pairs[0][chosen], pairs[1][chosen]
        if count:
            columns = labelled_first[person, :count]
            offsets = points[predicted[:, None], columns] - truth[person[:, None], columns, :2]
            scale = variances[columns]
        else:
            offsets, scale = _beyond_region(points[predicted], boxes[person]), variances
        squared = offsets[..., 0] ** 2 + offsets[..., 1] ** 2
        similarities[chosen] = mean_similarity(squared, scale, areas[person])
    return similarities


def _beyond_region(points: FloatArray, boxes: FloatArray) -> FloatArray:
    """(P, J, 2) how far points lie outside boxes enlarged by their own size on every side; 0 inside."""
    low = (boxes[:, :2] - boxes[:, 2:])[:, None]
    high = (boxes[:, :2] + boxes[:, 2:] * 2)[:, None]
    beyond: FloatArray = np.maximum(0, low - points) + np.maximum(0, points - high)
    return beyond
