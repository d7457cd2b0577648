"""The pose network: a backbone and a head on its feature (method 1.1 and 2)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cdkd.models.head import Head, PoseOutput
from cdkd.models.hrnet import HRNet, TwoStreamHRNet, hrnet_w16, hrnet_w32, hrnet_w48
from cdkd.models.initialisation import initialise
from cdkd.models.resnet import ResNet, resnet18, resnet50, resnet101, resnet152

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
"""Stride of the backbone's feature, and so of the maps that a head makes of it."""


class PoseNet(nn.Module):
    """A backbone and a head.

    State-dict names are the public ones, without a prefix for either part (`conv1.weight` and `final_layer.weight`,
    not `backbone.conv1.weight` and `head.final_layer.weight`); names as in `named_parameters` keep it.

    Args:
        backbone: from images (B, 3, S, S) to a feature (B, feature_channels, S/4, S/4).
        head: from that feature to the output.
        keypoint_count: J.
        input_size: S, pixels; a multiple of 32.

    Raises:
        ValueError: sizes the network cannot have, or parts of equal names.
    """

    def __init__(self, backbone: Backbone, head: Head, *, keypoint_count: int, input_size: int) -> None:
        super().__init__()
        check_sizes(input_size, keypoint_count)
        shared = part_names(backbone) & part_names(head)
        if shared:
            raise ValueError(f"backbone and head must not share names, got {', '.join(sorted(shared))} in both")
        self.input_size = input_size
        self.keypoint_count = keypoint_count
        self.backbone = backbone
        self.head = head
        self.register_state_dict_post_hook(_drop_prefixes)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_prefixes)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> PoseOutput:
        """Images (B, 3, S, S) to features and prediction.

        Raises:
            ValueError: the images are not of the size the head was built for.
        """
        expected = (3, self.input_size, self.input_size)
        if tuple(images.shape[1:]) != expected:
            raise ValueError(f"images must have shape (B, {', '.join(map(str, expected))}), got {tuple(images.shape)}")
        output: PoseOutput = self.head(self.backbone(images))
        return output

    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight, the backbone's first, so that it does not depend on the head's sizes."""
        initialise(self.backbone, generator)
        self.head.initialise(generator)


def check_sizes(input_size: int, keypoint_count: int) -> None:
    """Refuse sizes that no pose network can have.

    Raises:
        ValueError: such a size.
    """
    if input_size < BACKBONE_STRIDE or input_size % BACKBONE_STRIDE:
        raise ValueError(f"input_size must be a positive multiple of {BACKBONE_STRIDE}, got {input_size}")
    if keypoint_count < 1:
        raise ValueError(f"keypoint_count must be at least 1, got {keypoint_count}")


def part_names(module: nn.Module) -> set[str]:
    """The first parts of the names in a module's state dict."""
    return {key.split(".")[0] for key in module.state_dict()}


def _drop_prefixes(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: dict[str, Any]) -> None:
    for key in list(state):
        # Every key is put back, so that the order stays that of the modules.
        state[_public_name(key, prefix)] = state.pop(key)


def _public_name(key: str, prefix: str) -> str:
    for part in ("backbone.", "head."):
        if key.startswith(prefix + part):
            return prefix + key.removeprefix(prefix + part)
    return key


def _add_prefixes(module: PoseNet, state: dict[str, Any], prefix: str, *_rest: Any) -> None:
    in_head = part_names(module.head)
    for key in [key for key in state if key.startswith(prefix)]:
        name = key.removeprefix(prefix)
        part = "head" if name.split(".")[0] in in_head else "backbone"
        state[f"{prefix}{part}.{name}"] = state.pop(key)


TWO_STREAM_BUILDERS: Mapping[str, Callable[[type[HRNet]], HRNet]] = {
    "hrnet_w32": hrnet_w32,
    "hrnet_w48": hrnet_w48,
    "hrnet_w16": hrnet_w16,
}


def build_two_stream_backbone(name: str) -> Backbone:
    """An HRNet with a second stage 4, with PyTorch's default weights on the default device.

    Raises:
        ValueError: no HRNet.
    """
    if name not in TWO_STREAM_BUILDERS:
        raise ValueError(f"a backbone with two streams must be one of {', '.join(TWO_STREAM_BUILDERS)}, got {name!r}")
    return TWO_STREAM_BUILDERS[name](TwoStreamHRNet)


def build_backbone(name: str) -> Backbone:
    """A backbone with PyTorch's default weights on the default device.

    Raises:
        ValueError: an unknown name.
    """
    if name not in BACKBONE_BUILDERS:
        close = difflib.get_close_matches(name, BACKBONE_BUILDERS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"backbone must be one of {', '.join(BACKBONE_BUILDERS)}, got {name!r}{hint}")
    return BACKBONE_BUILDERS[name]()
