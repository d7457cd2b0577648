"""Bin against bin between classifiers of equal length."""

import pytest
import torch

from cdkd.distill.cca import build_cca
from cdkd.distill.divergence import Divergence
from cdkd.distill.same_class_number import build_same_class_number

STUDENT_RAISED = ((64, 12.0), (256, 3.0))
TEACHER_LOWERED = ((64, 3.0), (256, 0.75))
EQUAL_RESOLUTION = ((64, 3.0), (64, 3.0))
TAU = torch.tensor(2.0)
WEIGHT = torch.tensor([[1.0, 0.0]])


def pair(bins, seed=4):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, 2, 1, 2, bins, generator=generator)
    return list(student), list(teacher)


readings = pytest.mark.parametrize(
    ("sizes", "bins"), [(STUDENT_RAISED, 768), (TEACHER_LOWERED, 192), (EQUAL_RESOLUTION, 192)]
)


@readings
@pytest.mark.parametrize("mask", [False, True])
def test_every_reading_aligns_bin_with_bin(sizes, bins, mask):
    """As cross-class alignment whose merge has one teacher bin to a student bin."""
    student, teacher = pair(bins)
    divergence = Divergence(mask_invisible=mask)
    aligner = build_same_class_number(divergence, student=sizes[0], teacher=sizes[1])
    merged = build_cca("floor", divergence, student=sizes[0], teacher=sizes[1])
    assert aligner(student, teacher, WEIGHT, TAU).item() == merged(student, teacher, WEIGHT, TAU).item()


def test_it_is_zero_where_both_agree_and_grows_where_they_do_not():
    student, teacher = pair(192)
    aligner = build_same_class_number(Divergence(), student=(64, 3.0), teacher=(64, 3.0))
    assert aligner(student, student, WEIGHT, TAU).item() == pytest.approx(0.0, abs=1e-6)
    assert aligner(student, teacher, WEIGHT, TAU).item() > 0.01


def test_the_student_gets_a_gradient_and_the_teacher_none():
    student, teacher = ([axis.clone().requires_grad_() for axis in side] for side in pair(192))
    aligner = build_same_class_number(Divergence(), student=(64, 3.0), teacher=(256, 0.75))
    aligner(student, teacher, WEIGHT, TAU).backward()
    assert all(axis.grad.any() for axis in student)
    assert all(axis.grad is None for axis in teacher)
    assert not aligner.state_dict()


def test_different_class_counts_are_refused():
    with pytest.raises(ValueError, match="equal class counts, got 192 and 768"):
        build_same_class_number(Divergence(), student=(64, 3.0), teacher=(256, 3.0))
