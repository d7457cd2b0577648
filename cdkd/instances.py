"""People in images: who is trained on, who is scored, and what a score needs to know of the rest of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

ImageKey = tuple[int, int]
"""An image of a split: position of its annotation file in the split's list, and the file's own image id."""

MPII_HEAD_BOX_FACTOR = 0.6
"""SC_BIAS of MPII's evaluation: the head size is this part of the head box's diagonal (method section 7)."""


@dataclass(frozen=True, eq=False)
class PersonInstance:
    """One person of one image, in image pixels counted from 0.

    Attributes:
        image: the image file.
        image_id: COCO's `image_id`; of MPII the position of the image among those of its file.
        annotation_id: COCO's annotation `id`, unique in its file; of MPII the position of the record.
        box: (left, top, width, height); width and height are positive.
        area: the person's area in square pixels, OKS's scale.
        keypoints_image: (J, 2) float32, x and y; (0, 0) where unlabelled.
        visibility: (J,) int64, COCO's v: 0 unlabelled, 1 labelled but occluded, 2 visible.
        source: position of the annotation file in its split's list.
        box_score: a person detector's confidence in the box; 1 for an annotated box.
        head_size: pixels that normalise PCKh, from an annotated head box; None: the head segment's length.
    """

    image: Path
    image_id: int
    annotation_id: int
    box: tuple[float, float, float, float]
    area: float
    keypoints_image: npt.NDArray[np.float32]
    visibility: npt.NDArray[np.int64]
    source: int = 0
    box_score: float = 1.0
    head_size: float | None = None

    @property
    def image_key(self) -> ImageKey:
        """Which image of the split."""
        return self.source, self.image_id


@dataclass(frozen=True)
class IgnoredRegion:
    """A crowd region or a person without labelled keypoints: COCO's score neither demands nor punishes it.

    Attributes:
        image_key: which image of the split.
        box: (left, top, width, height), image pixels.
        area: square pixels.
        is_crowd: COCO's `iscrowd`: many persons, so that many predictions may lie on it.
    """

    image_key: ImageKey
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool


@dataclass(frozen=True)
class ImageRecord:
    """An image of a split, whether or not anybody is labelled in it.

    Attributes:
        path: the file.
        width: pixels, as the annotation file says; None where it says nothing.
        height: likewise.
        crowd_index: CrowdPose's measure of crowding in [0, 1]; None elsewhere.
    """

    path: Path
    width: int | None = None
    height: int | None = None
    crowd_index: float | None = None


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Attributes:
        instances: the labelled persons, in the files' order.
        images: every image of the annotation files.
        ignored: regions that a score ignores.
        detected: persons known by their boxes alone, of a detector or of a test file whose labels are withheld, in
            their files' order.
    """

    instances: Sequence[PersonInstance] = ()
    images: Mapping[ImageKey, ImageRecord] = field(default_factory=dict)
    ignored: Sequence[IgnoredRegion] = ()
    detected: Sequence[PersonInstance] = ()
