"""Names and shapes of public weights files, from the published tables and not from this project's modules.

A layout maps each state-dict name to its shape. Those of torchvision's ResNets and of HRNet with its ImageNet
head were compared with what torchvision 0.28 and timm 1.0.31 build; the others follow the public model files
(HRNet's pose_hrnet.py, SimCC's pose_hrnet.py and pose_resnet.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

Layout = dict[str, tuple[int, ...]]

HRNET_MODULES = {2: 1, 3: 4, 4: 3}
HEAD_WIDTHS = (128, 256, 512, 1024)
RESNET_BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}


def filled(layout: Layout, seed: int = 0) -> dict[str, Tensor]:
    """Random values of these shapes, counters of a training's length; windows of one buffer, for a small file."""
    sizes = {name: torch.Size(shape).numel() for name, shape in layout.items()}
    values = torch.randn(max(sizes.values()) + len(sizes), generator=torch.Generator().manual_seed(seed))
    return {
        name: torch.tensor(1000 + place) if name.endswith("num_batches_tracked") else window(values, place, shape)
        for place, (name, shape) in enumerate(layout.items())
    }


def window(values: Tensor, start: int, shape: tuple[int, ...]) -> Tensor:
    return values[start : start + torch.Size(shape).numel()].view(shape)


def without_counters(layout: Layout) -> Layout:
    """As written by PyTorch before 0.4.1 (hrnet_w48-8ef0771d.pth, resnet50-19c8e357.pth)."""
    return {name: shape for name, shape in layout.items() if not name.endswith("num_batches_tracked")}


def prefixed(prefix: str, layout: Layout) -> Layout:
    return {prefix + name: shape for name, shape in layout.items()}


# ------------------------------------------------------------------------------------------- building blocks


def conv(name: str, source: int, target: int, kernel: int, *, bias: bool = False) -> Layout:
    return {f"{name}.weight": (target, source, kernel, kernel), **({f"{name}.bias": (target,)} if bias else {})}


def norm(name: str, channels: int) -> Layout:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in vectors} | {f"{name}.num_batches_tracked": ()}


def linear(name: str, source: int, target: int) -> Layout:
    return {f"{name}.weight": (target, source), f"{name}.bias": (target,)}


def conv_norm(conv_name: str, norm_name: str, source: int, target: int, kernel: int, *, bias: bool = False) -> Layout:
    return conv(conv_name, source, target, kernel, bias=bias) | norm(norm_name, target)


def in_sequence(name: str, source: int, target: int, kernel: int, *, bias: bool = False) -> Layout:
    return conv_norm(f"{name}.0", f"{name}.1", source, target, kernel, bias=bias)


def basic_block(name: str, source: int, width: int) -> Layout:
    layout = conv_norm(f"{name}.conv1", f"{name}.bn1", source, width, 3)
    layout |= conv_norm(f"{name}.conv2", f"{name}.bn2", width, width, 3)
    return layout if source == width else layout | in_sequence(f"{name}.downsample", source, width, 1)


def bottleneck(name: str, source: int, width: int) -> Layout:
    layout = conv_norm(f"{name}.conv1", f"{name}.bn1", source, width, 1)
    layout |= conv_norm(f"{name}.conv2", f"{name}.bn2", width, width, 3)
    layout |= conv_norm(f"{name}.conv3", f"{name}.bn3", width, 4 * width, 1)
    return layout if source == 4 * width else layout | in_sequence(f"{name}.downsample", source, 4 * width, 1)


# ----------------------------------------------------------------------------------------------------- HRNet


def hrnet_body(width: int, *, last_outputs: int = 1) -> Layout:
    """Stem to stage 4, whose last module computes one branch in pose networks and all four in ImageNet's."""
    widths = [width * 2**branch for branch in range(4)]
    layout = conv_norm("conv1", "bn1", 3, 64, 3) | conv_norm("conv2", "bn2", 64, 64, 3)
    for block in range(4):
        layout |= bottleneck(f"layer1.{block}", 64 if block == 0 else 256, 64)
    layout |= in_sequence("transition1.0", 256, widths[0], 3) | in_sequence("transition1.1.0", 256, widths[1], 3)
    layout |= in_sequence("transition2.2.0", widths[1], widths[2], 3)
    layout |= in_sequence("transition3.3.0", widths[2], widths[3], 3)
    for stage, modules in HRNET_MODULES.items():
        for module in range(modules):
            outputs = last_outputs if (stage, module) == (4, 2) else stage
            layout |= hrnet_module(f"stage{stage}.{module}", widths[:stage], outputs)
    return layout


def hrnet_module(name: str, widths: list[int], outputs: int) -> Layout:
    layout: Layout = {}
    for branch, width in enumerate(widths):
        for block in range(4):
            layout |= basic_block(f"{name}.branches.{branch}.{block}", width, width)
    for target in range(outputs):
        for source in range(len(widths)):
            layout |= fuse_layer(f"{name}.fuse_layers.{target}.{source}", widths, source, target)
    return layout


def fuse_layer(name: str, widths: list[int], source: int, target: int) -> Layout:
    if source > target:
        return in_sequence(name, widths[source], widths[target], 1)
    layout: Layout = {}
    for step in range(target - source):
        reached = widths[target] if step == target - source - 1 else widths[source]
        layout |= in_sequence(f"{name}.{step}", widths[source], reached, 3)
    return layout


def imagenet_hrnet(width: int) -> Layout:
    """hrnetv2_w32_imagenet_pretrained.pth and timm's hrnet_w32."""
    return hrnet_body(width, last_outputs=4) | imagenet_head(
        width, "incre_modules", "downsamp_modules", "final_layer", "classifier"
    )


def early_imagenet_hrnet(width: int) -> Layout:
    """hrnet_w32-36af842e.pth and hrnet_w48-8ef0771d.pth, from which the pose trainings start.

    The same network with its head in one list: mmpose prints these names when it leaves them out
    (mmpose issues 356, 685, 1054 and 1450).
    """
    return hrnet_body(width, last_outputs=4) | imagenet_head(width, "head.0", "head.1", "head.2", "fc")


def imagenet_head(width: int, widen: str, halve: str, final: str, classifier: str) -> Layout:
    layout: Layout = {}
    for branch, head_width in enumerate(HEAD_WIDTHS):
        layout |= bottleneck(f"{widen}.{branch}.0", width * 2**branch, head_width // 4)
    for branch in range(3):
        layout |= in_sequence(f"{halve}.{branch}", HEAD_WIDTHS[branch], HEAD_WIDTHS[branch + 1], 3, bias=True)
    return layout | in_sequence(final, 1024, 2048, 1, bias=True) | linear(classifier, 2048, 1000)


def heatmap_hrnet(width: int, keypoints: int) -> Layout:
    """pose_hrnet_w32_256x192.pth."""
    return hrnet_body(width) | conv("final_layer", width, keypoints, 1, bias=True)


def simcc_hrnet(width: int, keypoints: int, input_width: int, input_height: int, ratio: float) -> Layout:
    """A checkpoint of SimCC with an HRNet."""
    return heatmap_hrnet(width, keypoints) | simcc_head(input_width, input_height, ratio)


def simcc_head(input_width: int, input_height: int, ratio: float) -> Layout:
    cells = (input_width // 4) * (input_height // 4)
    return linear("mlp_head_x", cells, int(input_width * ratio)) | linear(
        "mlp_head_y", cells, int(input_height * ratio)
    )


# ---------------------------------------------------------------------------------------------------- ResNet


def resnet_trunk(name: str) -> Layout:
    block, expansion = (basic_block, 1) if name == "resnet18" else (bottleneck, 4)
    layout = conv_norm("conv1", "bn1", 3, 64, 7)
    source = 64
    for layer, count in enumerate(RESNET_BLOCKS[name], start=1):
        width = 32 * 2**layer
        for place in range(count):
            layout |= block(f"layer{layer}.{place}", source, width)
            source = width * expansion
    return layout


def torchvision_resnet(name: str) -> Layout:
    """resnet50-0676ba61.pth."""
    return resnet_trunk(name) | linear("fc", 512 if name == "resnet18" else 2048, 1000)


def heatmap_resnet(name: str, keypoints: int) -> Layout:
    """pose_resnet_50_256x192.pth of Simple Baselines."""
    layout = resnet_trunk(name)
    for place, source in zip((0, 3, 6), (512 if name == "resnet18" else 2048, 256, 256)):
        layout |= {f"deconv_layers.{place}.weight": (source, 256, 4, 4)} | norm(f"deconv_layers.{place + 1}", 256)
    return layout | conv("final_layer", 256, keypoints, 1, bias=True)


def simcc_resnet(name: str, keypoints: int, input_width: int, input_height: int, ratio: float) -> Layout:
    """A checkpoint of SimCC with a ResNet and transposed convolutions."""
    return heatmap_resnet(name, keypoints) | simcc_head(input_width, input_height, ratio)
