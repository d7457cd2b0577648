"""Costs against the golden numbers of method section 11 and against counts by hand."""

import pytest
import torch
from torch import nn

from cdkd.evaluation.cost import forward_cost, image, layer_cost, macs, parameter_count, summary_gflops
from cdkd.models.hrnet import hrnet_w32, hrnet_w48
from cdkd.models.pose import assemble_pose_net

# backbone, input size, bins per pixel, keypoints -> parameters, true GMACs, "GFLOPs" of HRNet's summary.
# The GMACs and GFLOPs are those printed in method section 11, to the printed digits.
SIMCC = [
    ("hrnet_w32", 32, 2.0, 16, 28_544_400, ".1594", ".148"),
    ("hrnet_w32", 64, 3.0, 16, 28_634_768, ".6386", ".593"),
    ("hrnet_w32", 64, 2.0, 16, 28_601_872, ".6381", ".593"),
    ("hrnet_w32", 256, 3.0, 16, 34_829_072, "10.2939", "9.494"),
    ("hrnet_w32", 256, 2.0, 16, 32_731_408, "10.2603", "9.493"),
    ("hrnet_w32", 32, 2.0, 17, 28_544_433, ".1594", ".148"),
    ("hrnet_w32", 64, 2.0, 17, 28_601_905, ".6382", ".593"),
    ("hrnet_w32", 64, 3.0, 17, 28_634_801, ".6388", ".593"),
    ("hrnet_w48", 64, 2.0, 17, 63_661_537, "1.3088", "1.218"),
    ("hrnet_w48", 64, 3.0, 17, 63_694_433, "1.3093", "1.218"),
]


@pytest.mark.parametrize(("backbone", "size", "ratio", "keypoints", "parameters", "gmacs", "gflops"), SIMCC)
def test_simcc_networks_cost_what_section_11_says(backbone, size, ratio, keypoints, parameters, gmacs, gflops):
    with torch.device("meta"):
        net = assemble_pose_net(backbone, size, ratio, keypoints)
    cost = forward_cost(net, image(size))
    assert parameter_count(net) == parameters
    assert f"{cost.macs / 1e9:.4f}".removeprefix("0") == gmacs
    assert f"{cost.summary_macs / 1024**3:.3f}".removeprefix("0") == gflops


HEATMAP = [
    (hrnet_w32, 16, 28_536_080, ".6371", ".593"),
    (hrnet_w32, 17, 28_536_113, None, ".593"),
    (hrnet_w48, 17, 63_595_745, "1.3077", "1.218"),
]


@pytest.mark.parametrize(("build", "keypoints", "parameters", "gmacs", "gflops"), HEATMAP)
def test_heatmap_networks_cost_what_section_11_says(build, keypoints, parameters, gmacs, gflops):
    with torch.device("meta"):
        body = build()
        net = nn.Sequential(body, nn.Conv2d(body.feature_channels, keypoints, kernel_size=1))
    cost = forward_cost(net, image(64))
    assert parameter_count(net) == parameters
    assert gmacs is None or f"{cost.macs / 1e9:.4f}".removeprefix("0") == gmacs
    assert f"{cost.summary_macs / 1024**3:.3f}".removeprefix("0") == gflops


def test_table_x_counts_teacher_and_student_only():
    with torch.device("meta"):
        teacher = assemble_pose_net("hrnet_w32", 256, 3.0, 16)
        student = assemble_pose_net("hrnet_w32", 64, 3.0, 16)
    assert parameter_count(teacher) + parameter_count(student) == 63_463_840
    assert summary_gflops(teacher, 256) + summary_gflops(student, 64) == pytest.approx(10.087, abs=5e-4)


def test_a_convolution_costs_its_kernel_at_every_output_position():
    conv = nn.Conv2d(4, 6, kernel_size=3, stride=2, padding=1, groups=2)
    cost = forward_cost(conv, torch.zeros(5, 4, 8, 8))
    assert cost.macs == 5 * (6 * 2 * 9) * 16
    assert cost.summary_macs == 6 * 2 * 9 * 16  # the summary leaves the batch out


def test_a_transposed_convolution_costs_its_kernel_at_every_input_position_but_the_summary_says_output():
    deconv = nn.ConvTranspose2d(3, 5, kernel_size=4, stride=2, padding=1)
    cost = forward_cost(deconv, torch.zeros(1, 3, 8, 8))
    assert cost.macs == 3 * 5 * 16 * 64
    assert cost.summary_macs == 4 * cost.macs


def test_the_summary_multiplies_a_linear_layers_outputs_by_dimension_one_of_its_input():
    linear = nn.Linear(10, 7)
    flat = forward_cost(linear, torch.zeros(1, 10))
    per_keypoint = forward_cost(linear, torch.zeros(1, 3, 10))
    assert (flat.macs, flat.summary_macs) == (70, 70)
    assert (per_keypoint.macs, per_keypoint.summary_macs) == (210, 21 * 3)


def test_a_layer_that_runs_twice_is_counted_twice_and_its_parameters_once():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert forward_cost(net, torch.zeros(1, 4)).macs == 32
    assert parameter_count(net) == 20


def test_counting_leaves_weights_modes_statistics_and_hooks_alone():
    net = assemble_pose_net("hrnet_w16", 32, 2.0, 4).train()
    net.backbone.layer1.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    modes = [part.training for part in net.modules()]
    macs(net, 32)
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(not part._forward_hooks for part in net.modules())
    assert all(parameter.device.type == "cpu" for parameter in net.parameters())


def test_modes_and_hooks_come_back_when_the_forward_fails():
    net = assemble_pose_net("hrnet_w16", 32, 2.0, 4).train()
    with pytest.raises(ValueError, match="images must have shape"):
        macs(net, 64)
    assert all(part.training for part in net.modules())
    assert all(not part._forward_hooks for part in net.modules())


def test_units_of_the_two_short_forms():
    with torch.device("meta"):
        net = assemble_pose_net("resnet18", 32, 2.0, 16)
    cost = forward_cost(net, image(32))
    assert macs(net, 32) == cost.macs
    assert summary_gflops(net, 32) == cost.summary_macs / 1024**3
    assert cost.summary_macs > cost.macs  # the transposed convolutions are over-counted


def test_layer_cost_needs_shapes_only():
    conv = nn.Conv2d(3, 8, kernel_size=1, device="meta")
    assert layer_cost(conv, image(4), torch.empty(1, 8, 4, 4, device="meta")).macs == 24 * 16
