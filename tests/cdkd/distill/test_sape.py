"""Feature alignment: golden numbers of the method notes, the unit's options, and the loss."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from cdkd.config import SapeConfig
from cdkd.distill.feature_alignment import FeatureDistance
from cdkd.distill.sape import ScaleAdaptiveUnit, assemble_sape, build_sape

OFFICIAL = SapeConfig(projector="full", kernels=(3, 5, 7), add_mean_branch=True)
SMALL = SapeConfig(kernels=(3, 5), hidden=4)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def on_meta(config, channels, student_side, teacher_side=64):
    with torch.device("meta"):
        return assemble_sape(
            config,
            has_unit=config.sau,
            distance=FeatureDistance(),
            channels=channels,
            student_side=student_side,
            teacher_side=teacher_side,
        )


def small(seed=0, channels=3, **options):
    config = dataclasses.replace(SMALL, **options)
    generator = torch.Generator().manual_seed(seed)
    return build_sape(
        config,
        has_unit=config.sau,
        distance=FeatureDistance(),
        channels=channels,
        student_side=4,
        teacher_side=8,
        generator=generator,
    )


def features(batch=2, channels=3, student_side=4, teacher_side=8):
    generator = torch.Generator().manual_seed(7)
    student = torch.randn(batch, channels, student_side, student_side, generator=generator)
    return student, torch.randn(batch, channels, teacher_side, teacher_side, generator=generator)


# -------------------------------------------------------------------------------------------- golden numbers


@pytest.mark.parametrize(
    ("projector", "channels", "student_side", "golden"),
    [
        ("full", 16, 16, 805_502_976),
        ("full", 16, 8, 201_523_200),
        ("full", 17, 16, 909_324_288),
        ("full", 17, 8, 227_487_744),
        ("spatial", 16, 16, 3_158_016),
        ("spatial", 17, 8, 798_720),
        ("separable", 16, 16, 3 * 2_176),
    ],
)
def test_three_projectors_have_the_golden_number_of_parameters(projector, channels, student_side, golden):
    assert count(on_meta(SapeConfig(projector=projector), channels, student_side).projectors) == golden


@pytest.mark.parametrize(
    ("channels", "kernels", "golden"),
    [(16, (3, 5, 7), 24_048), (16, (3, 5, 7, 7), 36_640), (17, (3, 5, 7), 26_960), (17, (3, 5, 7, 7), 41_172)],
)
def test_a_unit_of_four_branches_has_the_golden_number_of_parameters(channels, kernels, golden):
    config = SapeConfig(kernels=kernels, add_mean_branch=True)
    assert count(on_meta(config, channels, 16).unit) == golden


def test_without_the_mean_branch_the_unit_has_one_linear_map_less():
    unit = on_meta(SapeConfig(kernels=(3, 5, 7)), 16, 16).unit
    assert count(unit) == 24_048 - (32 * 16 + 16)


def fill(tensor, factor):
    index = torch.arange(tensor.numel(), dtype=torch.float64) % 997
    with torch.no_grad():
        tensor.copy_((0.05 * torch.sin(factor * 0.37 * index)).view(tensor.shape))


def test_the_official_forward_matches_the_golden_distance():
    sape = assemble_sape(
        OFFICIAL, has_unit=True, distance=FeatureDistance(), channels=2, student_side=8, teacher_side=64
    )
    sape = sape.double().eval()
    for factor, projector in enumerate(sape.projectors, start=1):
        for parameter in projector.parameters():
            fill(parameter, factor)
    for module in sape.unit.modules():
        # the released code has one linear map per branch where `select` is all of them
        parts = 4 if module is sape.unit.select else 1
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            for parameter in module.parameters():
                for part in parameter.chunk(parts):
                    fill(part, 5)
    student = torch.cos(0.21 * torch.arange(2 * 2 * 64, dtype=torch.float64)).view(2, 2, 8, 8)
    teacher = torch.sin(0.013 * torch.arange(2 * 2 * 4096, dtype=torch.float64)).view(2, 2, 64, 64)
    loss = sape(student, teacher).loss.item()
    assert loss == pytest.approx(0.998373, abs=5e-7)
    assert 0.4 * loss == pytest.approx(0.399349, abs=5e-7)


# ------------------------------------------------------------------------------------------------ projectors


@pytest.mark.parametrize("projector", ["spatial", "full", "separable"])
def test_a_projector_agrees_with_a_slow_loop(projector):
    module = small(projector=projector).projectors[0]
    feature, _ = features()
    result = module(feature)
    state = dict(module.named_parameters())
    for b in range(2):
        expected = _project_slowly(projector, state, feature[b])
        assert torch.allclose(result[b], expected.clamp_min(0), atol=1e-5)
    assert (result == 0).any()
    assert (result > 0).any()


def _project_slowly(projector, state, feature):
    if projector == "full":
        return (state["linear.weight"] @ feature.reshape(-1) + state["linear.bias"]).view(3, 8, 8)
    channels = []
    for plane in feature:
        if projector == "spatial":
            channels.append((state["linear.weight"] @ plane.reshape(-1) + state["linear.bias"]).view(8, 8))
        else:
            wide = plane @ state["rows.weight"].T + state["rows.bias"]
            channels.append(state["columns.weight"] @ wide + state["columns.bias"][:, None])
    return torch.stack(channels)


def test_projectors_have_names_of_their_own():
    names = {name for name, _ in small().projectors.named_parameters()}
    assert names == {f"{index}.linear.{kind}" for index in range(3) for kind in ("weight", "bias")}


# ------------------------------------------------------------------------------------------------------ unit


def make_unit(**options):
    torch_options = {"channels": 3, "branches": 4, "kernels": (3, 5), "hidden": 6} | options
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ScaleAdaptiveUnit(**torch_options)


@pytest.mark.parametrize("fuse", ["sum", "concat"])
@pytest.mark.parametrize("fuse_order", ["sum_gap_fc", "fc_gap_sum"])
@pytest.mark.parametrize("extra_fc", ["none", "post_gap", "pre_softmax"])
@pytest.mark.parametrize("batch", [1, 2])
def test_weights_are_a_distribution_over_branches_per_channel(fuse, fuse_order, extra_fc, batch):
    weights = make_unit(fuse=fuse, fuse_order=fuse_order, extra_fc=extra_fc)(features(batch)[0])
    assert weights.shape == (batch, 4, 3)
    assert torch.allclose(weights.sum(1), torch.ones(batch, 3))
    assert weights.std(1).min() > 0  # not uniform
    assert weights.std(2).min() > 0  # a distribution for each channel


def pooled_maps(unit, feature):
    return [convolution(feature).mean((2, 3)) for convolution in unit.convolutions]


def select(unit, hidden):
    return unit.select(hidden).view(hidden.shape[0], 4, 3).softmax(1)


def test_sum_then_pool_then_linear():
    unit, (feature, _) = make_unit().eval(), features()
    expected = select(unit, unit.hidden[0](sum(pooled_maps(unit, feature))))
    assert torch.allclose(unit(feature), expected, atol=1e-6)


def test_concat_then_pool_then_linear():
    unit, (feature, _) = make_unit(fuse="concat").eval(), features()
    expected = select(unit, unit.hidden[0](torch.cat(pooled_maps(unit, feature), 1)))
    assert unit.hidden[0].in_features == 6
    assert torch.allclose(unit(feature), expected, atol=1e-6)


def test_linear_per_branch_then_pool_then_sum():
    unit, (feature, _) = make_unit(fuse_order="fc_gap_sum").eval(), features()
    pairs = zip(unit.hidden, pooled_maps(unit, feature), strict=True)
    assert len(unit.hidden) == 2
    # linear maps and means commute
    expected = select(unit, sum(layer(pooled) for layer, pooled in pairs))
    assert torch.allclose(unit(feature), expected, atol=1e-6)


def test_the_relu_follows_the_hidden_layer_and_so_makes_the_order_matter():
    feature, _ = features()
    before = make_unit(fuse="concat", hidden_relu=True, fuse_order="sum_gap_fc").eval()
    after = make_unit(fuse="concat", hidden_relu=True, fuse_order="fc_gap_sum").eval()
    after.load_state_dict(before.state_dict())
    assert not torch.allclose(before(feature), after(feature), atol=1e-6)
    expected = select(before, before.hidden[0](torch.cat(pooled_maps(before, feature), 1)).relu())
    assert torch.allclose(before(feature), expected, atol=1e-6)


def test_without_the_relu_the_two_orders_of_a_concatenation_are_one_function():
    feature, _ = features()
    one, other = (make_unit(fuse="concat", fuse_order=order).eval() for order in ("sum_gap_fc", "fc_gap_sum"))
    other.load_state_dict(one.state_dict())
    assert torch.allclose(one(feature), other(feature), atol=1e-6)


@pytest.mark.parametrize(
    ("fuse_order", "extra_fc", "added"),
    [
        ("sum_gap_fc", "post_gap", 3 * 3 + 3),
        ("fc_gap_sum", "post_gap", 6 * 6 + 6),
        ("sum_gap_fc", "pre_softmax", 12 * 12 + 12),
    ],
)
def test_the_extra_layer_stands_where_figure_6_puts_it(fuse_order, extra_fc, added):
    plain, extra = (make_unit(fuse_order=fuse_order, extra_fc=name).eval() for name in ("none", extra_fc))
    assert count(extra) - count(plain) == added
    layer = getattr(extra, extra_fc)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(layer.in_features))
        layer.bias.zero_()
    extra.load_state_dict(plain.state_dict(), strict=False)
    feature, _ = features()
    assert torch.allclose(extra(feature), plain(feature), atol=1e-6)
    nn.init.constant_(layer.weight, 0.0)
    assert not torch.allclose(extra(feature), plain(feature), atol=1e-6)


def test_a_kernel_may_come_twice_and_even_sides_keep_their_size():
    unit = make_unit(kernels=(3, 5, 7, 7))
    assert [convolution[0].kernel_size for convolution in unit.convolutions] == [(3, 3), (5, 5), (7, 7), (7, 7)]
    assert all(convolution(features()[0]).shape == (2, 3, 4, 4) for convolution in unit.convolutions)


# -------------------------------------------------------------------------------------------------- ensemble


def test_lifting_is_the_weighted_sum_of_projections_channel_by_channel():
    sape, (feature, _) = small().eval(), features()
    weights = sape.weights(feature)
    lifted = sape.lift(feature, weights)
    projections = [projector(feature) for projector in sape.projectors]
    for channel in range(3):
        expected = sum(weights[0, k, channel] * projections[k][0, channel] for k in range(3))
        assert torch.allclose(lifted[0, channel], expected, atol=1e-6)


def test_a_mean_branch_is_one_more_projection_that_is_their_mean():
    sape, (feature, _) = small(add_mean_branch=True).eval(), features()
    projections = [projector(feature) for projector in sape.projectors]
    branches = torch.stack([*projections, sum(projections) / 3], 1)
    expected = (sape.unit(feature)[..., None, None] * branches).sum(1)
    assert sape.unit.branches == 4
    assert torch.allclose(sape.lift(feature, sape.weights(feature)), expected, atol=1e-6)


def test_without_a_unit_the_projections_are_averaged():
    sape, (feature, _) = small(sau=False), features()
    expected = sum(projector(feature) for projector in sape.projectors) / 3
    assert sape.unit is None
    assert torch.allclose(sape.lift(feature, sape.weights(feature)), expected, atol=1e-6)


def test_without_a_unit_it_is_pefd():
    """Plain mean of trained FC + ReLU projectors over whole features, compared by the cosine."""
    sape, (student, teacher) = small(sau=False, projector="full"), features()
    lifted = sum(projector.linear(student.flatten(1)).relu() for projector in sape.projectors) / 3
    expected = 1.0 - torch.cosine_similarity(lifted, teacher.flatten(1), dim=1).mean()
    alignment = sape(student, teacher)
    assert alignment.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert alignment.weights is alignment.mean_weights() is None
    assert [name for name, _ in sape.named_parameters() if not name.startswith("projectors.")] == []


def test_the_mean_weights_are_those_of_each_projector_without_gradient():
    sape, (student, teacher) = small().eval(), features()
    alignment = sape(student, teacher)
    assert alignment.weights.requires_grad
    assert alignment.mean_weights().tolist() == pytest.approx(
        [alignment.weights[:, k].mean().item() for k in range(3)], rel=1e-5
    )
    assert not alignment.mean_weights().requires_grad


# ------------------------------------------------------------------------------------------------------ loss


def test_a_batch_of_one_is_the_loss_of_that_instance():
    sape, (student, teacher) = small().eval(), features()
    parts = [sape(student[i : i + 1], teacher[i : i + 1]).loss.item() for i in (0, 1)]
    assert sum(parts) / 2 == pytest.approx(sape(student, teacher).loss.item(), abs=1e-6)


def test_a_batch_of_one_trains():
    student, teacher = features(1)
    sape = small()
    sape(student, teacher).loss.backward()
    assert all(parameter.grad is not None for parameter in sape.parameters())


def test_features_of_another_shape_are_refused():
    student, teacher = features()
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3, 8, 8\) and \(2, 3, 6, 6\)"):
        small()(student, teacher[..., :6, :6])


@pytest.mark.parametrize("projector", ["spatial", "full", "separable"])
def test_gradient_reaches_student_projectors_and_unit_and_not_the_teacher(projector):
    student, teacher = (feature.requires_grad_() for feature in features())
    sape = small(projector=projector)
    sape(student, teacher).loss.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in sape.parameters())


def test_the_students_gradient_flows_through_the_unit_too():
    student, _ = (feature.requires_grad_() for feature in features())
    small().weights(student)[:, 0].sum().backward()
    assert student.grad.any()


def test_detached_the_student_gets_no_gradient_and_the_value_stays():
    student, teacher = features()
    student.requires_grad_()
    attached, detached = small().eval(), small(detach_student=True).eval()
    loss = detached(student, teacher).loss
    loss.backward()
    assert student.grad is None
    assert loss.item() == attached(student, teacher).loss.item()


def test_under_autocast_the_distance_is_taken_in_single_precision():
    sape, (student, teacher) = small().eval(), features()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sape(student, teacher).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(sape(student, teacher).loss.item(), abs=0.02)


# --------------------------------------------------------------------------------------------------- builder


def test_building_draws_from_the_given_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = small(0), small(0), small(1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True))
    assert not torch.equal(one.projectors[0].linear.weight, other.projectors[0].linear.weight)
    assert not torch.equal(one.projectors[0].linear.weight, one.projectors[1].linear.weight)


def test_projectors_begin_xavier_uniform_and_the_unit_at_pytorchs_defaults():
    sape = small()
    bound = math.sqrt(6 / (16 + 64))
    assert 0.95 * bound < sape.projectors[0].linear.weight.abs().max().item() <= bound
    assert sape.unit.select.weight.abs().max().item() <= 1 / math.sqrt(4)
    assert sape.unit.convolutions[0][0].weight.abs().max().item() <= 1 / math.sqrt(3 * 9)
    norm = sape.unit.convolutions[0][1]
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert torch.equal(norm.weight, torch.ones(3))
