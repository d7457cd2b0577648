"""One annotated person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class PersonInstance:
    """One person of one image, in image pixels.

    Attributes:
        image: the image file.
        image_id: COCO's `image_id`.
        annotation_id: COCO's annotation `id`, unique in its file.
        box: (left, top, width, height); width and height are positive.
        area: the person's area in square pixels, OKS's scale.
        keypoints_image: (J, 2) float32, x and y; (0, 0) where unlabelled.
        visibility: (J,) int64, COCO's v: 0 unlabelled, 1 labelled but occluded, 2 visible.
    """

    image: Path
    image_id: int
    annotation_id: int
    box: tuple[float, float, float, float]
    area: float
    keypoints_image: npt.NDArray[np.float32]
    visibility: npt.NDArray[np.int64]
