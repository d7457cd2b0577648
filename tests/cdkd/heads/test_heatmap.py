"""Heatmap targets, loss and decoding against slow loops, closed forms and values by hand."""

import math

import numpy as np
import pytest
import torch

from cdkd.config import HeatmapConfig
from cdkd.heads.heatmap import HeatmapCodec, Heatmaps, gaussians, half_squared_error, quarter_offset
from cdkd.heads.table import assemble_pose_net, build_codec
from tests.cdkd.models import layouts
from tests.cdkd.networks import plain_config

CODEC = HeatmapCodec(side=16, sigma=1.0, shift_flipped=True)
ALONE = (0,)


def keypoint(x: float, y: float) -> torch.Tensor:
    return torch.tensor([[[x, y]]], dtype=torch.float64)


SEEN = torch.tensor([[2]])


def slow_target(x: float, y: float, side: int, sigma: float) -> tuple[np.ndarray, int]:
    """A patch of 7x7 cells (sigma 1) pasted into an empty map, cell by cell."""
    centre = [int(value / 4 + 0.5) for value in (x, y)]
    reach = int(3 * sigma)
    target = np.zeros((side, side))
    touched = 0
    for row in range(centre[1] - reach, centre[1] + reach + 1):
        for column in range(centre[0] - reach, centre[0] + reach + 1):
            if 0 <= row < side and 0 <= column < side:
                squares = (column - centre[0]) ** 2 + (row - centre[1]) ** 2
                target[row, column] = math.exp(-squares / (2 * sigma**2))
                touched = 1
    return target, touched


@pytest.mark.parametrize("sigma", [1.0, 2.0])
@pytest.mark.parametrize(
    ("x", "y"),
    [(20.0, 36.0), (21.9, 38.1), (0.0, 63.9), (-9.0, 30.0), (62.0, 75.0), (-3.0, -5.9), (90.0, 10.0), (10.0, -40.0)],
)
def test_targets_agree_with_a_patch_pasted_by_a_slow_loop(x, y, sigma):
    codec = HeatmapCodec(side=16, sigma=sigma, shift_flipped=True)
    target, weight = codec.encode(keypoint(x, y), SEEN)
    expected, is_there = slow_target(x, y, 16, sigma)
    np.testing.assert_allclose(target[0, 0].numpy() * weight.item(), expected, atol=1e-6)
    assert weight.tolist() == [[is_there]]


def test_the_centre_is_rounded_to_the_grid():
    for x, column in ((17.9, 4), (18.0, 5), (21.9, 5), (22.0, 6)):
        target, _ = CODEC.encode(keypoint(x, 20.0), SEEN)
        assert target[0, 0].max() == 1
        assert target[0, 0, 5].argmax() == column


def test_no_label_no_weight():
    _, weight = CODEC.encode(torch.full((1, 3, 2), 20.0, dtype=torch.float64), torch.tensor([[0, 1, 2]]))
    assert weight.tolist() == [[0, 1, 1]]


def test_a_place_that_is_no_number_leaves_the_loss_finite():
    maps = Heatmaps(torch.randn(1, 1, 16, 16, requires_grad=True))
    loss = CODEC.loss(maps, keypoint(math.nan, math.inf), torch.tensor([[0]]))
    loss.backward()
    assert loss.item() == 0
    assert not maps.maps.grad.any()


def test_the_loss_is_half_the_mean_square_over_everything_with_weights():
    """By hand: 2 persons, 2 keypoints, 4 cells; errors 1, 2, -, 4 with weights 1, 1, 0, 1: (1 + 4 + 16) / 4 / 2."""
    maps = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(2, 2, 1, 1).expand(2, 2, 2, 2)
    loss = half_squared_error(maps, torch.zeros(2, 2, 2, 2), torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    assert loss.item() == pytest.approx(21 / 8)


def test_the_loss_is_zero_at_the_target_and_agrees_with_a_slow_loop_elsewhere():
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(2, 3, 2, generator=generator, dtype=torch.float64) * 64
    visibility = torch.tensor([[1, 0, 2], [2, 2, 0]])
    target, weight = CODEC.encode(keypoints, visibility)
    assert CODEC.loss(Heatmaps(target), keypoints, visibility) == 0
    maps = torch.randn(2, 3, 16, 16, generator=generator)
    total = 0.0
    for person in range(2):
        for joint in range(3):
            for row in range(16):
                for column in range(16):
                    error = maps[person, joint, row, column] - target[person, joint, row, column]
                    total += 0.5 * weight[person, joint].item() * error.item() ** 2
    assert CODEC.loss(Heatmaps(maps), keypoints, visibility).item() == pytest.approx(total / (2 * 3 * 256), rel=1e-5)


def test_gradient_reaches_the_maps_of_labelled_keypoints_only():
    maps = torch.randn(1, 2, 16, 16, requires_grad=True)
    CODEC.loss(Heatmaps(maps), keypoint(20, 20).expand(1, 2, 2), torch.tensor([[1, 0]])).backward()
    assert maps.grad[0, 0].any()
    assert not maps.grad[0, 1].any()


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 1, 8, 8)])
def test_maps_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"maps, targets and weight must be .* got \(1, \d, 8, 8\)"):
        CODEC.loss(Heatmaps(torch.zeros(shape)), keypoint(20, 20), SEEN)


def test_visibility_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"got \(1, 1, 2\) and \(1, 2\)"):
        CODEC.encode(keypoint(20, 20), torch.tensor([[1, 1]]))


# ---------------------------------------------------------------------------------------------------- decoding


def test_a_keypoint_is_a_quarter_of_a_cell_towards_the_higher_neighbours():
    maps = torch.zeros(1, 1, 16, 16)
    maps[0, 0, 5, 9] = 0.9
    maps[0, 0, 5, 10] = 0.3  # right is higher than left
    maps[0, 0, 4, 9] = 0.2  # above is higher than below
    keypoints, scores = CODEC.decode(Heatmaps(maps), None, ALONE)
    assert keypoints.tolist() == [[[4 * 9.25, 4 * 4.75]]]
    assert scores.item() == pytest.approx(0.9)


def test_equal_neighbours_move_nothing():
    maps = torch.zeros(1, 1, 16, 16)
    maps[0, 0, 5, 9] = 1.0
    assert CODEC.decode(Heatmaps(maps), None, ALONE)[0].tolist() == [[[36.0, 20.0]]]


@pytest.mark.parametrize(("column", "is_moved"), [(0, False), (1, False), (2, True), (14, True), (15, False)])
@pytest.mark.parametrize("axis", [2, 3])
def test_only_a_peak_between_1_and_the_last_cell_is_moved_and_both_axes_together(column, is_moved, axis):
    maps = torch.zeros(1, 1, 16, 16)
    maps[0, 0, 8, column], maps[0, 0, 9, column] = 1.0, 0.5
    peaks = torch.tensor([[[column, 8]]])
    if axis == 2:
        maps, peaks = maps.transpose(2, 3), peaks.flip(-1)
    offset = quarter_offset(maps, peaks) - peaks
    assert (offset.abs().sum().item() == 0.25) == is_moved


def test_what_is_encoded_is_decoded_within_half_a_cell():
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(50, 4, 2, generator=generator, dtype=torch.float64) * 60 + 1
    target, _ = CODEC.encode(keypoints, torch.ones(50, 4))
    found, scores = CODEC.decode(Heatmaps(target), None, range(4))
    assert (found - keypoints).abs().max() <= 2
    assert (scores == 1).all()


def mirrored(target: torch.Tensor, permutation: list[int]) -> torch.Tensor:
    """What a network answers to the mirrored image if a pixel x of it goes to 4 side - 1 - x."""
    return target[:, permutation].flip(-1)


def test_averaging_a_mirrored_prediction_is_exact_without_shift():
    permutation, codec = [1, 0, 2], HeatmapCodec(side=16, sigma=1.0, shift_flipped=False)
    maps = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    plain = codec.decode(Heatmaps(maps), None, permutation)
    averaged = codec.decode(Heatmaps(maps), Heatmaps(mirrored(maps, permutation)), permutation)
    assert all(torch.equal(one, other) for one, other in zip(plain, averaged, strict=True))


def test_the_shift_moves_the_mirrored_map_one_cell_to_the_right():
    maps, flipped = torch.zeros(2, 1, 1, 4, 4).unbind(0)
    maps[0, 0, 1, 2] = 1.0
    flipped[0, 0, 1] = torch.tensor([0.1, 0.2, 0.8, 0.4])  # reversed and shifted: .4 .4 .8 .2
    codec = HeatmapCodec(side=4, sigma=1.0, shift_flipped=True)
    _, scores = codec.decode(Heatmaps(maps), Heatmaps(flipped), ALONE)
    assert scores.item() == pytest.approx((1.0 + 0.8) / 2)
    unshifted = HeatmapCodec(side=4, sigma=1.0, shift_flipped=False)
    assert unshifted.decode(Heatmaps(maps), Heatmaps(flipped), ALONE)[1].item() == pytest.approx((1.0 + 0.2) / 2)


def test_left_and_right_change_names_in_the_mirror():
    maps, flipped = torch.zeros(2, 1, 2, 16, 16).unbind(0)
    flipped[0, 0, 3, 4], flipped[0, 1, 8, 9] = 1.0, 2.0
    keypoints, _ = CODEC.decode(Heatmaps(maps), Heatmaps(flipped), [1, 0])
    # keypoint 0 of the image is keypoint 1 of the mirrored one: column 15 - 9, shifted by one
    assert keypoints.tolist() == [[[4 * 7.0, 32.0], [4 * 12.0, 12.0]]]


def test_gaussians_have_their_closed_form():
    maps = gaussians(torch.tensor([[[3.5, 2.0]]]), 8, 1.5)
    y, x = np.mgrid[:8, :8]
    np.testing.assert_allclose(maps[0, 0].numpy(), np.exp(-((x - 3.5) ** 2 + (y - 2) ** 2) / 4.5), rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("backbone", "layout"),
    [
        ("hrnet_w32", layouts.heatmap_hrnet(32, 16)),
        ("hrnet_w48", layouts.heatmap_hrnet(48, 16)),
        ("resnet50", layouts.heatmap_resnet("resnet50", 16)),
    ],
)
def test_names_and_shapes_are_those_of_the_public_checkpoints(backbone, layout):
    with torch.device("meta"):
        state = assemble_pose_net(plain_config(backbone, 64, "heatmap"), 16).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == layout


def test_the_codec_has_the_configurations_options():
    codec = build_codec(plain_config("hrnet_w16", 64, "heatmap", heatmap={"sigma": 2.0, "shift_flipped": False}))
    assert codec == HeatmapCodec(side=16, sigma=2.0, shift_flipped=False)
    assert HeatmapConfig() == HeatmapConfig(1.0, True)
