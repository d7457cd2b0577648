"""The pose network: shapes of section 2, public names, and initial weights that come from one generator."""

import copy

import pytest
import torch
from torch import nn

from cdkd.config import BACKBONES
from cdkd.heads.simcc import SimCCHead
from cdkd.models.initialisation import initialise
from cdkd.models.pose import BACKBONE_BUILDERS, PoseNet, build_backbone
from tests.cdkd.networks import simcc_net


def build(seed: int = 0, *, size: int = 32, ratio: float = 2.0, keypoints: int = 5, name: str = "hrnet_w16") -> PoseNet:
    return simcc_net(name, size, ratio, keypoints, generator=torch.Generator().manual_seed(seed))


def parts():
    """Backbone and head of a network for images of 32 pixels, without values."""
    with torch.device("meta"):
        return build_backbone("hrnet_w16"), SimCCHead(16, keypoint_count=5, input_size=32, split_ratio=2.0)


def images(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(9))


def test_every_configured_backbone_can_be_built():
    assert set(BACKBONE_BUILDERS) == set(BACKBONES)


# Student at 64 and 32, teacher: the shapes of method section 2 (16 keypoints).
@pytest.mark.parametrize(
    ("size", "ratio", "classes"), [(64, 3.0, 192), (32, 2.0, 64), (256, 3.0, 768), (256, 2.0, 512)]
)
def test_shapes_are_those_of_the_method(size, ratio, classes):
    net = build(size=size, ratio=ratio, keypoints=16).eval()
    output = net(images(2, size))
    assert output.backbone_feature.shape == (2, 16, size // 4, size // 4)
    assert output.final_feature.shape == (2, 16, size // 4, size // 4)
    assert output.prediction.x.shape == output.prediction.y.shape == (2, 16, classes)


# The larger backbones are the same classes with other counts; they are built on the meta device elsewhere.
@pytest.mark.parametrize("name", ["hrnet_w16", "hrnet_w32", "resnet18", "resnet50"])
def test_a_backbone_gives_finite_outputs_for_one_small_image(name):
    output = build(name=name).eval()(images(1))
    assert output.prediction.x.shape == (1, 5, 64)
    assert output.prediction.x.isfinite().all()
    assert output.prediction.y.isfinite().all()


def test_the_head_classifies_each_keypoints_flattened_map_along_both_axes():
    net = build().eval()
    initialise(net, torch.Generator().manual_seed(3), conv_std=0.1)
    output = net(images())
    weight, bias = net.head.final_layer.weight[:, :, 0, 0], net.head.final_layer.bias[:, None, None]
    maps = torch.einsum("jc,bchw->bjhw", weight, output.backbone_feature) + bias
    torch.testing.assert_close(output.final_feature, maps)
    for head, logits in ((net.head.mlp_head_x, output.prediction.x), (net.head.mlp_head_y, output.prediction.y)):
        torch.testing.assert_close(logits, maps.reshape(2, 5, 64) @ head.weight.T + head.bias)
    assert not torch.allclose(output.prediction.x, output.prediction.y)


def test_outputs_carry_gradient_to_the_backbone():
    net = build()
    net(images(4)).final_feature.square().sum().backward()
    assert net.backbone.conv1.weight.grad.abs().sum() > 0


def test_state_dict_names_are_public_and_parameter_names_are_pytorchs():
    net = build()
    keys = list(net.state_dict())
    assert keys[0] == "conv1.weight"
    assert keys[-6:] == [
        f"{layer}.{part}" for layer in ("final_layer", "mlp_head_x", "mlp_head_y") for part in ("weight", "bias")
    ]
    assert not [key for key in keys if "backbone" in key]
    assert next(iter(dict(net.named_parameters()))) == "backbone.conv1.weight"


def test_state_dict_goes_into_another_network_strictly():
    source, target = build(0), build(1)
    target.load_state_dict(source.state_dict(), strict=True)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


@pytest.mark.parametrize("broken", ["conv1.weight", "final_layer.bias"])
def test_strict_loading_notices_a_missing_and_a_foreign_key(broken):
    net = build()
    state = net.state_dict()
    with pytest.raises(RuntimeError, match=f"Missing key.*{broken}"):
        net.load_state_dict({key: value for key, value in state.items() if key != broken}, strict=True)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        net.load_state_dict({**state, "stranger": torch.zeros(1)}, strict=True)


def test_names_stay_public_inside_another_module_beside_others():
    outer = nn.ModuleDict({"student": build(0), "backbone": nn.Linear(2, 2)})
    state = outer.state_dict()
    assert "student.conv1.weight" in state
    assert "backbone.weight" in state
    other = nn.ModuleDict({"student": build(1), "backbone": nn.Linear(2, 2)})
    other.load_state_dict(state, strict=True)
    assert torch.equal(other["student"].backbone.conv1.weight, outer["student"].backbone.conv1.weight)


def test_a_copy_is_independent():
    net = build().eval()
    twin = copy.deepcopy(net)
    nn.init.zeros_(net.backbone.conv1.weight)
    assert twin.state_dict()["conv1.weight"].abs().sum() > 0
    twin.load_state_dict(net.state_dict())
    assert twin.backbone.conv1.weight.abs().sum() == 0


def test_a_seed_gives_the_same_weights_whatever_the_global_state():
    torch.manual_seed(1)
    first = build(7).state_dict()
    torch.manual_seed(2)
    second = build(7).state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not torch.equal(first["conv1.weight"], build(8).state_dict()["conv1.weight"])


@pytest.mark.parametrize("name", ["hrnet_w16", "resnet18"])
def test_building_leaves_the_global_random_state_alone(name):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    build(name=name)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_backbone_does_not_depend_on_the_heads_sizes():
    small, large = build(keypoints=5).state_dict(), build(keypoints=17, ratio=3.0, size=64).state_dict()
    backbone = [key for key in small if not key.startswith(("final_layer", "mlp_head"))]
    assert len(backbone) > 200
    assert all(torch.equal(small[key], large[key]) for key in backbone)


@pytest.mark.parametrize("name", ["hrnet_w16", "resnet18"])
def test_initial_weights_follow_the_method(name):
    net = build(name=name, keypoints=16)
    kinds: set[str] = set()
    for module in net.modules():
        kinds.add(type(module).__name__)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            count = module.weight.numel()
            assert module.weight.std().item() == pytest.approx(0.001, rel=5 / count**0.5)
            assert abs(module.weight.mean().item()) < 5 * 0.001 / count**0.5
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert module.momentum == 0.1
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
            assert (module.running_mean == 0).all()
            assert (module.running_var == 1).all()
            assert module.num_batches_tracked == 0
    assert {"Conv2d", "BatchNorm2d", "Linear"} <= kinds
    for head in (net.head.mlp_head_x, net.head.mlp_head_y):
        bound = head.in_features**-0.5
        for weight in (head.weight, head.bias):
            assert weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.25)


def test_weights_of_an_unknown_kind_are_refused_rather_than_left_undefined():
    with pytest.raises(TypeError, match="no initialisation is known for GroupNorm"):
        initialise(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)), torch.Generator())


def test_a_linear_layer_without_bias_is_initialised():
    layer = nn.Linear(4, 2, bias=False, device="meta").to_empty(device="cpu")
    nn.init.constant_(layer.weight, 9.0)
    initialise(layer, torch.Generator().manual_seed(0))
    assert layer.weight.abs().max() <= 0.5


@pytest.mark.parametrize("size", [0, -32, 16, 48, 100])
def test_an_input_size_that_the_coarsest_branch_cannot_have_is_refused(size):
    with pytest.raises(ValueError, match=f"positive multiple of 32, got {size}"):
        PoseNet(*parts(), keypoint_count=5, input_size=size)


def test_an_unknown_backbone_is_answered_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"got 'hrnet_w23' \(did you mean 'hrnet_w32'\?\)"):
        build_backbone("hrnet_w23")


def test_no_keypoints_are_refused():
    with pytest.raises(ValueError, match="keypoint_count must be at least 1, got 0"):
        PoseNet(*parts(), keypoint_count=0, input_size=32)


def test_parts_whose_names_would_be_one_in_a_state_dict_are_refused():
    backbone, head = parts()
    head.conv1 = nn.Conv2d(3, 4, 1)
    with pytest.raises(ValueError, match="must not share names, got conv1 in both"):
        PoseNet(backbone, head, keypoint_count=5, input_size=32)


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 1, 32, 32), (2, 3, 32, 64), (3, 32, 32)])
def test_images_of_another_size_are_refused(shape):
    with pytest.raises(ValueError, match=r"images must have shape \(B, 3, 32, 32\)"):
        build()(torch.zeros(shape))


def test_channels_last_and_contiguous_images_give_the_same_outputs():
    net = build().eval()
    initialise(net, torch.Generator().manual_seed(3), conv_std=0.1)
    plain = net(images()).prediction.x
    fast = net.to(memory_format=torch.channels_last)(
        images().contiguous(memory_format=torch.channels_last)
    ).prediction.x
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_marginal_head_scores_the_bins_at_a_cell_highest() -> None:
    """A map with one bright cell must be read at that cell's own coordinate, on both axes."""
    net = simcc_net("hrnet_w16", 64, 2.0, 3, generator=torch.Generator().manual_seed(0), head_init="marginal")
    maps = torch.zeros(1, 3, 16, 16)
    maps[0, :, 5, 11] = 1.0  # row 5, column 11
    x = net.head.mlp_head_x(maps.flatten(2)).argmax(-1) / 2.0
    y = net.head.mlp_head_y(maps.flatten(2)).argmax(-1) / 2.0
    assert x.sub(11.5 * 4).abs().max() <= 0.5
    assert y.sub(5.5 * 4).abs().max() <= 0.5
