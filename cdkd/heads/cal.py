"""CAL (method section 8): heatmaps and, from a stage 4 of their own, each cell's offset to the keypoint.

On an HRNet only: the last stage and its transition are there twice (`cdkd.models.hrnet.TwoStreamHRNet`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cdkd.config import CalConfig, TrainingConfig
from cdkd.distributed import global_count
from cdkd.heads.codec import Codec
from cdkd.heads.heatmap import (
    WINDOW_SIGMAS,
    cells,
    gaussians,
    half_squared_error,
    highest_cells,
    pixels_per_cell,
    unflipped,
    values_at,
    weights,
)
from cdkd.models.head import Head, PoseOutput, Prediction
from cdkd.models.pose import FEATURE_STRIDE
from cdkd.models.resnet import BasicBlock, residual_layer
from cdkd.simcc import visible_count

BLOCKS = 2
"""Residual blocks before each of the two last convolutions."""

MASK_REACH = 3
"""Cells that the mask of the errors reaches in x and in y: it is 7x7."""

LEAST_VARIANCE = 1e-6
"""Added to the variances of the errors, cells^2, so that equal errors have a density."""


@dataclass(frozen=True)
class OffsetHeatmaps(Prediction):
    """(B, J, h, w) heatmaps and (B, J, 2, h, w) offsets from each cell to the keypoint, x and y."""

    maps: Tensor
    offsets: Tensor


class CalHead(Head):
    """Two residual blocks and a 1x1 convolution on each half of the feature: heatmaps, and two offsets a keypoint.

    Args:
        channels: of the backbone's feature, both streams together.
        keypoint_count: J.
    """

    def __init__(self, channels: int, *, keypoint_count: int) -> None:
        super().__init__()
        width = channels // 2
        self.heatmap_blocks = residual_layer(BasicBlock, width, width, BLOCKS)
        self.final_layer = nn.Conv2d(width, keypoint_count, kernel_size=1)
        self.offset_blocks = residual_layer(BasicBlock, width, width, BLOCKS)
        self.offset_layer = nn.Conv2d(width, 2 * keypoint_count, kernel_size=1)

    def forward(self, feature: Tensor) -> PoseOutput:
        for_maps, for_offsets = feature.chunk(2, dim=1)
        maps: Tensor = self.final_layer(self.heatmap_blocks(for_maps))
        offsets: Tensor = self.offset_layer(self.offset_blocks(for_offsets))
        pairs = offsets.reshape(len(offsets), -1, 2, *offsets.shape[2:])
        return PoseOutput(feature, maps, OffsetHeatmaps(maps, pairs))


@dataclass(frozen=True)
class CalCodec(Codec[OffsetHeatmaps]):
    """Gaussians around the very place of a keypoint, and offsets to it; highest cell and its offset back.

    Args:
        side: cells of a map's side, S/4.
        stride: input pixels from cell to cell.
        sigma: of the Gaussians, cells.
        options: how offsets are weighed.
    """

    side: int
    stride: float
    sigma: float
    options: CalConfig
    evidence_name: ClassVar[str] = "largest heatmap value"

    def loss(self, prediction: OffsetHeatmaps, keypoints_input: Tensor, visibility: Tensor) -> Tensor:
        """Half the squared error of the maps, and the weighted absolute error of the offsets inside the mask."""
        centres = cells(keypoints_input, self.stride)
        weight = weights(centres, visibility, self.side, WINDOW_SIGMAS * self.sigma)
        maps = half_squared_error(prediction.maps, gaussians(centres, self.side, self.sigma), weight)
        steps = offset_fields(centres, self.side)
        mask = self.mask(steps, prediction.maps, weight) * weight[..., None, None]
        error = prediction.offsets.float() - steps / self.options.offset_unit
        return maps + self.options.offset_weight * (error * mask[:, :, None]).abs().mean()

    def mask(self, steps: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
        """(B, J, h, w) how much a cell's offset counts, in [0, 1].

        Args:
            steps: (B, J, 2, h, w) from each cell to the keypoint, cells.
            maps: (B, J, h, w) predicted heatmaps.
            weight: (B, J), 0 for a keypoint without a target.
        """
        if self.options.mask == "disc":
            return (steps.square().sum(2) <= self.options.radius**2).float()
        return error_mask(steps, maps, weight)

    def decode(
        self, prediction: OffsetHeatmaps, flipped: OffsetHeatmaps | None, flip_permutation: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        maps, offsets = prediction.maps, prediction.offsets
        if flipped is not None:
            maps = (maps + unflipped(flipped.maps, flip_permutation, shift=False)) / 2
            offsets = (offsets + self._unflipped_offsets(flipped.offsets, flip_permutation)) / 2
        scores, peaks = highest_cells(maps)
        x, y = (values_at(offsets[:, :, axis], peaks) for axis in (0, 1))
        return (peaks + torch.stack((x, y), -1) * self.options.offset_unit) * self.stride, scores

    def _unflipped_offsets(self, offsets: Tensor, flip_permutation: Sequence[int]) -> Tensor:
        """Offsets of the mirrored images as offsets of the images: in x they point the other way."""
        x, y = (unflipped(offsets[:, :, axis], flip_permutation, shift=False) for axis in (0, 1))
        return torch.stack((-x, y), 2)

    def evidence(self, prediction: OffsetHeatmaps) -> tuple[Tensor, Tensor]:
        keypoints_input, scores = self.decode(prediction, None, ())
        return scores, keypoints_input


def offset_fields(centres: Tensor, side: int) -> Tensor:
    """Steps float32 (B, J, 2, side, side) from each cell to centres (B, J, 2), cells."""
    distance = (centres[..., None] - torch.arange(side, device=centres.device)).float()
    x, y = distance.unbind(-2)
    shape = (*x.shape[:2], side, side)
    return torch.stack((x[..., None, :].expand(shape), y[..., :, None].expand(shape)), 2)


@torch.no_grad()
def error_mask(steps: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    """Where this batch's highest cells lie, as seen from their keypoints: a normal density on 7x7 cells.

    One normal distribution is fitted to the batch's errors, highest cell minus the cell nearest to the keypoint, over
    all workers; its density around each keypoint's cell is brought to [0, 1], lowest to highest.

    Args:
        steps: (B, J, 2, h, w) from each cell to the keypoint, cells.
        maps: (B, J, h, w) predicted heatmaps.
        weight: (B, J), 0 leaves a keypoint out of the fit.

    Returns:
        float32 (B, J, h, w).
    """
    nearest = steps[..., 0, 0].round()  # the step from cell 0, 0 is the place itself
    table = density_table(highest_cells(maps)[1] - nearest, weight)
    along = torch.arange(maps.shape[-1], device=maps.device) - nearest[..., None]
    is_near = along.abs() <= MASK_REACH
    x, y = (along.clamp(-MASK_REACH, MASK_REACH).long() + MASK_REACH).unbind(-2)
    near_x, near_y = is_near.unbind(-2)
    inside = near_y[..., :, None] & near_x[..., None, :]
    return table[y[..., :, None], x[..., None, :]] * inside


def density_table(errors: Tensor, weight: Tensor) -> Tensor:
    """Density of a normal distribution fitted to errors (B, J, 2), at -3..3 cells in y and in x, brought to [0, 1]."""
    count = visible_count(weight).double()
    counted = errors.double() * weight[..., None]
    mean = global_count(counted.sum((0, 1))) / count
    deviations = (errors.double() - mean) * weight[..., None]
    covariance = global_count(torch.einsum("bji,bjk->ik", deviations, deviations)) / count
    covariance = covariance + LEAST_VARIANCE * torch.eye(2, device=errors.device)
    line = torch.arange(-MASK_REACH, MASK_REACH + 1, device=errors.device)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1) - mean
    distance = torch.einsum("yxi,ik,yxk->yx", grid, torch.linalg.inv_ex(covariance).inverse, grid)
    density = torch.exp((distance.min() - distance) / 2)
    spread = (1 - density.min()).clamp_min(torch.finfo(torch.float32).tiny)
    return ((density - density.min()) / spread).float()


def build_head(_config: TrainingConfig, channels: int, keypoint_count: int) -> CalHead:
    """The head of a configuration's student."""
    return CalHead(channels, keypoint_count=keypoint_count)


def build_codec(config: TrainingConfig) -> CalCodec:
    """The codec of a configuration's student."""
    side = config.student.input_size // FEATURE_STRIDE
    return CalCodec(side, pixels_per_cell(config), config.heatmap.sigma, config.cal)
