"""What every kind of head must do: be built, trained for a step, read, drawn, saved, and take a whole training."""

import copy
import functools
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from cdkd.attention import attention, attention_layers
from cdkd.config import HEADS, TrainingConfig, resolve
from cdkd.data.streams import torch_generator
from cdkd.distill.distiller import build_distiller, build_optimizers
from cdkd.engine import Diverged
from cdkd.heads.table import KINDS, assemble_pose_net, build_codec, build_pose_net
from cdkd.identity import semantic_mapping
from cdkd.inference import evaluate_checkpoint
from cdkd.keypoints import KEYPOINT_SETS
from cdkd.models.head import Prediction
from cdkd.models.pose import build_backbone
from cdkd.models.weights import load_backbone
from cdkd.options import ConfigError, declared_fields
from cdkd.training import cost_of, train
from tests.cdkd.networks import plain_config

KEYPOINTS = 3
MIRRORED = (1, 0, 2)
CONSTANTS = ("pos_embedding",)
"""Parameters that are never trained."""

kinds = pytest.mark.parametrize("kind", KINDS)


@functools.cache
def trained_a_little(kind: str):
    """A network after ten steps on one batch, and its configuration."""
    config = plain_config("hrnet_w16", 32, kind)
    distiller = build_distiller(config, KEYPOINTS, None).train()
    optimizers = build_optimizers(distiller, config)
    for _ in range(10):
        for optimizer in optimizers:
            optimizer.zero_grad()
        distiller(**batch()).total.backward()
        for optimizer in optimizers:
            optimizer.step()
    return distiller.student.eval(), config


def batch(size: int = 4):
    generator = torch_generator(3, "batch")
    return {
        "student_images": torch.randn(size, 3, 32, 32, generator=generator),
        "teacher_images": None,
        "keypoints_input": torch.rand(size, KEYPOINTS, 2, generator=generator, dtype=torch.float64) * 32,
        "visibility": torch.tensor([[1, 2, 0]]).repeat(size, 1),
    }


def predictions(kind: str) -> tuple[Prediction, Prediction]:
    """Of a batch and of the batch mirrored."""
    net, _ = trained_a_little(kind)
    images = batch()["student_images"]
    with torch.no_grad():
        return net(images).prediction, net(images.flip(3)).prediction


def test_the_table_has_the_kinds_of_the_configuration():
    assert KINDS.keys() == HEADS.keys()


def test_an_unknown_kind_is_answered_with_the_nearest_one():
    with pytest.raises(ConfigError, match=r"head\.kind: must be one of .* got 'sinncc' \(did you mean 'simcc'\?\)"):
        resolve({"head.kind": "sinncc"})


@kinds
def test_one_step_changes_every_parameter_and_the_backbone_gets_its_gradient(kind):
    distiller = build_distiller(config := plain_config("hrnet_w16", 32, kind), KEYPOINTS, None).train()
    before = {name: parameter.clone() for name, parameter in distiller.student.named_parameters()}
    optimizers = build_optimizers(distiller, config)
    output = distiller(**batch())
    assert output.total.shape == ()
    output.total.backward()
    for optimizer in optimizers:
        optimizer.step()
    parameters = distiller.student.named_parameters()
    unchanged = {name for name, parameter in parameters if torch.equal(parameter, before[name])}
    assert unchanged == {name for name in before if name.endswith(CONSTANTS)}
    assert distiller.student.backbone.conv1.weight.grad.abs().sum() > 0


@kinds
def test_the_loss_falls_when_one_batch_is_repeated(kind):
    net, config = trained_a_little(kind)
    fresh = build_pose_net(config, KEYPOINTS, generator=torch_generator(config.seed, "student"))
    losses = []
    for network in (fresh, net):
        values = batch()
        prediction = network.train()(values["student_images"]).prediction
        losses.append(build_codec(config).loss(prediction, values["keypoints_input"], values["visibility"]).item())
    net.eval()
    assert losses[1] < losses[0]


@kinds
def test_what_an_unlabelled_keypoint_says_does_not_count(kind):
    (prediction, _), codec, values = predictions(kind), build_codec(trained_a_little(kind)[1]), batch()
    moved = values["keypoints_input"].clone()
    moved[:, 2] = -1e6
    losses = [
        codec.loss(prediction, keypoints, values["visibility"]) for keypoints in (values["keypoints_input"], moved)
    ]
    assert torch.equal(*losses)


@kinds
def test_a_batch_of_one_without_labels_has_a_finite_loss_and_gradient(kind):
    net, config = trained_a_little(kind)
    values = batch(1)
    output = net(values["student_images"])
    loss = build_codec(config).loss(output.prediction, values["keypoints_input"], values["visibility"] * 0)
    (gradient,) = torch.autograd.grad(loss, output.backbone_feature, allow_unused=True)
    assert loss.isfinite()
    assert gradient is None or gradient.isfinite().all()


@kinds
@pytest.mark.parametrize("is_flip_tested", [False, True])
def test_decoded_keypoints_and_scores_have_their_shapes_and_do_not_depend_on_the_batch(kind, is_flip_tested):
    codec = build_codec(trained_a_little(kind)[1])
    prediction, mirrored = predictions(kind)
    keypoints, scores = codec.decode(prediction, mirrored if is_flip_tested else None, MIRRORED)
    assert keypoints.shape == (4, KEYPOINTS, 2)
    assert scores.shape == (4, KEYPOINTS)
    assert keypoints.isfinite().all()
    assert scores.isfinite().all()
    net, _ = trained_a_little(kind)
    with torch.no_grad():
        images = batch()["student_images"][2:3]
        alone = net(images).prediction, net(images.flip(3)).prediction if is_flip_tested else None
    for found, expected in zip(codec.decode(*alone, MIRRORED), (keypoints, scores), strict=True):
        torch.testing.assert_close(found[0], expected[2], rtol=1e-3, atol=1e-3)


@kinds
def test_names_in_a_state_dict_are_public_and_go_back_strictly(kind):
    net, config = trained_a_little(kind)
    state = net.state_dict()
    assert next(iter(state)) == "conv1.weight"
    assert not [name for name in state if name.startswith(("backbone.", "head."))]
    other = build_pose_net(config, KEYPOINTS, generator=torch_generator(8, "student"))
    other.load_state_dict(state, strict=True)
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].build_backbone is build_backbone])
def test_a_backbone_starts_from_a_file_of_any_kind_that_has_it(kind, tmp_path):
    net, _ = trained_a_little(kind)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    for other in {"simcc", "rle"} - {kind}:
        config = plain_config("hrnet_w16", 32, other)
        started = build_pose_net(config, KEYPOINTS, generator=torch_generator(8, "student"))
        load_backbone(started, tmp_path / "net.pth")
        backbone = net.backbone.state_dict()
        assert all(torch.equal(value, backbone[name]) for name, value in started.backbone.state_dict().items())


@kinds
def test_every_weight_and_buffer_is_drawn_from_the_generator_alone(kind):
    config = plain_config("hrnet_w16", 32, kind)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = (build_pose_net(config, KEYPOINTS, generator=torch_generator(8, "net")).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert all(value.isfinite().all() for value in one.values())


@kinds
def test_the_final_feature_is_there_where_the_configuration_says_so(kind):
    net, _ = trained_a_little(kind)
    output = net(batch()["student_images"])
    assert (output.final_feature is not None) == HEADS[kind].has_final_feature
    assert output.final_feature is None or output.final_feature.shape == (4, KEYPOINTS, 8, 8)
    assert output.backbone_feature.shape == (4, net.backbone.feature_channels, 8, 8)


@kinds
def test_attention_explains_what_is_decoded(kind):
    net, config = trained_a_little(kind)
    codec, images = build_codec(config), batch()["student_images"]
    found = attention(net, codec, images, [0, 2], attention_layers(net))
    assert ("pose head" in found.maps) == HEADS[kind].has_final_feature
    assert {"stage 3", "stage 4"} <= found.maps.keys()
    keypoints, _ = codec.decode(net(images).prediction.float(), None, MIRRORED)
    assert (found.peaks - keypoints[:, [0, 2]]).abs().max() <= 4, "within a cell"
    assert codec.evidence_name


@kinds
def test_half_precision_predictions_are_trained_and_read_in_single_precision(kind):
    net, config = trained_a_little(kind)
    codec, values = build_codec(config), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = net(values["student_images"]).prediction
        loss = codec.loss(prediction, values["keypoints_input"], values["visibility"])
    exact = codec.loss(predictions(kind)[0], values["keypoints_input"], values["visibility"])
    assert loss.item() == pytest.approx(exact.item(), rel=0.1)
    assert all(value.dtype == torch.float32 for value in vars(prediction.float()).values() if torch.is_tensor(value))


@kinds
def test_a_codec_stays_on_the_predictions_device(kind):
    """On PyTorch's meta device, which like a GPU refuses to compute with tensors of another."""
    codec, values = build_codec(trained_a_little(kind)[1]), batch()
    prediction, mirrored = (
        replace(one, **{name: copy.deepcopy(value).to("meta") for name, value in vars(one).items()})
        for one in predictions(kind)
    )
    loss = codec.loss(prediction, values["keypoints_input"].to("meta"), values["visibility"].to("meta"))
    found = (loss, *codec.decode(prediction, mirrored, MIRRORED), *codec.evidence(prediction))
    assert {value.device.type for value in found} == {"meta"}


def aligned_config(kind: str, feature: str = "") -> TrainingConfig:
    """Of a student that is taught by feature alignment alone."""
    layer = {"head.kind": kind, "distill.cca.enabled": False, "student.input_size": 32, "teacher.input_size": 64}
    names = {"student.backbone": "hrnet_w16", "teacher.backbone": "hrnet_w16", "distill.sape.hidden": 4}
    feature = feature or ("final_layer" if HEADS[kind].has_final_feature else "stage4")
    return resolve(layer, names, {"distill.sape.feature": feature})


@kinds
def test_options_of_other_kinds_are_no_part_of_a_trainings_identity(kind):
    every = tuple(options for traits in HEADS.values() for options in traits.options)
    identity = semantic_mapping(plain_config("hrnet_w16", 32, kind)) | semantic_mapping(aligned_config(kind))
    used = {path for path in identity if path.startswith(every)}
    assert used == {path for path in declared_fields(TrainingConfig) if path.startswith(HEADS[kind].options)}


@kinds
def test_logit_alignment_is_for_simcc_alone(kind):
    with (
        nullcontext()
        if kind == "simcc"
        else pytest.raises(
            ConfigError,
            match=f"^distill.cca.enabled: must be false: CCA aligns the logits of head.kind simcc, not {kind}$",
        )
    ):
        resolve({"head.kind": kind, "distill.sape.enabled": False})


@kinds
def test_features_are_aligned_where_there_are_some(kind):
    if not HEADS[kind].has_final_feature:
        with pytest.raises(ConfigError, match=f"distill.sape.feature: must be stage4: head.kind {kind} has no map"):
            aligned_config(kind, "final_layer")
    config = aligned_config(kind)
    teacher_config = config.for_teacher()
    assert teacher_config.head == config.head
    teacher = build_pose_net(teacher_config, KEYPOINTS, generator=torch_generator(1, "teacher"))
    distiller = build_distiller(config, KEYPOINTS, teacher)
    output = distiller(**{**batch(), "teacher_images": torch.randn(4, 3, 64, 64, generator=torch_generator(2, "t"))})
    (gradient,) = torch.autograd.grad(output.losses["feature"], distiller.student.backbone.conv1.weight)
    assert gradient.abs().sum() > 0


def test_a_teacher_with_another_head_is_refused():
    config = resolve({"student.input_size": 32, "student.backbone": "hrnet_w16", "teacher.input_size": 64})
    teacher = build_pose_net(plain_config("hrnet_w16", 64, "simcc"), KEYPOINTS, generator=torch_generator(1, "teacher"))
    teacher.head = type("OtherHead", (torch.nn.Module,), {})()
    with pytest.raises(ValueError, match=r"must have .*'SimCCHead'\), got .*'OtherHead'\)"):
        build_distiller(config, KEYPOINTS, teacher)


@kinds
def test_a_whole_training_is_scored_as_its_checkpoint_is(kind, tmp_path):
    synthetic = {"train_images": 16, "val_images": 8, "image_size": 96}
    config = plain_config(
        "hrnet_w16",
        32,
        kind,
        data={"synthetic": synthetic, "warp": "size_minus_one"},
        train={"epochs": 1, "batch_size": 8},
        runtime={"device": "cpu"},
    )
    try:
        summary = train(config, lambda _report: False, folder=tmp_path)
    except Diverged as error:
        pytest.fail(str(error))
    again = evaluate_checkpoint(tmp_path / "last.pt")
    assert again["pckh@0.5"] == summary["final/val/pckh@0.5"]
    assert summary["params_m"] > 0


@kinds
def test_costs_are_counted_without_values(kind):
    config = plain_config("hrnet_w16", 32, kind)
    with torch.device("meta"):
        net = assemble_pose_net(config, 16)
    costs = cost_of(config, KEYPOINT_SETS["mpii16"])
    assert costs["params_m"] == sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert costs["gmacs"] > 0
