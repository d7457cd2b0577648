"""CAL's two streams, losses, masks and decoding: by hand, against slow loops, and mirrored."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from cdkd.config import CalConfig, resolve
from cdkd.heads.cal import CalCodec, OffsetHeatmaps, density_table, offset_fields
from cdkd.heads.heatmap import gaussians
from cdkd.heads.table import build_codec, build_pose_net
from cdkd.identity import semantic_mapping
from cdkd.models.pose import build_two_stream_backbone
from cdkd.models.weights import WeightsError, load_backbone
from cdkd.options import ConfigError
from tests.cdkd.networks import plain_config

CODEC = CalCodec(side=16, stride=4.0, sigma=1.0, options=CalConfig())
SEEN = torch.ones(1, 1)


def codec(**options: object) -> CalCodec:
    return CalCodec(side=16, stride=4.0, sigma=1.0, options=CalConfig(**options))


def keypoint(x: float, y: float) -> torch.Tensor:
    return torch.tensor([[[x, y]]], dtype=torch.float64)


def perfect(keypoints: torch.Tensor, unit: float = 1.0, stride: float = 4.0) -> OffsetHeatmaps:
    centres = keypoints / stride
    return OffsetHeatmaps(gaussians(centres, 16, 1.0), offset_fields(centres, 16) / unit)


def random_prediction(count: int = 2, joints: int = 3) -> OffsetHeatmaps:
    generator = torch.Generator().manual_seed(0)
    return OffsetHeatmaps(
        torch.randn(count, joints, 16, 16, generator=generator),
        torch.randn(count, joints, 2, 16, 16, generator=generator),
    )


# ------------------------------------------------------------------------------------------------------- losses


def test_offsets_point_from_each_cell_to_the_keypoint():
    fields = offset_fields(torch.tensor([[[5.25, 9.5]]]), 16)
    assert fields[0, 0, :, 7, 3].tolist() == [2.25, 2.5]
    assert fields[0, 0, :, 10, 6].tolist() == [-0.75, -0.5]


@pytest.mark.parametrize("unit", [1.0, 1.5])
@pytest.mark.parametrize("mask", ["disc", "errors"])
def test_a_perfect_prediction_costs_nothing(mask, unit):
    keypoints, visibility = keypoint(21.9, 38.2), torch.ones(1, 1)
    loss = codec(mask=mask, offset_unit=unit).loss(perfect(keypoints, unit), keypoints, visibility)
    assert loss.item() == pytest.approx(0, abs=1e-7)


def test_the_loss_agrees_with_a_slow_loop():
    prediction = random_prediction()
    generator = torch.Generator().manual_seed(1)
    keypoints = torch.rand(2, 3, 2, generator=generator, dtype=torch.float64) * 64
    visibility = torch.tensor([[1, 0, 2], [2, 2, 0]])
    maps = offsets = 0.0
    for person in range(2):
        for joint in range(3):
            if not visibility[person, joint]:
                continue
            x, y = (keypoints[person, joint] / 4).tolist()
            for row in range(16):
                for column in range(16):
                    square = (column - x) ** 2 + (row - y) ** 2
                    maps += 0.5 * (prediction.maps[person, joint, row, column].item() - np.exp(-square / 2)) ** 2
                    if square <= 9.0:
                        along_x, along_y = prediction.offsets[person, joint, :, row, column].tolist()
                        offsets += abs(along_x - (x - column) / 1.5) + abs(along_y - (y - row) / 1.5)
    expected = maps / (2 * 3 * 256) + 0.7 * offsets / (2 * 3 * 2 * 256)
    loss = codec(offset_weight=0.7, offset_unit=1.5, radius=3.0).loss(prediction, keypoints, visibility)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mask", ["disc", "errors"])
def test_gradient_reaches_both_outputs_of_labelled_keypoints_only(mask):
    prediction = random_prediction()
    for value in (prediction.maps, prediction.offsets):
        value.requires_grad_()
    keypoints = torch.full((2, 3, 2), 30.0, dtype=torch.float64)
    codec(mask=mask).loss(prediction, keypoints, torch.tensor([[1, 1, 0]] * 2)).backward()
    for value in (prediction.maps, prediction.offsets):
        assert value.grad[:, :2].any()
        assert not value.grad[:, 2].any()
    far = prediction.offsets.grad[0, 0, :, :3]  # more than 4 cells above
    assert not far.any()


def test_the_mask_is_a_disc_of_the_radius():
    steps = offset_fields(torch.tensor([[[8.0, 8.0]]]), 16)
    mask = codec(radius=4.0).mask(steps, torch.zeros(1, 1, 16, 16), SEEN)
    y, x = np.mgrid[:16, :16]
    assert np.array_equal(mask[0, 0].numpy(), (x - 8) ** 2 + (y - 8) ** 2 <= 16)


def test_the_radius_is_no_part_of_the_identity_where_there_is_no_disc():
    for mask, counts in (("disc", True), ("errors", False)):
        configs = (plain_config("hrnet_w16", 32, "cal", cal={"mask": mask, "radius": radius}) for radius in (3.0, 4.0))
        one, other = map(semantic_mapping, configs)
        assert (one != other) == counts


def test_the_density_of_errors_is_the_fitted_normal_ones():
    generator = torch.Generator().manual_seed(2)
    errors = (torch.randn(6, 5, 2, generator=generator) * torch.tensor([1.5, 0.8]) + torch.tensor([0.6, -0.4])).round()
    weight = (torch.rand(6, 5, generator=generator) > 0.3).float()
    counted = errors[weight > 0].double().numpy()
    covariance = np.cov(counted.T, bias=True) + 1e-6 * np.eye(2)
    grid = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4)), -1)
    density = multivariate_normal(counted.mean(0), covariance).pdf(grid)
    expected = (density - density.min()) / (density.max() - density.min())
    np.testing.assert_allclose(density_table(errors, weight).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("error", [[0.0, 0.0], [1.0, -2.0], [40.0, 40.0]])
def test_equal_errors_and_errors_outside_the_window_have_a_finite_mask(error):
    table = density_table(torch.tensor(error).expand(2, 3, 2), torch.ones(2, 3))
    assert table.isfinite().all()
    assert table.max() == 1
    x, y = (int(max(-3, min(3, value))) + 3 for value in error)
    assert table[y, x] == 1


def test_the_mask_of_errors_stays_on_its_device():
    assert density_table(torch.ones(2, 3, 2, device="meta"), torch.ones(2, 3, device="meta")).device.type == "meta"


def test_without_any_label_the_mask_is_finite():
    assert density_table(torch.ones(2, 3, 2), torch.zeros(2, 3)).isfinite().all()


def test_the_mask_of_errors_lies_around_each_keypoints_cell_and_moves_with_the_errors():
    centres = torch.tensor([[[8.2, 7.9], [1.0, 14.0]]])
    maps = torch.zeros(1, 2, 16, 16)
    maps[0, 0, 9, 8] = maps[0, 1, 15, 1] = 1.0  # both one cell too low
    mask = codec(mask="errors").mask(offset_fields(centres, 16), maps, torch.ones(1, 2))
    for joint, (column, row) in enumerate([(8, 9), (1, 15)]):
        assert mask[0, joint, row, column] == 1
        assert mask[0, joint].sum() == pytest.approx(1.0, abs=1e-3), "equal errors leave one cell"
    spread = torch.zeros(1, 2, 16, 16)
    spread[0, 0, 5, 8] = spread[0, 1, 15, 3] = 1.0
    mask = codec(mask="errors").mask(offset_fields(centres, 16), spread, torch.ones(1, 2))
    assert not mask[0, 0, :5].any(), "three rows above the cell at row 8 is the end"
    assert not mask[0, 1, :, 5:].any()
    assert mask.count_nonzero() > 4


# ----------------------------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize("unit", [1.0, 1.5])
def test_what_is_encoded_is_decoded_exactly(unit):
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(20, 4, 2, generator=generator, dtype=torch.float64) * 60 + 1
    found, scores = codec(offset_unit=unit).decode(perfect(keypoints, unit), None, range(4))
    assert (found - keypoints).abs().max() < 1e-4
    assert scores.min() > 0.7


def test_the_offset_is_that_of_the_highest_cell():
    maps, offsets = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 2, 16, 16)
    maps[0, 0, 5, 9] = 0.8
    offsets[0, 0, :, 5, 9] = torch.tensor([0.4, -0.2])
    keypoints, scores = codec(offset_unit=1.5).decode(OffsetHeatmaps(maps, offsets), None, (0,))
    assert keypoints[0, 0].tolist() == pytest.approx([4 * (9 + 0.6), 4 * (5 - 0.3)])
    assert scores.item() == pytest.approx(0.8)


def test_averaging_a_mirrored_prediction_is_exact_and_turns_offsets_in_x():
    permutation = [1, 0, 2]
    prediction = random_prediction()
    x, y = prediction.offsets[:, permutation].flip(-1).unbind(2)
    flipped = OffsetHeatmaps(prediction.maps[:, permutation].flip(-1), torch.stack((-x, y), 2))
    plain, averaged = (CODEC.decode(prediction, other, permutation) for other in (None, flipped))
    assert all(torch.equal(one, other) for one, other in zip(plain, averaged, strict=True))


def test_with_the_warp_of_one_pixel_less_a_mirrored_keypoint_is_decoded_exactly():
    """A pixel x goes to 63 - x, and so a cell c to 15 - c: what a perfect network says of both images agrees."""
    config = plain_config("hrnet_w16", 64, "cal", data={"warp": "size_minus_one"})
    udp = build_codec(config)
    assert udp.stride == 63 / 15
    keypoints = torch.tensor([[[20.3, 41.7], [33.0, 2.5]]], dtype=torch.float64)
    seen_in_mirror = keypoints[:, [1, 0]] * torch.tensor([-1.0, 1.0]) + torch.tensor([63.0, 0.0])
    both = (perfect(places, stride=udp.stride) for places in (keypoints, seen_in_mirror))
    found, _ = udp.decode(*both, [1, 0])
    assert (found - keypoints).abs().max() < 1e-4


# ----------------------------------------------------------------------------------------------------- networks


def test_the_streams_share_three_stages_and_nothing_after():
    net = build_pose_net(plain_config("hrnet_w16", 32, "cal"), 3, generator=torch.Generator().manual_seed(0)).eval()
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    before = net(images)
    torch.nn.init.zeros_(net.backbone.stage4_offset[0].branches[0][0].conv1.weight)
    after = net(images)
    assert torch.equal(before.final_feature, after.final_feature)
    assert not torch.equal(before.prediction.offsets, after.prediction.offsets)
    assert before.backbone_feature.shape == (1, 32, 8, 8)
    assert torch.equal(before.prediction.maps, before.final_feature)


def test_the_first_stream_is_started_from_an_hrnets_file_and_the_second_keeps_its_weights(tmp_path):
    source = build_pose_net(plain_config("hrnet_w16", 32), 3, generator=torch.Generator().manual_seed(0))
    torch.save(source.state_dict(), tmp_path / "simcc.pt")
    net = build_pose_net(plain_config("hrnet_w16", 32, "cal"), 3, generator=torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    load_backbone(net, tmp_path / "simcc.pt")
    own = (
        "stage4_offset.",
        "transition3_offset.",
        "heatmap_blocks.",
        "final_layer.",
        "offset_blocks.",
        "offset_layer.",
    )
    for name, value in net.state_dict().items():
        expected = before[name] if name.startswith(own) else source.state_dict()[name]
        assert torch.equal(value, expected), name


def test_a_second_stream_in_the_file_must_fit(tmp_path):
    net = build_pose_net(plain_config("hrnet_w16", 32, "cal"), 3, generator=torch.Generator().manual_seed(1))
    state = net.state_dict()
    del state["stage4_offset.0.branches.0.0.conv1.weight"]
    torch.save(state, tmp_path / "cal.pt")
    with pytest.raises(WeightsError, match=r"missing: stage4_offset\.0\.branches\.0\.0\.conv1\.weight"):
        load_backbone(net, tmp_path / "cal.pt")


def test_a_backbone_without_a_stage_4_to_double_is_refused_in_one_line():
    layer = {"head.kind": "cal", "distill.cca.enabled": False, "student.backbone": "resnet50"}
    with pytest.raises(ConfigError) as caught:
        resolve(layer)
    assert str(caught.value) == (
        "student.backbone: must be one of hrnet_w32, hrnet_w48, hrnet_w16 with head.kind cal, got 'resnet50'"
    )
    with pytest.raises(ValueError, match="two streams must be one of hrnet_w32, hrnet_w48, hrnet_w16, got 'resnet50'"):
        build_two_stream_backbone("resnet50")


def test_the_codec_has_the_configurations_options():
    cal = {"offset_weight": 0.7, "offset_unit": 1.5, "mask": "errors", "radius": 3.0}
    built = build_codec(plain_config("hrnet_w16", 64, "cal", cal=cal, heatmap={"sigma": 2.0}))
    assert built == CalCodec(side=16, stride=4.0, sigma=2.0, options=CalConfig(0.7, 1.5, "errors", 3.0))
    assert build_codec(plain_config("hrnet_w16", 64, "cal")) == CODEC
