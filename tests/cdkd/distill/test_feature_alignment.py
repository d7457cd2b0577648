"""The distances of two features, and the comparators' adapters around them."""

import math

import pytest
import torch
from torch import nn

from cdkd.distill.feature_alignment import AdaptedFeatures, FeatureDistance, cosine_distance


def features(batch=2, channels=3, side=4, seed=7):
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = torch.randn(2, batch, channels, side, side, generator=generator, dtype=torch.float64)
    return ours, theirs + 0.3 * ours


DISTANCES = [FeatureDistance("cosine", "sample"), FeatureDistance("cosine", "channel"), FeatureDistance("mse")]
distances = pytest.mark.parametrize("distance", DISTANCES, ids=["sample", "channel", "mse"])


@distances
def test_the_distance_of_a_feature_to_itself_is_zero(distance):
    assert distance(features()[0], features()[0]).item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("cosine", ["sample", "channel"])
def test_the_cosine_does_not_see_a_factor(cosine):
    feature = features()[0]
    assert cosine_distance(feature, 5.0 * feature, cosine, 1e-8).item() == pytest.approx(0.0, abs=1e-12)


def test_the_cosine_by_hand():
    ours = torch.tensor([3.0, 4.0, 0.0, 0.0]).view(1, 2, 1, 2)
    theirs = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 2, 1, 2)
    assert cosine_distance(ours, theirs, "sample", 1e-8).item() == pytest.approx(1 - 3 / (5 * math.sqrt(2)))
    # channel 0: 3/5; channel 1: a zero vector, perpendicular by convention
    assert cosine_distance(ours, theirs, "channel", 1e-8).item() == pytest.approx(1 - 0.6 / 2)


def test_the_squared_difference_by_hand():
    ours = torch.tensor([3.0, 4.0, 0.0, 0.0]).view(1, 2, 1, 2)
    theirs = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 2, 1, 2)
    assert FeatureDistance("mse")(ours, theirs).item() == pytest.approx((4 + 16 + 0 + 1) / 4)


@pytest.mark.parametrize("cosine", ["sample", "channel"])
def test_the_cosine_agrees_with_a_slow_loop(cosine):
    ours, theirs = features()
    pairs = [(ours[b], theirs[b]) for b in range(2)]
    if cosine == "channel":
        pairs = [(ours[b, c], theirs[b, c]) for b in range(2) for c in range(3)]
    cosines = [float((a * b).sum()) / math.sqrt(float((a * a).sum()) * float((b * b).sum())) for a, b in pairs]
    expected = 1 - sum(cosines) / len(cosines)
    assert cosine_distance(ours, theirs, cosine, 1e-8).item() == pytest.approx(expected)


def test_the_squared_difference_agrees_with_a_slow_loop():
    ours, theirs = features()
    pairs = zip(ours.flatten().tolist(), theirs.flatten().tolist(), strict=True)
    expected = sum((a - b) ** 2 for a, b in pairs) / ours.numel()
    assert FeatureDistance("mse")(ours, theirs).item() == pytest.approx(expected)


@distances
def test_a_batch_of_one_is_the_loss_of_that_instance(distance):
    ours, theirs = features()
    parts = [distance(ours[i : i + 1], theirs[i : i + 1]).item() for i in (0, 1)]
    assert sum(parts) / 2 == pytest.approx(distance(ours, theirs).item())


def test_an_all_zero_feature_gives_no_nan():
    zero = torch.zeros(1, 2, 3, 3, requires_grad=True)
    loss = cosine_distance(zero.relu(), torch.ones(1, 2, 3, 3), "sample", 1e-8)
    loss.backward()
    assert loss.item() == 1.0
    assert torch.isfinite(zero.grad).all()


@distances
def test_half_precision_features_are_compared_in_single_precision(distance):
    ours, theirs = (feature.bfloat16() for feature in features())
    loss = distance(ours, theirs)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(distance(ours.double(), theirs.double()).item(), rel=1e-5)


@distances
def test_features_of_another_shape_are_refused(distance):
    with pytest.raises(ValueError, match=r"one shape, got \(1, 1, 2, 2\) and \(1, 1, 2, 1\)"):
        distance(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 1))


def test_an_unknown_cosine_is_refused():
    with pytest.raises(ValueError, match="got 'spatial'"):
        cosine_distance(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), "spatial", 1e-8)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="cosine, mse, got 'l1'"):
        FeatureDistance("l1")


# -------------------------------------------------------------------------------------------------- adapters


def adapted(distance=None, **options):
    return AdaptedFeatures(
        student_adapter=nn.Conv2d(3, 3, 1).double(),
        teacher_adapter=nn.Conv2d(3, 3, 1).double(),
        distance=distance or DISTANCES[0],
        **options,
    )


@distances
def test_gradient_reaches_the_student_and_both_adapters_and_not_the_teacher(distance):
    student, teacher = (feature.requires_grad_() for feature in (features()[0].clone(), features()[1]))
    teacher.retain_grad()
    module = adapted(distance)
    module(student, teacher).loss.backward()
    assert student.grad.any()
    assert teacher.grad is None
    assert all(parameter.grad.any() for parameter in module.parameters())


def test_detached_the_student_gets_no_gradient_and_the_adapters_do():
    student, teacher = features()
    student.requires_grad_()
    module = adapted(detach_student=True)
    module(student, teacher).loss.backward()
    assert student.grad is None
    assert all(parameter.grad.any() for parameter in module.parameters())


def test_it_is_the_distance_of_the_adapted_features():
    student, teacher = features()
    module = adapted()
    alignment = module(student, teacher)
    expected = module.distance(module.student_adapter(student), module.teacher_adapter(teacher))
    assert alignment.loss.item() == expected.item()
    assert alignment.mean_weights() is None
