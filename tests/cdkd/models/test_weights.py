"""Weights files: the public layouts load, everything else is one clear line and changes nothing."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cdkd.models.hrnet import resample
from cdkd.models.pose import PoseNet, assemble_pose_net, build_pose_net, initialise
from cdkd.models.weights import WeightsError, architecture, load_backbone, load_pose_weights, read_state

HEAD = ("final_layer.", "mlp_head_x.", "mlp_head_y.")


def build(seed: int = 0, *, name: str = "hrnet_w16", size: int = 32, keypoints: int = 5) -> PoseNet:
    return build_pose_net(name, size, 2.0, keypoints, generator=torch.Generator().manual_seed(seed))


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


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_training_checkpoint_loads_with_its_numpy_score_and_dataparallel_prefix(tmp_path, prefix):
    source, target = build(0), build(1)
    state = {prefix + key: value for key, value in source.state_dict().items()}
    optimizer = torch.optim.Adam(source.parameters()).state_dict()
    content = {"epoch": 3, "perf": np.float64(0.5), "state_dict": state, "optimizer": optimizer}
    load_pose_weights(target, save(content, tmp_path))
    assert_equal(target, source.state_dict())


def test_a_file_without_batch_counters_loads(tmp_path):
    source, target = build(0), build(1)
    state = {key: value for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")}
    load_pose_weights(target, save(state, tmp_path))
    assert_equal(target, source.state_dict())


def imagenet_hrnet(net: PoseNet) -> dict[str, Tensor]:
    """The layout of `hrnet_w32-36af842e.pth`: body with all stage-4 outputs, and a classification head."""
    state = {key: value for key, value in copy_of(net).items() if not key.startswith(HEAD)}
    widths = [net.backbone.feature_channels * 2**branch for branch in range(4)]
    for target in (1, 2, 3):
        for source in range(4):
            layer = resample(widths, source, target).state_dict()
            state |= {f"stage4.0.fuse_layers.{target}.{source}.{key}": value for key, value in layer.items()}
    heads = ("incre_modules.0.0.conv1.weight", "downsamp_modules.0.0.bias", "final_layer.0.weight", "classifier.bias")
    return state | {key: torch.ones(3) for key in heads}


def test_an_imagenet_hrnet_gives_its_body_and_leaves_the_head(tmp_path):
    source, target = build(0), build(1)
    head = {key: value for key, value in copy_of(target).items() if key.startswith(HEAD)}
    load_backbone(target, save(imagenet_hrnet(source), tmp_path))
    assert_equal(target, source.state_dict() | head)


def test_a_pose_checkpoint_of_another_head_gives_its_body(tmp_path):
    source, target = build(0, size=64, keypoints=17), build(1)
    head = {key: value for key, value in copy_of(target).items() if key.startswith(HEAD)}
    load_backbone(target, save(source.state_dict(), tmp_path))
    assert_equal(target, source.state_dict() | head)


def test_a_torchvision_resnet_gives_its_trunk_and_leaves_the_upsampling(tmp_path):
    source, target = build(0, name="resnet18"), build(1, name="resnet18")
    own = (*HEAD, "deconv_layers.")
    state = {key: value for key, value in copy_of(source).items() if not key.startswith(own)}
    kept = {key: value for key, value in copy_of(target).items() if key.startswith(own)}
    classifier = {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    load_backbone(target, save(state | classifier, tmp_path))
    assert_equal(target, source.state_dict() | kept)


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


def test_a_head_of_another_size_is_named_with_both_shapes(tmp_path):
    message = refuse(build(), save(build(size=64).state_dict(), tmp_path))
    assert "of another shape: mlp_head_x.weight (128, 256) for (64, 64), mlp_head_x.bias (128,) for (64,)" in message


def test_whole_networks_are_not_loaded_from_files_of_a_body(tmp_path):
    message = refuse(build(), save(imagenet_hrnet(build()), tmp_path))
    assert message.startswith("does not fit this hrnet_w16 (missing: final_layer.weight, final_layer.bias")
    assert "unexpected: stage4.0.fuse_layers.1" in message


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
        assert architecture(assemble_pose_net(name, 32, 2.0, 5).state_dict()) == name


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
