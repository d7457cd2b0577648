"""Grad-CAM: against hand-derived values, on a network made by hand, and without a trace left behind."""

import numpy as np
import pytest
import torch
from torch import nn

from cdkd.attention import attention, attention_layers, grad_cam
from cdkd.config import SimCCConfig
from cdkd.heads.simcc import SimCCCodec, SimCCHead, marginal_head
from cdkd.models.pose import PoseNet
from tests.cdkd.networks import simcc_net

CODEC = SimCCCodec(SimCCConfig(split_ratio=2.0), 32)


class LinearBackbone(nn.Module):
    """Means over 4x4 pixels, mixed by one matrix: small enough to do by hand."""

    feature_channels = 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, kernel_size=4, stride=4, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images)


def linear_net(seed: int = 0) -> PoseNet:
    net = PoseNet(
        LinearBackbone(),
        SimCCHead(2, keypoint_count=3, input_size=32, split_ratio=2.0),
        keypoint_count=3,
        input_size=32,
    )
    rng = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data.normal_(generator=rng)
    return net.eval()


def small_net(backbone: str = "hrnet_w16", input_size: int = 32) -> PoseNet:
    net = simcc_net(backbone, input_size, 2.0, 4, generator=torch.Generator().manual_seed(0))
    for parameter in net.parameters():  # the initial convolutions are so small that no map would survive rounding
        if parameter.ndim > 1:
            parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return net.eval()


def images(count: int, size: int = 32) -> torch.Tensor:
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(2))


def test_grad_cam_of_two_channels_by_hand():
    activations = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[4.0, 0.0], [0.0, 1.0]]]])
    gradients = torch.tensor([[[[1.0, 3.0], [0.0, 4.0]], [[-2.0, -2.0], [0.0, 0.0]]]])
    # weights: (1 + 3 + 0 + 4) / 4 = 2 and -1, so 2 a - b = [[-2, 4], [6, 7]]
    expected = torch.tensor([[[0.0, 4 / 7], [6 / 7, 1.0]]])
    torch.testing.assert_close(grad_cam(activations, gradients), expected)


def test_each_map_of_a_batch_is_normalised_by_itself():
    activations = torch.tensor([[[[1.0, 2.0]]], [[[10.0, 5.0]]]])
    maps = grad_cam(activations, torch.ones(2, 1, 1, 2))
    assert maps.tolist() == [[[0.5, 1.0]], [[1.0, 0.5]]]


@pytest.mark.parametrize("gradient", [0.0, -1.0])
def test_a_map_in_which_nothing_speaks_for_the_keypoint_is_zero(gradient):
    maps = grad_cam(torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), gradient))
    assert maps.tolist() == torch.zeros(1, 3, 3).tolist()


@pytest.mark.parametrize("keypoint", [0, 1, 2])
def test_a_linear_networks_maps_agree_with_the_closed_form(keypoint):
    # A seed with which leaving out either axis would turn a map's sign, all that a linear network's map has of weights.
    net, pictures = linear_net(21), images(1)
    found = attention(net, CODEC, pictures, [keypoint], {"conv": net.backbone.conv, "head": net.head.final_layer})

    kernel = net.backbone.conv.weight.detach().double().numpy()
    patches = pictures[0].double().numpy().reshape(3, 8, 4, 8, 4)
    feature = np.einsum("fcyx,chywx->fhw", kernel, patches)
    mixing = net.head.final_layer.weight.detach().double().numpy()[keypoint, :, 0, 0]
    head = np.tensordot(mixing, feature, 1) + net.head.final_layer.bias[keypoint].item()
    weights, bins = np.zeros(64), []
    for classifier in (net.head.mlp_head_x, net.head.mlp_head_y):
        matrix = classifier.weight.detach().double().numpy()
        logits = matrix @ head.ravel() + classifier.bias.detach().double().numpy()
        bins.append(int(logits.argmax()))
        weights += matrix[bins[-1]]
    # d target / d feature_c = mixing_c * weights at each cell, so a channel weighs mixing_c * mean(weights)
    expected = {
        "conv": np.maximum(weights.mean() * np.tensordot(mixing, feature, 1), 0),
        "head": np.maximum(weights.mean() * head, 0),
    }
    for name, unscaled in expected.items():
        assert found.maps[name].shape == (1, 1, 8, 8)
        assert unscaled.max() > 0
        np.testing.assert_allclose(found.maps[name][0, 0].numpy(), unscaled / unscaled.max(), atol=1e-5)
    assert found.peaks[0, 0].tolist() == [bins[0] / 2, bins[1] / 2]


def test_the_map_is_bright_where_a_network_made_by_hand_finds_its_keypoint():
    net = linear_net()
    with torch.no_grad():
        net.backbone.conv.weight.zero_()
        net.backbone.conv.weight[0, 0], net.backbone.conv.weight[1, 2] = 1.0, 1.0  # red, and blue
        net.head.final_layer.weight.zero_()
        net.head.final_layer.bias.zero_()
        net.head.final_layer.weight[0, 0], net.head.final_layer.weight[1, 1] = 1.0, 1.0
    marginal_head(net.head)
    picture = torch.zeros(1, 3, 32, 32)
    picture[0, 0, 8:12, 20:24] = 1  # red in row 2, column 5 of the cells
    picture[0, 2, 24:28, 4:8] = 1  # blue in row 6, column 1
    found = attention(net, CODEC, picture, [0, 1], {"conv": net.backbone.conv})
    for place, (row, column) in enumerate([(2, 5), (6, 1)]):
        expected = torch.zeros(8, 8)
        expected[row, column] = 1
        torch.testing.assert_close(found.maps["conv"][0, place], expected)
        assert (found.peaks[0, place] - torch.tensor([4.0 * column + 1.5, 4.0 * row + 1.5])).abs().max() <= 2


def test_a_network_that_does_not_look_has_empty_maps():
    net = small_net()
    nn.init.zeros_(net.head.final_layer.weight)
    found = attention(net, CODEC, images(1), [0, 3], attention_layers(net))
    assert {name: bool(maps.any()) for name, maps in found.maps.items()} == {
        "pose head": False,
        "stage 3": False,
        "stage 4": False,
    }


def test_maps_do_not_depend_on_the_rest_of_the_batch():
    net, pictures = small_net(), images(2)
    together = attention(net, CODEC, pictures, [1, 2], attention_layers(net))
    for index in range(2):
        alone = attention(net, CODEC, pictures[index : index + 1], [1, 2], attention_layers(net))
        torch.testing.assert_close(together.peaks[index], alone.peaks[0])
        for name, maps in alone.maps.items():
            torch.testing.assert_close(together.maps[name][index], maps[0], atol=1e-4, rtol=1e-4)


def test_keypoints_have_maps_of_their_own():
    net = small_net()
    found = attention(net, CODEC, images(1), [0, 1], attention_layers(net))
    assert all(not torch.equal(maps[0, 0], maps[0, 1]) for maps in found.maps.values())


def test_nothing_is_left_behind():
    net, pictures = small_net(), images(1)
    net.head.final_layer.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flags = {name: parameter.requires_grad for name, parameter in net.named_parameters()}
    found = attention(net, CODEC, pictures, [0], attention_layers(net))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert {name: parameter.requires_grad for name, parameter in net.named_parameters()} == flags
    assert pictures.grad is None
    assert not pictures.requires_grad
    assert not any(module._forward_hooks or module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(maps.requires_grad for maps in (*found.maps.values(), found.peaks))


def test_hooks_are_removed_when_the_network_fails():
    net = small_net()
    with pytest.raises(ValueError, match="images must have shape"):
        attention(net, CODEC, images(1, size=64), [0], attention_layers(net))
    assert not any(module._forward_hooks for module in net.modules())


def test_a_frozen_network_without_gradients_has_the_same_maps():
    net, pictures = small_net(), images(1)
    free = attention(net, CODEC, pictures, [0], attention_layers(net))
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        frozen = attention(net, CODEC, pictures, [0], attention_layers(net))
    for name, maps in free.maps.items():
        assert maps.any()
        torch.testing.assert_close(frozen.maps[name], maps)


def test_a_network_in_training_is_refused():
    net = small_net().train()
    with pytest.raises(ValueError, match="evaluation mode"):
        attention(net, CODEC, images(1), [0], attention_layers(net))


@pytest.mark.parametrize(
    ("backbone", "sides"),
    [
        ("hrnet_w16", {"pose head": 16, "stage 3": 16, "stage 4": 16}),
        ("resnet18", {"pose head": 16, "layer 3": 4, "layer 4": 2}),
    ],
)
def test_maps_have_their_layers_resolution_and_range(backbone, sides):
    net = small_net(backbone, 64)
    found = attention(net, CODEC, images(2, size=64), [0, 1, 3], attention_layers(net))
    assert list(found.maps) == list(sides)
    for name, side in sides.items():
        maps = found.maps[name]
        assert maps.shape == (2, 3, side, side)
        assert maps.min() >= 0
        assert set(maps.amax(dim=(2, 3)).flatten().tolist()) <= {0.0, 1.0}
    assert found.peaks.shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("backbone", "modules"),
    [
        ("hrnet_w32", ["head.final_layer", "backbone.stage3.3.branches.0.3", "backbone.stage4.2.branches.0.3"]),
        ("resnet50", ["head.final_layer", "backbone.layer3.5", "backbone.layer4.2"]),
    ],
)
def test_the_layers_are_the_last_ones(backbone, modules):
    with torch.device("meta"):
        net = simcc_net(backbone, 64, 2.0, 16)
    assert list(attention_layers(net).values()) == [net.get_submodule(name) for name in modules]
