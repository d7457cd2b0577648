"""SimCC as head and codec: the very numbers of `cdkd.simcc`, and initial weights that may not move."""

import pytest
import torch

from cdkd.config import SimCCConfig
from cdkd.heads.simcc import SimCCCodec, SimCCLogits
from cdkd.simcc import decode, encode, merge_flip, simcc_loss
from tests.cdkd.networks import simcc_net

SWAPPED = (1, 0, 2)


def logits(seed: int) -> SimCCLogits:
    generator = torch.Generator().manual_seed(seed)
    return SimCCLogits(*torch.randn(2, 2, 3, 64, generator=generator).unbind(0))


def people() -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints of two persons: one outside the input, one on a half of a bin, one without a label."""
    keypoints = torch.tensor([[[3.2, 4.1], [40.0, 2.0], [10.25, 0.75]], [[1.0, 2.0], [31.9, 31.2], [9.0, 9.0]]])
    return keypoints.double(), torch.tensor([[2, 2, 1], [1, 0, 2]])


@pytest.mark.parametrize("reduction", ["mean_visible", "nmt", "nmtnorm"])
def test_the_loss_is_that_of_the_encoded_keypoints_to_the_last_bit(reduction):
    codec = SimCCCodec(SimCCConfig(split_ratio=2.0, loss=reduction, label_smoothing=0.2), 32)
    bins, weight = encode(*people(), 32, 2.0)
    assert weight.tolist() == [[1, 0, 1], [1, 0, 1]]
    expected = simcc_loss(logits(1).x, logits(1).y, bins, weight, label_smoothing=0.2, reduction=reduction)
    assert torch.equal(codec.loss(logits(1), *people()), expected)


def test_the_loss_of_the_method_notes():
    """Method section 4: SimCC loss of sines and cosines, here through keypoints at one bin per pixel."""
    steps = torch.arange(72, dtype=torch.float64) * 0.1
    prediction = SimCCLogits(steps.sin().view(2, 3, 12), steps.cos().view(2, 3, 12))
    keypoints = torch.tensor([[(1, 2), (3, 4), (5, 6)], [(7, 8), (9, 10), (11, 0)]], dtype=torch.float64)
    visibility = torch.tensor([[1, 2, 0], [1, 0, 2]])
    codec = SimCCCodec(SimCCConfig(split_ratio=1.0, loss="nmt", label_smoothing=0.1), 12)
    assert codec.loss(prediction, keypoints, visibility).item() == pytest.approx(7.5241905528, abs=1e-6)


@pytest.mark.parametrize("score", ["max", "min", "mean"])
@pytest.mark.parametrize("flip_shift", ["exact", "official", "none"])
def test_decoding_is_that_of_the_probabilities_to_the_last_bit(score, flip_shift):
    codec = SimCCCodec(SimCCConfig(split_ratio=2.0, score=score, flip_shift=flip_shift), 32)
    one, other = ([part.softmax(-1) for part in (logits(seed).x, logits(seed).y)] for seed in (1, 2))
    for flipped, expected in (
        (None, decode(*one, 2.0, score)),
        (logits(2), decode(*merge_flip(*one, *other, SWAPPED, 2.0, flip_shift), 2.0, score)),
    ):
        found = codec.decode(logits(1), flipped, SWAPPED)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_what_is_encoded_is_decoded_within_half_a_bin():
    codec = SimCCCodec(SimCCConfig(split_ratio=2.0), 32)
    keypoints, visibility = people()
    bins, weight = codec.encode(keypoints, visibility)
    peaks = torch.nn.functional.one_hot(bins, 64).float()
    found, _ = codec.decode(SimCCLogits(peaks[:, :, 0], peaks[:, :, 1]), None, SWAPPED)
    assert (found - keypoints).abs()[weight > 0].max() <= 0.25


def test_the_task_scale_is_the_configurations():
    assert SimCCCodec(SimCCConfig(task_scale=1000.0), 32).task_scale == 1000.0


def test_evidence_is_the_sum_of_both_maxima_at_their_place():
    x, y = torch.tensor([[[0.0, 3.0, 1.0, 0.0]]]), torch.tensor([[[0.5, 0.0, 0.0, 2.0]]])
    evidence, places = SimCCCodec(SimCCConfig(split_ratio=2.0), 2).evidence(SimCCLogits(x, y))
    assert evidence.tolist() == [[5.0]]
    assert places.tolist() == [[[0.5, 1.5]]]


RECORDED = {
    "conv1.weight": [0.00184233, 0.0005188872, -0.001711921],
    "stage4.0.fuse_layers.0.3.0.weight": [0.0005133434, 0.001622088, 0.0009133928],
    "final_layer.weight": [0.0004021629, -5.464442e-05, 0.001401045],
    "mlp_head_x.weight": [-0.03114021, 0.02466403, -0.03352372],
    "mlp_head_y.bias": [-0.02963726, -0.1117935, -0.008500099],
}
"""Recorded when backbone and head were one module; compared closely, because processors round differently."""


def test_initial_weights_are_those_of_before_there_were_other_heads():
    state = simcc_net("hrnet_w16", 32, 2.0, 3, generator=torch.Generator().manual_seed(5)).state_dict()
    for name, values in RECORDED.items():
        assert state[name].flatten()[:3].tolist() == pytest.approx(values, rel=1e-4), name
    assert list(state)[-6:-4] == ["final_layer.weight", "final_layer.bias"]
