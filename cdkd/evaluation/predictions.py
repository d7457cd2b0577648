"""Predicted keypoints of a list of persons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cdkd.instances import PersonInstance
from cdkd.keypoints import KeypointSet


@dataclass(frozen=True)
class Predictions:
    """Predicted keypoints of N persons.

    Attributes:
        keypoints_image: (N, J, 2) image pixels.
        scores: (N, J) keypoint scores in [0, 1].
    """

    keypoints_image: NDArray[np.floating]
    scores: NDArray[np.floating]

    def require_of(self, persons: Sequence[PersonInstance], keypoint_set: KeypointSet) -> None:
        """Check that these are predictions of the persons.

        Raises:
            ValueError: another number of persons or keypoints, or a value that is not finite.
        """
        shape = (len(persons), keypoint_set.count)
        if self.keypoints_image.shape != (*shape, 2) or self.scores.shape != shape:
            raise ValueError(
                f"{shape[0]} persons of keypoint set {keypoint_set.name} need predictions {(*shape, 2)} and scores "
                f"{shape}, got {self.keypoints_image.shape} and {self.scores.shape}"
            )
        if not (np.isfinite(self.keypoints_image).all() and np.isfinite(self.scores).all()):
            raise ValueError("every predicted keypoint and score must be finite")
