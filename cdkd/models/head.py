"""What every head of a pose network has in common: from a backbone's feature to a typed prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from cdkd.models.initialisation import initialise


@dataclass(frozen=True)
class Prediction:
    """What a head says of B images; each kind of head has a subclass of its own."""

    def float(self) -> Self:
        """The same in single precision; fields that are no tensors stay."""
        tensors = {name: value.float() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


@dataclass(frozen=True)
class PoseOutput:
    """What a pose network computes for B images of side S.

    Attributes:
        backbone_feature: (B, W, S/4, S/4), the input of the head.
        final_feature: (B, J, S/4, S/4), one map per keypoint; None where the head has none.
        prediction: what the head's codec reads.
    """

    backbone_feature: Tensor
    final_feature: Tensor | None
    prediction: Prediction

    def float(self) -> PoseOutput:
        """The same in single precision."""
        final_feature = None if self.final_feature is None else self.final_feature.float()
        return PoseOutput(self.backbone_feature.float(), final_feature, self.prediction.float())


class Head(nn.Module, ABC):
    """A head on a backbone's feature (B, W, S/4, S/4).

    A head is assembled without values (on PyTorch's meta device) and then initialised, so `initialise` must also
    fill its buffers. What is learned for the loss alone belongs to the head too, and into its prediction.
    """

    final_layer: nn.Module
    """The layer whose output is the final feature; absent where a head has none."""

    @abstractmethod
    def forward(self, feature: Tensor) -> PoseOutput:
        """The feature (B, W, S/4, S/4) to the network's output."""

    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight from `generator`, as `cdkd.models.initialisation.initialise` does."""
        initialise(self, generator)
