"""Predictions in the data sets' official submission formats, so that any other tool can score them.

COCO, CrowdPose and OCHuman: a JSON list of results. MPII: a MATLAB file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cdkd.checkpoint import write_atomically
from cdkd.config import EvaluationConfig
from cdkd.evaluation.layout import CATEGORY, flat_triples
from cdkd.evaluation.predictions import Predictions
from cdkd.evaluation.suppression import box_areas, person_scores, suppress
from cdkd.instances import PersonInstance
from cdkd.keypoints import KeypointSet


def coco_results(
    persons: Sequence[PersonInstance],
    predictions: Predictions,
    keypoint_set: KeypointSet,
    settings: EvaluationConfig,
    *,
    box_padding: float = 1.25,
    source: int = 0,
) -> list[dict[str, Any]]:
    """Results of one annotation file in COCO layout: rescored, suppressed, in the order of the persons.

    Args:
        persons: whose predictions these are, of one or several annotation files.
        predictions: in the order of `persons`.
        keypoint_set: names and OKS constants.
        settings: how persons are rescored and suppressed.
        box_padding: the factor on boxes with which the network saw them.
        source: which of the split's annotation files; the others' persons are left out, since ids belong to a file.

    Returns:
        One mapping a person that is kept: `image_id`, `category_id`, `keypoints` (x, y and score, J times; image
        pixels counted from 0) and `score`.

    Raises:
        ValueError: predictions do not fit the persons, or are not finite.
    """
    rows = [row for row, person in enumerate(persons) if person.source == source]
    predictions.require_of(persons, keypoint_set)
    chosen = [persons[row] for row in rows]
    own = Predictions(predictions.keypoints_image[rows], predictions.scores[rows])
    image_ids = [person.image_id for person in chosen]
    return surviving(chosen, own, image_ids, keypoint_set, settings, box_padding)


def surviving(
    persons: Sequence[PersonInstance],
    predictions: Predictions,
    image_ids: Sequence[int],
    keypoint_set: KeypointSet,
    settings: EvaluationConfig,
    box_padding: float,
) -> list[dict[str, Any]]:
    """The results that are both written and scored; `image_ids` gives every person's image."""
    boxes, box_scores = [person.box for person in persons], [person.box_score for person in persons]
    scores = person_scores(predictions.scores, box_scores, settings.keypoint_score_threshold)
    is_kept = suppress(
        image_ids,
        predictions.keypoints_image,
        scores,
        box_areas(boxes, box_padding),
        keypoint_set.sigmas,
        settings.oks_nms,
    )
    triples = flat_triples(predictions.keypoints_image, predictions.scores)
    return [
        {"image_id": image_ids[row], "category_id": CATEGORY, "keypoints": triples[row], "score": float(scores[row])}
        for row in np.flatnonzero(is_kept).tolist()
    ]


def write_coco_results(path: Path, results: Sequence[dict[str, Any]]) -> None:
    """Write `coco_results` as JSON, with all digits."""
    write_atomically(path, json.dumps(list(results), allow_nan=False).encode())


def write_mpii_results(path: Path, keypoints_image: ArrayLike) -> None:
    """Write predictions of all persons of an MPII file, in its order, as MPII's evaluation reads them.

    Args:
        path: the `.mat` file. Its `preds` is (N, 16, 2), image pixels counted from 1.
        keypoints_image: (N, 16, 2) image pixels counted from 0.

    Raises:
        ValueError: not 16 keypoints.
    """
    import scipy.io

    points = np.asarray(keypoints_image, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] != (16, 2):
        raise ValueError(f"MPII's predictions must be (N, 16, 2), got {points.shape}")
    content = io.BytesIO()
    scipy.io.savemat(content, {"preds": points + 1})
    write_atomically(path, content.getvalue())
