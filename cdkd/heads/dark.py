"""DARK (Zhang et al. 2020; method section 8): a heatmap network with sub-pixel targets and decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cdkd.config import TrainingConfig
from cdkd.heads.heatmap import WINDOW_SIGMAS, HeatmapCodec, cells, gaussians, pixels_per_cell, values_at, weights
from cdkd.models.pose import FEATURE_STRIDE

SMALLEST_VALUE = 1e-10
"""Blurred maps are raised to it before their logarithm is taken."""


@dataclass(frozen=True)
class DarkCodec(HeatmapCodec):
    """Gaussians around the very place of a keypoint; highest cell and a Newton step on the logarithm of the map.

    Args:
        side: see HeatmapCodec; likewise sigma, shift_flipped and stride.
        blur_kernel: side of the Gaussian kernel that a map is smoothed with before the step, cells; odd.
    """

    blur_kernel: int = 11

    def encode(self, keypoints_input: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
        """Target maps (B, J, S/4, S/4), and weights (B, J)."""
        centres = cells(keypoints_input, self.stride)
        weight = weights(centres, visibility, self.side, WINDOW_SIGMAS * self.sigma)
        return gaussians(centres, self.side, self.sigma), weight

    def refine(self, maps: Tensor, peaks: Tensor) -> Tensor:
        smooth = blurred(maps.double(), self.blur_kernel)
        return newton_step(smooth.clamp_min(SMALLEST_VALUE).log(), peaks).to(maps.dtype)


def blurred(maps: Tensor, kernel: int) -> Tensor:
    """Maps (B, J, h, w) smoothed by a Gaussian, 0 beyond the border, and scaled to the maximum they had.

    A map without a positive value is not scaled.
    """
    taps = gaussian_taps(kernel, maps)
    count = maps.shape[1]
    across = F.conv2d(maps, taps.expand(count, 1, 1, -1), padding=(0, kernel // 2), groups=count)
    both = F.conv2d(across, taps[:, None].expand(count, 1, -1, 1), padding=(kernel // 2, 0), groups=count)
    before, after = (values.amax((2, 3), keepdim=True) for values in (maps, both))
    return both * torch.where((before > 0) & (after > 0), before / after, torch.ones_like(before))


def gaussian_taps(kernel: int, like: Tensor) -> Tensor:
    """`kernel` weights of sum 1, with the width that OpenCV gives a kernel of that size; on the tensor's device."""
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    distance = torch.arange(kernel, device=like.device, dtype=like.dtype) - kernel // 2
    taps = torch.exp(distance.square() / (-2 * sigma**2))
    return taps / taps.sum()


def newton_step(maps: Tensor, peaks: Tensor) -> Tensor:
    """Cells (B, J, 2) at which the second-order Taylor expansion of maps (B, J, h, w) around the peaks is stationary.

    Peaks stay where they are unless both coordinates lie strictly between 1 and the last cell but one, and the
    second derivatives can be inverted.
    """
    middle = values_at(maps, peaks)
    slope_x = (values_at(maps, peaks, 1) - values_at(maps, peaks, -1)) / 2
    slope_y = (values_at(maps, peaks, 0, 1) - values_at(maps, peaks, 0, -1)) / 2
    xx = (values_at(maps, peaks, 2) - 2 * middle + values_at(maps, peaks, -2)) / 4
    yy = (values_at(maps, peaks, 0, 2) - 2 * middle + values_at(maps, peaks, 0, -2)) / 4
    rising = values_at(maps, peaks, 1, 1) + values_at(maps, peaks, -1, -1)
    falling = values_at(maps, peaks, -1, 1) + values_at(maps, peaks, 1, -1)
    xy = (rising - falling) / 4
    determinant = xx * yy - xy.square()
    step = torch.stack((xy * slope_y - yy * slope_x, xy * slope_x - xx * slope_y), -1) / determinant[..., None]
    is_inside = ((peaks > 1) & (peaks < maps.shape[-1] - 2)).all(-1)
    return peaks + torch.where((is_inside & (determinant != 0))[..., None], step, torch.zeros_like(step))


def build_codec(config: TrainingConfig) -> DarkCodec:
    """The codec of a configuration's student."""
    return DarkCodec(
        side=config.student.input_size // FEATURE_STRIDE,
        sigma=config.heatmap.sigma,
        shift_flipped=config.dark.shift_flipped,
        stride=pixels_per_cell(config),
        blur_kernel=config.dark.blur_kernel,
    )
