"""The teacher's feature brought down to the student's size."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cdkd.distill.conv_downsample import build_avgpool, build_conv_downsample


def feature(side=16, batch=2, channels=3):
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(2))


def standardised(maps):
    mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), keepdim=True, unbiased=False)
    return (maps - mean) / (variance + 1e-5).sqrt()


def test_at_two_to_one_it_begins_as_average_pooling_brought_to_unit_variance():
    down = build_conv_downsample(3, 8, 16)
    assert torch.allclose(down(feature()), standardised(F.avg_pool2d(feature(), 2)), atol=1e-5)


def test_at_four_to_one_the_first_step_is_rectified():
    down = build_conv_downsample(3, 4, 16)
    first = standardised(F.avg_pool2d(feature(), 2)).relu()
    assert torch.allclose(down(feature()), standardised(F.avg_pool2d(first, 2)), atol=1e-5)


@pytest.mark.parametrize(("teacher_side", "steps"), [(8, 1), (16, 2), (32, 3)])
def test_it_has_one_halving_convolution_per_step_and_a_relu_between_two(teacher_side, steps):
    down = build_conv_downsample(3, 4, teacher_side)
    kinds = [type(layer) for layer in down]
    assert kinds == ([nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * steps)[:-1]
    assert down(feature(teacher_side)).shape == (2, 3, 4, 4)
    assert [layer.affine for layer in down if isinstance(layer, nn.BatchNorm2d)] == [True] * (steps - 1) + [False]


def test_whatever_the_weights_a_channel_of_the_target_does_not_become_constant():
    down = build_conv_downsample(3, 4, 16)
    with torch.no_grad():
        for parameter in down.parameters():
            parameter.mul_(-0.3).add_(0.01)
    maps = down(feature())
    assert torch.allclose(maps.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert maps.std((0, 2, 3)).tolist() == pytest.approx([1.0] * 3, abs=0.05)


def test_it_draws_nothing():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (build_conv_downsample(3, 4, 16) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_batch_of_one_is_brought_down():
    assert torch.isfinite(build_conv_downsample(3, 4, 16)(feature(batch=1))).all()


@pytest.mark.parametrize(("student_side", "teacher_side"), [(8, 8), (4, 12), (16, 8), (16, 24)])
def test_sides_that_halving_does_not_join_are_refused(student_side, teacher_side):
    with pytest.raises(ValueError, match=rf"2, 4, 8, ... times student_side, got {teacher_side} and {student_side}"):
        build_conv_downsample(3, student_side, teacher_side)


def test_average_pooling_agrees_with_a_slow_loop():
    maps = feature(6)
    pooled = build_avgpool(2, 6)(maps)
    expected = [[maps[..., 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].mean((2, 3)) for j in range(2)] for i in range(2)]
    assert torch.allclose(pooled, torch.stack([torch.stack(row, -1) for row in expected], -2), atol=1e-6)
    assert not list(build_avgpool(2, 6).parameters())


def test_average_pooling_at_one_size_changes_nothing():
    assert torch.equal(build_avgpool(6, 6)(feature(6)), feature(6))


@pytest.mark.parametrize(("student_side", "teacher_side"), [(4, 6), (16, 8)])
def test_sides_that_do_not_divide_are_refused(student_side, teacher_side):
    with pytest.raises(ValueError, match=f"multiple of student_side, got {teacher_side} and {student_side}"):
        build_avgpool(student_side, teacher_side)
