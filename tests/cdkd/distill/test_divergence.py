"""The divergence at a temperature: by hand, against a slow loop, and where the gradient goes."""

import itertools
import math

import pytest
import torch

from cdkd.distill.divergence import Divergence

WEIGHT = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)


def logits(factor):
    """Two axes of (2, 3, 5)."""
    index = torch.arange(30, dtype=torch.float64)
    return [(torch.sin(factor * index) * 2).view(2, 3, 5), (torch.cos(factor * index) * 2).view(2, 3, 5)]


def tau(value=2.5):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_it_is_zero_where_both_agree_up_to_a_constant():
    shifted = [each + 3.0 for each in logits(0.3)]
    assert Divergence()(logits(0.3), shifted, WEIGHT, tau()).item() == pytest.approx(0.0, abs=1e-12)


def test_by_hand_for_two_bins():
    # at temperature 2 logits of 2 log p become log p: teacher (3/4, 1/4) against student (1/2, 1/2)
    teacher, student = 2.0 * torch.tensor([[[3.0, 1.0]]]).log(), torch.zeros(1, 1, 2)
    loss = Divergence()((student, student), (teacher, teacher), torch.ones(1, 1), torch.tensor(2.0))
    assert loss.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def slow(student, teacher, temperature):
    p, q = ([math.exp(value / temperature) for value in row] for row in (teacher, student))
    return sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize(
    ("class_reduction", "batch_reduction", "mask"),
    list(itertools.product(("sum", "mean"), ("mean", "sum"), (False, True))),
)
def test_it_agrees_with_a_slow_loop(class_reduction, batch_reduction, mask):
    places = list(itertools.product(range(2), range(2), range(3)))
    weights = [float(WEIGHT[b, j]) if mask else 1.0 for _, b, j in places]
    student, teacher = logits(0.1), logits(0.7)
    terms = [slow(student[a][b, j].tolist(), teacher[a][b, j].tolist(), 2.5) for a, b, j in places]
    expected = sum(w * term for w, term in zip(weights, terms, strict=True))
    expected /= 5 if class_reduction == "mean" else 1
    expected /= sum(weights) if batch_reduction == "mean" else 1
    divergence = Divergence(class_reduction, batch_reduction, mask_invisible=mask)
    assert divergence(student, teacher, WEIGHT, tau()).item() == pytest.approx(expected, rel=1e-10)


def test_a_batch_of_one_is_the_loss_of_that_instance():
    parts = [
        Divergence()(*([axis[i : i + 1] for axis in logits(f)] for f in (0.1, 0.7)), WEIGHT[i : i + 1], tau())
        for i in (0, 1)
    ]
    assert sum(parts).item() / 2 == pytest.approx(Divergence()(logits(0.1), logits(0.7), WEIGHT, tau()).item())


def test_the_mask_decides_which_keypoints_get_a_gradient():
    student = [axis.requires_grad_() for axis in logits(0.1)]
    Divergence(mask_invisible=True)(student, logits(0.7), WEIGHT, tau()).backward()
    assert all(torch.equal(axis.grad.abs().sum(-1) > 0, WEIGHT > 0) for axis in student)


@pytest.mark.parametrize("tau_grad_teacher", [True, False])
def test_gradient_reaches_both_sides_and_the_temperature(tau_grad_teacher):
    student, teacher = ([axis.requires_grad_() for axis in logits(factor)] for factor in (0.1, 0.7))
    temperature = tau()
    Divergence(tau_grad_teacher=tau_grad_teacher)(student, teacher, WEIGHT, temperature).backward()
    assert all(axis.grad.any() for axis in (*student, *teacher))
    assert temperature.grad != 0


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"same bins, got shapes \(2, 2, 3, 5\) and \(2, 2, 3, 4\)"):
        Divergence()(logits(0.1), [axis[..., :4] for axis in logits(0.7)], WEIGHT, tau())


def test_a_merge_works_on_the_teachers_distribution():
    teacher = [torch.cat([axis, axis], -1) for axis in logits(0.7)]
    merged = Divergence()(logits(0.7), teacher, WEIGHT, tau(), lambda p: p.unflatten(-1, (2, 5)).sum(-2))
    assert merged.item() == pytest.approx(0.0, abs=1e-12)
