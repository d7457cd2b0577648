"""RealNVP (Dinh et al. 2017) in two dimensions: a learned density, as RLE has it (Li et al. 2021; method section 8)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

COUPLINGS = 6
HIDDEN = 64
INITIAL_GAIN = 0.01
"""Xavier gain of the initial weights: the flow begins close to the identity."""


class RealNVP(nn.Module):
    """Six coupling layers, of which each scales and shifts one coordinate by functions of the other.

    State-dict names are those of the authors' checkpoints: `t` shifts, `s` scales, `mask` 1 for the coordinate that a
    layer leaves as it is.
    """

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.empty(COUPLINGS, 2))
        self.t = nn.ModuleList(coupling_net() for _ in range(COUPLINGS))
        self.s = nn.ModuleList(nn.Sequential(*coupling_net(), nn.Tanh()) for _ in range(COUPLINGS))
        self._fill_mask()

    def forward(self, x: Tensor) -> Tensor:
        """Logarithm of the density at points (N, 2), in single precision: (N,)."""
        z, log_determinant = self.to_normal(x)
        return log_determinant - z.square().sum(1) / 2 - math.log(2 * math.pi)

    def to_normal(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Points (N, 2) to where they lie in the normal distribution (N, 2), and the map's log-determinant (N,)."""
        log_determinant = x.new_zeros(len(x))
        for mask, shift, scale in zip(self.mask.flip(0), reversed(self.t), reversed(self.s), strict=True):
            kept, moves = mask * x, 1 - mask
            log_scale = scale(kept) * moves
            x = kept + moves * (x - shift(kept)) * torch.exp(-log_scale)
            log_determinant = log_determinant - log_scale.sum(1)
        return x, log_determinant

    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight and bias from `generator`, and fill in the mask."""
        self._fill_mask()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                initialise_linear(module, generator)

    @torch.no_grad()
    def _fill_mask(self) -> None:
        layers = torch.arange(COUPLINGS, device=self.mask.device)
        self.mask.copy_(torch.stack((layers % 2, (layers + 1) % 2), 1))


def coupling_net() -> nn.Sequential:
    """2-64-64-2, LeakyReLU between the linear layers."""
    first, second, last = nn.Linear(2, HIDDEN), nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 2)
    return nn.Sequential(first, nn.LeakyReLU(), second, nn.LeakyReLU(), last)


def initialise_linear(layer: nn.Linear, generator: torch.Generator) -> None:
    """Xavier uniform of a small gain, and the bias uniform within 1/sqrt(inputs), PyTorch's default."""
    nn.init.xavier_uniform_(layer.weight, gain=INITIAL_GAIN, generator=generator)
    bound = 1 / math.sqrt(layer.in_features)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
