"""CrowdPose's evaluation: COCO's, with a person's area taken from the box, and by how crowded images are.

Verified in the evaluation released with CrowdPose and its copies in xtcocotools and faster-coco-eval (method 7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cdkd.evaluation.oks import Layout, Records, coco_statistics
from cdkd.keypoints import KEYPOINT_SETS

AREA_OF_BOX = 0.53
"""A person's area as a part of the box: the files have no outlines. It replaces areas that a file may have."""
EASY_BELOW, HARD_FROM = 0.2, 0.8
"""Bounds of an image's `crowdIndex`: `get_type_result(first=0.2, second=0.8)` of the released evaluation. Medium is
from 0.2 (included) to 0.8 (excluded). Papers also name 0.1 and 0.8, which the released code does not use."""
DECIMALS = 4
"""The released evaluation rounds the values by crowding."""
SIGMAS = KEYPOINT_SETS["crowdpose14"].sigmas


def crowdpose_statistics(
    ground_truth: Layout, detections: Records, sigmas: Sequence[float] = SIGMAS
) -> dict[str, float]:
    """CrowdPose's statistics of a results file.

    Args:
        ground_truth: the annotation file's content; images carry `crowdIndex`.
        detections: results in COCO layout.
        sigmas: per-keypoint constants of OKS.

    Returns:
        What `coco_statistics` returns, at CrowdPose's areas, and `ap_easy`, `ap_medium`, `ap_hard` (4 decimals). The
        three are absent where no image has a `crowdIndex`; an image without one belongs to none of them.

    Raises:
        ValueError: as `coco_statistics`.
    """
    sized = {**ground_truth, "annotations": [_with_area_of_box(record) for record in ground_truth["annotations"]]}
    statistics = coco_statistics(sized, detections, sigmas)
    indexed = [image for image in ground_truth["images"] if image.get("crowdIndex") is not None]
    if not statistics or not indexed:
        return statistics
    crowding = {image["id"]: _crowding(image["crowdIndex"]) for image in indexed}
    for name in ("easy", "medium", "hard"):
        images = {image for image, found in crowding.items() if found == name}
        part = coco_statistics(_of_images(sized, images), _records_of(detections, images), sigmas)
        statistics[f"ap_{name}"] = round(part["ap"], DECIMALS)
    return statistics


def _crowding(index: float) -> str:
    if index < EASY_BELOW:
        return "easy"
    return "medium" if index < HARD_FROM else "hard"


def _with_area_of_box(annotation: Mapping[str, Any]) -> dict[str, Any]:
    _, _, width, height = annotation["bbox"]
    return {**annotation, "area": height * width * AREA_OF_BOX}


def _of_images(ground_truth: Layout, images: set[int]) -> Layout:
    return {
        **ground_truth,
        "images": [image for image in ground_truth["images"] if image["id"] in images],
        "annotations": _records_of(ground_truth["annotations"], images),
    }


def _records_of(records: Records, images: set[int]) -> Records:
    return [record for record in records if record["image_id"] in images]
