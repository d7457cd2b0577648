"""A pre-norm transformer encoder, and sine positions of the cells of a grid, as TokenPose has them (method section 8).

State-dict names are those of the public TokenPose checkpoints.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPERATURE = 10000
"""Ratio of the longest wavelength of the sine positions to the shortest."""


class Residual(nn.Module):
    """Adds its input to what a layer makes of it."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        added: Tensor = x + self.fn(x)
        return added


class PreNorm(nn.Module):
    """A layer behind a normalisation of each token."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        output: Tensor = self.fn(self.norm(x))
        return output


class Attention(nn.Module):
    """Self-attention in several heads; scores are divided by the square root of a head's width.

    Raises:
        ValueError: the width is not a multiple of the heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got {dim} and {heads}")
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        batch, count, dim = x.shape
        per_head = self.to_qkv(x).view(batch, count, 3, self.heads, dim // self.heads)
        query, key, value = per_head.permute(2, 0, 3, 1, 4).unbind()
        attended = F.scaled_dot_product_attention(query, key, value)
        output: Tensor = self.to_out(attended.transpose(1, 2).reshape(batch, count, dim))
        return output


class FeedForward(nn.Module):
    """Two linear layers on each token, GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        # The public nets have a dropout of probability 0 before the last layer, which its name counts.
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to the same shape."""
        output: Tensor = self.net(x)
        return output


class Transformer(nn.Module):
    """Layers of attention and feed-forward, which see the positions of the last tokens anew in every layer.

    Args:
        dim: width of a token.
        depth: layers.
        heads: of the attention.
        mlp_ratio: hidden width of the feed-forward part, in widths of a token.
    """

    def __init__(self, *, dim: int, depth: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                Residual(PreNorm(dim, part)) for part in (Attention(dim, heads), FeedForward(dim, mlp_ratio * dim))
            )
            for _ in range(depth)
        )

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Encode tokens.

        Args:
            tokens: (B, N, D), without positions.
            positions: (1, P, D) of the last P tokens, added before every layer ("sine-full").

        Returns:
            (B, N, D).
        """
        everywhere = F.pad(positions, (0, 0, tokens.shape[1] - positions.shape[1], 0))
        for layer in self.layers:
            tokens = tokens + everywhere
            for part in layer.children():
                tokens = part(tokens)
        return tokens


def sine_positions(side: int, dim: int) -> Tensor:
    """Positions of the cells of a square grid, row by row, (1, side * side, dim) (Carion et al. 2020, DETR).

    The first half of the numbers tells the row, the second the column: sines and cosines in turn, of wavelengths
    that grow geometrically; the grid's side is one turn of the shortest.

    Raises:
        ValueError: the width is not a multiple of 4, as sines and cosines of rows and columns are.
    """
    if dim % 4:
        raise ValueError(f"dim must be a multiple of 4, got {dim}")
    wavelengths = TEMPERATURE ** (torch.arange(dim // 4) / (dim // 4))
    angles = 2 * math.pi * torch.arange(1, side + 1)[:, None] / side / wavelengths
    along = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)
    rows, columns = along[:, None].expand(side, side, -1), along[None].expand(side, side, -1)
    return torch.cat((rows, columns), -1).flatten(0, 1)[None]
