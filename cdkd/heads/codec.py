"""What a codec is: how keypoints become a loss, and how a prediction becomes keypoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from cdkd.config import TrainingConfig
from cdkd.models.head import Head, Prediction
from cdkd.models.pose import Backbone, build_backbone

P = TypeVar("P", bound=Prediction)


class Codec(ABC, Generic[P]):
    """Reads one kind of prediction for one input size. Keypoints are in pixels of the network's input.

    Tensors of a method are on one device; a prediction in half precision is read as it is by `loss`, and handed to
    the other methods in single precision.
    """

    evidence_name: ClassVar[str]
    """What `evidence` is, in words ("a keypoint's ...")."""

    @property
    def task_scale(self) -> float:
        """Factor on the loss in the total."""
        return 1.0

    @abstractmethod
    def loss(self, prediction: P, keypoints_input: Tensor, visibility: Tensor) -> Tensor:
        """The task loss, ().

        Args:
            prediction: of B images.
            keypoints_input: float64 (B, J, 2), x and y.
            visibility: int64 (B, J), 0 for a keypoint without a label.
        """

    @abstractmethod
    def decode(self, prediction: P, flipped: P | None, flip_permutation: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Keypoints and their scores.

        Args:
            prediction: of B images.
            flipped: of the same images mirrored, to average with; None: there is none.
            flip_permutation: for each keypoint the one it becomes in the mirror.

        Returns:
            keypoints_input: float (B, J, 2).
            scores: float (B, J).
        """

    @abstractmethod
    def evidence(self, prediction: P) -> tuple[Tensor, Tensor]:
        """What an attention map explains.

        Returns:
            (B, J), which a gradient can be taken of, and the places (B, J, 2) it speaks for, input pixels.
        """


@dataclass(frozen=True)
class Kind:
    """One kind of pose model: how its parts are built.

    Attributes:
        build_head: from the configuration of the network's own training, the channels of the backbone's feature
            and J.
        build_codec: from the same configuration.
        build_backbone: from its name in the configuration.
    """

    build_head: Callable[[TrainingConfig, int, int], Head]
    build_codec: Callable[[TrainingConfig], Codec[Any]]
    build_backbone: Callable[[str], Backbone] = build_backbone
