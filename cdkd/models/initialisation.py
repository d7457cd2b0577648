"""Random first weights, every one of which is drawn from a given generator (method 1.1)."""

from __future__ import annotations

import math

import torch
from torch import nn

CONV_STD = 0.001
"""Standard deviation of every convolution's initial weights (method 1.1)."""


def initialise(net: nn.Module, generator: torch.Generator, *, conv_std: float = CONV_STD) -> None:
    """Draw every weight of `net` from `generator`, in the order of its modules (method 1.1).

    Convolutions N(0, conv_std) with bias 0; batch normalisations at scale 1 and shift 0 with fresh
    statistics; linear layers uniform within 1/sqrt(inputs), PyTorch's default.

    Raises:
        TypeError: a module has weights of its own and is of no kind named above.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=conv_std, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"no initialisation is known for {type(module).__name__}")
