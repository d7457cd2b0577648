"""Average precision over object keypoint similarity, as COCO's evaluation computes it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cdkd.evaluation.engines import engine, places_of, triples
from cdkd.evaluation.similarity import FloatArray

logger = logging.getLogger(__name__)

STATISTICS = ("ap", "ap50", "ap75", "apm", "apl", "ar", "ar50", "ar75", "arm", "arl")
"""COCOeval's ten keypoint statistics in its order."""
MOST_DETECTIONS = 20
"""COCOeval's `maxDets`: only so many results of an image are looked at, those of the highest score."""

Layout = Mapping[str, Any]
Records = Sequence[Mapping[str, Any]]


def coco_statistics(ground_truth: Layout, detections: Records, sigmas: Sequence[float]) -> dict[str, float]:
    """COCO's keypoint statistics of a results file, within 1e-15 of those that pycocotools prints.

    Args:
        ground_truth: `images`, `annotations` and `categories` in COCO keypoint layout, as read from the file.
        detections: results in COCO layout: `image_id`, `category_id`, `keypoints` (x, y and anything, J times),
            `score`; where they also have a `bbox`, its area is theirs, as in pycocotools.
        sigmas: J per-keypoint constants of OKS.

    Returns:
        The values named in `STATISTICS`, in [0, 1], or -1 where no annotated person bears on one. Empty where no
        engine is installed (`cdkd.evaluation.engines`).

    Raises:
        ValueError: a result is of an unknown image, two annotations have one id, an annotation has no area, or
            numbers are too few or not finite.
    """
    run = engine()
    if run is None:
        return {}
    annotations = [_annotation(record, len(sigmas)) for record in ground_truth["annotations"]]
    _require_ids([annotation["id"] for annotation in annotations])
    images = {image["id"] for image in ground_truth["images"]}
    results, points = _results(detections, images, len(sigmas))
    layout = {
        "images": list(ground_truth["images"]),
        "annotations": annotations,
        "categories": list(ground_truth["categories"]),
    }
    return dict(zip(STATISTICS, run(layout, results, points, sigmas), strict=True))


def _require_ids(ids: Sequence[int]) -> None:
    if len(set(ids)) < len(ids):
        raise ValueError("two annotations have the same id")
    if 0 in ids:  # kept as it is: the numbers are to be those of the tool
        logger.warning("an annotation has the id 0: COCO's evaluation takes whoever matches it for unmatched")


def _annotation(record: Mapping[str, Any], keypoint_count: int) -> dict[str, Any]:
    """A copy of what the evaluation reads, with the counts that files may leave out."""
    keypoints = record.get("keypoints") or [0] * (3 * keypoint_count)
    if len(keypoints) != 3 * keypoint_count:
        raise ValueError(f"annotation {record['id']} must have {3 * keypoint_count} numbers, has {len(keypoints)}")
    if "area" not in record:
        raise ValueError(f"annotation {record['id']} has no area: COCO's similarity needs one")
    return {
        "id": record["id"],
        "image_id": record["image_id"],
        "category_id": record["category_id"],
        "bbox": record["bbox"],
        "area": record["area"],
        "iscrowd": record.get("iscrowd", 0),
        "num_keypoints": record["num_keypoints"] if "num_keypoints" in record else _count(keypoints),
        "keypoints": keypoints,
    }


def _count(keypoints: Sequence[float]) -> int:
    return sum(visibility > 0 for visibility in keypoints[2::3])


def _results(detections: Records, images: set[int], keypoint_count: int) -> tuple[list[dict[str, Any]], FloatArray]:
    """The best results of every image and category, with pycocotools' ids and areas, and their points (N, J, 2)."""
    unknown = {detection["image_id"] for detection in detections} - images
    if unknown:
        raise ValueError(
            f"results of {len(unknown)} images that the ground truth does not have, such as {min(unknown)}"
        )
    best = [detections[index] for index in _best(detections)]
    points = _points(best, keypoint_count)
    # As pycocotools, which asks the first result: boxes' areas where there are boxes, else of the keypoints' extent.
    areas = [_area_of_box(detection) for detection in best] if _has_boxes(detections) else _areas(points)
    results = [
        {
            "id": number,
            "image_id": int(detection["image_id"]),
            "category_id": int(detection["category_id"]),
            "score": float(detection["score"]),
            "area": area,
        }
        for number, (detection, area) in enumerate(zip(best, areas, strict=True), start=1)
    ]
    return results, points


def _best(detections: Records) -> list[int]:
    """Positions of the results that COCOeval looks at, by image, category and falling score, equal ones in order."""
    scores = np.array([detection["score"] for detection in detections], dtype=np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("every score must be finite")
    places = places_of(detections)
    order = np.lexsort((-scores, places[:, 1], places[:, 0]))
    starts = np.flatnonzero((np.diff(places[order], axis=0, prepend=-1) != 0).any(axis=1))
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    best: list[int] = order[ranks < MOST_DETECTIONS].tolist()
    return best


def _points(results: Records, keypoint_count: int) -> FloatArray:
    lengths = {len(result["keypoints"]) for result in results}
    if not lengths <= {3 * keypoint_count}:
        raise ValueError(f"every result must have {3 * keypoint_count} numbers, got {sorted(lengths)}")
    points = triples(results, keypoint_count)[..., :2]
    if not np.isfinite(points).all():
        raise ValueError("every predicted keypoint must be finite")
    return points


def _has_boxes(detections: Records) -> bool:
    return len(detections) > 0 and len(detections[0].get("bbox", ())) > 0


def _area_of_box(detection: Mapping[str, Any]) -> float:
    return float(detection["bbox"][2] * detection["bbox"][3])


def _areas(points: FloatArray) -> list[float]:
    """Areas of the rectangles around the keypoints."""
    by_keypoint = np.ascontiguousarray(points.transpose(1, 2, 0))  # (J, 2, N): far faster to reduce over J
    width, height = by_keypoint.max(axis=0) - by_keypoint.min(axis=0)
    areas: list[float] = (width * height).tolist()
    return areas
