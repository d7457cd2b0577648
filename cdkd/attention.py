"""Where a network looks for a keypoint: Grad-CAM (Selvaraju et al., ICCV 2017) on what a head says (paper Fig. 9).

The paper does not say how its attention maps are made; Grad-CAM is this project's choice (method 9.1, F9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cdkd.heads.codec import Codec
from cdkd.models.hrnet import HRNet
from cdkd.models.pose import PoseNet


@dataclass(frozen=True)
class Attention:
    """Where the evidence for K keypoints lies in B images.

    Attributes:
        maps: for each layer (B, K, h, w) at the layer's resolution; every map lies in [0, 1] and has the maximum 1,
            or is zero everywhere.
        peaks: (B, K, 2) x and y, input pixels, the places that the maps explain.
    """

    maps: dict[str, Tensor]
    peaks: Tensor


def attention_layers(net: PoseNet) -> dict[str, nn.Module]:
    """The layers of Fig. 9: the last convolutions of the head and of the last two stages of the backbone.

    The head's is `final_layer`, whose output has one channel a keypoint (a head that makes no such maps has none).
    Of a stage it is the last residual block of the finest branch, so that a map is what the block puts out: its last
    convolution with the normalisation, shortcut and ReLU that belong to it. The fusion of the branches that ends an
    HRNet's last stage is not taken: only the head's 1x1 convolution follows, and Grad-CAM would give the head's map
    once more.

    The head's map is its keypoint's channel, clipped at zero. Of SimCC's, the classifiers weigh the channel's cells
    by their place, and Grad-CAM keeps the mean of these weights alone; where it is negative, the map shows the
    channel's negative cells instead.
    """
    backbone = net.backbone
    if isinstance(backbone, HRNet):
        stages = {"stage 3": _finest_branch(backbone.stage3), "stage 4": _finest_branch(backbone.stage4)}
    else:
        stages = {"layer 3": backbone.layer3[-1], "layer 4": backbone.layer4[-1]}
    final_layer = getattr(net.head, "final_layer", None)
    return stages if final_layer is None else {"pose head": final_layer, **stages}


def _finest_branch(stage: nn.Sequential) -> nn.Module:
    *_rest, last_block = stage[-1].get_submodule("branches.0").children()
    return last_block


def attention(
    net: PoseNet, codec: Codec[Any], images: Tensor, keypoints: Sequence[int], layers: Mapping[str, nn.Module]
) -> Attention:
    """Grad-CAM of keypoints at some layers of a network, which is left as it was.

    A keypoint's map explains its evidence (`Codec.evidence`; SimCC: its largest x logit plus its largest y logit), of
    the images as they are (without the mirrored images of a flip test).

    Args:
        net: in evaluation mode, on any device.
        codec: reads its predictions.
        images: (B, 3, S, S), normalised as for a prediction.
        keypoints: indices of K keypoints.
        layers: modules of `net` whose outputs are (B, channels, h, w), see `attention_layers`.

    Raises:
        ValueError: a network in training mode, where an image's map would depend on the rest of its batch.
    """
    if net.training:
        raise ValueError("attention needs a network in evaluation mode, got one in training mode")
    with torch.enable_grad(), _recorded(layers) as outputs:
        # It is the images that ask for gradients: the parameters may be frozen.
        evidence, peaks = codec.evidence(net(images.detach().requires_grad_()).prediction)
        # Summed over the images, whose predictions do not depend on each other in evaluation mode.
        targets = evidence[:, list(keypoints)].sum(dim=0).unbind()
    gradients = [
        torch.autograd.grad(target, [outputs[name] for name in layers], retain_graph=True) for target in targets
    ]
    maps = {
        name: torch.stack([grad_cam(outputs[name].detach(), by_layer[place]) for by_layer in gradients], dim=1)
        for place, name in enumerate(layers)
    }
    return Attention(maps, peaks[:, list(keypoints)].detach())


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """ReLU of the channels' sum, each weighted by the spatial mean of its gradient (Selvaraju et al., Eq. 1 and 2).

    Args:
        activations: (B, C, h, w).
        gradients: (B, C, h, w) of the explained score to the activations.

    Returns:
        (B, h, w), each map divided by its maximum; zero everywhere where nothing speaks for the score.
    """
    weights = gradients.mean(dim=(2, 3), keepdim=True)
    maps = (weights * activations).sum(dim=1).relu()
    peaks = maps.amax(dim=(1, 2), keepdim=True)
    return maps / torch.where(peaks > 0, peaks, torch.ones_like(peaks))


@contextmanager
def _recorded(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The outputs of modules by name, filled in by a forward pass inside the context."""
    outputs: dict[str, Tensor] = {}

    def record(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        return module.register_forward_hook(lambda _module, _inputs, output: outputs.__setitem__(name, output))

    handles = [record(name, module) for name, module in layers.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
