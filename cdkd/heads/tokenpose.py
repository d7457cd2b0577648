"""TokenPose (Li et al. 2021; method section 8): a token per keypoint and per patch, and a heatmap of each keypoint's.

It is trained and read as `dark` is, and on HRNet is what the paper's tables print: four stages and twelve layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cdkd.config import TrainingConfig
from cdkd.heads.dark import build_codec
from cdkd.heads.heatmap import Heatmaps
from cdkd.models.head import Head, PoseOutput
from cdkd.models.pose import FEATURE_STRIDE
from cdkd.models.transformer import Transformer, sine_positions

__all__ = ["TokenPoseHead", "build_codec", "build_head"]

PATCH = 4
"""Side of a patch, cells of the backbone's feature."""

INITIAL_STD = 0.02
"""Standard deviation of the initial weights, which are cut off at +-2."""


class TokenTransformer(nn.Module):
    """From patches of a feature and learned keypoint tokens to one row of cells per keypoint.

    Args:
        channels: of the feature.
        keypoint_count: J.
        side: of the feature, cells; a multiple of 4.
        dim: width of a token.
        depth: layers.
        heads: of the attention.
        mlp_ratio: see Transformer.
    """

    def __init__(
        self,
        channels: int,
        *,
        keypoint_count: int,
        side: int,
        dim: int = 192,
        depth: int = 12,
        heads: int = 8,
        mlp_ratio: int = 3,
    ) -> None:
        super().__init__()
        self.keypoint_token = nn.Parameter(torch.zeros(1, keypoint_count, dim))
        # A parameter that is never trained: so it is named, saved and counted in the public nets and in the tables.
        self.pos_embedding = nn.Parameter(sine_positions(side // PATCH, dim), requires_grad=False)
        self.patch_to_embedding = nn.Linear(PATCH * PATCH * channels, dim)
        self.transformer = Transformer(dim=dim, depth=depth, heads=heads, mlp_ratio=mlp_ratio)
        # Differs from released code: for maps of 3072 cells and more TokenPose has a hidden layer here.
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, side * side))

    def forward(self, feature: Tensor) -> Tensor:
        """The feature (B, channels, side, side) to cells (B, J, side * side)."""
        patches = self.patch_to_embedding(patches_of(feature))
        tokens = torch.cat((self.keypoint_token.expand(len(feature), -1, -1), patches), 1)
        encoded = self.transformer(tokens, self.pos_embedding)
        cells: Tensor = self.mlp_head(encoded[:, : self.keypoint_token.shape[1]])
        return cells

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight as TokenPose does (truncated normal, biases 0), and fill in the positions."""
        _, patch_count, dim = self.pos_embedding.shape
        self.pos_embedding.copy_(sine_positions(round(patch_count**0.5), dim))
        nn.init.trunc_normal_(self.keypoint_token, std=INITIAL_STD, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                _initialise_linear(module, generator)


def _initialise_linear(layer: nn.Linear, generator: torch.Generator) -> None:
    nn.init.trunc_normal_(layer.weight, std=INITIAL_STD, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def patches_of(feature: Tensor) -> Tensor:
    """A feature (B, C, h, w) as patches row by row, (B, h/4 * w/4, 4 * 4 * C): rows, columns and channels of each."""
    batch, channels, height, width = feature.shape
    split = feature.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return split.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


class TokenPoseHead(Head):
    """A transformer whose keypoint tokens become one map per keypoint, which is final feature and prediction.

    Args:
        channels: of the backbone's feature.
        keypoint_count: J.
        input_size: S, pixels; a multiple of 32.
        dim: see TokenTransformer; likewise depth and heads.
    """

    def __init__(
        self, channels: int, *, keypoint_count: int, input_size: int, dim: int = 192, depth: int = 12, heads: int = 8
    ) -> None:
        super().__init__()
        side = input_size // FEATURE_STRIDE
        self.transformer = TokenTransformer(
            channels, keypoint_count=keypoint_count, side=side, dim=dim, depth=depth, heads=heads
        )
        self.final_layer = nn.Unflatten(2, (side, side))

    def forward(self, feature: Tensor) -> PoseOutput:
        maps: Tensor = self.final_layer(self.transformer(feature))
        return PoseOutput(feature, maps, Heatmaps(maps))

    def initialise(self, generator: torch.Generator) -> None:
        self.transformer.initialise(generator)


def build_head(config: TrainingConfig, channels: int, keypoint_count: int) -> TokenPoseHead:
    """The head of a configuration's student."""
    return TokenPoseHead(channels, keypoint_count=keypoint_count, input_size=config.student.input_size)
