"""SimCC (Li et al. 2022; method section 1): two classifiers, shared by the keypoints, on each keypoint's map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cdkd.config import SimCCConfig, TrainingConfig
from cdkd.heads.codec import Codec
from cdkd.models.head import Head, PoseOutput, Prediction
from cdkd.models.pose import FEATURE_STRIDE
from cdkd.simcc import class_count, decode, encode, merge_flip, simcc_loss

MARGINAL_GAIN = 4.0
"""Sum of a classifier's initial weights over the cells at a bin's own coordinate."""


@dataclass(frozen=True)
class SimCCLogits(Prediction):
    """Unnormalised scores of the bins, (B, J, classes) along x and along y."""

    x: Tensor
    y: Tensor


class SimCCHead(Head):
    """1x1 convolution to one map per keypoint, and two linear classifiers shared by the keypoints.

    Args:
        channels: of the backbone's feature.
        keypoint_count: J.
        input_size: S, pixels.
        split_ratio: bins per pixel.
        init: `uniform` (PyTorch's default, as released) or `marginal` (see `marginal_head`).
    """

    def __init__(
        self, channels: int, *, keypoint_count: int, input_size: int, split_ratio: float, init: str = "uniform"
    ) -> None:
        super().__init__()
        classes = class_count(input_size, split_ratio)
        positions = (input_size // FEATURE_STRIDE) ** 2
        self.init = init
        self.final_layer = nn.Conv2d(channels, keypoint_count, kernel_size=1)
        self.mlp_head_x = nn.Linear(positions, classes)
        self.mlp_head_y = nn.Linear(positions, classes)

    def forward(self, feature: Tensor) -> PoseOutput:
        final_feature: Tensor = self.final_layer(feature)
        maps = final_feature.flatten(start_dim=2)
        return PoseOutput(feature, final_feature, SimCCLogits(self.mlp_head_x(maps), self.mlp_head_y(maps)))

    def initialise(self, generator: torch.Generator) -> None:
        super().initialise(generator)
        if self.init == "marginal":
            marginal_head(self)


@torch.no_grad()
def marginal_head(head: SimCCHead) -> None:
    """Let each classifier begin as a marginal of the map: a bin's score sums the cells near its coordinate.

    A keypoint's map then means a heatmap from the first step on, which a classifier with random weights
    has to find out first; on a small training budget that is worth several epochs.

    Differs from released code: there both classifiers begin at PyTorch's default.
    """
    side = round(head.mlp_head_x.in_features**0.5)
    classes = head.mlp_head_x.out_features
    bins_of_cells = (torch.arange(side) + 0.5) * (classes / side) - 0.5
    distance_cells = (torch.arange(classes)[:, None] - bins_of_cells) * (side / classes)
    nearness = MARGINAL_GAIN / side * torch.exp(-0.5 * distance_cells**2)
    head.mlp_head_x.weight.copy_(nearness[:, None, :].expand(classes, side, side).flatten(1))
    head.mlp_head_y.weight.copy_(nearness[:, :, None].expand(classes, side, side).flatten(1))
    head.mlp_head_x.bias.zero_()
    head.mlp_head_y.bias.zero_()


@dataclass(frozen=True)
class SimCCCodec(Codec[SimCCLogits]):
    """Keypoints as bins of two axes; the functions are those of `cdkd.simcc`.

    Args:
        config: the options.
        input_size: S, pixels.
    """

    config: SimCCConfig
    input_size: int
    evidence_name: ClassVar[str] = "largest x and y logit"

    @property
    def task_scale(self) -> float:
        """Factor on the loss in the total (released code: 1000)."""
        return self.config.task_scale

    def encode(self, keypoints_input: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
        """Bins (B, J, 2), and weights (B, J), 1 for a labelled keypoint inside the input."""
        return encode(keypoints_input, visibility, self.input_size, self.config.split_ratio)

    def loss(self, prediction: SimCCLogits, keypoints_input: Tensor, visibility: Tensor) -> Tensor:
        bins, weight = self.encode(keypoints_input, visibility)
        smoothing, reduction = self.config.label_smoothing, self.config.loss
        return simcc_loss(prediction.x, prediction.y, bins, weight, label_smoothing=smoothing, reduction=reduction)

    def decode(
        self, prediction: SimCCLogits, flipped: SimCCLogits | None, flip_permutation: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        ratio = self.config.split_ratio
        x, y = _probabilities(prediction)
        if flipped is not None:
            x, y = merge_flip(x, y, *_probabilities(flipped), flip_permutation, ratio, self.config.flip_shift)
        return decode(x, y, ratio, self.config.score)

    def evidence(self, prediction: SimCCLogits) -> tuple[Tensor, Tensor]:
        x, y = prediction.x.max(dim=-1), prediction.y.max(dim=-1)
        return x.values + y.values, torch.stack((x.indices, y.indices), dim=-1) / self.config.split_ratio


def _probabilities(logits: SimCCLogits) -> tuple[Tensor, Tensor]:
    return logits.x.softmax(-1), logits.y.softmax(-1)


def build_head(config: TrainingConfig, channels: int, keypoint_count: int) -> SimCCHead:
    """The head of a configuration's student."""
    return SimCCHead(
        channels,
        keypoint_count=keypoint_count,
        input_size=config.student.input_size,
        split_ratio=config.simcc.split_ratio,
        init=config.simcc.head_init,
    )


def build_codec(config: TrainingConfig) -> SimCCCodec:
    """The codec of a configuration's student."""
    return SimCCCodec(config.simcc, config.student.input_size)
