"""HRNet: parallel branches of falling resolution, fused after every module (Sun et al. 2019; method 1.1).

State-dict names are those of the public pose and ImageNet checkpoints. Where those nets hold `None`
(a branch that passes on unchanged), this one holds `nn.Identity`, which has no weights either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdkd.models.resnet import BasicBlock, Bottleneck, conv3x3, residual_layer


class HRNet(nn.Module):
    """The body up to branch 0 of stage 4, at stride 4.

    Args:
        stem_channels: outputs of the two stride-2 convolutions.
        bottleneck_width: inner width of the stage-1 bottlenecks (their output is four times that).
        bottleneck_count: bottlenecks in stage 1.
        width: channels of branch 0; branch i has `width * 2**i`.
        module_counts: multi-resolution modules of stages 2, 3 and 4.
        block_count: residual blocks of each branch of each module.
    """

    def __init__(
        self,
        *,
        stem_channels: tuple[int, int],
        bottleneck_width: int,
        bottleneck_count: int,
        width: int,
        module_counts: tuple[int, int, int],
        block_count: int,
    ) -> None:
        super().__init__()
        self.feature_channels = width
        widths = [width * 2**branch for branch in range(4)]
        first, second = stem_channels
        self.conv1 = conv3x3(3, first, stride=2)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = conv3x3(first, second, stride=2)
        self.bn2 = nn.BatchNorm2d(second)
        self.layer1 = residual_layer(Bottleneck, second, bottleneck_width, bottleneck_count)
        self.transition1 = transition([bottleneck_width * Bottleneck.expansion], widths[:2])
        self.stage2 = stage(widths[:2], module_counts[0], block_count)
        self.transition2 = transition(widths[:2], widths[:3])
        self.stage3 = stage(widths[:3], module_counts[1], block_count)
        self.transition3 = transition(widths[:3], widths)
        self.stage4 = stage(widths, module_counts[2], block_count, last_output_count=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), S a multiple of 32, to the feature (B, width, S/4, S/4)."""
        feature: Tensor
        (feature,) = self.stage4(add_branch(self.transition3, self.three_branches(images)))
        return feature

    def three_branches(self, images: Tensor) -> list[Tensor]:
        """Images to the three branches of stage 3, finest first."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        branches: list[Tensor] = [self.layer1(x)]
        branches = self.stage2(add_branch(self.transition1, branches))
        fused: list[Tensor] = self.stage3(add_branch(self.transition2, branches))
        return fused


class TwoStreamHRNet(HRNet):
    """An HRNet whose stage 4 and the transition to it are there twice: one for heatmaps, one for offsets (CAL).

    Args:
        options: see HRNet.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        width = self.feature_channels
        widths = [width * 2**branch for branch in range(4)]
        self.feature_channels = 2 * width
        self.transition3_offset = transition(widths[:3], widths)
        self.stage4_offset = stage(widths, options["module_counts"][2], options["block_count"], last_output_count=1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S), S a multiple of 32, to both features in a row (B, 2 width, S/4, S/4)."""
        branches = self.three_branches(images)
        (for_maps,) = self.stage4(add_branch(self.transition3, branches))
        (for_offsets,) = self.stage4_offset(add_branch(self.transition3_offset, branches))
        return torch.cat((for_maps, for_offsets), dim=1)


class FuseModule(nn.Module):
    """Residual blocks on each branch, then every output is the sum of all branches at its resolution.

    Args:
        widths: channels of the branches, finest first.
        block_count: residual blocks per branch.
        output_count: how many fused branches are computed, finest first.
    """

    def __init__(self, widths: Sequence[int], block_count: int, output_count: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(residual_layer(BasicBlock, width, width, block_count) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(resample(widths, source, target) for source in range(len(widths)))
            for target in range(output_count)
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        refined: list[Tensor] = [blocks(x) for blocks, x in zip(self.branches, branches, strict=True)]
        return [fuse(row, refined) for row in self.fuse_layers]


def fuse(row: nn.Module, branches: list[Tensor]) -> Tensor:
    """ReLU of the sum of all branches, each resampled by its layer of `row`."""
    first, *rest = (layer(x) for layer, x in zip(row.children(), branches, strict=True))
    total: Tensor = first + rest[0]
    for term in rest[1:]:
        total = total.add_(term)
    return total.relu_()


def resample(widths: Sequence[int], source: int, target: int) -> nn.Module:
    """Layer from branch `source` to the channels and resolution of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        conv = nn.Conv2d(widths[source], widths[target], kernel_size=1, bias=False)
        upsample = nn.Upsample(scale_factor=2 ** (source - target), mode="nearest")
        return nn.Sequential(conv, nn.BatchNorm2d(widths[target]), upsample)
    halvings = [halve(widths[source], widths[source], with_relu=True) for _ in range(target - source - 1)]
    return nn.Sequential(*halvings, halve(widths[source], widths[target], with_relu=False))


def halve(in_channels: int, out_channels: int, *, with_relu: bool) -> nn.Sequential:
    """Strided 3x3 convolution and batch normalisation, with or without ReLU."""
    activation = [nn.ReLU(inplace=True)] if with_relu else []
    return nn.Sequential(conv3x3(in_channels, out_channels, stride=2), nn.BatchNorm2d(out_channels), *activation)


def stage(
    widths: Sequence[int], module_count: int, block_count: int, *, last_output_count: int | None = None
) -> nn.Sequential:
    """`module_count` modules in a row; the last computes only `last_output_count` branches when given."""
    output_counts = [len(widths)] * (module_count - 1) + [last_output_count or len(widths)]
    return nn.Sequential(*(FuseModule(widths, block_count, count) for count in output_counts))


def transition(old_widths: Sequence[int], new_widths: Sequence[int]) -> nn.ModuleList:
    """One layer for each branch of the next stage; its one new branch is halved from the coarsest old one."""
    kept = [change_width(old, new) for old, new in zip(old_widths, new_widths, strict=False)]
    return nn.ModuleList([*kept, nn.Sequential(halve(old_widths[-1], new_widths[-1], with_relu=True))])


def change_width(old: int, new: int) -> nn.Module:
    """Identity where the widths agree, else a 3x3 convolution with batch normalisation and ReLU."""
    if old == new:
        return nn.Identity()
    return nn.Sequential(conv3x3(old, new), nn.BatchNorm2d(new), nn.ReLU(inplace=True))


def add_branch(layers: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
    """Apply a transition: the old branches in order, and the coarsest of them once more for the new branch."""
    return [layer(x) for layer, x in zip(layers, [*branches, branches[-1]], strict=True)]


def hrnet_w32(family: type[HRNet] = HRNet) -> HRNet:
    """HRNet-W32, as published."""
    return _published(family, width=32)


def hrnet_w48(family: type[HRNet] = HRNet) -> HRNet:
    """HRNet-W48, as published."""
    return _published(family, width=48)


def _published(family: type[HRNet], width: int) -> HRNet:
    return family(
        stem_channels=(64, 64),
        bottleneck_width=64,
        bottleneck_count=4,
        width=width,
        module_counts=(1, 4, 3),
        block_count=4,
    )


def hrnet_w16(family: type[HRNet] = HRNet) -> HRNet:
    """A small HRNet of this project, to be trained on a CPU: four stages, all branches, one block each."""
    return family(
        stem_channels=(16, 32),
        bottleneck_width=16,
        bottleneck_count=2,
        width=16,
        module_counts=(1, 1, 1),
        block_count=1,
    )
