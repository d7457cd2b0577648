"""Folding batch normalisation into the convolution before it, for networks that only predict.

The teacher's forward pass is most of a distillation step; without its normalisation layers it takes
about a quarter less time on a CPU (benchmarks/teacher_forward.py).
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(module: nn.Module) -> None:
    """Merge every BatchNorm2d into the convolution registered just before it, in place.

    The outputs in evaluation mode stay the same up to rounding. Relies on the backbones of this package,
    whose blocks register each normalisation right after the convolution that it is applied to.

    Args:
        module: a network in evaluation mode, which must not be trained afterwards.

    Raises:
        ValueError: the module is in training mode.
    """
    if module.training:
        raise ValueError("fold_batch_norm needs a module in evaluation mode, got one in training mode")
    _fold(module)
    module.eval()


def _fold(module: nn.Module) -> None:
    children = list(module.named_children())
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            setattr(module, norm_name, nn.Identity())
    for _, child in module.named_children():
        _fold(child)
