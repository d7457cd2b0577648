"""ResNets: shapes, and agreement with counts published for torchvision's nets (their names: test_weights.py)."""

import pytest
import torch
from torch import nn

from cdkd.models.pose import initialise
from cdkd.models.resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet50, resnet101, resnet152

# Parameters of torchvision's documentation, less those of its 1000-way classifier.
TRUNKS = [
    (resnet18, 11_689_512 - 513_000, 512),
    (resnet50, 25_557_032 - 2_049_000, 2048),
    (resnet101, 44_549_160 - 2_049_000, 2048),
    (resnet152, 60_192_808 - 2_049_000, 2048),
]


@pytest.mark.parametrize(("build", "trunk", "channels"), TRUNKS)
def test_trunk_has_the_parameters_of_torchvisions(build, trunk, channels):
    with torch.device("meta"):
        net = build()
    deconvs = sum(parameter.numel() for parameter in net.deconv_layers.parameters())
    assert deconvs == 16 * 256 * (channels + 256 + 256) + 3 * 512
    assert sum(parameter.numel() for parameter in net.parameters()) - deconvs == trunk


@pytest.mark.parametrize("size", [32, 64])
def test_feature_is_at_stride_four(size):
    net = ResNet(block=Bottleneck, counts=(1, 1, 1, 1), deconv_channels=8)
    assert net(torch.zeros(2, 3, size, size)).shape == (2, 8, size // 4, size // 4)


def test_the_middle_convolution_of_a_bottleneck_carries_the_stride():
    block = Bottleneck(8, 4, stride=2)
    assert [block.conv1.stride, block.conv2.stride, block.conv3.stride] == [(1, 1), (2, 2), (1, 1)]


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_block_adds_its_input_to_its_branch(block):
    layer = block(8, 8 // block.expansion).eval()
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), x.relu())


def test_every_parameter_gets_a_gradient():
    net = ResNet(block=BasicBlock, counts=(1, 1, 1, 1), deconv_channels=8)
    generator = torch.Generator().manual_seed(0)
    initialise(net, generator)
    net(torch.randn(2, 3, 64, 64, generator=generator)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())
