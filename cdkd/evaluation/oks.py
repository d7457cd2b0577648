"""Average precision over object keypoint similarity, by pycocotools' own COCOeval.

Boxes are ground-truth boxes (protocol 'GT box', method 7): one detection a person with box score 1.
No OKS suppression is applied, since no two detections come from the same box.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

SMALLEST_KEYPOINT_SCORE = 0.02  # IN_VIS_THRE: keypoints at or below it have no part in a person's score
STATISTICS = {"ap": 0, "ap50": 1, "ap75": 2, "apm": 3, "apl": 4, "ar": 5}  # places in COCOeval.stats
CATEGORY = 1


class LabelledPerson(Protocol):
    """What the scores read of a person (`cdkd.data` has the type; evaluation does not import data)."""

    @property
    def image_id(self) -> int: ...
    @property
    def box(self) -> tuple[float, float, float, float]: ...
    @property
    def area(self) -> float: ...
    @property
    def keypoints_image(self) -> NDArray[np.float32]: ...
    @property
    def visibility(self) -> NDArray[np.int64]: ...


def oks_ap(
    keypoints_image: ArrayLike, scores: ArrayLike, instances: Sequence[LabelledPerson], sigmas: Sequence[float]
) -> dict[str, float]:
    """Average precision and recall of one prediction per person.

    Args:
        keypoints_image: (N, J, 2) predictions, image pixels, in the order of `instances`.
        scores: (N, J) keypoint scores in [0, 1]; their mean above 0.02 ranks the persons.
        instances: the labelled persons; those without a labelled keypoint are ignored, as COCO does.
        sigmas: J per-keypoint constants of OKS.

    Returns:
        'ap', 'ap50', 'ap75', 'apm', 'apl', 'ar' in [0, 1]; a value no labelled person bears on is absent.

    Raises:
        ValueError: shapes do not fit or a prediction or score is not finite.
    """
    points, confidences = np.asarray(keypoints_image, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if points.shape != (len(instances), len(sigmas), 2) or confidences.shape != points.shape[:2]:
        raise ValueError(
            f"{len(instances)} persons of {len(sigmas)} keypoints need predictions and scores of that many, "
            f"got {points.shape} and {confidences.shape}"
        )
    if not (np.isfinite(points).all() and np.isfinite(confidences).all()):
        raise ValueError("every predicted keypoint and score must be finite")
    if not instances:
        return {}
    statistics = coco_statistics(_ground_truth(instances), _detections(points, confidences, instances), sigmas)
    named = {name: float(statistics[place]) for name, place in STATISTICS.items()}
    return {name: value for name, value in named.items() if value >= 0}  # COCOeval writes -1 for "no such person"


def person_score(confidences: NDArray[np.float64]) -> float:
    """Mean of the keypoint scores above 0.02 (0 when there is none), times a box score of 1."""
    kept = confidences[confidences > SMALLEST_KEYPOINT_SCORE]
    return float(kept.mean()) if kept.size else 0.0


def coco_statistics(
    ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], sigmas: Sequence[float]
) -> NDArray[np.float64]:
    """COCOeval's ten keypoint statistics, without its printing.

    Args:
        ground_truth: images, annotations and categories in COCO keypoint layout.
        detections: results in COCO layout (image_id, category_id, keypoints, score); at least one.
        sigmas: J per-keypoint constants of OKS.

    Returns:
        (10,) AP, AP50, AP75, AP medium, AP large, AR, AR50, AR75, AR medium, AR large.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(ground_truth)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(detection) for detection in detections]), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats, dtype=np.float64)


def _ground_truth(instances: Sequence[LabelledPerson]) -> dict[str, Any]:
    images = [{"id": image_id} for image_id in sorted({person.image_id for person in instances})]
    annotations = [_annotation(number, person) for number, person in enumerate(instances, start=1)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": CATEGORY}]}


def _annotation(number: int, person: LabelledPerson) -> dict[str, Any]:
    is_labelled = person.visibility > 0
    points = np.where(is_labelled[:, None], person.keypoints_image, 0.0)
    return {
        "id": number,
        "image_id": person.image_id,
        "category_id": CATEGORY,
        "bbox": list(person.box),
        "area": person.area,
        "iscrowd": 0,
        "num_keypoints": int(is_labelled.sum()),
        "keypoints": _flat_triples(points, person.visibility),
    }


def _detections(
    points: NDArray[np.float64], confidences: NDArray[np.float64], instances: Sequence[LabelledPerson]
) -> list[dict[str, Any]]:
    return [
        {
            "image_id": person.image_id,
            "category_id": CATEGORY,
            "keypoints": _flat_triples(points[row], confidences[row]),
            "score": person_score(confidences[row]),
        }
        for row, person in enumerate(instances)
    ]


def _flat_triples(points: NDArray[Any], third: NDArray[Any]) -> list[float]:
    flat: list[float] = np.column_stack([points, third]).astype(np.float64).ravel().tolist()
    return flat
