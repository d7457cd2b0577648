"""One linear layer from the student's positions to the teacher's."""

import math

import pytest
import torch

from cdkd.distill.feature_fully_connected import build_fully_connected_lift


def lift(seed=0, student_side=2, teacher_side=4):
    return build_fully_connected_lift(student_side, teacher_side, torch.Generator().manual_seed(seed))


def test_it_agrees_with_a_slow_loop_and_has_no_relu():
    module = lift()
    feature = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    lifted = module(feature)
    assert lifted.shape == (2, 3, 4, 4)
    for position in range(16):
        row, bias = module.linear.weight[position].tolist(), module.linear.bias[position].item()
        cells = feature[1, 2].flatten().tolist()
        expected = bias + sum(w * cell for w, cell in zip(row, cells, strict=True))
        assert lifted[1, 2, position // 4, position % 4].item() == pytest.approx(expected, abs=1e-6)
    assert (lifted < 0).any()


def test_the_layer_of_the_papers_sizes_has_the_parameters_of_one_spatial_projector():
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in torch.nn.Linear(16**2, 64**2).parameters())
    module = lift(student_side=16, teacher_side=64)
    assert sum(parameter.numel() for parameter in module.parameters()) == count == 1_052_672


def test_it_begins_as_a_projector_of_sape_from_the_given_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = lift(0), lift(0), lift(1)
    bound = math.sqrt(6 / (4 + 16))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.linear.weight, same.linear.weight)
    assert torch.equal(one.linear.bias, same.linear.bias)
    assert not torch.equal(one.linear.weight, other.linear.weight)
    assert 0.9 * bound < one.linear.weight.abs().max().item() <= bound
    assert 0 < one.linear.bias.abs().max().item() <= 1 / math.sqrt(4)
