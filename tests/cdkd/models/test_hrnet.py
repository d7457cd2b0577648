"""HRNet: shapes, and a fuse layer computed by hand (its names: test_weights.py)."""

import pytest
import torch
import torch.nn.functional as F

from cdkd.models.hrnet import FuseModule, HRNet, add_branch, fuse, hrnet_w16, hrnet_w32, hrnet_w48, transition
from cdkd.models.pose import initialise


def small() -> HRNet:
    """hrnet_w16 with weights large enough for its values to be told apart."""
    net = hrnet_w16()
    initialise(net, torch.Generator().manual_seed(0), conv_std=0.1)
    return net


@pytest.mark.parametrize("size", [32, 96])
def test_feature_is_branch_zero_at_stride_four(size):
    feature = small()(torch.zeros(2, 3, size, size))
    assert feature.shape == (2, 16, size // 4, size // 4)


@pytest.mark.parametrize(("build", "width"), [(hrnet_w32, 32), (hrnet_w48, 48), (hrnet_w16, 16)])
def test_branches_double_in_width(build, width):
    with torch.device("meta"):
        net = build()
    assert net.feature_channels == width
    widths = [branch[0].conv1.in_channels for branch in net.stage4[0].branches]
    assert widths == [width, 2 * width, 4 * width, 8 * width]


def test_one_image_of_32_pixels_passes_in_evaluation_mode():
    net = small().eval()
    feature = net(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    assert feature.shape == (1, 16, 8, 8)
    assert feature.isfinite().all()
    assert feature.std() > 0


@pytest.mark.parametrize("stage", [2, 3, 4])
def test_the_small_net_has_all_branches_and_fuse_layers(stage):
    modules = getattr(hrnet_w16(), f"stage{stage}")
    assert [len(module.branches) for module in modules] == [stage]
    assert all(len(module.fuse_layers[0]) == stage for module in modules)


def test_a_fused_branch_is_the_rectified_sum_of_resampled_branches():
    module = FuseModule([4, 8, 16], block_count=1, output_count=3)
    generator = torch.Generator().manual_seed(0)
    initialise(module, generator, conv_std=0.3)
    module.eval()
    branches = [torch.randn(2, 4 * 2**i, 8 >> i, 8 >> i, generator=generator) for i in range(3)]
    rows = module.fuse_layers

    def normalised(x: torch.Tensor) -> torch.Tensor:
        return x / (1 + 1e-5) ** 0.5  # batch normalisation with fresh statistics

    def conv(x: torch.Tensor, layer: torch.nn.Conv2d, stride: int) -> torch.Tensor:
        return normalised(F.conv2d(x, layer.weight, stride=stride, padding=layer.weight.shape[-1] // 2))

    up = [conv(branches[j], rows[0][j][0], 1).repeat_interleave(2**j, 2).repeat_interleave(2**j, 3) for j in (1, 2)]
    torch.testing.assert_close(fuse(rows[0], branches), (branches[0] + up[0] + up[1]).relu())
    twice = conv(conv(branches[0], rows[2][0][0][0], 2).relu(), rows[2][0][1][0], 2)
    once = conv(branches[1], rows[2][1][0][0], 2)
    torch.testing.assert_close(fuse(rows[2], branches), (twice + once + branches[2]).relu())


def test_fusing_does_not_change_its_inputs():
    module = FuseModule([4, 8], block_count=1, output_count=2).eval()
    branches = [torch.randn(1, 4, 4, 4), torch.randn(1, 8, 2, 2)]
    before = [branch.clone() for branch in branches]
    for row in module.fuse_layers:
        fuse(row, branches)
    assert all(torch.equal(branch, old) for branch, old in zip(branches, before, strict=True))


def test_a_transition_keeps_equal_branches_and_halves_the_coarsest_for_the_new_one():
    layers = transition([4, 8], [4, 8, 16]).eval()
    branches = [torch.randn(1, 4, 8, 8), torch.randn(1, 8, 4, 4)]
    out = add_branch(layers, branches)
    assert out[0] is branches[0]
    assert out[1] is branches[1]
    assert out[2].shape == (1, 16, 2, 2)
    torch.testing.assert_close(out[2], layers[2](branches[1]))


def test_every_parameter_gets_a_gradient_at_the_lowest_resolution():
    net = small()
    net(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    dead = [name for name, value in net.named_parameters() if value.grad is None or value.grad.abs().sum() == 0]
    assert dead == []


def test_gradients_are_those_of_finite_differences():
    net = small().double().eval()
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = net.stage3[0].fuse_layers[2][0][1][0].weight
    net(images).square().sum().backward()
    step = 1e-6
    with torch.no_grad():
        at_index = weight[0, 0, 1, 1].item()
        weight[0, 0, 1, 1] = at_index + step
        above = net(images).square().sum()
        weight[0, 0, 1, 1] = at_index - step
        below = net(images).square().sum()
    torch.testing.assert_close(weight.grad[0, 0, 1, 1], (above - below) / (2 * step), rtol=1e-4, atol=1e-12)
