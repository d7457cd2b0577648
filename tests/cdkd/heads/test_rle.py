"""RLE's likelihood by closed form and slow loop, its coordinates, scores and flip, and what of it is trained."""

import math

import pytest
import torch

from cdkd.checkpoint import load_tensors
from cdkd.config import resolve
from cdkd.data.streams import torch_generator
from cdkd.distill.distiller import build_distiller, build_optimizers
from cdkd.heads.rle import Regression, Regressor, RleCodec, RleHead, residual_likelihood_loss
from cdkd.heads.table import build_codec
from cdkd.models.real_nvp import RealNVP
from cdkd.options import ConfigError
from cdkd.training import train
from tests.cdkd.models.test_real_nvp import bent_flow, identity_flow
from tests.cdkd.networks import plain_config

SIZE = 64
CODEC = RleCodec(SIZE)


def logit(sigma: float) -> float:
    return math.log(sigma / (1 - sigma))


def certain(places: torch.Tensor, flow: RealNVP | None = None, sigma: float = 0.1) -> Regression:
    return Regression(places, torch.full_like(places, logit(sigma)), flow or identity_flow())


def random_prediction(flow: RealNVP, batch: int = 2, keypoints: int = 3) -> Regression:
    generator = torch.Generator().manual_seed(0)
    places, logits = (torch.randn(batch, keypoints, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return Regression(places * 0.3, logits - 1, flow)


# ------------------------------------------------------------------------------------------------------- loss


def test_with_an_identity_flow_the_loss_is_a_normal_and_a_laplace_likelihood():
    """By hand: one keypoint, errors 0.2 and -0.1, sigmas 0.5 and 0.2, so 0.4 and -0.5 sigmas."""
    prediction = Regression(torch.tensor([[[0.3, 0.0]]]), torch.tensor([[[logit(0.5), logit(0.2)]]]), identity_flow())
    loss = residual_likelihood_loss(prediction, torch.tensor([[[0.1, 0.1]]]), torch.ones(1, 1))
    minus_log_phi = (0.4**2 + 0.5**2) / 2 + math.log(2 * math.pi)
    minus_log_q = sum(
        math.log(sigma * math.sqrt(2 * math.pi)) + error / (math.sqrt(2) * sigma)
        for error, sigma in ((0.2, 0.5), (0.1, 0.2))
    )
    expected = math.log(0.5) + math.log(0.2) + 2 * minus_log_phi + minus_log_q
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_agrees_with_a_slow_loop_over_a_flow_that_bends():
    prediction = random_prediction(flow := bent_flow())
    targets = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64) - 0.5
    weight = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    total = 0.0
    for person in range(2):
        for joint in range(3):
            sigma = prediction.spread_logits[person, joint].sigmoid()
            error = prediction.places[person, joint] - targets[person, joint]
            log_phi = flow((error / sigma)[None]).item()
            for s, e in zip(sigma.tolist(), error.tolist(), strict=True):
                density = math.log(s) - log_phi + math.log(s * math.sqrt(2 * math.pi)) + abs(e) / (math.sqrt(2) * s)
                total += weight[person, joint].item() * density
    assert residual_likelihood_loss(prediction, targets, weight).item() == pytest.approx(total / 2)


def test_the_loss_is_least_at_the_target():
    target = torch.zeros(1, 2, 2)
    losses = [residual_likelihood_loss(certain(target + step), target, torch.ones(1, 2)) for step in (-0.01, 0.0, 0.01)]
    assert losses[1] < min(losses[0], losses[2])


def test_gradient_reaches_places_and_spreads_of_labelled_keypoints_and_the_flow():
    flow = bent_flow()
    places, logits = (torch.zeros(1, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    keypoints = torch.full((1, 2, 2), 20.0, dtype=torch.float64)
    CODEC.loss(Regression(places, logits, flow), keypoints, torch.tensor([[2, 0]])).backward()
    for values in (places, logits):
        assert values.grad[0, 0].all()
        assert not values.grad[0, 1].any()
    assert all(parameter.grad.any() for parameter in flow.parameters())


def test_a_place_that_is_no_number_and_has_no_label_leaves_loss_and_gradient_finite():
    places = torch.zeros(1, 2, 2, requires_grad=True)
    keypoints = torch.tensor([[[math.nan, math.inf], [20.0, 30.0]]], dtype=torch.float64)
    loss = CODEC.loss(certain(places), keypoints, torch.tensor([[0, 1]]))
    loss.backward()
    assert loss.isfinite()
    assert places.grad.isfinite().all()


@pytest.mark.parametrize(("targets", "weight"), [((1, 2, 2), (1, 1)), ((1, 1, 2), (1, 2))])
def test_shapes_that_do_not_fit_are_refused(targets, weight):
    with pytest.raises(ValueError, match=r"places, targets and weight must be .* got \(1, 2, 2\)"):
        residual_likelihood_loss(certain(torch.zeros(1, 2, 2)), torch.zeros(targets), torch.ones(weight))


def test_visibility_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"got \(1, 1, 2\) and \(1, 2\)"):
        CODEC.encode(torch.zeros(1, 1, 2), torch.tensor([[1, 1]]))


# ---------------------------------------------------------------------------------------------------- decoding


def test_places_are_fractions_of_the_input_around_its_middle_and_count_outside_it_too():
    keypoints = torch.tensor([[[0.0, 32.0], [64.0, 48.0], [-16.0, 5.0], [1.0, 1.0]]], dtype=torch.float64)
    places, weight = CODEC.encode(keypoints, torch.tensor([[1, 2, 1, 0]]))
    assert places[0, :3].tolist() == [[-0.5, 0.0], [0.5, 0.25], [-0.75, 5 / 64 - 0.5]]
    assert weight.tolist() == [[1, 1, 1, 0]]


def test_what_is_encoded_is_decoded():
    keypoints = torch.rand(4, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 64
    places, _ = CODEC.encode(keypoints, torch.ones(4, 5))
    found, _ = CODEC.decode(certain(places), None, range(5))
    torch.testing.assert_close(found, keypoints.float())


def test_averaging_a_mirrored_prediction_is_exact():
    """A pixel x is mirrored to 63 - x."""
    permutation = [1, 0, 2]
    keypoints = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 64
    mirrored = torch.stack((63 - keypoints[..., 0], keypoints[..., 1]), -1)[:, permutation]
    seen = torch.ones(2, 3)
    plain, flipped = (certain(CODEC.encode(values, seen)[0]) for values in (keypoints, mirrored))
    found, _ = CODEC.decode(plain, flipped, permutation)
    torch.testing.assert_close(found, keypoints.float())
    moved, _ = CODEC.decode(plain, certain(flipped.places + 0.5), permutation)
    torch.testing.assert_close(moved - found, torch.tensor([-16.0, 16.0]).expand(2, 3, 2))


def test_a_score_is_one_minus_the_mean_sigma_and_goes_with_its_keypoint_through_the_mirror():
    sigmas = torch.tensor([[[0.1, 0.3], [0.5, 0.5]]])
    prediction, flipped = (
        Regression(torch.zeros(1, 2, 2), values.logit(), identity_flow()) for values in (sigmas, sigmas.flip(1))
    )
    assert CODEC.decode(prediction, None, (1, 0))[1][0].tolist() == pytest.approx([0.8, 0.5])
    assert CODEC.decode(prediction, flipped, (1, 0))[1][0].tolist() == pytest.approx([0.8, 0.5])
    assert CODEC.decode(prediction, flipped, (0, 1))[1][0].tolist() == pytest.approx([0.65, 0.65])


# ------------------------------------------------------------------------------------------------------- head


def head(size: int = 32) -> RleHead:
    made = RleHead(3, keypoint_count=4, input_size=size)
    made.initialise(torch_generator(0, "head"))
    return made


def feature() -> torch.Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_places_depend_on_the_features_direction_alone_and_spreads_on_its_length_too():
    small, large = (head()(scale * feature()).prediction for scale in (1.0, 1000.0))
    torch.testing.assert_close(small.places, large.places)
    assert not torch.allclose(small.spread_logits, large.spread_logits, rtol=0.01)


def test_a_place_is_a_weighted_sum_of_the_whole_feature_divided_by_its_length():
    made, values = head(), feature()
    with torch.no_grad():
        made.fc_coord.linear.bias.zero_()
        made.fc_coord.linear.weight.zero_()
        made.fc_coord.linear.weight[5, -1] = 1.0  # y of the third keypoint from the feature's last number
    places = made(values).prediction.places
    assert places.shape == (2, 4, 2)
    expected = values[:, -1, -1, -1] / values.flatten(1).norm(dim=1)
    torch.testing.assert_close(places[:, 2, 1], expected)
    assert places.count_nonzero() == 2


def test_a_dead_feature_gives_finite_places():
    assert head()(torch.zeros(1, 3, 8, 8)).prediction.places.isfinite().all()


def test_half_precision_leaves_the_coordinates_alone():
    layer = Regressor(8, 4, has_unit_input=True)
    values = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(values)
    assert torch.equal(found, layer(values))
    prediction, flow = random_prediction(bent_flow().float()).float(), bent_flow().float()
    exact = residual_likelihood_loss(prediction, torch.zeros(2, 3, 2), torch.ones(2, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert residual_likelihood_loss(prediction, torch.zeros(2, 3, 2), torch.ones(2, 3)) == exact
    assert prediction.flow.mask.dtype == flow.mask.dtype


def test_names_are_those_of_the_authors():
    names = {name for name in head().state_dict() if not name.startswith("flow.")}
    assert names == {f"{layer}.linear.{kind}" for layer in ("fc_coord", "fc_sigma") for kind in ("weight", "bias")}


def test_first_weights_are_small():
    made, bound = head(), 0.01 * (6 / (192 + 8)) ** 0.5
    for layer in (made.fc_coord.linear, made.fc_sigma.linear):
        assert layer.weight.shape == (8, 192)
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.bias.abs().max() <= 192**-0.5


def test_a_prediction_runs_no_flow(monkeypatch):
    made = head()
    monkeypatch.setattr(made.flow, "forward", lambda _x: pytest.fail("the flow ran"))
    output = made(feature())
    RleCodec(32).decode(output.prediction, None, range(4))
    assert output.prediction.flow is made.flow
    assert output.final_feature is None


def test_the_flow_is_in_optimizer_and_checkpoint():
    distiller = build_distiller(config := plain_config("hrnet_w16", 32, "rle"), 3, None)
    (adam,) = build_optimizers(distiller, config)
    stepped = {id(parameter) for group in adam.param_groups for parameter in group["params"]}
    flow = distiller.student.head.flow
    assert {id(parameter) for parameter in flow.parameters()} <= stepped
    assert {f"student.flow.{name}" for name in flow.state_dict()} <= distiller.state_dict().keys()


def test_a_training_that_is_interrupted_ends_with_the_flow_of_one_that_is_not(tmp_path):
    config = plain_config(
        "hrnet_w16",
        32,
        "rle",
        data={"synthetic": {"train_images": 6, "val_images": 2, "image_size": 64}},
        train={"epochs": 2, "batch_size": 4},
        runtime={"device": "cpu"},
    )
    train(config, lambda report: report.epoch == 1, folder=tmp_path / "stopped")
    for name in ("stopped", "whole"):
        train(config, lambda _report: False, folder=tmp_path / name)
    stopped, whole = (load_tensors(tmp_path / name / "last.pt")["state_dict"] for name in ("stopped", "whole"))
    flow = [name for name in whole if name.startswith("flow.")]
    assert len(flow) == 1 + 12 * 6
    assert all(torch.equal(stopped[name], whole[name]) for name in flow)


def test_the_codec_has_the_configurations_input_size():
    assert build_codec(plain_config("hrnet_w16", 64, "rle")) == CODEC


def test_feature_alignment_of_the_final_layer_is_refused_in_one_line():
    with pytest.raises(ConfigError) as raised:
        resolve({"head.kind": "rle", "distill.cca.enabled": False})
    assert str(raised.value) == "distill.sape.feature: must be stage4: head.kind rle has no map per keypoint to align"
