"""A linear layer per axis between the classifiers."""

import math

import pytest
import torch

from cdkd.distill.divergence import Divergence
from cdkd.distill.logit_fully_connected import FullyConnectedLogits, build_fully_connected_logits

TAU = torch.tensor(2.0)
WEIGHT = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
SIDES = pytest.mark.parametrize("side", ["student", "teacher"])


def build(side, seed=0, student=(4, 1.0), teacher=(16, 1.0), **options):
    generator = torch.Generator().manual_seed(seed)
    return build_fully_connected_logits(
        side, Divergence(**options), student=student, teacher=teacher, generator=generator
    )


def logits(batch=2, student_bins=4, teacher_bins=16):
    generator = torch.Generator().manual_seed(8)
    student = list(torch.randn(2, batch, 2, student_bins, generator=generator))
    return student, list(torch.randn(2, batch, 2, teacher_bins, generator=generator))


def slow(student, teacher, tau=2.0):
    p, q = ([math.exp(value / tau) for value in row] for row in (teacher, student))
    return sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))


def slow_layer(layer, row):
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [bias + sum(w * value for w, value in zip(weights, row, strict=True)) for weights, bias in rows]


@SIDES
@pytest.mark.parametrize("mask", [False, True])
def test_it_agrees_with_a_slow_loop(side, mask):
    aligner, (student, teacher) = build(side, mask_invisible=mask), logits()
    terms, weights = [], []
    for a, b, j in [(a, b, j) for a in range(2) for b in range(2) for j in range(2)]:
        ours, theirs = student[a][b, j].tolist(), teacher[a][b, j].tolist()
        ours = slow_layer(aligner.layers[a], ours) if side == "student" else ours
        theirs = slow_layer(aligner.layers[a], theirs) if side == "teacher" else theirs
        terms.append(slow(ours, theirs))
        weights.append(float(WEIGHT[b, j]) if mask else 1.0)
    expected = sum(w * term for w, term in zip(weights, terms, strict=True)) / sum(weights)
    assert aligner(student, teacher, WEIGHT, TAU).item() == pytest.approx(expected, rel=1e-5)


def test_it_is_zero_where_the_adapted_student_is_the_teacher():
    aligner, (student, _) = build("student"), logits()
    teacher = [logit.detach() for logit in aligner.adapt(student)]
    assert aligner(student, teacher, WEIGHT, TAU).item() == pytest.approx(0.0, abs=1e-6)


@SIDES
def test_a_batch_of_one_is_the_loss_of_that_instance(side):
    aligner, (student, teacher) = build(side), logits()
    parts = [
        aligner(*([axis[i : i + 1] for axis in axes] for axes in (student, teacher)), WEIGHT[i : i + 1], TAU)
        for i in (0, 1)
    ]
    assert sum(parts).item() / 2 == pytest.approx(aligner(student, teacher, WEIGHT, TAU).item(), rel=1e-5)


@SIDES
def test_gradient_reaches_the_student_the_layers_and_the_temperature_and_not_the_teacher(side):
    student, teacher = ([axis.requires_grad_() for axis in axes] for axes in logits())
    aligner, tau = build(side), torch.tensor(2.0, requires_grad=True)
    aligner(student, teacher, WEIGHT, tau).backward()
    assert all(axis.grad.any() for axis in student)
    assert all(axis.grad is None for axis in teacher)
    assert all(layer.weight.grad.any() for layer in aligner.layers)
    assert tau.grad != 0


@pytest.mark.parametrize(("side", "shape"), [("student", (768, 192)), ("teacher", (192, 768))])
def test_the_layers_lead_from_one_class_count_to_the_other(side, shape):
    aligner = build(side, student=(64, 3.0), teacher=(256, 3.0))
    assert [tuple(layer.weight.shape) for layer in aligner.layers] == [shape, shape]
    assert not torch.equal(*(layer.weight for layer in aligner.layers)) or side == "teacher"


def test_on_the_teachers_side_it_begins_as_the_mean_over_each_student_bin():
    aligner = build("teacher", student=(4, 1.0), teacher=(12, 1.0))
    # three teacher bins to one, centred: bin 1 covers teacher bins 2 to 4; the last takes what lies beyond
    ramp = torch.arange(12.0).view(1, 1, 12)
    assert aligner.adapt([ramp, ramp])[1].flatten().tolist() == pytest.approx([0.5, 3.0, 6.0, 9.5])


def test_a_teacher_much_coarser_than_the_student_begins_finite():
    aligner = build("teacher", student=(16, 4.0), teacher=(16, 0.5))
    assert all(torch.isfinite(layer.weight).all() for layer in aligner.layers)


def test_on_the_students_side_it_begins_at_pytorchs_default_from_the_given_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build("student", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.layers[0].weight, same.layers[0].weight)
    assert not torch.equal(one.layers[0].weight, other.layers[0].weight)
    assert not torch.equal(one.layers[0].weight, one.layers[1].weight)
    assert 0.4 < one.layers[0].weight.abs().max().item() <= 1 / math.sqrt(4)


def test_an_unknown_side_is_refused():
    with pytest.raises(ValueError, match="student, teacher, got 'both'"):
        build("both")


def test_logits_of_a_third_axis_are_refused():
    with pytest.raises(ValueError, match="zip"):
        FullyConnectedLogits(4, 16, side="student", divergence=Divergence()).adapt([torch.ones(1, 1, 4)] * 3)
