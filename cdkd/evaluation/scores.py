"""Every score of a set of predictions, under the names that studies use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdkd.evaluation.oks import LabelledPerson, oks_ap
from cdkd.evaluation.pck import KeypointCounts, pck, segment_length
from cdkd.keypoints import KeypointSet

PCKH_THRESHOLDS = (0.5, 0.1)
TORSO_THRESHOLD = 0.2
LEFT_OUT_OF_MEAN = ("pelvis", "thorax")  # as MPII does (method 7): no limb ends there


@dataclass(frozen=True)
class Predictions:
    """Predicted keypoints of N persons.

    Attributes:
        keypoints_image: (N, J, 2) image pixels.
        scores: (N, J) keypoint scores in [0, 1].
    """

    keypoints_image: NDArray[np.floating]
    scores: NDArray[np.floating]


def score(predictions: Predictions, instances: Sequence[LabelledPerson], keypoint_set: KeypointSet) -> dict[str, float]:
    """All scores of the predictions, each in [0, 1].

    PCKh is normalised by the head segment (neck to head top), PCK@0.2 by the torso (left shoulder to
    right hip). The overall values are means over all labelled keypoints of persons with that length,
    without pelvis and thorax; `pckh/left_out` and `pck/left_out` are the parts of the persons that have
    no such length (an end unlabelled, or both at the same place).

    Args:
        predictions: in the order of `instances`.
        instances: the labelled persons.
        keypoint_set: names, segments and OKS constants.

    Returns:
        'pckh@0.5', 'pckh@0.1', 'pck@0.2', each also as '<score>/<keypoint name>', 'ap', 'ap50', 'ap75',
        'apm', 'apl', 'ar'. A score that the set or the labels cannot give is absent.

    Raises:
        ValueError: the number of predictions or keypoints does not fit, or a value is not finite.
    """
    shape = (len(instances), keypoint_set.count)
    if predictions.keypoints_image.shape != (*shape, 2) or predictions.scores.shape != shape:
        raise ValueError(
            f"{shape[0]} persons of keypoint set {keypoint_set.name} need predictions {(*shape, 2)} and scores "
            f"{shape}, got {predictions.keypoints_image.shape} and {predictions.scores.shape}"
        )
    truth = np.array([person.keypoints_image for person in instances], dtype=np.float64).reshape(*shape, 2)
    visibility = np.array([person.visibility for person in instances], dtype=np.int64).reshape(shape)
    precision = oks_ap(predictions.keypoints_image, predictions.scores, instances, keypoint_set.sigmas)
    return {**_pck_scores(predictions, truth, visibility, keypoint_set), **precision}


def _pck_scores(
    predictions: Predictions, truth: NDArray[np.float64], visibility: NDArray[np.int64], keypoint_set: KeypointSet
) -> dict[str, float]:
    protocols = (
        ("pckh", keypoint_set.head_segment, PCKH_THRESHOLDS),
        ("pck", keypoint_set.torso, (TORSO_THRESHOLD,)),
    )
    values: dict[str, float] = {}
    for name, segment, thresholds in protocols:
        if segment is None:
            continue
        length = segment_length(truth, visibility, segment)
        for threshold in thresholds:
            counts = pck(predictions.keypoints_image, truth, visibility, length, threshold)
            values |= _named(f"{name}@{threshold}", counts, keypoint_set.names)
            values[f"{name}/left_out"] = counts.left_out / len(truth) if len(truth) else 0.0
    return values


def _named(prefix: str, counts: KeypointCounts, names: Sequence[str]) -> dict[str, float]:
    left_out = [index for index, name in enumerate(names) if name in LEFT_OUT_OF_MEAN]
    values = {prefix: counts.overall(left_out)}
    values |= {f"{prefix}/{name}": float(value) for name, value in zip(names, counts.per_keypoint(), strict=True)}
    return {name: value for name, value in values.items() if not math.isnan(value)}
