"""TokenPose's tokens, maps, first weights and names."""

import pytest
import torch

from cdkd.data.streams import torch_generator
from cdkd.heads.dark import DarkCodec
from cdkd.heads.table import build_codec, build_pose_net
from cdkd.heads.tokenpose import TokenPoseHead, patches_of
from cdkd.models.transformer import sine_positions
from tests.cdkd.networks import plain_config

CHANNELS, KEYPOINTS, DEPTH = 3, 5, 2


def tiny_head(input_size: int = 32, depth: int = DEPTH) -> TokenPoseHead:
    head = TokenPoseHead(CHANNELS, keypoint_count=KEYPOINTS, input_size=input_size, dim=16, depth=depth, heads=2)
    head.initialise(torch_generator(0, "head"))
    return head


def feature(side: int = 8, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, CHANNELS, side, side, generator=torch.Generator().manual_seed(1))


def test_patches_are_cut_row_by_row_as_a_slow_loop_cuts_them():
    values = feature(side=12)
    found = patches_of(values)
    assert found.shape == (2, 9, 16 * CHANNELS)
    for place in range(9):
        top, left = 4 * (place // 3), 4 * (place % 3)
        expected = [values[0, :, top + row, left + column] for row in range(4) for column in range(4)]
        assert torch.equal(found[0, place], torch.cat(expected))


@pytest.mark.parametrize(("input_size", "patches"), [(32, 4), (64, 16)])
def test_every_keypoint_gets_a_map_which_is_final_feature_and_prediction(input_size, patches):
    head, side = tiny_head(input_size), input_size // 4
    assert head.transformer.pos_embedding.shape == (1, patches, 16)
    output = head(feature(side))
    assert output.prediction.maps.shape == (2, KEYPOINTS, side, side)
    assert output.final_feature is output.prediction.maps
    flat = head.transformer(feature(side))
    assert torch.equal(output.prediction.maps[1, 2, 1], flat[1, 2, side : 2 * side])


def test_a_map_belongs_to_its_keypoints_token():
    head = tiny_head()
    maps = head(feature()).prediction.maps
    with torch.no_grad():
        head.transformer.keypoint_token.copy_(head.transformer.keypoint_token[:, [1, 0, 2, 3, 4]])
    swapped = head(feature()).prediction.maps
    torch.testing.assert_close(swapped[:, [1, 0, 2, 3, 4]], maps)
    assert not torch.allclose(maps[:, 0], maps[:, 1], rtol=1e-3)


def test_where_a_patch_lies_counts():
    head = tiny_head()
    maps, mirrored = head(feature()).prediction.maps, head(feature().flip(3)).prediction.maps
    assert not torch.allclose(maps, mirrored)
    with torch.no_grad():
        head.transformer.pos_embedding.zero_()
    exchanged = torch.cat((feature()[..., 4:], feature()[..., :4]), -1)
    torch.testing.assert_close(head(feature()).prediction.maps, head(exchanged).prediction.maps)


def test_the_published_size_is_the_default_and_begins_as_tokenpose_does():
    net = build_pose_net(plain_config("hrnet_w16", 32, "tokenpose"), 4, generator=torch_generator(0, "net"))
    inner = net.head.transformer
    assert len(inner.transformer.layers) == 12
    assert inner.transformer.layers[0][0].fn.fn.heads == 8
    assert torch.equal(inner.pos_embedding, sine_positions(2, 192))
    assert not inner.pos_embedding.requires_grad
    assert inner.patch_to_embedding.weight.shape == (192, 16 * 16)
    assert inner.mlp_head[1].weight.shape == (64, 192)
    for weight in (inner.keypoint_token, inner.patch_to_embedding.weight, inner.mlp_head[1].weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not inner.mlp_head[1].bias.any()
    assert (inner.mlp_head[0].weight == 1).all()
    assert not inner.mlp_head[0].bias.any()


def test_names_are_those_of_the_public_checkpoints():
    layer = [
        *(f"0.fn.{name}" for name in ("norm.weight", "norm.bias", "fn.to_qkv.weight")),
        *(f"0.fn.fn.to_out.0.{name}" for name in ("weight", "bias")),
        *(f"1.fn.{part}.{name}" for part in ("norm", "fn.net.0", "fn.net.3") for name in ("weight", "bias")),
    ]
    expected = {
        *("transformer.keypoint_token", "transformer.pos_embedding"),
        *(f"transformer.patch_to_embedding.{name}" for name in ("weight", "bias")),
        *(f"transformer.mlp_head.{part}.{name}" for part in (0, 1) for name in ("weight", "bias")),
        *(f"transformer.transformer.layers.{index}.{name}" for index in range(DEPTH) for name in layer),
    }
    assert tiny_head().state_dict().keys() == expected


def test_gradient_of_one_map_reaches_the_feature_and_all_that_is_learned():
    head, values = tiny_head(), feature().requires_grad_()
    head(values).prediction.maps[:, 0].square().sum().backward()
    assert values.grad.abs().sum() > 0
    still = {name for name, value in head.named_parameters() if value.grad is None or not value.grad.any()}
    assert still == {"transformer.pos_embedding"}


def test_it_is_trained_and_read_as_dark_is():
    changes = {"dark": {"blur_kernel": 5, "shift_flipped": True}, "heatmap": {"sigma": 2.0}}
    codecs = [build_codec(plain_config("hrnet_w16", 64, kind, **changes)) for kind in ("tokenpose", "dark")]
    assert codecs == [DarkCodec(side=16, sigma=2.0, shift_flipped=True, blur_kernel=5)] * 2
