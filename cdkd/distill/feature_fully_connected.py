"""Fully Connected Layer, features: the student's feature lifted by one linear layer (paper Table V, after ScaleKD).

As one projector of SAPE without its ReLU: no ensemble, no unit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from cdkd.models.initialisation import initialise


class FullyConnectedLift(nn.Module):
    """One linear map from h*h to H*H positions, shared by the channels."""

    def __init__(self, student_side: int, teacher_side: int) -> None:
        super().__init__()
        self.teacher_side = teacher_side
        self.linear: nn.Linear = skip_init(nn.Linear, student_side**2, teacher_side**2)  # type: ignore[no-untyped-call]

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, h, h) to (B, C, H, H)."""
        lifted: Tensor = self.linear(feature.flatten(2))
        return lifted.reshape(*feature.shape[:2], self.teacher_side, self.teacher_side)


def build_fully_connected_lift(student_side: int, teacher_side: int, generator: torch.Generator) -> FullyConnectedLift:
    """The layer with the first weights of a projector of SAPE: Xavier uniform, PyTorch's default for the bias."""
    lift = FullyConnectedLift(student_side, teacher_side)
    initialise(lift, generator)
    nn.init.xavier_uniform_(lift.linear.weight, generator=generator)
    return lift
