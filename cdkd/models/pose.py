"""The pose network: a backbone and the SimCC head on its feature (Li et al. 2022; method 1.1 and 2)."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cdkd.models.hrnet import HRNet, hrnet_w16, hrnet_w32, hrnet_w48
from cdkd.models.resnet import ResNet, resnet18, resnet50, resnet101, resnet152
from cdkd.simcc import class_count

Backbone = HRNet | ResNet

BACKBONE_BUILDERS: Mapping[str, Callable[[], Backbone]] = {
    "hrnet_w32": hrnet_w32,
    "hrnet_w48": hrnet_w48,
    "hrnet_w16": hrnet_w16,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
}

BACKBONE_STRIDE = 32
"""Total stride of the coarsest map of every backbone: an input size must be a multiple of it."""

FEATURE_STRIDE = 4
"""Stride of the backbone's feature, and so of the map that is flattened for the head."""

CONV_STD = 0.001
"""Standard deviation of every convolution's initial weights (method 1.1)."""


@dataclass(frozen=True)
class PoseOutput:
    """What a pose network computes for B images of side S.

    Attributes:
        backbone_feature: (B, W, S/4, S/4), the input of `final_layer`.
        final_feature: (B, J, S/4, S/4), the output of `final_layer`, one map per keypoint.
        logits_x: (B, J, classes), unnormalised scores of the bins along x.
        logits_y: (B, J, classes), likewise along y.
    """

    backbone_feature: Tensor
    final_feature: Tensor
    logits_x: Tensor
    logits_y: Tensor


class PoseNet(nn.Module):
    """Backbone, 1x1 convolution to one map per keypoint, and two linear classifiers shared by the keypoints.

    State-dict names are the public ones, without a prefix for the backbone (`conv1.weight`, not
    `backbone.conv1.weight`); parameter names as in `named_parameters` keep it.

    Args:
        backbone: from images (B, 3, S, S) to a feature (B, feature_channels, S/4, S/4).
        keypoint_count: J.
        input_size: S, pixels; a multiple of 32.
        split_ratio: bins per pixel.
    """

    def __init__(self, backbone: Backbone, *, keypoint_count: int, input_size: int, split_ratio: float) -> None:
        super().__init__()
        if input_size < BACKBONE_STRIDE or input_size % BACKBONE_STRIDE:
            raise ValueError(f"input_size must be a positive multiple of {BACKBONE_STRIDE}, got {input_size}")
        if keypoint_count < 1:
            raise ValueError(f"keypoint_count must be at least 1, got {keypoint_count}")
        self.input_size = input_size
        self.split_ratio = split_ratio
        self.keypoint_count = keypoint_count
        classes = class_count(input_size, split_ratio)
        positions = (input_size // FEATURE_STRIDE) ** 2
        self.backbone = backbone
        self.final_layer = nn.Conv2d(backbone.feature_channels, keypoint_count, kernel_size=1)
        self.mlp_head_x = nn.Linear(positions, classes)
        self.mlp_head_y = nn.Linear(positions, classes)
        self.register_state_dict_post_hook(_drop_backbone_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_backbone_prefix)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> PoseOutput:
        """Images (B, 3, S, S) to features and logits.

        Raises:
            ValueError: the images are not of the size the head was built for.
        """
        expected = (3, self.input_size, self.input_size)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(f"images must have shape (B, {', '.join(map(str, expected))}), got {tuple(images.shape)}")
        backbone_feature: Tensor = self.backbone(images)
        final_feature: Tensor = self.final_layer(backbone_feature)
        maps = final_feature.flatten(start_dim=2)
        return PoseOutput(
            backbone_feature=backbone_feature,
            final_feature=final_feature,
            logits_x=self.mlp_head_x(maps),
            logits_y=self.mlp_head_y(maps),
        )


HEAD_PREFIXES = ("final_layer.", "mlp_head_x.", "mlp_head_y.")
"""State-dict names of a pose network that are not the backbone's."""


def _drop_backbone_prefix(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]) -> None:
    inner = f"{prefix}backbone."
    for key in list(state):
        # Every key is put back, so that the order stays that of the modules.
        name = prefix + key.removeprefix(inner) if key.startswith(inner) else key
        state[name] = state.pop(key)


def _add_backbone_prefix(_module: nn.Module, state: dict[str, Any], prefix: str, *_rest: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        if not name.startswith(HEAD_PREFIXES):
            state[f"{prefix}backbone.{name}"] = state.pop(key)


def build_pose_net(
    backbone: str,
    input_size: int,
    split_ratio: float,
    keypoint_count: int,
    *,
    generator: torch.Generator,
    head_init: str = "uniform",
) -> PoseNet:
    """A pose network on the CPU with random weights, every one of which is drawn from `generator`.

    The backbone is drawn before the head, so that it does not depend on the head's sizes. The global
    random state is neither read nor changed.

    Args:
        backbone: a name in BACKBONE_BUILDERS.
        input_size: S, pixels.
        split_ratio: bins per pixel.
        keypoint_count: J.
        generator: source of the weights.
        head_init: `uniform` (PyTorch's default, as released) or `marginal` (see `marginal_head`).

    Raises:
        ValueError: an unknown backbone, or sizes the network cannot have.
    """
    with torch.device("meta"):
        net = assemble_pose_net(backbone, input_size, split_ratio, keypoint_count)
    net = net.to_empty(device="cpu")
    initialise(net, generator)
    if head_init == "marginal":
        marginal_head(net)
    return net


MARGINAL_GAIN = 4.0
"""Sum of a classifier's initial weights over the cells at a bin's own coordinate."""


@torch.no_grad()
def marginal_head(net: PoseNet) -> None:
    """Let each classifier begin as a marginal of the map: a bin's score sums the cells near its coordinate.

    A keypoint's map then means a heatmap from the first step on, which a classifier with random weights
    has to find out first; on a small training budget that is worth several epochs.

    Differs from released code: there both classifiers begin at PyTorch's default.
    """
    side = net.input_size // FEATURE_STRIDE
    classes = net.mlp_head_x.out_features
    bins_of_cells = (torch.arange(side) + 0.5) * (classes / side) - 0.5
    distance_cells = (torch.arange(classes)[:, None] - bins_of_cells) * (side / classes)
    nearness = MARGINAL_GAIN / side * torch.exp(-0.5 * distance_cells**2)
    net.mlp_head_x.weight.copy_(nearness[:, None, :].expand(classes, side, side).flatten(1))
    net.mlp_head_y.weight.copy_(nearness[:, :, None].expand(classes, side, side).flatten(1))
    net.mlp_head_x.bias.zero_()
    net.mlp_head_y.bias.zero_()


def assemble_pose_net(backbone: str, input_size: int, split_ratio: float, keypoint_count: int) -> PoseNet:
    """A pose network by the name of its backbone, with PyTorch's default weights on the default device.

    Raises:
        ValueError: an unknown backbone, or sizes the network cannot have.
    """
    if backbone not in BACKBONE_BUILDERS:
        close = difflib.get_close_matches(backbone, BACKBONE_BUILDERS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"backbone must be one of {', '.join(BACKBONE_BUILDERS)}, got {backbone!r}{hint}")
    return PoseNet(
        BACKBONE_BUILDERS[backbone](), keypoint_count=keypoint_count, input_size=input_size, split_ratio=split_ratio
    )


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
