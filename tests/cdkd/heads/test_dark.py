"""DARK's targets and decoding against closed forms, OpenCV's blur and a slow loop."""

import cv2
import numpy as np
import pytest
import torch

from cdkd.config import resolve
from cdkd.heads.dark import DarkCodec, blurred, newton_step
from cdkd.heads.heatmap import Heatmaps, gaussians
from cdkd.heads.table import build_codec
from cdkd.options import ConfigError
from tests.cdkd.networks import plain_config

CODEC = DarkCodec(side=16, sigma=1.0, shift_flipped=False)


def random_maps(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_targets_are_gaussians_around_the_very_place():
    keypoints = torch.tensor([[[21.9, 38.2], [63.9, -2.0]]], dtype=torch.float64)
    target, weight = CODEC.encode(keypoints, torch.tensor([[1, 2]]))
    y, x = np.mgrid[:16, :16]
    for joint, (place_x, place_y) in enumerate(keypoints[0].numpy() / 4):
        expected = np.exp(-((x - place_x) ** 2 + (y - place_y) ** 2) / 2)
        np.testing.assert_allclose(target[0, joint].numpy(), expected, rtol=1e-5, atol=1e-30)
    assert weight.tolist() == [[1, 1]]


def test_a_keypoint_weighs_while_three_sigmas_around_it_touch_the_map():
    places = [-12.0, -12.1, 4 * 18.0, 4 * 18.0 + 0.1]
    keypoints = torch.tensor([[[place, 20.0] for place in places]], dtype=torch.float64)
    assert CODEC.encode(keypoints, torch.ones(1, 4))[1].tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize("kernel", [11, 17])  # for up to 9, OpenCV has tables of its own
def test_blurred_maps_are_opencvs_with_the_maximum_they_had(kernel):
    maps = random_maps()
    found = blurred(maps, kernel).numpy()
    for person in range(2):
        for joint in range(3):
            original = maps[person, joint].numpy()
            smooth = cv2.GaussianBlur(original, (kernel, kernel), 0, borderType=cv2.BORDER_CONSTANT)
            np.testing.assert_allclose(found[person, joint], smooth * original.max() / smooth.max(), rtol=1e-6)
            assert found[person, joint].max() == pytest.approx(original.max())


def test_a_map_without_a_positive_value_is_blurred_and_not_scaled():
    assert blurred(torch.full((1, 1, 8, 8), -1.0), 3).min() >= -1.0 - 1e-6
    keypoints, scores = CODEC.decode(Heatmaps(torch.full((1, 1, 16, 16), -1.0)), None, (0,))
    assert keypoints.tolist() == [[[0.0, 0.0]]]
    assert scores.tolist() == [[-1.0]]


def test_the_step_finds_the_maximum_of_a_quadratic_exactly():
    """f = -(a u^2 + b v^2 + c u v), u and v the distances from the place: second order is all there is."""
    y, x = np.mgrid[:16, :16].astype(float)
    u, v = x - 7.3, y - 5.8
    maps = torch.from_numpy(-(0.5 * u**2 + 0.8 * v**2 + 0.3 * u * v))[None, None]
    found = newton_step(maps, torch.tensor([[[7, 6]]]))
    assert found[0, 0].tolist() == pytest.approx([7.3, 5.8])


def test_the_step_agrees_with_a_slow_loop():
    maps = random_maps().log()
    indices = maps.flatten(2).argmax(-1)
    peaks = torch.stack((indices % 16, indices // 16), -1)
    found = newton_step(maps, peaks)
    moved = 0
    for person in range(2):
        for joint in range(3):
            grid = maps[person, joint].numpy()
            x, y = peaks[person, joint].tolist()
            expected = np.array([x, y], dtype=float)
            if 1 < x < 14 and 1 < y < 14:
                slope = np.array([grid[y, x + 1] - grid[y, x - 1], grid[y + 1, x] - grid[y - 1, x]]) / 2
                xx = (grid[y, x + 2] - 2 * grid[y, x] + grid[y, x - 2]) / 4
                yy = (grid[y + 2, x] - 2 * grid[y, x] + grid[y - 2, x]) / 4
                xy = (grid[y + 1, x + 1] - grid[y - 1, x + 1] - grid[y + 1, x - 1] + grid[y - 1, x - 1]) / 4
                expected -= np.linalg.inv(np.array([[xx, xy], [xy, yy]])) @ slope
                moved += 1
            np.testing.assert_allclose(found[person, joint].numpy(), expected)
    assert moved >= 2


@pytest.mark.parametrize(("column", "is_moved"), [(1, False), (2, True), (13, True), (14, False)])
def test_only_a_peak_two_cells_from_the_border_is_moved(column, is_moved):
    y, x = np.mgrid[:16, :16].astype(float)
    maps = torch.from_numpy(-((x - column - 0.2) ** 2) - (y - 8) ** 2)[None, None]
    for grid, peak in ((maps, [column, 8]), (maps.transpose(2, 3), [8, column])):
        peaks = torch.tensor([[peak]])
        assert bool((newton_step(grid, peaks) != peaks).any()) == is_moved


def test_a_flat_map_is_not_divided_by():
    peaks = torch.tensor([[[5, 5]]])
    assert newton_step(torch.zeros(1, 1, 16, 16), peaks).tolist() == peaks.tolist()


def test_what_is_encoded_is_decoded_to_a_fraction_of_a_cell():
    """Away from the border, where a blurred Gaussian is a Gaussian, its logarithm is a quadratic."""
    codec = DarkCodec(side=32, sigma=1.0, shift_flipped=False)
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(20, 4, 2, generator=generator, dtype=torch.float64) * 64 + 32
    target, _ = codec.encode(keypoints, torch.ones(20, 4))
    found, _ = codec.decode(Heatmaps(target), None, range(4))
    assert (found - keypoints).abs().max() < 0.02


def test_averaging_a_mirrored_prediction_is_exact():
    permutation = [1, 0, 2]
    maps = random_maps().float()
    flipped = Heatmaps(maps[:, permutation].flip(-1))
    plain, averaged = (
        CODEC.decode(Heatmaps(maps), None, permutation),
        CODEC.decode(Heatmaps(maps), flipped, permutation),
    )
    assert all(torch.equal(one, other) for one, other in zip(plain, averaged, strict=True))


def test_gradient_reaches_the_maps_and_stops_at_zero_loss():
    keypoints = torch.tensor([[[20.0, 30.0]]], dtype=torch.float64)
    maps = gaussians(keypoints / 4, 16, 1.0).requires_grad_()
    loss = CODEC.loss(Heatmaps(maps), keypoints, torch.ones(1, 1))
    loss.backward()
    assert loss.item() == 0
    assert not maps.grad.any()
    moved = CODEC.loss(Heatmaps(maps), keypoints + 1, torch.ones(1, 1))
    assert torch.autograd.grad(moved, maps)[0].any()


def test_the_codec_has_the_configurations_options():
    options = {"blur_kernel": 5, "shift_flipped": True}
    codec = build_codec(plain_config("hrnet_w16", 64, "dark", dark=options, heatmap={"sigma": 2.0}))
    assert codec == DarkCodec(side=16, sigma=2.0, shift_flipped=True, blur_kernel=5)
    assert build_codec(plain_config("hrnet_w16", 64, "dark")) == CODEC


def test_an_even_kernel_is_refused():
    with pytest.raises(ConfigError, match=r"dark.blur_kernel: must be odd, got 4"):
        resolve({"dark.blur_kernel": 4})
