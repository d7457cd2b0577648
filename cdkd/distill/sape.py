"""SAPE, the scale-adaptive projector ensemble: feature alignment (paper Eq. 1-5, method section 3).

K projectors lift the student's low-resolution feature to the teacher's resolution, the scale-adaptive
unit (SAU) weighs them per channel from the low-resolution feature, and the loss is one minus the cosine
between the weighted sum and the teacher's feature. h and H are the sides of the two features, C their
channels, K the projectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from cdkd.config import SapeConfig
from cdkd.distill.feature_alignment import FeatureAlignment, FeatureDistance


class SpatialProjector(nn.Module):
    """One linear map from h*h to H*H positions, shared by the channels, then ReLU."""

    def __init__(self, channels: int, student_side: int, teacher_side: int) -> None:
        super().__init__()
        self.teacher_side = teacher_side
        self.linear = nn.Linear(student_side**2, teacher_side**2)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, h, h) to (B, C, H, H)."""
        lifted: Tensor = self.linear(feature.flatten(2))
        return lifted.reshape(*feature.shape[:2], self.teacher_side, self.teacher_side).relu()


class FullProjector(nn.Module):
    """One linear map over channels and positions together, then ReLU (released code; 268 million weights at 64x64)."""

    def __init__(self, channels: int, student_side: int, teacher_side: int) -> None:
        super().__init__()
        self.shape = (channels, teacher_side, teacher_side)
        self.linear = nn.Linear(channels * student_side**2, channels * teacher_side**2)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, h, h) to (B, C, H, H)."""
        lifted: Tensor = self.linear(feature.flatten(1))
        return lifted.reshape(-1, *self.shape).relu()


class SeparableProjector(nn.Module):
    """A linear map from h to H along the rows and another along the columns, shared by the channels, then ReLU."""

    def __init__(self, channels: int, student_side: int, teacher_side: int) -> None:
        super().__init__()
        self.rows = nn.Linear(student_side, teacher_side)
        self.columns = nn.Linear(student_side, teacher_side)

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, h, h) to (B, C, H, H)."""
        wide: Tensor = self.rows(feature)
        tall: Tensor = self.columns(wide.transpose(2, 3))
        return tall.transpose(2, 3).relu()


PROJECTORS: Mapping[str, Callable[[int, int, int], nn.Module]] = {
    "spatial": SpatialProjector,
    "full": FullProjector,
    "separable": SeparableProjector,
}


class ScaleAdaptiveUnit(nn.Module):
    """SAU: one weight per branch and channel, from the low-resolution feature (paper Fig. 4).

    Convolutions of several kernel sizes see the feature, are fused, pooled over space and passed
    through a narrow hidden layer; one linear map per branch then gives that branch's logits, and the
    softmax runs over the branches, for each channel on its own.

    Args:
        channels: C.
        branches: maps to weigh.
        kernels: odd kernel sizes, one convolution each; a size may come twice.
        hidden: width of the hidden layer.
        fuse: `sum` adds the convolutions' outputs, `concat` puts their channels side by side.
        fuse_order: `sum_gap_fc` fuses, pools, then applies the hidden layer (released code);
            `fc_gap_sum` applies it at every position, then pools, then sums (paper). With `sum` each
            convolution then has a hidden layer of its own; with `concat` and no ReLU the two orders are the
            same function, since linear maps and means commute.
        hidden_relu: ReLU directly after the hidden layer.
        extra_fc: `post_gap` puts a linear layer directly after the pooling, `pre_softmax` one over all
            branches and channels before the softmax (paper Fig. 6).
    """

    def __init__(
        self,
        *,
        channels: int,
        branches: int,
        kernels: Sequence[int],
        hidden: int,
        fuse: str = "sum",
        fuse_order: str = "sum_gap_fc",
        hidden_relu: bool = False,
        extra_fc: str = "none",
    ) -> None:
        super().__init__()
        self.fuse = fuse
        self.fuse_order = fuse_order
        self.branches = branches
        self.convolutions = nn.ModuleList([_convolution(channels, kernel) for kernel in kernels])
        fused = channels if fuse == "sum" else channels * len(kernels)
        layers = len(kernels) if (fuse, fuse_order) == ("sum", "fc_gap_sum") else 1
        self.hidden = nn.ModuleList([nn.Linear(fused, hidden) for _ in range(layers)])
        self.activation = nn.ReLU() if hidden_relu else nn.Identity()
        pooled = fused if fuse_order == "sum_gap_fc" else hidden
        logits = branches * channels
        self.post_gap = nn.Linear(pooled, pooled) if extra_fc == "post_gap" else nn.Identity()
        # rows k*C to (k+1)*C belong to branch k: the K linear maps of the paper as one product
        self.select = nn.Linear(hidden, logits)
        self.pre_softmax = nn.Linear(logits, logits) if extra_fc == "pre_softmax" else nn.Identity()

    def forward(self, feature: Tensor) -> Tensor:
        """(B, C, h, h) to weights (B, branches, C) that sum to 1 over the branches."""
        maps = [convolution(feature) for convolution in self.convolutions]
        fuse_and_pool = self._sum_gap_fc if self.fuse_order == "sum_gap_fc" else self._fc_gap_sum
        logits: Tensor = self.pre_softmax(self.select(fuse_and_pool(maps)))
        return logits.reshape(feature.shape[0], self.branches, -1).softmax(1)

    def _sum_gap_fc(self, maps: list[Tensor]) -> Tensor:
        fused = torch.stack(maps).sum(0) if self.fuse == "sum" else torch.cat(maps, 1)
        pooled: Tensor = self.post_gap(fused.mean((2, 3)))
        hidden: Tensor = self.activation(self.hidden[0](pooled))
        return hidden

    def _fc_gap_sum(self, maps: list[Tensor]) -> Tensor:
        inputs = maps if self.fuse == "sum" else [torch.cat(maps, 1)]
        hidden = [self.activation(layer(item.movedim(1, -1))) for layer, item in zip(self.hidden, inputs, strict=True)]
        pooled: Tensor = self.post_gap(torch.stack([item.mean((1, 2)) for item in hidden]).sum(0))
        return pooled


def _convolution(channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2), nn.BatchNorm2d(channels), nn.ReLU()
    )


class Sape(nn.Module):
    """Projectors, their unit, and the distance to the teacher's feature.

    Without the unit the projectors are averaged: this is the ensemble of PEFD (several FC + ReLU projectors,
    trained beside the student, their plain mean compared by the cosine), the row "Ensemble" of paper Table
    IV. PEFD itself projects pooled features and weighs the loss by 25; `distill.alpha` does here.

    The gradient reaches the student both through the projectors and through the unit, unless
    `detach_student`. The teacher's feature gets none.

    Args:
        projectors: K modules from (B, C, h, h) to (B, C, H, H).
        unit: None weighs all projectors equally (PEFD).
        distance: between the weighted sum and the teacher's feature (paper Eq. 5).
        add_mean_branch: the unit has one branch more than there are projectors, their mean (released code).
        detach_student: cut the gradient to the student (released code).
    """

    def __init__(
        self,
        *,
        projectors: Sequence[nn.Module],
        unit: ScaleAdaptiveUnit | None,
        distance: FeatureDistance,
        add_mean_branch: bool = False,
        detach_student: bool = False,
    ) -> None:
        super().__init__()
        self.projectors = nn.ModuleList(projectors)
        self.unit = unit
        self.distance = distance
        self.add_mean_branch = add_mean_branch
        self.detach_student = detach_student

    def forward(self, student_feature: Tensor, teacher_feature: Tensor) -> FeatureAlignment:
        """Align (B, C, h, h) with (B, C, H, H).

        Raises:
            ValueError: the lifted feature and the teacher's differ in shape.
        """
        if self.detach_student:
            student_feature = student_feature.detach()
        weights = self.weights(student_feature)
        lifted = self.lift(student_feature, weights)
        return FeatureAlignment(
            self.distance(lifted, teacher_feature.detach()), weights if self.unit is not None else None
        )

    def weights(self, feature: Tensor) -> Tensor:
        """Share of each projector (B, K, C).

        A mean branch's weight is spread evenly over the projectors, which is the same convex
        combination without building the mean.
        """
        count = len(self.projectors)
        if self.unit is None:
            return feature.new_full((feature.shape[0], count, feature.shape[1]), 1.0 / count)
        weights: Tensor = self.unit(feature)
        if self.add_mean_branch:
            weights = weights[:, :count] + weights[:, count:] / count
        return weights

    def lift(self, feature: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the projections (B, C, H, H) (paper Eq. 4)."""
        shares = weights.unsqueeze(-1).unsqueeze(-1).unbind(1)
        terms = [share * projector(feature) for share, projector in zip(shares, self.projectors, strict=True)]
        return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]


def assemble_sape(
    config: SapeConfig,
    *,
    has_unit: bool,
    distance: FeatureDistance,
    channels: int,
    student_side: int,
    teacher_side: int,
) -> Sape:
    """SAPE of a configuration with PyTorch's default weights on the default device.

    Args:
        config: the options.
        has_unit: whether the SAU weighs the projectors (`TrainingConfig.uses_sau`).
        distance: between the lifted and the teacher's feature.
        channels: C.
        student_side: h.
        teacher_side: H.
    """
    projector = PROJECTORS[config.projector]
    return Sape(
        projectors=[projector(channels, student_side, teacher_side) for _ in range(config.projectors)],
        unit=_assemble_unit(config, channels) if has_unit else None,
        distance=distance,
        add_mean_branch=config.add_mean_branch,
        detach_student=config.detach_student,
    )


def _assemble_unit(config: SapeConfig, channels: int) -> ScaleAdaptiveUnit:
    return ScaleAdaptiveUnit(
        channels=channels,
        branches=config.projectors + config.add_mean_branch,
        kernels=config.kernels,
        hidden=config.hidden,
        fuse=config.fuse,
        fuse_order=config.fuse_order,
        hidden_relu=config.hidden_relu,
        extra_fc=config.extra_fc,
    )


def build_sape(
    config: SapeConfig,
    *,
    has_unit: bool,
    distance: FeatureDistance,
    channels: int,
    student_side: int,
    teacher_side: int,
    generator: torch.Generator,
) -> Sape:
    """`assemble_sape` on the CPU, every weight drawn from `generator`."""
    with torch.device("meta"):
        sape = assemble_sape(
            config,
            has_unit=has_unit,
            distance=distance,
            channels=channels,
            student_side=student_side,
            teacher_side=teacher_side,
        )
    sape = sape.to_empty(device="cpu")
    initialise(sape, generator)
    return sape


@torch.no_grad()
def initialise(sape: Sape, generator: torch.Generator) -> None:
    """Draw the weights: Xavier uniform for projectors (released code), PyTorch's defaults for the rest."""
    for module in sape.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            _draw_default(module, generator)
    for module in sape.projectors.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)


def _draw_default(module: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(module.weight[0].numel())
    nn.init.uniform_(module.weight, -bound, bound, generator=generator)
    if module.bias is not None:
        nn.init.uniform_(module.bias, -bound, bound, generator=generator)
