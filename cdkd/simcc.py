"""The SimCC codec: keypoints to bins, logits to a loss, probabilities to keypoints (method section 1).

A keypoint's x and y are two classification problems over `class_count(input_size, split_ratio)` bins
each; bin i lies at i / split_ratio pixels of the network's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cdkd.distributed import global_count

SCORE_REDUCTIONS = ("max", "min", "mean")
LOSS_REDUCTIONS = ("mean_visible", "nmt", "nmtnorm")
OFFICIAL_FLIP_SHIFT = 1
"""Bins the released code shifts a flipped prediction by, whatever the split ratio."""


def class_count(input_size: int, split_ratio: float) -> int:
    """Number of bins of one axis."""
    return int(input_size * split_ratio)


def encode(keypoints_input: Any, visibility: Any, input_size: int, split_ratio: float) -> tuple[Tensor, Tensor]:
    """Keypoints to bin indices (method section 1.2).

    Args:
        keypoints_input: (..., J, 2) x and y in input pixels; array or tensor.
        visibility: (..., J) 0, or anything greater for a labelled keypoint.
        input_size: side of the square input, pixels.
        split_ratio: bins per pixel.

    Returns:
        bins: int64 (..., J, 2), rounded half to even and clamped to the axis.
        weight: float32 (..., J), 1 for a labelled keypoint inside the input on both axes, else 0.

    Raises:
        ValueError: the two shapes do not fit.
    """
    keypoints = torch.as_tensor(keypoints_input, dtype=torch.float64)
    labelled = torch.as_tensor(visibility) > 0
    if keypoints.shape != (*labelled.shape, 2):
        raise ValueError(
            f"keypoints must have the shape of visibility and a last dimension of 2, "
            f"got {tuple(keypoints.shape)} and {tuple(labelled.shape)}"
        )
    count = class_count(input_size, split_ratio)
    # float64, because 10.5 * k in float32 can fall on the other side of a half
    position = torch.round(keypoints * split_ratio)
    is_inside = ((position >= 0) & (position < count)).all(-1)
    bins = torch.nan_to_num(position).clamp(0, count - 1).long()
    return bins, (labelled & is_inside).float()


def simcc_loss(
    logits_x: Tensor, logits_y: Tensor, bins: Tensor, weight: Tensor, *, label_smoothing: float, reduction: str
) -> Tensor:
    """Divergence of the predicted from the smoothed one-hot distribution (method section 1.3).

    With D the sum over bins of y (log y - log p), summed over both axes:
        nmt: sum over instances and keypoints of weight * D, divided by the instances;
        nmtnorm: mean over instances and keypoints of weight * D / bins;
        mean_visible: sum of weight * D divided by the sum of weights over all workers (0 when no keypoint is visible).

    Args:
        logits_x: (B, J, C).
        logits_y: (B, J, C).
        bins: (B, J, 2) int64 label of each axis.
        weight: (B, J), 0 leaves a keypoint out.
        label_smoothing: mass spread evenly over the other bins, in [0, 1).
        reduction: one of LOSS_REDUCTIONS.

    Raises:
        ValueError: shapes that do not fit, a single bin, or an unknown reduction.
    """
    _check_logits(logits_x, logits_y, bins, weight)
    divergence = _smoothed_divergence(logits_x, bins[..., 0], label_smoothing)
    divergence = divergence + _smoothed_divergence(logits_y, bins[..., 1], label_smoothing)
    weighted = divergence * weight
    if reduction == "nmt":
        return weighted.sum() / weighted.shape[0]
    if reduction == "nmtnorm":
        return weighted.mean() / logits_x.shape[-1]
    if reduction == "mean_visible":
        return weighted.sum() / visible_count(weight)
    raise ValueError(f"reduction must be one of {', '.join(LOSS_REDUCTIONS)}, got {reduction!r}")


def visible_count(weight: Tensor) -> Tensor:
    """Sum of weights, averaged over workers; 1 when every weight is 0, so that an empty batch's loss is 0."""
    count = global_count(weight.sum())
    return torch.where(count > 0, count, torch.ones_like(count))


def _check_logits(logits_x: Tensor, logits_y: Tensor, bins: Tensor, weight: Tensor) -> None:
    shape = logits_x.shape
    if logits_y.shape != shape or len(shape) != 3 or shape[-1] < 2:
        raise ValueError(f"logits must be two (B, J, C) with C > 1, got {tuple(shape)} and {tuple(logits_y.shape)}")
    if bins.shape != (*shape[:2], 2) or weight.shape != shape[:2]:
        raise ValueError(
            f"bins must be {(*shape[:2], 2)} and weight {tuple(shape[:2])}, "
            f"got {tuple(bins.shape)} and {tuple(weight.shape)}"
        )


def _smoothed_divergence(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Divergence per keypoint (B, J), written out so that no one-hot tensor is needed."""
    log_probability = logits.log_softmax(-1)
    others = logits.shape[-1] - 1
    low, high = label_smoothing / others, 1.0 - label_smoothing
    at_label = log_probability.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    cross_entropy = -(low * log_probability.sum(-1) + (high - low) * at_label)
    return cross_entropy + others * _x_log_x(low) + _x_log_x(high)


def _x_log_x(value: float) -> float:
    return value * math.log(value) if value > 0 else 0.0


def decode(
    probabilities_x: Tensor, probabilities_y: Tensor, split_ratio: float, score: str = "max"
) -> tuple[Tensor, Tensor]:
    """Most probable bins to keypoints (method section 1.4).

    Args:
        probabilities_x: (B, J, C).
        probabilities_y: (B, J, C).
        split_ratio: bins per pixel.
        score: how the two axis maxima become one score, one of SCORE_REDUCTIONS (released code: max).

    Returns:
        keypoints_input: float (B, J, 2) in input pixels.
        scores: float (B, J).

    Raises:
        ValueError: an unknown score.
    """
    best_x, bin_x = probabilities_x.max(-1)
    best_y, bin_y = probabilities_y.max(-1)
    keypoints_input = torch.stack((bin_x, bin_y), -1).float() / split_ratio
    best = torch.stack((best_x, best_y))
    if score == "max":
        return keypoints_input, best.amax(0)
    if score == "min":
        return keypoints_input, best.amin(0)
    if score == "mean":
        return keypoints_input, best.mean(0)
    raise ValueError(f"score must be one of {', '.join(SCORE_REDUCTIONS)}, got {score!r}")


def flip_shift_bins(split_ratio: float, flip_shift: str) -> int:
    """Bins by which a mirrored and reversed distribution lies too high.

    A pixel x is mirrored to S - 1 - x, so its bin b becomes k (S - 1) - b, and reversing an axis of k S
    bins gives b + k - 1: `exact` is k - 1, to the nearest whole bin. `official` is 1 (right only for k = 2).

    Raises:
        ValueError: an unknown shift.
    """
    if flip_shift == "exact":
        return round(split_ratio - 1)
    if flip_shift == "official":
        return OFFICIAL_FLIP_SHIFT
    if flip_shift == "none":
        return 0
    raise ValueError(f"flip_shift must be one of exact, official, none, got {flip_shift!r}")


def merge_flip(
    prob_x: Tensor,
    prob_y: Tensor,
    flipped_prob_x: Tensor,
    flipped_prob_y: Tensor,
    flip_permutation: Sequence[int],
    split_ratio: float,
    flip_shift: str,
) -> tuple[Tensor, Tensor]:
    """Average a prediction with that of the mirrored image (method section 1.4).

    Args:
        prob_x: (B, J, C) probabilities of the image; likewise prob_y.
        prob_y: see prob_x.
        flipped_prob_x: (B, J, C) probabilities of the mirrored image; likewise flipped_prob_y.
        flipped_prob_y: see flipped_prob_x.
        flip_permutation: for each keypoint the one it becomes in the mirror.
        split_ratio: bins per pixel.
        flip_shift: exact, official or none.

    Returns:
        The averaged prob_x and prob_y.
    """
    permutation = torch.tensor(flip_permutation, device=prob_x.device)
    count = prob_x.shape[-1]
    target = torch.arange(count, device=prob_x.device)
    source = target + flip_shift_bins(split_ratio, flip_shift)
    # a bin without a source keeps its old value, as in the released code
    source = torch.where((source >= 0) & (source < count), source, target)
    mirrored_x = flipped_prob_x[:, permutation].flip(-1).index_select(-1, source)
    mirrored_y = flipped_prob_y[:, permutation]
    return (prob_x + mirrored_x) / 2, (prob_y + mirrored_y) / 2
