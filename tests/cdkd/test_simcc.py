"""The SimCC codec against the golden numbers of the method notes (provenance: measured on the released code)."""

import math

import numpy as np
import pytest
import torch

from cdkd.simcc import class_count, decode, encode, flip_shift_bins, merge_flip, simcc_loss, visible_count

LABELS = [[(1, 2), (3, 4), (5, 6)], [(7, 8), (9, 10), (11, 0)]]
WEIGHTS = [[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]


def waves(size=(2, 3, 12)):
    index = torch.arange(math.prod(size), dtype=torch.float64)
    return torch.sin(0.1 * index).view(size), torch.cos(0.1 * index).view(size)


def labels():
    return torch.tensor(LABELS), torch.tensor(WEIGHTS, dtype=torch.float64)


def slow_divergence(logits, label, smoothing):
    """Sum over bins of y (log y - log p), bin by bin."""
    highest = max(logits)
    log_norm = highest + math.log(sum(math.exp(value - highest) for value in logits))
    total = 0.0
    for index, value in enumerate(logits):
        y = 1 - smoothing if index == label else smoothing / (len(logits) - 1)
        total += y * (math.log(y) - (value - log_norm)) if y > 0 else 0.0
    return total


def slow_loss(logits_x, logits_y, bins, weight, smoothing, reduction):
    batch, keypoints, count = logits_x.shape
    total = 0.0
    for b in range(batch):
        for j in range(keypoints):
            for axis, logits in enumerate((logits_x, logits_y)):
                total += float(weight[b, j]) * slow_divergence(logits[b, j].tolist(), int(bins[b, j, axis]), smoothing)
    return {
        "nmt": total / batch,
        "nmtnorm": total / (batch * keypoints * count),
        "mean_visible": total / float(weight.sum()),
    }[reduction]


# ------------------------------------------------------------------------------------------------ encoding


@pytest.mark.parametrize(
    ("point", "expected_bins", "expected_weight"),
    [
        ((10.26, 63.9), (31, 191), 0.0),
        ((-0.1, 5.0), (0, 15), 1.0),
        ((63.83, 63.83), (191, 191), 1.0),
        ((63.84, 5.0), (191, 15), 0.0),
        ((-0.2, 5.0), (0, 15), 0.0),
        ((float("nan"), 5.0), (0, 15), 0.0),
    ],
)
def test_encoding_matches_the_golden_bins(point, expected_bins, expected_weight):
    bins, weight = encode([[point]], [[1]], 64, 3.0)
    assert bins.tolist() == [[list(expected_bins)]]
    assert weight.tolist() == [[expected_weight]]
    assert bins.dtype == torch.int64
    assert weight.dtype == torch.float32


def test_halves_round_to_even_as_numpy_does():
    points = np.array([[0.25, 0.75], [1.25, 1.75]])
    bins, _ = encode(points, [1, 1], 32, 2.0)
    assert bins.tolist() == np.around(points * 2).astype(int).tolist() == [[0, 2], [2, 4]]


def test_invisible_keypoints_weigh_nothing_and_both_visible_levels_weigh_one():
    _, weight = encode(torch.zeros(3, 2), [0, 1, 2], 64, 3.0)
    assert weight.tolist() == [0.0, 1.0, 1.0]


def test_arrays_and_tensors_encode_alike():
    points = np.random.default_rng(0).uniform(-5, 70, (4, 5, 2)).astype(np.float32)
    from_array = encode(points, np.ones((4, 5)), 64, 3.0)
    from_tensor = encode(torch.from_numpy(points), torch.ones(4, 5), 64, 3.0)
    assert all(torch.equal(*pair) for pair in zip(from_array, from_tensor, strict=True))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="keypoints must have"):
        encode(np.zeros((4, 2)), np.ones(3), 64, 3.0)


@pytest.mark.parametrize(("size", "ratio", "count"), [(64, 3.0, 192), (32, 2.0, 64), (256, 3.0, 768), (64, 1.3, 83)])
def test_class_count_rounds_down(size, ratio, count):
    assert class_count(size, ratio) == count


# ---------------------------------------------------------------------------------------------------- loss


@pytest.mark.parametrize(
    ("reduction", "smoothing", "golden"), [("nmt", 0.1, 7.5241905528), ("nmtnorm", 0.2, 0.1637951539)]
)
def test_loss_matches_the_golden_number(reduction, smoothing, golden):
    loss = simcc_loss(*waves(), *labels(), label_smoothing=smoothing, reduction=reduction)
    assert float(loss) == pytest.approx(golden, abs=1e-9)


@pytest.mark.parametrize("reduction", ["nmt", "nmtnorm", "mean_visible"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.2])
def test_loss_agrees_with_a_slow_loop(reduction, smoothing):
    inputs = (*waves(), *labels())
    loss = simcc_loss(*inputs, label_smoothing=smoothing, reduction=reduction)
    assert float(loss) == pytest.approx(slow_loss(*inputs, smoothing, reduction), rel=1e-10)


def test_loss_by_hand_for_one_keypoint_with_uniform_logits():
    # no smoothing: cross entropy of a uniform distribution over 4 bins, on two axes
    logits = torch.zeros(1, 1, 4)
    loss = simcc_loss(
        logits, logits, torch.zeros(1, 1, 2).long(), torch.ones(1, 1), label_smoothing=0.0, reduction="nmt"
    )
    assert float(loss) == pytest.approx(2 * math.log(4))


@pytest.mark.parametrize("reduction", ["nmt", "nmtnorm", "mean_visible"])
def test_loss_is_zero_when_the_prediction_is_the_smoothed_label(reduction):
    bins, weight = labels()
    target = torch.full((2, 3, 2, 12), 0.2 / 11, dtype=torch.float64).scatter(3, bins.unsqueeze(3), 0.8).log()
    loss = simcc_loss(target[:, :, 0], target[:, :, 1], bins, weight, label_smoothing=0.2, reduction=reduction)
    assert float(loss) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("reduction", ["nmt", "nmtnorm", "mean_visible"])
def test_masked_keypoints_get_no_gradient_and_visible_ones_do(reduction):
    x, y = (wave.requires_grad_() for wave in waves())
    bins, weight = labels()
    simcc_loss(x, y, bins, weight, label_smoothing=0.1, reduction=reduction).backward()
    for gradient in (x.grad, y.grad):
        assert torch.equal(gradient.abs().sum(-1) > 0, weight > 0)


@pytest.mark.parametrize("reduction", ["nmt", "nmtnorm", "mean_visible"])
def test_a_batch_without_visible_keypoints_gives_zero_and_no_nan(reduction):
    x, y = (wave.requires_grad_() for wave in waves())
    bins, weight = labels()
    loss = simcc_loss(x, y, bins, weight * 0, label_smoothing=0.1, reduction=reduction)
    loss.backward()
    assert loss.item() == 0.0
    assert not x.grad.any()


def test_mean_visible_of_a_batch_of_one_is_that_of_the_instance():
    x, y = waves()
    bins, weight = labels()
    options = {"label_smoothing": 0.1, "reduction": "mean_visible"}
    single = [simcc_loss(x[i : i + 1], y[i : i + 1], bins[i : i + 1], weight[i : i + 1], **options) for i in (0, 1)]
    # both instances have two visible keypoints
    assert float(simcc_loss(x, y, bins, weight, **options)) == pytest.approx(float(sum(single)) / 2)


def test_the_visible_count_of_nothing_is_one():
    assert float(visible_count(torch.zeros(2, 3))) == 1.0
    assert float(visible_count(torch.tensor([[1.0, 1.0, 0.0]]))) == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits_y": torch.zeros(2, 3, 11)}, "logits must be two"),
        ({"logits_x": torch.zeros(2, 3, 1), "logits_y": torch.zeros(2, 3, 1)}, "C > 1"),
        ({"bins": torch.zeros(2, 3, 3).long()}, "bins must be"),
        ({"weight": torch.zeros(2, 3, 1)}, "weight"),
        ({"reduction": "median"}, "reduction must be one of .* got 'median'"),
    ],
)
def test_wrong_loss_inputs_are_refused_by_name(change, message):
    bins, weight = labels()
    x, y = waves()
    given = {"logits_x": x, "logits_y": y, "bins": bins, "weight": weight, "label_smoothing": 0.1, "reduction": "nmt"}
    with pytest.raises(ValueError, match=message):
        simcc_loss(**(given | change))


# ------------------------------------------------------------------------------------------ decode and flip


def one_hot(bins, count):
    return torch.nn.functional.one_hot(bins, count).double()


def test_decoding_inverts_encoding_at_bin_centres():
    points = torch.tensor([[[3.0, 5.0], [10.0, 63.0]]])
    bins, _ = encode(points, torch.ones(1, 2), 64, 3.0)
    decoded, scores = decode(one_hot(bins[..., 0], 192), one_hot(bins[..., 1], 192), 3.0, "max")
    assert torch.allclose(decoded, points)
    assert scores.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(("score", "expected"), [("max", 0.7), ("min", 0.4), ("mean", 0.55)])
def test_the_score_joins_the_two_axis_maxima(score, expected):
    x, y = torch.tensor([[[0.7, 0.2, 0.1]]]), torch.tensor([[[0.3, 0.3, 0.4]]])
    keypoints, scores = decode(x, y, 2.0, score)
    assert keypoints.tolist() == [[[0.0, 1.0]]]
    assert float(scores) == pytest.approx(expected)


def test_an_unknown_score_is_refused():
    with pytest.raises(ValueError, match=r"score must be one of .* got 'product'"):
        decode(torch.ones(1, 1, 3), torch.ones(1, 1, 3), 1.0, "product")


@pytest.mark.parametrize("split_ratio", [1.0, 2.0, 3.0])
def test_reversed_flipped_bins_are_offset_by_exactly_k_minus_one(split_ratio):
    size, count = 64, class_count(64, split_ratio)
    x = torch.arange(size, dtype=torch.float64)
    bins, flipped_bins = (torch.round(value * split_ratio).long() for value in (x, size - 1 - x))
    offset = (count - 1 - flipped_bins) - bins
    assert offset.unique().tolist() == [split_ratio - 1] == [flip_shift_bins(split_ratio, "exact")]


@pytest.mark.parametrize(("flip_shift", "bins"), [("exact", 2), ("official", 1), ("none", 0)])
def test_flip_shift_in_bins_at_three_bins_per_pixel(flip_shift, bins):
    assert flip_shift_bins(3.0, flip_shift) == bins


def test_an_unknown_flip_shift_is_refused():
    with pytest.raises(ValueError, match="flip_shift must be"):
        flip_shift_bins(3.0, "half")


@pytest.mark.parametrize("split_ratio", [1.0, 2.0, 3.0])
def test_the_exact_merge_puts_an_ideal_prediction_on_itself(split_ratio):
    size, permutation = 32, (1, 0)
    count = class_count(size, split_ratio)
    x, y = torch.tensor([[5.0, 20.0]]), torch.tensor([[3.0, 9.0]])
    original = [one_hot(torch.round(value * split_ratio).long(), count) for value in (x, y)]
    mirrored = size - 1 - x[:, list(permutation)], y[:, list(permutation)]
    flipped = [one_hot(torch.round(value * split_ratio).long(), count) for value in mirrored]
    merged = merge_flip(*original, *flipped, permutation, split_ratio, "exact")
    assert torch.equal(merged[0], original[0])
    assert torch.equal(merged[1], original[1])


def test_the_official_shift_keeps_the_last_bin_and_averages_one_bin_off():
    flipped_x = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]])  # reversed: .4 .3 .2 .1
    zeros = torch.zeros(1, 1, 4)
    merged_x, merged_y = merge_flip(zeros, zeros, flipped_x, flipped_x, (0,), 3.0, "official")
    assert torch.allclose(merged_x * 2, torch.tensor([[[0.3, 0.2, 0.1, 0.1]]]))
    assert torch.allclose(merged_y * 2, flipped_x)
