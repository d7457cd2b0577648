"""The transformer against PyTorch's own, and sine positions against a slow loop."""

import math

import pytest
import torch
from torch import nn

from cdkd.models.transformer import Attention, Transformer, sine_positions

DIM, HEADS, RATIO = 16, 4, 3


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def tokens(count: int = 7) -> torch.Tensor:
    return torch.randn(2, count, DIM, generator=torch.Generator().manual_seed(1))


def reference_layer(layer: nn.ModuleList) -> nn.TransformerEncoderLayer:
    """PyTorch's pre-norm layer with a layer's weights."""
    attention, feed_forward = layer
    reference = nn.TransformerEncoderLayer(
        DIM, HEADS, RATIO * DIM, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    to_out = attention.fn.fn.to_out[0]
    copied = {
        "self_attn.in_proj_weight": attention.fn.fn.to_qkv.weight,
        "self_attn.in_proj_bias": torch.zeros(3 * DIM),
        "self_attn.out_proj.weight": to_out.weight,
        "self_attn.out_proj.bias": to_out.bias,
    }
    for name, module in (
        ("norm1", attention.fn.norm),
        ("norm2", feed_forward.fn.norm),
        ("linear1", feed_forward.fn.fn.net[0]),
        ("linear2", feed_forward.fn.fn.net[3]),
    ):
        copied |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    reference.load_state_dict(copied)
    return reference


def test_layers_are_pytorchs_with_positions_of_the_last_tokens_added_before_each():
    transformer = randomised(Transformer(dim=DIM, depth=3, heads=HEADS, mlp_ratio=RATIO))
    positions = torch.randn(1, 4, DIM, generator=torch.Generator().manual_seed(2))
    expected = tokens()
    for layer in transformer.layers:
        expected = expected.clone()
        expected[:, 3:] += positions
        expected = reference_layer(layer)(expected)
    torch.testing.assert_close(transformer(tokens(), positions), expected, rtol=1e-4, atol=1e-5)


def test_what_comes_in_is_left_as_it_is():
    before = (values := tokens()).clone()
    randomised(Transformer(dim=DIM, depth=1, heads=HEADS, mlp_ratio=RATIO))(values, torch.ones(1, 4, DIM))
    assert torch.equal(values, before)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="dim must be a multiple of heads, got 16 and 3"):
        Attention(16, 3)


def test_sine_positions_agree_with_a_slow_loop():
    side, dim = 3, 8
    positions = sine_positions(side, dim)
    assert positions.shape == (1, side * side, dim)
    for row in range(side):
        for column in range(side):
            expected = []
            for place in (row, column):
                for wave in range(dim // 4):
                    angle = 2 * math.pi * (place + 1) / side / 10000 ** (wave / (dim / 4))
                    expected += [math.sin(angle), math.cos(angle)]
            assert positions[0, row * side + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_four_patches_have_four_positions():
    """As many as there are at 32x32."""
    assert len(sine_positions(2, 192)[0].unique(dim=0)) == 4


def test_a_width_without_sines_and_cosines_of_both_axes_is_refused():
    with pytest.raises(ValueError, match="dim must be a multiple of 4, got 6"):
        sine_positions(2, 6)
