"""Weights files: the public layouts load, everything else is one clear line and changes nothing."""

import functools
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cdkd.models.initialisation import initialise
from cdkd.models.pose import PoseNet
from cdkd.models.weights import WeightsError, architecture, load_backbone, load_pose_weights, read_state
from tests.cdkd.models import layouts
from tests.cdkd.models.layouts import Layout
from tests.cdkd.networks import simcc_net

HEAD = ("final_layer.", "mlp_head_x.", "mlp_head_y.")


def build(seed: int = 0, *, name: str = "hrnet_w16", size: int = 32, keypoints: int = 5) -> PoseNet:
    return simcc_net(name, size, 2.0, keypoints, generator=torch.Generator().manual_seed(seed))


def copy_of(net: PoseNet) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def assert_equal(net: PoseNet, state: dict[str, Tensor]) -> None:
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def save(content: object, folder: Path, **options: bool) -> Path:
    file = folder / "weights.pth"
    torch.save(content, file, **options)
    return file


def refuse(net: PoseNet, file: Path, load: object = load_pose_weights) -> str:
    """The message with which `load` refuses the file, having left the network as it was."""
    before = copy_of(net)
    with pytest.raises(WeightsError) as caught:
        load(net, file)
    assert_equal(net, before)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


# ----------------------------------------------------------------------------------- files that load


def test_a_plain_state_dict_gives_the_same_network(tmp_path):
    source, target = build(0), build(1)
    load_pose_weights(target, save(source.state_dict(), tmp_path))
    assert_equal(target, source.state_dict())


def test_the_format_of_before_pytorch_1_6_loads(tmp_path):
    source, target = build(0), build(1)
    load_pose_weights(target, save(source.state_dict(), tmp_path, _use_new_zipfile_serialization=False))
    assert_equal(target, source.state_dict())


@pytest.mark.parametrize("zipped", [True, False])
def test_the_checkpoint_of_the_public_training_scripts_loads(tmp_path, zipped):
    """`checkpoint.pth` of HRNet's and SimCC's train.py: names as under DataParallel, and a score that is NumPy's."""
    source, target = build(0), build(1)
    content = {
        "epoch": 3,
        "model": "pose_hrnet",
        "state_dict": {f"module.{key}": value for key, value in source.state_dict().items()},
        "best_state_dict": source.state_dict(),
        "perf": np.float64(0.5),
        "optimizer": torch.optim.Adam(source.parameters()).state_dict(),
    }
    load_pose_weights(target, save(content, tmp_path, _use_new_zipfile_serialization=zipped))
    assert_equal(target, source.state_dict())


def test_a_file_without_batch_counters_loads(tmp_path):
    source, target = build(0), build(1)
    state = {key: value for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    load_pose_weights(target, save(state, tmp_path))
    assert_equal(target, source.state_dict())


@dataclass(frozen=True)
class PublicFile:
    """A file whose backbone goes into the network `name`: the part that lands there, and all that it holds."""

    name: str
    landing: Layout
    layout: Layout


W32, W48 = layouts.hrnet_body(32), layouts.hrnet_body(48)
EARLY_W32, EARLY_W48 = layouts.early_imagenet_hrnet(32), layouts.early_imagenet_hrnet(48)
RESNET18, RESNET50 = layouts.torchvision_resnet("resnet18"), layouts.torchvision_resnet("resnet50")
TRUNK18, TRUNK50 = layouts.resnet_trunk("resnet18"), layouts.resnet_trunk("resnet50")
POSE_RESNET = layouts.heatmap_resnet("resnet50", 17)
UPSAMPLED50 = {key: shape for key, shape in POSE_RESNET.items() if not key.startswith(HEAD)}

BACKBONE_SOURCES = {
    "hrnet_w32-36af842e.pth": PublicFile("hrnet_w32", W32, EARLY_W32),
    "hrnet_w48-8ef0771d.pth": PublicFile("hrnet_w48", W48, layouts.without_counters(EARLY_W48)),
    "hrnetv2_w32_imagenet_pretrained.pth": PublicFile("hrnet_w32", W32, layouts.imagenet_hrnet(32)),
    "pose_hrnet_w32_256x256.pth": PublicFile("hrnet_w32", W32, layouts.heatmap_hrnet(32, 16)),
    "SimCC, hrnet": PublicFile("hrnet_w32", W32, layouts.simcc_hrnet(32, 17, 192, 256, 2.0)),
    "pose_resnet_50_256x192.pth": PublicFile("resnet50", UPSAMPLED50, POSE_RESNET),
    "SimCC, resnet": PublicFile("resnet50", UPSAMPLED50, layouts.simcc_resnet("resnet50", 17, 128, 128, 3.0)),
    "resnet18-f37072fd.pth": PublicFile("resnet18", TRUNK18, RESNET18),
    "resnet50-0676ba61.pth": PublicFile("resnet50", TRUNK50, RESNET50),
    "resnet50-19c8e357.pth": PublicFile("resnet50", TRUNK50, layouts.without_counters(RESNET50)),
    "ten classes": PublicFile("resnet18", TRUNK18, TRUNK18 | layouts.linear("fc", 512, 10)),
}


@functools.cache
def network(name: str) -> PoseNet:
    with torch.device("meta"):
        net = simcc_net(name, 64, 3.0, 16)
    return net.to_empty(device="cpu")


def zeroed(name: str) -> PoseNet:
    """A network of one of the public sizes for images of 64 pixels, 3 bins a pixel, 16 keypoints; every number is 0."""
    net = network(name)
    for value in net.state_dict().values():
        value.zero_()
    return net


@pytest.mark.parametrize("source", BACKBONE_SOURCES.values(), ids=BACKBONE_SOURCES)
def test_a_public_file_gives_its_backbone_and_leaves_all_else(tmp_path, source):
    net, state = zeroed(source.name), layouts.filled(source.layout)
    load_backbone(net, save(state, tmp_path))
    landed = {key: value for key, value in net.state_dict().items() if value.any()}
    assert landed.keys() == source.landing.keys() & state.keys()
    assert all(torch.equal(value, state[key]) for key, value in landed.items())


SIMCC_NETWORKS = {
    "hrnet_w32": layouts.simcc_hrnet(32, 16, 64, 64, 3.0),
    "hrnet_w48": layouts.simcc_hrnet(48, 16, 64, 64, 3.0),
    **{name: layouts.simcc_resnet(name, 16, 64, 64, 3.0) for name in layouts.RESNET_BLOCKS},
}


@pytest.mark.parametrize("name", SIMCC_NETWORKS)
def test_names_and_shapes_are_those_of_the_public_networks(name):
    with torch.device("meta"):
        state = simcc_net(name, 64, 3.0, 16).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == SIMCC_NETWORKS[name]


@pytest.mark.parametrize("name", ["hrnet_w32", "resnet50"])
def test_a_simcc_checkpoint_gives_the_whole_network(tmp_path, name):
    net, state = zeroed(name), layouts.filled(SIMCC_NETWORKS[name])
    load_pose_weights(net, save(state, tmp_path))
    assert_equal(net, {key: state[key] for key in net.state_dict()})


def test_loading_does_not_tie_the_network_to_the_file(tmp_path):
    source, target = build(0), build(1)
    file = save(source.state_dict(), tmp_path)
    load_pose_weights(target, file)
    initialise(target, torch.Generator().manual_seed(5))
    load_pose_weights(target, file)
    assert_equal(target, source.state_dict())


# ------------------------------------------------------------------------------- files that do not fit


@pytest.mark.parametrize("load", [load_pose_weights, load_backbone])
def test_missing_and_unexpected_keys_are_named(tmp_path, load):
    state = build().state_dict()
    state["layer9.weight"] = state.pop("stage2.0.branches.0.0.conv1.weight")
    message = refuse(build(), save(state, tmp_path), load)
    assert message == (
        "does not fit this hrnet_w16 (missing: stage2.0.branches.0.0.conv1.weight; unexpected: layer9.weight)"
    )


def test_three_keys_are_named_and_the_others_counted(tmp_path):
    state = build().state_dict() | {f"x{index}": torch.zeros(1) for index in range(8)}
    assert refuse(build(), save(state, tmp_path)) == "does not fit this hrnet_w16 (unexpected: x0, x1, x2 and 5 more)"


WHOLE_NETWORK_REFUSALS = {
    "heatmaps": (
        layouts.heatmap_hrnet(32, 16),
        "missing: mlp_head_x.weight, mlp_head_x.bias, mlp_head_y.weight and 1 more",
    ),
    "ImageNet": (
        EARLY_W32,
        "missing: final_layer.weight, final_layer.bias, mlp_head_x.weight and 3 more; "
        "unexpected: stage4.2.fuse_layers.1.0.0.0.weight, stage4.2.fuse_layers.1.0.0.1.weight, "
        "stage4.2.fuse_layers.1.0.0.1.bias and 201 more",
    ),
    "another split ratio": (
        layouts.simcc_hrnet(32, 16, 64, 64, 2.0),
        "of another shape: mlp_head_x.weight (128, 256) for (192, 256), mlp_head_x.bias (128,) for (192,), "
        "mlp_head_y.weight (128, 256) for (192, 256) and 1 more",
    ),
    "another keypoint set": (
        layouts.simcc_hrnet(32, 17, 64, 64, 3.0),
        "of another shape: final_layer.weight (17, 32, 1, 1) for (16, 32, 1, 1), final_layer.bias (17,) for (16,)",
    ),
    "another input size": (
        layouts.simcc_hrnet(32, 16, 48, 64, 3.0),
        "of another shape: mlp_head_x.weight (144, 192) for (192, 256), mlp_head_x.bias (144,) for (192,), "
        "mlp_head_y.weight (192, 192) for (192, 256)",
    ),
}


@pytest.mark.parametrize(("layout", "difference"), WHOLE_NETWORK_REFUSALS.values(), ids=WHOLE_NETWORK_REFUSALS)
def test_a_file_that_is_not_the_whole_network_is_refused_with_what_differs(tmp_path, layout, difference):
    message = refuse(zeroed("hrnet_w32"), save(layouts.filled(layout), tmp_path))
    assert message == f"does not fit this hrnet_w32 ({difference})"


def test_an_imagenet_file_lacks_nothing_and_holds_nothing_but_what_is_listed(tmp_path):
    layout = EARLY_W32 | layouts.conv("stage4.3.branches.0.0.conv1", 32, 32, 3)
    del layout["stage4.2.fuse_layers.0.3.0.weight"]
    message = refuse(zeroed("hrnet_w32"), save(layouts.filled(layout), tmp_path), load_backbone)
    assert message == (
        "does not fit this hrnet_w32 (missing: stage4.2.fuse_layers.0.3.0.weight; "
        "unexpected: stage4.3.branches.0.0.conv1.weight)"
    )


def test_an_imagenet_file_of_another_width_is_told_by_it(tmp_path):
    message = refuse(zeroed("hrnet_w32"), save(layouts.filled(EARLY_W48), tmp_path), load_backbone)
    assert message.startswith(
        "looks like hrnet_w48, the network is hrnet_w32 (of another shape: "
        "transition1.0.0.weight (48, 256, 3, 3) for (32, 256, 3, 3), "
    )


MMPOSE = layouts.prefixed("backbone.", W32) | layouts.prefixed(
    "head.", layouts.conv("final_layer", 32, 17, 1, bias=True)
)
"""hrnet_w32_coco_256x192 of mmpose; older versions say `keypoint_head.`."""


@pytest.mark.parametrize("load", [load_pose_weights, load_backbone])
def test_an_mmpose_network_is_told_by_its_prefix_and_what_to_do_is_said(tmp_path, load):
    message = refuse(zeroed("hrnet_w32"), save({"state_dict": layouts.filled(MMPOSE)}, tmp_path), load)
    assert message.startswith(
        "holds a hrnet_w32 under the prefix 'backbone.', as mmpose writes it: "
        "save that part without the prefix, to start a backbone from it (missing: conv1.weight, "
    )


def test_other_prefixes_are_named_too(tmp_path):
    state = layouts.filled(layouts.prefixed("model.encoder.", RESNET50))
    message = refuse(zeroed("resnet50"), save(state, tmp_path), load_backbone)
    assert message.startswith("holds a resnet50 under the prefix 'model.encoder.': save that part")


def test_a_prefix_does_not_hide_another_architecture(tmp_path):
    message = refuse(zeroed("resnet50"), save(layouts.filled(MMPOSE), tmp_path), load_backbone)
    assert message.startswith("looks like hrnet_w32, the network is resnet50 (")


def test_some_of_the_upsampling_is_not_enough(tmp_path):
    state = build(name="resnet18").state_dict()
    del state["deconv_layers.3.weight"]
    message = refuse(build(name="resnet18"), save(state, tmp_path), load_backbone)
    assert message == "does not fit this resnet18 (missing: deconv_layers.3.weight)"


@pytest.mark.parametrize("load", [load_pose_weights, load_backbone])
def test_another_architecture_is_recognised(tmp_path, load):
    message = refuse(build(), save(build(name="resnet18").state_dict(), tmp_path), load)
    assert message.startswith("looks like resnet18, the network is hrnet_w16 (missing: conv2.weight, ")
    assert len(message) < 600


def test_a_network_of_no_known_family_is_said_to_be_one(tmp_path):
    message = refuse(build(), save({"patch_embed.proj.weight": torch.zeros(2, 2)}, tmp_path))
    assert message.startswith("holds no hrnet_w16, nor another backbone known here (missing: conv1.weight")
    assert message.endswith("unexpected: patch_embed.proj.weight)")


@pytest.mark.parametrize(
    "name", ["hrnet_w32", "hrnet_w48", "hrnet_w16", "resnet18", "resnet50", "resnet101", "resnet152"]
)
def test_every_backbone_is_told_from_its_keys(name):
    with torch.device("meta"):
        assert architecture(simcc_net(name, 32, 2.0, 5).state_dict()) == name


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_diverged_training_are_refused(tmp_path, value):
    state = copy_of(build())
    state["final_layer.bias"][2] = value
    assert refuse(build(), save(state, tmp_path)) == "holds weights that are not finite: final_layer.bias"


# --------------------------------------------------------------------------- files that cannot be read


class Touch:
    """A pickle of this class creates a file when it is loaded without care."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.file,))


def pickled(protocol: int) -> Callable[[object, Path], int]:
    return lambda content, file: file.write_bytes(pickle.dumps(content, protocol))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (torch.save, "needs code to be read, which is refused"),
        (pickled(2), "needs code to be read, which is refused"),
        (pickled(4), "is not a PyTorch file or is damaged"),
    ],
    ids=["torch", "protocol 2", "protocol 4"],
)
def test_code_in_a_file_is_not_run(tmp_path, write, reason):
    file, trace = tmp_path / "weights.pth", tmp_path / "trace"
    write({"conv1.weight": Touch(trace)}, file)
    assert refuse(build(), file).startswith(reason)
    assert not trace.exists()


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    assert refuse(build(), tmp_path / "none.pth") == "no such file"
    assert refuse(build(), tmp_path) == "no such file"


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 100, b"<html><body>404 Not Found</body></html>", b"PK\x03\x04 no archive", bytes(range(256)) * 8],
    ids=["empty", "zeros", "html", "zip", "bytes"],
)
def test_a_file_that_is_not_pytorchs_is_said_to_be_none(tmp_path, content):
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    assert refuse(build(), file).startswith("is not a PyTorch file or is damaged")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, zipped, fraction):
    file = save(build().state_dict(), tmp_path, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * fraction)])
    assert refuse(build(), file).startswith("is not a PyTorch file or is damaged")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (torch.zeros(3), "holds no state dict (it holds a Tensor)"),
        ([torch.zeros(3)], "holds no state dict (it holds a list)"),
        ({}, "holds no state dict (it is empty)"),
        ({"state_dict": {}}, "holds no state dict (it is empty)"),
        ({"epoch": 3, "model": {}}, "is no state dict: its entry epoch is a int"),
        ({"conv1.weight": torch.zeros(3), 7: torch.zeros(3)}, "is no state dict: its entry 7 is a Tensor"),
    ],
)
def test_other_content_is_said_to_be_no_state_dict(tmp_path, content, what):
    assert refuse(build(), save(content, tmp_path)).startswith(what)


def test_a_message_stays_one_short_line_whatever_the_keys(tmp_path):
    state = {"a\nb" * 5000: torch.zeros(1)}
    message = refuse(build(), save(state, tmp_path))
    assert len(message) < 600


def test_the_prefix_of_dataparallel_is_removed_only_when_every_key_has_it(tmp_path):
    state = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert set(read_state(save(state, tmp_path))) == {"module.a", "b"}
