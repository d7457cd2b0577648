"""Conv Downsample: the teacher's feature brought down to the student's size (paper Table V, after FitNets).

A trained layer on the teacher's side invites a collapse: both sides may agree on something constant.
Against it the convolutions begin as average pooling and the last normalisation has no scale or shift of
its own, so that no channel of the target can become constant. `avgpool` is the variant without weights.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import skip_init

from cdkd.config import downsampling_steps


def build_conv_downsample(channels: int, student_side: int, teacher_side: int) -> nn.Sequential:
    """From (B, C, H, H) to (B, C, h, h): log2(H/h) 3x3 convolutions of stride 2, each normalised, ReLU between them.

    Every convolution begins as 2x2 average pooling of each channel by itself; nothing is drawn.

    Args:
        channels: C.
        student_side: h.
        teacher_side: H.

    Raises:
        ValueError: H is not h times 2, 4, 8, ...
    """
    steps = downsampling_steps(teacher_side, student_side)
    if steps is None:
        raise ValueError(f"teacher_side must be 2, 4, 8, ... times student_side, got {teacher_side} and {student_side}")
    layers: list[nn.Module] = []
    for step in range(1, steps + 1):
        is_last = step == steps
        layers += [_halving_convolution(channels), nn.BatchNorm2d(channels, affine=not is_last)]
        layers += [] if is_last else [nn.ReLU()]
    return nn.Sequential(*layers)


@torch.no_grad()
def _halving_convolution(channels: int) -> nn.Conv2d:
    """A 3x3 convolution of stride 2 that begins as 2x2 average pooling.

    With one cell of padding its window lies over rows 2i - 1 to 2i + 1, of which the last two are pooled.
    """
    convolution: nn.Conv2d = skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d, channels, channels, kernel_size=3, stride=2, padding=1, bias=False
    )
    nn.init.zeros_(convolution.weight)
    each = torch.arange(channels)
    convolution.weight[each, each, 1:, 1:] = 0.25
    return convolution


def build_avgpool(student_side: int, teacher_side: int) -> nn.AvgPool2d:
    """From (B, C, H, H) to (B, C, h, h): the mean of every H/h x H/h cells.

    Raises:
        ValueError: H is not a multiple of h.
    """
    if teacher_side % student_side:
        raise ValueError(f"teacher_side must be a multiple of student_side, got {teacher_side} and {student_side}")
    return nn.AvgPool2d(teacher_side // student_side)
