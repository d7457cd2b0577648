"""What a set of predictions scores person by person, for comparisons on the same persons."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdkd.config import EvaluationConfig
from cdkd.evaluation.layout import image_numbers
from cdkd.evaluation.pck import LEFT_OUT_OF_MEAN, correctness
from cdkd.evaluation.predictions import Predictions
from cdkd.evaluation.scores import head_lengths, labels
from cdkd.evaluation.similarity import truth_similarity
from cdkd.evaluation.suppression import person_scores
from cdkd.instances import Split
from cdkd.keypoints import KeypointSet

THRESHOLDS = (0.5, 0.1)


def scores_of_persons(
    predictions: Predictions, split: Split, keypoint_set: KeypointSet, settings: EvaluationConfig
) -> dict[str, NDArray[Any]]:
    """Arrays of N persons, from which PCKh and average precision on resampled images can be computed.

    Returns:
        image_id: which image, numbered over all annotation files; annotation_id: as in its file; score: what ranks
        the prediction; oks: with the person's own labels; counted: labelled keypoints. Where the persons have a head
        length, counted are those that PCKh counts (none of a person without one, no pelvis, no thorax), and
        `correct@0.5` and `correct@0.1` are how many of them are right.

    Raises:
        ValueError: the predictions do not fit the persons.
    """
    persons = split.instances
    predictions.require_of(persons, keypoint_set)
    truth, visibility = labels(persons, keypoint_set)
    numbers, rows = image_numbers(split), np.arange(len(persons))
    arrays: dict[str, NDArray[Any]] = {
        "image_id": np.array([numbers[person.image_key] for person in persons], dtype=np.int64),
        "annotation_id": np.array([person.annotation_id for person in persons], dtype=np.int64),
        "score": person_scores(
            predictions.scores, [person.box_score for person in persons], settings.keypoint_score_threshold
        ),
        "oks": truth_similarity(
            np.asarray(predictions.keypoints_image, dtype=np.float64),
            np.concatenate([truth, visibility[..., None]], axis=-1),
            np.array([person.box for person in persons], dtype=np.float64),
            np.array([person.area for person in persons], dtype=np.float64),
            keypoint_set.sigmas,
            (rows, rows),
        ),
    }
    arrays["counted"] = (visibility > 0).sum(axis=1)
    lengths = head_lengths(persons, keypoint_set)
    if lengths is None:
        return arrays
    is_meant = [name not in LEFT_OUT_OF_MEAN for name in keypoint_set.names]
    for threshold in THRESHOLDS:
        correct, counted = correctness(predictions.keypoints_image, truth, visibility, lengths, threshold)
        arrays["counted"] = counted[:, is_meant].sum(axis=1)
        arrays[f"correct@{threshold}"] = correct[:, is_meant].sum(axis=1)
    return arrays
