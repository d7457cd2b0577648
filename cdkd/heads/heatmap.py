"""Heatmaps: HRNet (Sun et al. 2019) and, on a ResNet, Simple Baselines (Xiao et al. 2018); method section 8.

A keypoint at x, y of the input lies at x/4, y/4 of its map (see `pixels_per_cell`). What `dark` and other kinds on
heatmaps share is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from cdkd.config import TrainingConfig, span
from cdkd.heads.codec import Codec
from cdkd.models.head import Head, PoseOutput, Prediction
from cdkd.models.pose import FEATURE_STRIDE

WINDOW_SIGMAS = 3
"""A Gaussian reaches so many sigmas, in x and in y; a keypoint whose window misses the map has no target."""

QUARTER = 0.25
"""Step from the highest cell towards its higher neighbour, cells."""


@dataclass(frozen=True)
class Heatmaps(Prediction):
    """(B, J, S/4, S/4), about 1 where a keypoint is and 0 elsewhere."""

    maps: Tensor


class HeatmapHead(Head):
    """1x1 convolution to one map per keypoint, which is the prediction.

    Args:
        channels: of the backbone's feature.
        keypoint_count: J.
    """

    def __init__(self, channels: int, *, keypoint_count: int) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(channels, keypoint_count, kernel_size=1)

    def forward(self, feature: Tensor) -> PoseOutput:
        maps: Tensor = self.final_layer(feature)
        return PoseOutput(feature, maps, Heatmaps(maps))


@dataclass(frozen=True)
class HeatmapCodec(Codec[Heatmaps]):
    """Gaussians around the cell nearest to a keypoint; highest cell and a quarter step back.

    Args:
        side: cells of a map's side, S/4.
        sigma: of the Gaussians, cells.
        shift_flipped: move a mirrored and reversed map by one cell to the right. A pixel x is mirrored to S - 1 - x, so
            that its map is reversed to x/4 - 3/4: with the shift it lies a quarter of a cell too far right.
        stride: input pixels from cell to cell.
    """

    side: int
    sigma: float
    shift_flipped: bool
    stride: float = float(FEATURE_STRIDE)
    evidence_name: ClassVar[str] = "largest heatmap value"

    def encode(self, keypoints_input: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
        """Target maps (B, J, S/4, S/4) of peak 1, and weights (B, J).

        A keypoint outside the input has a target as long as a part of its window is inside.
        """
        # Rounded as int(x + 0.5), which takes the first cell also for keypoints up to 1.5 cells outside.
        centres = (cells(keypoints_input, self.stride) + 0.5).trunc()
        reach = WINDOW_SIGMAS * self.sigma
        return gaussians(centres, self.side, self.sigma, reach=reach), weights(centres, visibility, self.side, reach)

    def refine(self, maps: Tensor, peaks: Tensor) -> Tensor:
        """Where in maps (B, J, h, w) the keypoints are: cells (B, J, 2), near the highest ones."""
        return quarter_offset(maps, peaks)

    def loss(self, prediction: Heatmaps, keypoints_input: Tensor, visibility: Tensor) -> Tensor:
        return half_squared_error(prediction.maps, *self.encode(keypoints_input, visibility))

    def decode(
        self, prediction: Heatmaps, flipped: Heatmaps | None, flip_permutation: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        maps = prediction.maps
        if flipped is not None:
            maps = (maps + unflipped(flipped.maps, flip_permutation, shift=self.shift_flipped)) / 2
        scores, peaks = highest_cells(maps)
        return self.refine(maps, peaks) * self.stride, scores

    def evidence(self, prediction: Heatmaps) -> tuple[Tensor, Tensor]:
        scores, peaks = highest_cells(prediction.maps)
        return scores, peaks * self.stride


def pixels_per_cell(config: TrainingConfig) -> float:
    """Input pixels from cell to cell of a map; with `data.warp: size_minus_one` the last ones are over each other."""
    size = config.student.input_size
    return span(size, config.data.warp) / span(size // FEATURE_STRIDE, config.data.warp)


def cells(keypoints_input: Tensor, stride: float) -> Tensor:
    """Input pixels to cells of a map; a place that is no number becomes 0."""
    return torch.nan_to_num(keypoints_input) / stride


def gaussians(centres: Tensor, side: int, sigma: float, *, reach: float = float("inf")) -> Tensor:
    """One Gaussian of peak 1 per centre, float32.

    Args:
        centres: (B, J, 2) x and y, cells.
        side: of the maps, cells.
        sigma: cells.
        reach: how far from the centre, in x and in y, the map is not 0.

    Returns:
        (B, J, side, side).
    """
    distance = torch.arange(side, device=centres.device) - centres[..., None]
    along = torch.exp(distance.square() / (-2 * sigma**2)) * (distance.abs() <= reach)
    x, y = along.float().unbind(-2)
    return y[..., :, None] * x[..., None, :]


def weights(centres: Tensor, visibility: Tensor, side: int, reach: float) -> Tensor:
    """float32 (B, J), 1 for a labelled keypoint whose window touches the map, else 0.

    Raises:
        ValueError: the two shapes do not fit.
    """
    if centres.shape != (*visibility.shape, 2):
        raise ValueError(
            f"keypoints must have the shape of visibility and a last dimension of 2, "
            f"got {tuple(centres.shape)} and {tuple(visibility.shape)}"
        )
    # Differs from released code: there a window that ends one cell before the map counts as touching it.
    touches = ((centres + reach >= 0) & (centres - reach <= side - 1)).all(-1)
    return ((visibility > 0) & touches).float()


def half_squared_error(maps: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Half the squared error, 0 for a keypoint of weight 0; the mean over instances, keypoints and cells, ().

    Raises:
        ValueError: the shapes do not fit.
    """
    if maps.shape != targets.shape or weight.shape != maps.shape[:2]:
        raise ValueError(
            f"maps, targets and weight must be (B, J, h, w), the same and (B, J), "
            f"got {tuple(maps.shape)}, {tuple(targets.shape)} and {tuple(weight.shape)}"
        )
    error = (maps.float() - targets).square().mean((2, 3))
    return (error * weight).mean() / 2


def highest_cells(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Of maps (B, J, h, w) the largest values (B, J), and their cells int64 (B, J, 2), x and y."""
    values, indices = maps.flatten(2).max(-1)
    width = maps.shape[-1]
    return values, torch.stack((indices % width, indices // width), -1)


def values_at(maps: Tensor, places: Tensor, step_x: int = 0, step_y: int = 0) -> Tensor:
    """Values (B, J) of maps (B, J, h, w) at int64 cells (B, J, 2) and a step; beyond the border those at it."""
    height, width = maps.shape[-2:]
    x = (places[..., 0] + step_x).clamp(0, width - 1)
    y = (places[..., 1] + step_y).clamp(0, height - 1)
    return maps.flatten(2).gather(-1, (y * width + x)[..., None])[..., 0]


def quarter_offset(maps: Tensor, peaks: Tensor) -> Tensor:
    """Cells (B, J, 2) a quarter from the highest ones, in x and in y towards the higher neighbour.

    Peaks stay where they are unless both coordinates lie strictly between 1 and the last cell (HRNet's condition).
    """
    right = values_at(maps, peaks, step_x=1) - values_at(maps, peaks, step_x=-1)
    down = values_at(maps, peaks, step_y=1) - values_at(maps, peaks, step_y=-1)
    is_inside = ((peaks > 1) & (peaks < maps.shape[-1] - 1)).all(-1, keepdim=True)
    return peaks + QUARTER * torch.stack((right, down), -1).sign() * is_inside


def unflipped(maps: Tensor, flip_permutation: Sequence[int], *, shift: bool) -> Tensor:
    """Maps (B, J, h, w) of the mirrored images as maps of the images.

    Args:
        maps: of the mirrored images.
        flip_permutation: for each keypoint the one it becomes in the mirror.
        shift: move them one cell to the right; the first column then stays double.
    """
    mirrored = maps[:, list(flip_permutation)].flip(-1)
    return torch.cat((mirrored[..., :1], mirrored[..., :-1]), -1) if shift else mirrored


def build_head(_config: TrainingConfig, channels: int, keypoint_count: int) -> HeatmapHead:
    """The head of a configuration's student."""
    return HeatmapHead(channels, keypoint_count=keypoint_count)


def build_codec(config: TrainingConfig) -> HeatmapCodec:
    """The codec of a configuration's student."""
    options = config.heatmap
    side = config.student.input_size // FEATURE_STRIDE
    return HeatmapCodec(side, options.sigma, options.shift_flipped, pixels_per_cell(config))
