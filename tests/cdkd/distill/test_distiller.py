"""The distiller's contract, over every combination that can be switched on.

After one step each trainable parameter has changed and the teacher has not, and each named loss alone
gives the student a gradient. Either fault of the released code (a detached feature, parts that no
optimizer holds) breaks these tests for every configuration but the one that repeats it on purpose.
"""

import copy
import functools
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cdkd.config import TrainingConfig, resolve
from cdkd.data.streams import torch_generator
from cdkd.distill.distiller import build_distiller, build_optimizers
from cdkd.evaluation.cost import macs, parameter_count
from cdkd.heads.table import build_pose_net
from cdkd.identity import semantic_mapping
from cdkd.options import ConfigError
from tests.cdkd.distill.choices import CHOSEN, PAIRS, PATHS, SINGLE, choices_of, overrides_of
from tests.cdkd.networks import simcc_net

KEYPOINTS = 3
BASE = {
    "student.backbone": "hrnet_w16",
    "student.input_size": 32,
    "teacher.backbone": "hrnet_w16",
    "teacher.input_size": 64,
    "simcc.split_ratio": 2.0,
    "distill.sape.hidden": 4,
    "distill.sape.projectors": 2,
    "distill.sape.kernels": [3, 5],
    "distill.etht.init_tau": 2.0,
    "distill.etht.learning_rate": 10.0,
}
OFFICIAL = {"preset": "official", "distill.sape.projector": "spatial"}

VARIANTS = {
    "paper": {},
    "fixed": {"preset": "fixed"},
    "released code": OFFICIAL,
    "released code, all learned on paper": {**OFFICIAL, "distill.etht.learn": ["tau", "alpha", "beta"]},
    "plain SimCC": {"distill.sape.enabled": False, "distill.cca.enabled": False},
    "kernels 3 5 7 7": {"distill.sape.kernels": [3, 5, 7, 7]},
    "one kernel": {"distill.sape.kernels": [7]},
    "one projector": {"distill.sape.projectors": 1},
    "one projector and the mean branch": {"distill.sape.projectors": 1, "distill.sape.add_mean_branch": True},
    "full, no unit": {"distill.sape.projector": "full", "distill.sape.sau": False},
    "separable, no unit": {"distill.sape.projector": "separable", "distill.sape.sau": False},
    "paper's order, concat, relu": {
        "distill.sape.fuse_order": "fc_gap_sum",
        "distill.sape.fuse": "concat",
        "distill.sape.hidden_relu": True,
    },
    "merge matrix at another split ratio": {"distill.cca.merge": "matrix", "teacher.split_ratio": 1.5},
    "two convolutions down": {"distill.feature_alignment": "conv_downsample", "teacher.input_size": 128},
    "same classes by the student": {
        "distill.logit_alignment": "same_class_number",
        "simcc.split_ratio": 4.0,
        "teacher.split_ratio": 2.0,
    },
    "same classes at equal resolution": {
        "distill.logit_alignment": "same_class_number",
        "distill.feature_alignment": "avgpool",
        "teacher.input_size": 32,
    },
    "adapter of the teacher's logits at another split ratio": {
        "distill.logit_alignment": "fully_connected",
        "distill.cca.adapter_side": "teacher",
        "teacher.split_ratio": 1.5,
    },
    "all learned, convolutions and a layer": {
        "distill.etht.learn": ["tau", "alpha", "beta"],
        "distill.feature_alignment": "conv_downsample",
        "distill.logit_alignment": "fully_connected",
    },
    "all learned, a layer and same classes": {
        "distill.etht.learn": ["tau", "alpha", "beta"],
        "distill.feature_alignment": "fully_connected",
        "distill.logit_alignment": "same_class_number",
        "teacher.split_ratio": 1.0,
    },
    "all learned by Adam": {"distill.etht.learn": ["tau", "alpha", "beta"], "distill.etht.optimizer": "adam"},
    "nmt": {"simcc.loss": "nmt"},
    "nmtnorm": {"simcc.loss": "nmtnorm"},
    **SINGLE,
    **PAIRS,
}
"""Every distillation option at each of its choices, the pairs that meet in one module, and what no choice can say."""


@functools.cache
def make_teacher(input_size=64, split_ratio=2.0, backbone="hrnet_w16", kind="simcc"):
    generator = torch_generator(9, "teacher")
    if kind != "simcc":
        config = resolve(BASE, {"head.kind": kind, "distill.cca.enabled": False, "teacher.input_size": input_size})
        return liven(build_pose_net(config.for_teacher(), KEYPOINTS, generator=generator))
    return liven(simcc_net(backbone, input_size, split_ratio, KEYPOINTS, generator=generator))


LIVENED = {"final_layer": 500.0, "offset_layer": 500.0, "mlp_head_x": 5.0, "mlp_head_y": 5.0}


def liven(net):
    """Scale the head's tiny initial weights up, so that the prediction says something."""
    with torch.no_grad():
        for name, factor in LIVENED.items():
            if hasattr(net.head, name):
                getattr(net.head, name).weight.mul_(factor)
    return net


def make_distiller(overrides=None, epoch=5):
    config = resolve(BASE, overrides or {})
    distiller = build_distiller(config, KEYPOINTS, own_teacher(config))
    liven(distiller.student)
    distiller.set_epoch(epoch, 10)
    return distiller, config


def own_teacher(config):
    if not config.needs_teacher:
        return None
    return copy.deepcopy(teacher_for(config))


def teacher_for(config):
    """The one that other distillers have too."""
    return make_teacher(config.teacher.input_size, config.teacher_split_ratio, kind=config.head.kind)


def make_batch(size=2, seed=3, teacher_size=64):
    generator = torch_generator(seed, "batch")
    return {
        "student_images": torch.randn(size, 3, 32, 32, generator=generator),
        "teacher_images": torch.randn(size, 3, teacher_size, teacher_size, generator=generator),
        "keypoints_input": torch.randint(0, 64, (size, KEYPOINTS, 2), generator=generator) / 2.0,
        "visibility": torch.tensor([[1, 2, 0]]).repeat(size, 1),
    }


def snapshot(module):
    return {name: tensor.clone() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def step(distiller, config):
    optimizers = build_optimizers(distiller, config)
    distiller.set_epoch(5, 10)
    distiller.train()
    distiller(**make_batch()).total.backward()
    for optimizer in optimizers:
        optimizer.step()
    return optimizers


def distinct_variants():
    """One name for every configuration: many a choice is the default, which `paper` stands for."""
    names = {}
    for name, overrides in VARIANTS.items():
        names.setdefault(resolve(BASE, overrides), name)
    return list(names.values())


variants = pytest.mark.parametrize("variant", distinct_variants())


# -------------------------------------------------------------------------------------------------- contract


@dataclass(frozen=True)
class Step:
    """What one training step of one variant did. Facts only: a hundred networks would fill the memory."""

    config: TrainingConfig
    has_unit: bool
    trainable: set[str]
    changed: set[str]
    teacher_changes: dict[str, bool]
    held: list[str | None]
    reached: dict[str, bool]
    ratios: dict[str, float]
    diagnostics: dict[str, float]


@functools.cache
def one_step(variant):
    config = resolve(BASE, VARIANTS[variant])
    # the contract is that nobody changes it, so it need not be a copy
    teacher = teacher_for(config) if config.needs_teacher else None
    distiller = build_distiller(config, KEYPOINTS, teacher)
    liven(distiller.student)
    before, teacher_before = snapshot(distiller), snapshot(distiller.teacher or nn.Module())
    optimizers = build_optimizers(distiller, config)
    distiller.set_epoch(5, 10)
    output = distiller.train()(**make_batch(teacher_size=config.teacher.input_size))
    reached = {name: reaches_student(distiller, loss) for name, loss in output.losses.items()}
    ratios = distiller.gradient_ratios(output)
    output.total.backward()
    for optimizer in optimizers:
        optimizer.step()
    names = {parameter: name for name, parameter in distiller.named_parameters()}
    teacher_after = snapshot(distiller.teacher or nn.Module())
    return Step(
        config=config,
        has_unit=getattr(distiller.feature_aligner, "unit", None) is not None,
        trainable={name for parameter, name in names.items() if parameter.requires_grad},
        changed={name for parameter, name in names.items() if not torch.equal(parameter, before[name])},
        teacher_changes={name: not torch.equal(t, teacher_before[name]) for name, t in teacher_after.items()},
        held=[names.get(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]],
        reached=reached,
        ratios=ratios,
        diagnostics=distiller.diagnostics(),
    )


def reaches_student(distiller, loss):
    if not loss.requires_grad:
        return False
    parameters = list(distiller.student.backbone.parameters())
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def dead_losses(config):
    """The losses that reach no student, on purpose."""
    return {"feature"} if config.distill.sape.detach_student else set()


def test_the_choices_are_those_declared_and_none_is_left_out():
    assert len(SINGLE) == len(CHOSEN) == sum(len(choices_of(path)) for path in PATHS) > 50
    assert {"distill.feature_alignment", "distill.logit_alignment", "distill.etht.learn"} <= {p for p, _ in CHOSEN}
    assert len(PAIRS) > 25
    configurations = {resolve(BASE, VARIANTS[name]) for name in distinct_variants()}
    assert configurations >= {resolve(BASE, overrides) for overrides in (*SINGLE.values(), *PAIRS.values())}
    without = {path.removeprefix("distill.") for path in PATHS} - {name.split("=")[0] for name in SINGLE}
    numbers = {"alpha", "beta", "legacy_factor", "sape.projectors", "sape.kernels", "sape.hidden", "sape.eps"}
    scalars = {"init_tau", "tau_min", "tau_range", "length", "learning_rate"}
    assert without == numbers | {f"etht.{name}" for name in scalars}


@pytest.mark.parametrize(("path", "value"), CHOSEN)
def test_a_choice_is_made_where_the_option_is_read(path, value):
    """Else the contract below would hold for nothing."""
    identity = semantic_mapping(resolve(BASE, overrides_of((path, value))))
    assert identity[path] == value


@variants
def test_one_step_changes_every_trainable_parameter_and_no_other(variant):
    done = one_step(variant)
    assert done.changed == done.trainable != set()


@variants
def test_one_step_leaves_the_teacher_as_it_was(variant):
    done = one_step(variant)
    assert bool(done.teacher_changes) == done.config.needs_teacher
    assert not any(done.teacher_changes.values())


@variants
def test_each_loss_alone_gives_the_student_a_gradient(variant):
    done = one_step(variant)
    distill = done.config.distill
    switched_on = {"task": True, "feature": distill.sape.enabled, "logit": distill.cca.enabled}
    expected = {name: name not in dead_losses(done.config) for name, is_on in switched_on.items() if is_on}
    assert done.reached == expected


@variants
def test_the_optimizers_hold_every_trainable_parameter_once(variant):
    done = one_step(variant)
    assert sorted(done.held) == sorted(done.trainable)


@variants
def test_gradient_ratios_show_which_branch_is_alive(variant):
    done = one_step(variant)
    is_alive = {name: ratio > 0 for name, ratio in done.ratios.items()}
    assert is_alive == {name: reached for name, reached in done.reached.items() if name != "task"}


@variants
def test_the_unit_exists_where_the_configuration_says_so(variant):
    done = one_step(variant)
    assert done.has_unit == done.config.uses_sau
    assert ("sau_weight_0" in done.diagnostics) == done.config.uses_sau


# ---------------------------------------------------------------------------------------------- the released code


def test_in_the_official_preset_the_feature_loss_reaches_nothing():
    distiller, config = make_distiller(OFFICIAL)
    output = distiller(**make_batch())
    assert distiller.gradient_ratios(output)["feature"] == 0.0
    assert output.losses["feature"].item() > 0
    assert not output.losses["feature"].requires_grad
    assert [group.name for group in distiller.parameter_groups(config.train)] == ["student"]
    assert distiller.diagnostics()["tau"] == pytest.approx(2.0)


def test_the_official_preset_weighs_as_the_released_code_does():
    distiller, _ = make_distiller({**OFFICIAL, "distill.alpha": 0.5, "distill.beta": 0.1})
    output = distiller(**make_batch())
    raw = {name: value.item() for name, value in output.raw.items()}
    losses = {name: value.item() for name, value in output.losses.items()}
    assert losses["task"] == pytest.approx(1000.0 * raw["task"])
    assert losses["feature"] == pytest.approx(0.5 * 0.4 * raw["feature"])
    assert losses["logit"] == pytest.approx(0.1 * 0.4 * 2.0**2 * raw["logit"], rel=1e-5)


# ----------------------------------------------------------------------------------------------------- losses


def test_the_total_is_the_sum_of_the_weighted_losses():
    distiller, _ = make_distiller({"distill.alpha": 0.5, "distill.beta": 3.0})
    output = distiller(**make_batch())
    assert output.total.item() == pytest.approx(sum(loss.item() for loss in output.losses.values()), rel=1e-6)
    assert output.losses["feature"].item() == pytest.approx(0.5 * output.raw["feature"].item())
    assert output.losses["logit"].item() == pytest.approx(3.0 * 4.0 * output.raw["logit"].item(), rel=1e-5)
    assert not any(value.requires_grad for value in output.raw.values())


def test_tau_climbs_the_whole_loss():
    """The gradient of theta is -xi times the finite difference of the loss, teacher's softmax and tau^2 included."""
    distiller, _ = make_distiller()
    distiller = distiller.double().eval()
    batch = {name: t.double() if t.is_floating_point() else t for name, t in make_batch().items()}
    theta = distiller.curriculum.theta_tau
    (gradient,) = torch.autograd.grad(distiller(**batch).total, theta)
    totals = []
    for shift in (1e-4, -2e-4):
        theta.data += shift
        totals.append(distiller(**batch).total.item())
    difference = (totals[0] - totals[1]) / 2e-4
    assert distiller.curriculum.xi == pytest.approx(0.5)
    # the teacher's outputs are cast to single precision, so the difference is not exact
    assert gradient.item() == pytest.approx(-0.5 * difference, rel=1e-4)


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_a_learned_weight_climbs_its_loss(name):
    distiller, config = make_distiller({"distill.etht.learn": [name], "distill.etht.learning_rate": 0.1})
    before = distiller.diagnostics()[name]
    step(distiller, config)
    assert distiller.diagnostics()[name] > before


def test_the_papers_scalars_do_not_move_in_the_first_epoch():
    distiller, config = make_distiller()
    optimizers = build_optimizers(distiller, config)
    distiller.set_epoch(0, 10)
    before = distiller.curriculum.theta_tau.item()
    distiller(**make_batch()).total.backward()
    for optimizer in optimizers:
        optimizer.step()
    assert distiller.curriculum.theta_tau.item() == before


@pytest.mark.parametrize(
    "variant",
    [
        "paper",
        "fixed",
        "released code",
        'sape.feature="stage4"',
        'feature_alignment="conv_downsample", logit_alignment="fully_connected"',
        'feature_alignment="avgpool", logit_alignment="same_class_number"',
    ],
)
def test_a_batch_of_one_gives_finite_losses(variant):
    distiller, _ = make_distiller(VARIANTS[variant])
    # at 32x32 the backbone's coarsest map is one position, over which no batch of one can be normalised
    distiller.student.eval()
    output = distiller(**make_batch(1))
    output.total.backward()
    assert torch.isfinite(output.total)


def test_a_batch_without_visible_keypoints_gives_finite_gradients():
    distiller, _ = make_distiller({"preset": "fixed"})
    batch = make_batch()
    output = distiller(**(batch | {"visibility": torch.zeros_like(batch["visibility"])}))
    output.total.backward()
    assert output.losses["task"].item() == output.losses["logit"].item() == 0.0
    assert all(torch.isfinite(p.grad).all() for p in distiller.parameters() if p.grad is not None)


def test_the_feature_option_names_what_is_aligned():
    final, _ = make_distiller()
    stage4, _ = make_distiller({"distill.sape.feature": "stage4"})
    assert final.feature_aligner.unit.convolutions[0][0].in_channels == KEYPOINTS
    assert stage4.feature_aligner.unit.convolutions[0][0].in_channels == make_teacher().backbone.feature_channels == 16


def test_under_autocast_losses_stay_in_single_precision_and_close():
    distiller, _ = make_distiller()
    distiller.eval()
    plain = distiller(**make_batch())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = distiller(**make_batch())
    for name, loss in mixed.losses.items():
        assert loss.dtype == torch.float32, name
        assert loss.item() == pytest.approx(plain.losses[name].item(), rel=0.1), name


# ---------------------------------------------------------------------------------------------------- teacher


def test_the_teacher_is_no_submodule_but_follows_to():
    distiller, _ = make_distiller()
    teacher_ids = {id(parameter) for parameter in distiller.teacher.parameters()}
    assert teacher_ids
    assert not teacher_ids & {id(parameter) for parameter in distiller.parameters()}
    assert not any("teacher" in name for name in distiller.state_dict())
    distiller.train()
    assert not distiller.teacher.training
    assert distiller.to(torch.float64).teacher.head.final_layer.weight.dtype == torch.float64


def test_a_teacher_handed_over_in_training_mode_is_frozen():
    config = resolve(BASE)
    teacher = copy.deepcopy(make_teacher()).train()
    distiller = build_distiller(config, KEYPOINTS, teacher)
    assert not any(module.training for module in distiller.teacher.modules())
    assert not any(parameter.requires_grad for parameter in distiller.teacher.parameters())


@functools.cache
def plain_student(plain):
    """How the student of a configuration without distillation begins."""
    return build_distiller(plain, KEYPOINTS, None).student.state_dict()


@variants
def test_every_arm_of_a_seed_begins_with_the_same_student(variant):
    """Whatever else draws weights; the views and their order come from (seed, epoch, index) alone."""
    arm = resolve(BASE, VARIANTS[variant])
    plain = replace(resolve(BASE, VARIANTS["plain SimCC"]), simcc=arm.simcc, student=arm.student, head=arm.head)
    begun = build_distiller(arm, KEYPOINTS, teacher_for(arm) if arm.needs_teacher else None).student.state_dict()
    assert begun.keys() == plain_student(plain).keys()
    assert all(torch.equal(value, begun[name]) for name, value in plain_student(plain).items())
    other = plain_student(replace(plain, seed=1))
    assert not torch.equal(begun["final_layer.weight"], other["final_layer.weight"])


def test_plain_simcc_needs_no_teacher_and_no_teacher_images():
    distiller, _ = make_distiller(VARIANTS["plain SimCC"])
    output = distiller(**(make_batch() | {"teacher_images": None}))
    assert distiller.teacher is None
    assert distiller.feature_aligner is None is distiller.logit_aligner
    assert distiller.gradient_ratios(output) == distiller.diagnostics() == {}


def test_a_state_dict_round_trip_restores_every_learnable_part():
    options = {"distill.etht.learn": ["tau", "alpha", "beta"]}
    one, config = make_distiller(options)
    step(one, config)
    other, _ = make_distiller(options)
    other.load_state_dict(one.state_dict())
    assert {"curriculum.theta_tau", "feature_aligner.projectors.0.linear.weight"} <= set(one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# ---------------------------------------------------------------------------------------------------- building


def test_switching_sape_off_leaves_the_student_as_it_was():
    students = [
        build_distiller(resolve(BASE, overrides), KEYPOINTS, make_teacher()).student.state_dict()
        for overrides in ({}, {"distill.sape.enabled": False}, {"distill.sape.projectors": 1})
    ]
    for other in students[1:]:
        assert all(torch.equal(students[0][name], other[name]) for name in students[0])


@pytest.mark.parametrize("path", ["distill.feature_alignment", "distill.logit_alignment"])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_what_is_deployed_does_not_depend_on_how_it_was_aligned(path, side):
    """Adapters belong to the distiller: the student has the baseline's weights, names and cost."""
    plain = build_distiller(resolve(BASE, VARIANTS["plain SimCC"]), KEYPOINTS, None).student
    assert choices_of(path)
    for value in choices_of(path):
        config = resolve(BASE, overrides_of((path, value)), {"distill.cca.adapter_side": side})
        student = build_distiller(config, KEYPOINTS, own_teacher(config)).student
        assert student.state_dict().keys() == plain.state_dict().keys()
        assert all(torch.equal(a, b) for a, b in zip(student.state_dict().values(), plain.state_dict().values()))
        assert parameter_count(student) == parameter_count(plain)
        assert macs(student, 32) == macs(plain, 32)


@pytest.mark.parametrize("method", choices_of("distill.feature_alignment"))
def test_the_feature_aligner_does_not_depend_on_how_logits_are_aligned(method):
    base = {"distill.feature_alignment": method, "teacher.split_ratio": 1.0}
    states = [
        make_distiller({**base, "distill.logit_alignment": other})[0].feature_aligner.state_dict()
        for other in choices_of("distill.logit_alignment")
    ]
    assert len(states) > 1
    assert all(torch.equal(states[0][name], other[name]) for other in states[1:] for name in states[0])


def test_adapters_are_in_groups_and_checkpoints_of_the_distiller():
    options = {"distill.feature_alignment": "fully_connected", "distill.logit_alignment": "fully_connected"}
    distiller, config = make_distiller(options)
    groups = {group.name: len(group.parameters) for group in distiller.parameter_groups(config.train)}
    assert (groups["feature_aligner"], groups["logit_aligner"]) == (2, 4)
    step(distiller, config)
    other, _ = make_distiller(options)
    other.load_state_dict(distiller.state_dict())
    assert torch.equal(other.logit_aligner.layers[1].weight, distiller.logit_aligner.layers[1].weight)
    assert {"logit_aligner.layers.0.weight", "feature_aligner.student_adapter.linear.weight"} <= set(
        distiller.state_dict()
    )


def test_the_seed_moves_student_and_sape():
    one, other = (build_distiller(resolve(BASE, {"seed": seed}), KEYPOINTS, make_teacher()) for seed in (0, 1))
    assert not torch.equal(one.student.head.mlp_head_x.weight, other.student.head.mlp_head_x.weight)
    assert not torch.equal(
        one.feature_aligner.projectors[0].linear.weight, other.feature_aligner.projectors[0].linear.weight
    )


def test_a_missing_teacher_is_named():
    with pytest.raises(ValueError, match="there is no teacher"):
        build_distiller(resolve(BASE), KEYPOINTS, None)


def test_missing_teacher_images_are_named():
    distiller, _ = make_distiller()
    with pytest.raises(ValueError, match="teacher's images"):
        distiller(**(make_batch() | {"teacher_images": None}))


def test_a_teacher_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(64, 3, 'SimCCHead'\), got \(96, 3, 'SimCCHead'\)"):
        build_distiller(resolve(BASE), KEYPOINTS, make_teacher(96))


def test_stage4_features_of_different_width_are_refused_naming_both():
    config = resolve(BASE, {"distill.sape.feature": "stage4", "student.backbone": "resnet18"})
    with pytest.raises(ValueError, match=r"resnet18 has 256, teacher.backbone hrnet_w16 16"):
        build_distiller(config, KEYPOINTS, make_teacher())


def test_final_layer_features_of_another_family_are_aligned():
    config = resolve(BASE, {"student.backbone": "resnet18"})
    output = build_distiller(config, KEYPOINTS, make_teacher())(**make_batch())
    assert output.losses["feature"].requires_grad


def test_bins_that_do_not_divide_are_refused_by_the_configuration():
    with pytest.raises(ConfigError, match="matrix"):
        resolve(BASE, {"teacher.split_ratio": 1.5})


def test_scalars_are_stepped_by_plain_sgd_apart_from_adam():
    distiller, config = make_distiller({"train.weight_decay": 0.01, "train.learning_rate": 0.002})
    adam, sgd = build_optimizers(distiller, config)
    assert isinstance(adam, torch.optim.Adam)
    assert isinstance(sgd, torch.optim.SGD)
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in adam.param_groups] == [
        ("student", 0.002, 0.01),
        ("feature_aligner", 0.002, 0.01),
    ]
    assert [(group["lr"], group["momentum"], group["weight_decay"]) for group in sgd.param_groups] == [(10.0, 0, 0)]


def test_under_adam_xi_becomes_the_step_scale_of_the_scalars_alone():
    distiller, config = make_distiller({"distill.etht.optimizer": "adam"})
    networks, scalars = build_optimizers(distiller, config)
    distiller.set_epoch(5, 10)
    assert [group.get("lr_scale") for group in networks.param_groups] == [None, None]
    assert [group["lr_scale"] for group in scalars.param_groups] == pytest.approx([0.5])


# ------------------------------------------------------------------------------------------------- diagnostics


def test_gradient_ratios_are_ratios_of_norms_at_the_backbone_feature():
    distiller, _ = make_distiller()
    output = distiller(**make_batch())
    norms = {
        name: torch.autograd.grad(loss, output.student.backbone_feature, retain_graph=True)[0].norm().item()
        for name, loss in output.losses.items()
    }
    expected = {name: norms[name] / norms["task"] for name in ("feature", "logit")}
    assert distiller.gradient_ratios(output) == pytest.approx(expected, rel=1e-5)


def test_a_gradient_that_is_not_a_number_is_not_reported_as_a_dead_branch():
    distiller, _ = make_distiller()
    output = distiller(**make_batch())
    broken = output.losses["logit"] + output.student.backbone_feature.sum() * float("nan")
    ratios = distiller.gradient_ratios(replace(output, losses={**output.losses, "logit": broken}))
    assert math.isnan(ratios["logit"])
    assert ratios["feature"] > 0


def test_diagnostics_are_those_of_the_parts_in_use():
    distiller, _ = make_distiller()
    assert distiller.diagnostics() == pytest.approx({"tau": 2.0, "alpha": 1.0, "beta": 1.0, "xi": 0.5})
    distiller(**make_batch())
    values = distiller.diagnostics()
    weights = [values[f"sau_weight_{index}"] for index in range(2)]
    assert sum(weights) == pytest.approx(1.0)
    assert all(type(value) is float for value in values.values())
    logit_only, _ = make_distiller({"distill.sape.enabled": False})
    logit_only(**make_batch())
    assert set(logit_only.diagnostics()) == {"tau", "beta", "xi"}


def test_the_modules_hold_no_hooks():
    distiller, _ = make_distiller()
    for module in (*distiller.modules(), *distiller.teacher.modules()):
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not isinstance(module, nn.DataParallel)


# --------------------------------------------------------------------------------------------------- workers

WORKER = """
import sys
import torch
import torch.distributed as dist
from cdkd.config import CalConfig
from cdkd.distill.cca import BinMerge, CrossClassAlignment
from cdkd.distill.divergence import Divergence
from cdkd.heads.cal import CalCodec, OffsetHeatmaps
from cdkd.heads.heatmap import HeatmapCodec, Heatmaps
from cdkd.simcc import simcc_loss

rank, size, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if size > 1:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
generator = torch.Generator().manual_seed(0)
x, y = torch.randn(2, 4, 3, 8, generator=generator).requires_grad_().unbind(0)
teacher = torch.randn(2, 4, 3, 16, generator=generator).unbind(0)
bins = torch.randint(0, 8, (4, 3, 2), generator=generator)
weight = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
mine = slice(rank, None, size)
x, y, weight, bins = x[mine], y[mine], weight[mine], bins[mine]
losses = [
    simcc_loss(x, y, bins, weight, label_smoothing=0.1, reduction=reduction)
    for reduction in ("mean_visible", "nmt", "nmtnorm")
]
for options in ({"mask_invisible": True}, {"mask_invisible": False}, {"batch_reduction": "sum"}):
    cca = CrossClassAlignment(merge=BinMerge(16, 8, "floor"), divergence=Divergence(**options))
    losses.append(cca((x, y), [part[mine] for part in teacher], weight, torch.tensor(2.0)))
keypoints, visibility = bins.double() * 4, weight.long()
maps = torch.randn(4, 3, 8, 8, generator=generator)[mine]
offsets = torch.randn(4, 3, 2, 8, 8, generator=generator)[mine]
losses.append(HeatmapCodec(8, 1.0, True).loss(Heatmaps(maps), keypoints, visibility))
cal = CalCodec(8, 4.0, 1.0, CalConfig(mask="errors"))
losses.append(cal.loss(OffsetHeatmaps(maps, offsets), keypoints, visibility))
values = torch.stack([loss.float() for loss in losses]).detach()
if size > 1:
    dist.all_reduce(values)
    dist.barrier()
    dist.destroy_process_group()  # or a worker may die of the other's leaving
print(*(values / size).tolist(), flush=True)
"""


def losses_over_workers(size, folder):
    repository = Path(__file__).parents[3]
    command = [sys.executable, "-c", WORKER]
    workers = [
        subprocess.Popen(
            [*command, str(rank), str(size), str(folder / f"store{size}")], cwd=repository, stdout=subprocess.PIPE
        )
        for rank in range(size)
    ]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * size
    return [float(value) for value in outputs[0].split()]


def test_losses_averaged_over_two_workers_are_those_of_the_whole_batch(tmp_path):
    whole, halves = (losses_over_workers(size, tmp_path) for size in (1, 2))
    assert len(whole) == 8
    assert halves == pytest.approx(whole, rel=1e-5)
