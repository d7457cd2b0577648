"""Folded networks predict what the unfolded ones do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cdkd.models.folding import fold_batch_norm
from cdkd.models.pose import PoseNet
from tests.cdkd.networks import simcc_net


def lively_net(backbone: str) -> PoseNet:
    """A small-input network whose normalisation statistics and scales are all different from 1 and 0."""
    generator = torch.Generator().manual_seed(0)
    net = simcc_net(backbone, 32, 2.0, 4, generator=generator)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
            for tensor in (module.bias.data, module.running_mean):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.5)
        if isinstance(module, nn.Conv2d):
            scale = module.weight[0].numel() ** -0.5
            module.weight.data.copy_(scale * torch.randn(module.weight.shape, generator=generator))
    return net.eval()


@pytest.mark.parametrize("backbone", ["hrnet_w16", "resnet18", "resnet50"])
def test_predictions_stay_the_same_and_no_normalisation_over_a_convolution_remains(backbone: str) -> None:
    net = lively_net(backbone)
    folded = copy.deepcopy(net)
    fold_batch_norm(folded)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = net(images), folded(images)
    assert expected.prediction.x.std() > 1e-4
    torch.testing.assert_close(found.prediction.x, expected.prediction.x, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.final_feature, expected.final_feature, rtol=1e-3, atol=1e-3)
    remaining = sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    transposed = sum(isinstance(module, nn.ConvTranspose2d) for module in folded.modules())
    assert remaining == transposed


def test_a_network_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_batch_norm(lively_net("hrnet_w16").train())
