"""ResNet with three transposed convolutions (Xiao et al. 2018, "Simple Baselines"; method 1.1).

State-dict names are torchvision's (`conv1`, `layer1`, ...) and, for the upsampling, `deconv_layers`.
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016)."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(in_channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the 3x3 one carries the stride (as torchvision)."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.downsample = shortcut(in_channels, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x), inplace=True)


Block = type[BasicBlock] | type[Bottleneck]


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A padded 3x3 convolution without bias (a batch normalisation follows)."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Identity where the shapes agree, else a 1x1 convolution with batch normalisation."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def residual_layer(block: Block, in_channels: int, width: int, count: int, stride: int = 1) -> nn.Sequential:
    """`count` residual blocks, the first of which changes channels and stride."""
    blocks = [block(in_channels, width, stride)]
    blocks += [block(width * block.expansion, width) for _ in range(count - 1)]
    return nn.Sequential(*blocks)


class ResNet(nn.Module):
    """ResNet trunk to stride 32, then three transposed convolutions back to stride 4.

    Args:
        block: residual block of the four layers.
        counts: blocks in each of the four layers.
        deconv_channels: channels of each transposed convolution, and of the feature.
    """

    def __init__(self, *, block: Block, counts: tuple[int, int, int, int], deconv_channels: int = 256) -> None:
        super().__init__()
        self.feature_channels = deconv_channels
        expansion = block.expansion
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = residual_layer(block, 64, 64, counts[0])
        self.layer2 = residual_layer(block, 64 * expansion, 128, counts[1], stride=2)
        self.layer3 = residual_layer(block, 128 * expansion, 256, counts[2], stride=2)
        self.layer4 = residual_layer(block, 256 * expansion, 512, counts[3], stride=2)
        self.deconv_layers = deconv_layers(512 * expansion, deconv_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) to the feature (B, deconv_channels, S/4, S/4)."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        feature: Tensor = self.deconv_layers(x)
        return feature


def deconv_layers(in_channels: int, channels: int, count: int = 3) -> nn.Sequential:
    """`count` times a 4x4 transposed convolution of stride 2, batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for index in range(count):
        source = in_channels if index == 0 else channels
        layers.append(nn.ConvTranspose2d(source, channels, kernel_size=4, stride=2, padding=1, bias=False))
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def resnet18() -> ResNet:
    """ResNet-18."""
    return ResNet(block=BasicBlock, counts=(2, 2, 2, 2))


def resnet50() -> ResNet:
    """ResNet-50."""
    return ResNet(block=Bottleneck, counts=(3, 4, 6, 3))


def resnet101() -> ResNet:
    """ResNet-101."""
    return ResNet(block=Bottleneck, counts=(3, 4, 23, 3))


def resnet152() -> ResNet:
    """ResNet-152."""
    return ResNet(block=Bottleneck, counts=(3, 8, 36, 3))
