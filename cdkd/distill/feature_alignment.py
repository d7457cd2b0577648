"""Feature alignment by any method: what it returns, the distance of two features, and plain adapters of either side.

Every method of feature alignment (`sape`, `conv_downsample`, `feature_fully_connected`) brings the
student's feature (B, C, h, h) and the teacher's (B, C, H, H) to one shape and measures their distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURE_LOSSES = ("cosine", "mse")


@dataclass(frozen=True)
class FeatureAlignment:
    """What a method of feature alignment computes for one batch.

    Attributes:
        loss: () the distance.
        weights: (B, K, C) share of each projector, summing to 1 over the projectors; None where no unit weighs them.
    """

    loss: Tensor
    weights: Tensor | None = None

    def mean_weights(self) -> Tensor | None:
        """Mean share of each projector (K,), without gradient."""
        return None if self.weights is None else self.weights.detach().mean((0, 2))


@dataclass(frozen=True)
class FeatureDistance:
    """Distance of two features (B, C, H, H), in single precision at least; the gradient reaches both.

    Attributes:
        loss: `cosine` (paper Eq. 5, see `cosine_distance`) or `mse`, the mean of the squared differences.
        cosine: see `cosine_distance`.
        eps: see `cosine_distance`.
    """

    loss: str = "cosine"
    cosine: str = "sample"
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.loss not in FEATURE_LOSSES:
            raise ValueError(f"loss must be one of {', '.join(FEATURE_LOSSES)}, got {self.loss!r}")

    def __call__(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """The distance, ().

        Raises:
            ValueError: shapes that differ.
        """
        if ours.shape != theirs.shape:
            raise ValueError(f"features must have one shape, got {tuple(ours.shape)} and {tuple(theirs.shape)}")
        if self.loss == "cosine":
            return cosine_distance(ours, theirs, self.cosine, self.eps)
        return (_at_least_single(ours) - _at_least_single(theirs)).square().mean()


def cosine_distance(ours: Tensor, theirs: Tensor, cosine: str, eps: float) -> Tensor:
    """One minus the mean cosine of two features (B, C, H, H), in [0, 2] (paper Eq. 5).

    A vector of norm below eps counts as perpendicular to all others.

    Args:
        ours: the student's.
        theirs: the teacher's.
        cosine: `sample` for one vector per instance, `channel` for one per instance and channel.
        eps: smallest norm.

    Raises:
        ValueError: an unknown `cosine`.
    """
    if cosine not in ("sample", "channel"):
        raise ValueError(f"cosine must be sample or channel, got {cosine!r}")
    first = 1 if cosine == "sample" else 2
    ours, theirs = (
        F.normalize(_at_least_single(feature).flatten(first), dim=-1, eps=eps) for feature in (ours, theirs)
    )
    return 1.0 - (ours * theirs).sum(-1).mean()


def _at_least_single(feature: Tensor) -> Tensor:
    return feature.to(torch.promote_types(feature.dtype, torch.float32))


class AdaptedFeatures(nn.Module):
    """The distance of two features after an adapter on each side (the comparators of paper Table V, left).

    The gradient reaches both adapters and, unless `detach_student`, the student; the teacher's feature
    gets none. Adapters are trained beside the student and dropped with the teacher.

    Args:
        student_adapter: from the student's feature to the shape of the comparison.
        teacher_adapter: likewise from the teacher's.
        distance: of the two results.
        detach_student: cut the gradient to the student.
    """

    def __init__(
        self,
        *,
        student_adapter: nn.Module,
        teacher_adapter: nn.Module,
        distance: FeatureDistance,
        detach_student: bool = False,
    ) -> None:
        super().__init__()
        self.student_adapter = student_adapter
        self.teacher_adapter = teacher_adapter
        self.distance = distance
        self.detach_student = detach_student

    def forward(self, student_feature: Tensor, teacher_feature: Tensor) -> FeatureAlignment:
        """Align (B, C, h, h) with (B, C, H, H).

        Raises:
            ValueError: the adapted features differ in shape.
        """
        if self.detach_student:
            student_feature = student_feature.detach()
        ours = self.student_adapter(student_feature)
        theirs = self.teacher_adapter(teacher_feature.detach())
        return FeatureAlignment(self.distance(ours, theirs))
