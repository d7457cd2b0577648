"""Logit alignment against the golden numbers of the method notes and against a slow loop."""

import math

import pytest
import torch

from cdkd.distill.cca import BinMerge, CrossClassAlignment, build_cca, rebinning_matrix
from cdkd.distill.divergence import Divergence

GOLDEN_ROW = [0.009319, 0.016778, 0.029215, 0.048136, 0.073592, 0.102675]
GOLDEN_ROW += [0.129046, 0.144816, 0.144456, 0.128098, 0.101453, 0.072416]


def student_logits():
    index = torch.arange(72, dtype=torch.float64)
    return torch.sin(0.1 * index).view(2, 3, 12), torch.cos(0.1 * index).view(2, 3, 12)


def teacher_logits():
    index = torch.arange(288, dtype=torch.float64)
    return 3 * torch.sin(0.05 * index).view(2, 3, 48), 3 * torch.cos(0.05 * index).view(2, 3, 48)


def weight():
    return torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)


def scalar(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def alignment(merge="floor", **options):
    return CrossClassAlignment(merge=BinMerge(48, 12, merge), divergence=Divergence(**options))


def slow_divergence(student, teacher, tau):
    """One keypoint and axis: merge four bins by four and add bin by bin."""
    p = [math.exp(value / tau) for value in teacher]
    p = [sum(p[4 * j : 4 * j + 4]) / sum(p) for j in range(12)]
    q = [math.exp(value / tau) for value in student]
    return sum(pj * math.log(pj / (qj / sum(q))) for pj, qj in zip(p, q, strict=True))


# --------------------------------------------------------------------------------------------------- merges


@pytest.mark.parametrize("merge", ["floor", "centred", "split", "matrix"])
@pytest.mark.parametrize(("teacher_bins", "student_bins"), [(48, 12), (36, 12), (12, 12), (24, 12), (12, 1)])
def test_every_merge_keeps_the_mass(merge, teacher_bins, student_bins):
    probabilities = torch.rand(2, 3, teacher_bins, generator=torch.Generator().manual_seed(1)).double().softmax(-1)
    merged = BinMerge(teacher_bins, student_bins, merge)(probabilities)
    assert merged.shape == (2, 3, student_bins)
    assert torch.allclose(merged.sum(-1), torch.ones(2, 3, dtype=torch.float64))


def test_the_floor_merge_matches_the_golden_row():
    merged = BinMerge(48, 12, "floor")(teacher_logits()[0].softmax(-1))
    assert merged[0, 0].tolist() == pytest.approx(GOLDEN_ROW, abs=5e-7)


def unit_mass(index, count=12):
    return torch.nn.functional.one_hot(torch.tensor(index), count).double()


@pytest.mark.parametrize(
    ("merge", "teacher_bin", "expected"),
    [
        ("floor", 3, [1, 0, 0]),
        ("floor", 4, [0, 1, 0]),
        ("centred", 1, [1, 0, 0]),
        ("centred", 2, [0, 1, 0]),
        ("centred", 5, [0, 1, 0]),
        ("centred", 6, [0, 0, 1]),
        ("centred", 11, [0, 0, 1]),
        ("split", 1, [1, 0, 0]),
        ("split", 2, [0.5, 0.5, 0]),
        ("split", 3, [0, 1, 0]),
        ("split", 6, [0, 0.5, 0.5]),
        ("split", 10, [0, 0, 1]),
    ],
)
def test_where_a_teacher_bin_goes_at_four_to_one(merge, teacher_bin, expected):
    assert BinMerge(12, 3, merge)(unit_mass(teacher_bin)).tolist() == expected


def test_an_odd_ratio_has_no_bin_on_an_edge_so_split_is_centred():
    probabilities = torch.eye(15, dtype=torch.float64)
    split, centred = (BinMerge(15, 5, merge)(probabilities) for merge in ("split", "centred"))
    assert torch.equal(split, centred)
    assert centred.argmax(-1).tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4]


@pytest.mark.parametrize(("teacher_bins", "student_bins"), [(48, 12), (36, 12), (20, 20), (64, 8)])
def test_the_matrix_is_the_split_merge_where_bins_divide(teacher_bins, student_bins):
    identity = torch.eye(teacher_bins, dtype=torch.float64)
    split, matrix = (BinMerge(teacher_bins, student_bins, merge)(identity) for merge in ("split", "matrix"))
    assert torch.allclose(matrix, split)


@pytest.mark.parametrize(
    ("teacher_bins", "student_bins", "ratio"),
    [(50, 12, None), (384, 192, None), (588, 147, 4.0), (10, 30, None), (486, 121, 4.0)],
)
def test_the_matrix_takes_any_ratio_and_its_columns_sum_to_one(teacher_bins, student_bins, ratio):
    matrix = rebinning_matrix(teacher_bins, student_bins, ratio)
    assert matrix.shape == (student_bins, teacher_bins)
    assert torch.allclose(matrix.sum(0), torch.ones(teacher_bins, dtype=torch.float64))
    assert (matrix >= 0).all()


def test_the_matrix_by_hand_at_three_to_two():
    # teacher bin i covers (i -+ 1/2) / 1.5 student bins; bin 1 covers 1/3 to 1, of which 1/6 lies before the edge 1/2
    matrix = rebinning_matrix(3, 2)
    assert matrix[0].tolist() == pytest.approx([1.0, 0.25, 0.0])
    assert matrix[1].tolist() == pytest.approx([0.0, 0.75, 1.0])


@pytest.mark.parametrize(
    ("merge", "input_size", "split_ratio", "golden"),
    [("floor", 64, 3.0, 0.626), ("floor", 32, 2.0, 0.564), ("centred", 64, 3.0, 0.875), ("centred", 32, 2.0, 0.938)],
)
def test_match_rate_of_an_ideal_teacher(merge, input_size, split_ratio, golden):
    """How often the merged one-hot teacher lands in the student's label bin, over evenly spread positions."""
    count, factor = int(input_size * split_ratio), 256 // input_size
    x = torch.linspace(0, input_size, 400_001, dtype=torch.float64)
    label, teacher_label = torch.round(x * split_ratio).long(), torch.round(factor * x * split_ratio).long()
    is_kept = (label < count) & (teacher_label < count * factor)
    destination = BinMerge(count * factor, count, merge)(torch.eye(count * factor)).argmax(-1)
    matches = destination[teacher_label[is_kept]] == label[is_kept]
    # the golden numbers are a random sample's; the tolerance is its noise
    assert float(matches.double().mean()) == pytest.approx(golden, abs=2e-3)


def test_the_floor_merge_is_wrong_by_one_bin_down_only():
    x = torch.linspace(0, 63.8, 100_001, dtype=torch.float64)
    error = torch.round(12 * x).long() // 4 - torch.round(3 * x).long()
    assert error.unique().tolist() == [-1, 0]


def test_bins_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="got 50 and 12; use merge matrix"):
        BinMerge(50, 12, "floor")


def test_an_unknown_merge_is_refused():
    with pytest.raises(ValueError, match=r"merge must be one of .* got 'mean'"):
        BinMerge(48, 12, "mean")


def test_logits_of_another_length_are_refused():
    with pytest.raises(ValueError, match="must have 48 bins, got 12"):
        BinMerge(48, 12, "floor")(torch.ones(2, 12))


def test_a_ratio_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="ratio"):
        rebinning_matrix(4, 2, -1.0)


# ----------------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize(("tau", "golden"), [(1.0, 0.5492695169), (15.621172, 0.8786647572)])
def test_official_reductions_match_the_golden_sums(tau, golden):
    official = alignment(class_reduction="mean", batch_reduction="sum", tau_grad_teacher=False)
    loss = official(student_logits(), teacher_logits(), weight(), scalar(tau)) * tau**2
    assert loss.item() == pytest.approx(golden, abs=1e-9)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("class_reduction", ["sum", "mean"])
@pytest.mark.parametrize("batch_reduction", ["mean", "sum"])
def test_loss_agrees_with_a_slow_loop(mask, class_reduction, batch_reduction):
    tau, terms, weights = 2.5, [], []
    for student, teacher in zip(student_logits(), teacher_logits(), strict=True):
        for b in range(2):
            for j in range(3):
                terms.append(slow_divergence(student[b, j].tolist(), teacher[b, j].tolist(), tau))
                weights.append(float(weight()[b, j]) if mask else 1.0)
    expected = sum(w * term for w, term in zip(weights, terms, strict=True))
    expected /= 12 if class_reduction == "mean" else 1
    expected /= sum(weights) if batch_reduction == "mean" else 1
    cca = alignment(mask_invisible=mask, class_reduction=class_reduction, batch_reduction=batch_reduction)
    loss = cca(student_logits(), teacher_logits(), weight(), scalar(tau))
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_loss_by_hand_for_two_bins():
    # teacher (3/4, 1/4) against student (1/2, 1/2)
    teacher, student = torch.tensor([[[3.0, 1.0]]]).log(), torch.zeros(1, 1, 2)
    cca = CrossClassAlignment(merge=BinMerge(2, 2, "floor"), divergence=Divergence())
    loss = cca((student, student), (teacher, teacher), torch.ones(1, 1), torch.tensor(1.0))
    assert loss.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_loss_is_zero_when_student_and_merged_teacher_agree():
    teacher = teacher_logits()
    student = tuple(BinMerge(48, 12, "centred")(logits.softmax(-1)).log() for logits in teacher)
    loss = alignment("centred")(student, teacher, weight(), scalar(1.0))
    assert loss.item() == pytest.approx(0.0, abs=1e-12)


def test_the_mask_decides_which_keypoints_get_a_gradient():
    for mask, expected in ((True, weight() > 0), (False, torch.ones(2, 3, dtype=torch.bool))):
        student = tuple(logits.requires_grad_() for logits in student_logits())
        alignment(mask_invisible=mask)(student, teacher_logits(), weight(), scalar(4.0)).backward()
        assert all(torch.equal(logits.grad.abs().sum(-1) > 0, expected) for logits in student)


def test_a_masked_batch_without_visible_keypoints_gives_zero():
    loss = alignment(mask_invisible=True)(student_logits(), teacher_logits(), weight() * 0, scalar(4.0))
    assert loss.item() == 0.0


def test_a_batch_of_one_is_the_loss_of_that_instance():
    cca = alignment()
    parts = [
        cca(
            [part[i : i + 1] for part in student_logits()],
            [part[i : i + 1] for part in teacher_logits()],
            weight()[i : i + 1],
            scalar(2.0),
        )
        for i in (0, 1)
    ]
    whole = cca(student_logits(), teacher_logits(), weight(), scalar(2.0))
    assert sum(parts).item() / 2 == pytest.approx(whole.item())


def test_the_teacher_gets_no_gradient():
    teacher = tuple(logits.requires_grad_() for logits in teacher_logits())
    alignment()(student_logits(), teacher, weight(), scalar(2.0)).backward()
    assert all(logits.grad is None for logits in teacher)


def whole_loss(cca, tau, student=None):
    return tau.square() * cca(student or student_logits(), teacher_logits(), weight(), tau)


def central_difference(function, at, step=1e-4):
    return (function(scalar(at + step)).item() - function(scalar(at - step)).item()) / (2 * step)


@pytest.mark.parametrize("merge", ["floor", "centred", "split", "matrix"])
@pytest.mark.parametrize("tau", [1.5, 15.621172])
def test_the_temperatures_gradient_is_that_of_the_whole_loss(merge, tau):
    cca = alignment(merge)
    variable = scalar(tau)
    (gradient,) = torch.autograd.grad(whole_loss(cca, variable), variable)
    assert float(gradient) == pytest.approx(central_difference(lambda t: whole_loss(cca, t), tau), rel=1e-5, abs=1e-9)


def test_without_the_teachers_part_the_gradient_is_that_of_a_constant_teacher():
    tau = 3.0
    cca = alignment(tau_grad_teacher=False)
    variable = scalar(tau)
    (gradient,) = torch.autograd.grad(whole_loss(cca, variable), variable)
    # a teacher whose distribution at any tau is what it was at tau = 3
    target = [(logits / tau).softmax(-1).unflatten(-1, (12, 4)).sum(-1) for logits in teacher_logits()]

    def constant_teacher(t):
        pairs = zip(student_logits(), target, strict=True)
        return t.square() * sum((p * (p.log() - (s / t).log_softmax(-1))).sum() for s, p in pairs) / 12

    assert float(gradient) == pytest.approx(central_difference(constant_teacher, tau), rel=1e-5)
    full = central_difference(lambda t: whole_loss(cca, t), tau)
    assert abs(float(gradient) - full) > 0.1 * abs(full)


@pytest.mark.parametrize("tau_grad_teacher", [True, False])
def test_the_students_gradient_does_not_depend_on_which_tau_gradient_is_taken(tau_grad_teacher):
    student = tuple(logits.requires_grad_() for logits in student_logits())
    whole_loss(alignment(tau_grad_teacher=tau_grad_teacher), scalar(2.0), student).backward()
    # d/dz_s of tau^2 KL / 12 with class sum: tau (p_s - p_t) / 12
    for logits, teacher in zip(student, teacher_logits(), strict=True):
        merged = (teacher / 2).softmax(-1).unflatten(-1, (12, 4)).sum(-1)
        assert torch.allclose(logits.grad, 2.0 * ((logits.detach() / 2).softmax(-1) - merged) / 12)


def test_a_teacher_probability_that_underflows_leaves_loss_and_gradients_finite():
    teacher = torch.zeros(1, 1, 48)
    teacher[..., 0] = 500.0
    tau = torch.tensor(1.0, requires_grad=True)
    student = torch.zeros(1, 1, 12, requires_grad=True)
    loss = alignment()((student, student), (teacher, teacher), torch.ones(1, 1), tau)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(12), rel=1e-5)
    assert torch.isfinite(tau.grad)
    assert torch.isfinite(student.grad).all()


def test_half_precision_logits_are_compared_in_single_precision():
    half = [[logits.bfloat16() for logits in logits_pair] for logits_pair in (student_logits(), teacher_logits())]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = alignment("matrix")(*half, weight().float(), torch.tensor(2.0))
    expected = alignment("matrix")(*[[part.double() for part in pair] for pair in half], weight(), scalar(2.0))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


# -------------------------------------------------------------------------------------------------- builder


def test_the_builder_takes_bins_and_ratio_from_sizes_and_split_ratios():
    cca = build_cca("matrix", Divergence(mask_invisible=True), student=(64, 3.0), teacher=(256, 1.5))
    assert (cca.merge.teacher_bins, cca.merge.student_bins) == (384, 192)
    assert torch.equal(cca.merge.overlap, rebinning_matrix(384, 192, 2.0))
    assert cca.divergence.mask_invisible


def test_the_ratio_is_that_of_positions_not_of_rounded_down_bin_counts():
    # 64 * 1.9 and 256 * 1.9 bins are rounded down to 121 and 486, but one student bin is still 4 teacher bins wide
    cca = build_cca("matrix", Divergence(), student=(64, 1.9), teacher=(256, 1.9))
    assert torch.equal(cca.merge.overlap, rebinning_matrix(486, 121, 4.0))


def test_a_merge_adds_nothing_to_a_checkpoint():
    assert not alignment("matrix").state_dict()
