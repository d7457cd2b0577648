"""Every score of a set of predictions, under the names that studies use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cdkd.config import EvaluationConfig
from cdkd.evaluation.crowdpose import crowdpose_statistics
from cdkd.evaluation.layout import ground_truth, image_numbers
from cdkd.evaluation.oks import coco_statistics
from cdkd.evaluation.pck import pck, segment_length, summary
from cdkd.evaluation.predictions import Predictions
from cdkd.evaluation.results import surviving
from cdkd.evaluation.similarity import FloatArray, IntArray
from cdkd.instances import PersonInstance, Split
from cdkd.keypoints import KeypointSet

__all__ = ["Predictions", "score", "score_detected"]

PCKH_THRESHOLDS = (0.5, 0.1, 0.11)
"""0.11 is what a table of thresholds at index 11 gave several published PCKh@0.1 (method section 7)."""
TORSO_THRESHOLD = 0.2
PRECISION = ("ap", "ap50", "ap75", "apm", "apl", "ar", "ap_easy", "ap_medium", "ap_hard")


def score(
    predictions: Predictions,
    split: Split,
    keypoint_set: KeypointSet,
    settings: EvaluationConfig,
    *,
    box_padding: float = 1.25,
) -> dict[str, float]:
    """All scores of predictions in annotated boxes, each in [0, 1].

    PCKh is normalised by the persons' head sizes where all have one, else by the head segment (neck to head top);
    PCK@0.2 by the torso (left shoulder to right hip). `pckh/left_out` and `pck/left_out` are the parts of the
    persons that have no such length (an end unlabelled, or both at the same place). Average precision is scored
    against every image, person and ignored region of the split.

    Args:
        predictions: in the order of `split.instances`.
        split: the labelled persons and what else the annotation files say.
        keypoint_set: names, segments and OKS constants.
        settings: how persons are rescored and suppressed.
        box_padding: the factor on boxes with which the network saw them.

    Returns:
        'pckh@0.5', 'pckh@0.1', 'pckh@0.11', 'pck@0.2': means over labelled keypoints without pelvis and thorax; each
        also as '<score>/unweighted', '<score>/<group>' and '<score>/<keypoint>' (`cdkd.evaluation.pck.summary`).
        'ap', 'ap50', 'ap75', 'apm', 'apl', 'ar', and of CrowdPose 'ap_easy', 'ap_medium', 'ap_hard'. A score that
        the keypoint set, the labels or the installed packages cannot give is absent.

    Raises:
        ValueError: the number of predictions or keypoints does not fit, a value is not finite, or only some of the
            persons have a head size.
    """
    predictions.require_of(split.instances, keypoint_set)
    precision = _precision(predictions, split.instances, split, keypoint_set, settings, box_padding)
    return {**_pck_scores(predictions, split.instances, keypoint_set), **precision}


def score_detected(
    predictions: Predictions,
    split: Split,
    keypoint_set: KeypointSet,
    settings: EvaluationConfig,
    *,
    box_padding: float = 1.25,
) -> dict[str, float]:
    """Average precision of predictions in a person detector's boxes: 'ap@det', 'ap50@det' and so on.

    Args:
        predictions: in the order of `split.detected`.
        split: the detected boxes, and the annotations that they are scored against.
        keypoint_set: names and OKS constants.
        settings: how persons are rescored and suppressed.
        box_padding: the factor on boxes with which the network saw them.

    Raises:
        ValueError: the number of predictions or keypoints does not fit, or a value is not finite.
    """
    predictions.require_of(split.detected, keypoint_set)
    precision = _precision(predictions, split.detected, split, keypoint_set, settings, box_padding)
    return {f"{name}@det": value for name, value in precision.items()}


def _precision(
    predictions: Predictions,
    persons: Sequence[PersonInstance],
    split: Split,
    keypoint_set: KeypointSet,
    settings: EvaluationConfig,
    box_padding: float,
) -> dict[str, float]:
    if not split.instances:
        return {}
    numbers = image_numbers(split)
    image_ids = [numbers[person.image_key] for person in persons]
    results = surviving(persons, predictions, image_ids, keypoint_set, settings, box_padding)
    statistics_of = crowdpose_statistics if keypoint_set.name == "crowdpose14" else coco_statistics
    statistics = statistics_of(ground_truth(split, numbers), results, keypoint_set.sigmas)
    # COCOeval writes -1 for "no such person".
    return {name: statistics[name] for name in PRECISION if statistics.get(name, -1.0) >= 0}


def _pck_scores(
    predictions: Predictions, persons: Sequence[PersonInstance], keypoint_set: KeypointSet
) -> dict[str, float]:
    truth, visibility = labels(persons, keypoint_set)
    torso = None if keypoint_set.torso is None else segment_length(truth, visibility, keypoint_set.torso)
    protocols = (
        ("pckh", head_lengths(persons, keypoint_set), PCKH_THRESHOLDS),
        ("pck", torso, (TORSO_THRESHOLD,)),
    )
    values: dict[str, float] = {}
    for name, length, thresholds in protocols:
        if length is None:
            continue
        for threshold in thresholds:
            counts = pck(predictions.keypoints_image, truth, visibility, length, threshold)
            named = summary(counts, keypoint_set.names)
            prefix = f"{name}@{threshold}"
            values |= {prefix if key == "mean" else f"{prefix}/{key}": value for key, value in named.items()}
            values[f"{name}/left_out"] = counts.left_out / len(persons) if persons else 0.0
    return values


def labels(persons: Sequence[PersonInstance], keypoint_set: KeypointSet) -> tuple[FloatArray, IntArray]:
    """(N, J, 2) labelled keypoints in image pixels, and (N, J) their visibility."""
    shape = (len(persons), keypoint_set.count)
    truth = np.array([person.keypoints_image for person in persons], dtype=np.float64).reshape(*shape, 2)
    visibility = np.array([person.visibility for person in persons], dtype=np.int64).reshape(shape)
    return truth, visibility


def head_lengths(persons: Sequence[PersonInstance], keypoint_set: KeypointSet) -> FloatArray | None:
    """(N,) what normalises PCKh: the persons' head sizes where all have one, else their head segments.

    None where the keypoint set has no head segment and nobody a head size.

    Raises:
        ValueError: only some of the persons have a head size.
    """
    sizes = [person.head_size for person in persons if person.head_size is not None]
    if len(sizes) not in (0, len(persons)):
        raise ValueError(f"PCKh needs the head size of all persons or of none; {len(sizes)} of {len(persons)} have one")
    if sizes:
        return np.array(sizes, dtype=np.float64)
    return (
        None
        if keypoint_set.head_segment is None
        else segment_length(*labels(persons, keypoint_set), keypoint_set.head_segment)
    )
