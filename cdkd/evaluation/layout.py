"""A split in COCO keypoint layout, as COCO's evaluation reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cdkd.instances import IgnoredRegion, ImageKey, PersonInstance, Split

CATEGORY = 1
"""`category_id` of a person in COCO, CrowdPose and OCHuman."""


def image_numbers(split: Split) -> dict[ImageKey, int]:
    """A number from 1 for every image of the split, in the order of the files and of the ids in each.

    Two annotation files may use the same ids. The order is kept because COCO's evaluation goes through images by id.
    """
    shown = {person.image_key for people in (split.instances, split.detected) for person in people}
    keys = sorted({*split.images, *shown, *(region.image_key for region in split.ignored)})
    return {key: number for number, key in enumerate(keys, start=1)}


def ground_truth(split: Split, numbers: Mapping[ImageKey, int]) -> dict[str, Any]:
    """The whole annotation file or files: every image, labelled person and ignored region."""
    persons = [_person(person) for person in split.instances]
    regions = [_region(region) for region in split.ignored]
    keys = [*(person.image_key for person in split.instances), *(region.image_key for region in split.ignored)]
    annotations = [
        {"id": number, "image_id": numbers[key], "category_id": CATEGORY, **record}
        for number, (key, record) in enumerate(zip(keys, [*persons, *regions], strict=True), start=1)
    ]
    return {
        "images": [_image(number, split, key) for key, number in numbers.items()],
        "annotations": annotations,
        "categories": [{"id": CATEGORY, "name": "person"}],
    }


def flat_triples(points: ArrayLike, third: ArrayLike) -> list[list[float]]:
    """Keypoints (N, J, 2) and a value each (N, J) as N lists of 3J numbers."""
    columns, values = np.asarray(points, dtype=np.float64), np.asarray(third, dtype=np.float64)
    triples = np.concatenate([columns, values[..., None]], axis=-1)
    flat: list[list[float]] = triples.reshape(len(triples), -1).tolist()
    return flat


def _image(number: int, split: Split, key: ImageKey) -> dict[str, Any]:
    record = split.images.get(key)
    return {"id": number} | ({} if record is None or record.crowd_index is None else {"crowdIndex": record.crowd_index})


def _person(person: PersonInstance) -> dict[str, Any]:
    is_labelled = person.visibility > 0
    points = np.where(is_labelled[:, None], person.keypoints_image, 0.0)
    return {
        "bbox": list(person.box),
        "area": person.area,
        "iscrowd": 0,
        "num_keypoints": int(is_labelled.sum()),
        "keypoints": flat_triples(points[None], person.visibility[None])[0],
    }


def _region(region: IgnoredRegion) -> dict[str, Any]:
    return {
        "bbox": list(region.box),
        "area": region.area,
        "iscrowd": int(region.is_crowd),
        "num_keypoints": 0,
        "keypoints": [],
    }
