"""The easy-to-hard curriculum: schedules, bounds and the reversal."""

import pytest
import torch

from cdkd.config import EthtConfig
from cdkd.distill.etht import (
    Curriculum,
    build_curriculum,
    loss_weight,
    reversal_strength,
    scale_gradient,
    temperature,
    theta_of_temperature,
)


def curriculum(**options):
    defaults = {"learned": ("tau", "alpha", "beta"), "init_tau": 4.0, "tau_min": 1.0, "tau_range": 20.0}
    return Curriculum(**(defaults | {"alpha": 0.5, "beta": 2.0} | options))


def factor(config, epoch):
    """What the scalars' gradient is multiplied by in an epoch of a training of 210."""
    built = build_curriculum(config, learned=("tau",), alpha=1.0, beta=1.0)
    built.set_epoch(epoch, 210)
    return built.gradient_factor.item()


# ------------------------------------------------------------------------------------------------ schedules


@pytest.mark.parametrize(("epoch", "golden"), [(0, 1.0), (52, 0.856), (105, 0.5), (158, 0.144), (210, 0.0), (300, 0.0)])
def test_the_official_factor_is_positive_and_falls(epoch, golden):
    assert factor(EthtConfig(schedule="official"), epoch) == pytest.approx(golden, abs=5e-4)


@pytest.mark.parametrize(("epoch", "golden"), [(0, 0.0), (2, -0.095), (5, -0.5), (8, -0.905), (10, -1.0), (200, -1.0)])
def test_the_cosine_over_ten_epochs_is_that_of_ctkd(epoch, golden):
    assert factor(EthtConfig(length=10), epoch) == pytest.approx(golden, abs=5e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("schedule", ["cosine", "official"])
def test_the_direction_can_be_chosen_for_every_schedule(schedule, optimizer):
    up, down, auto = (
        factor(EthtConfig(schedule=schedule, direction=direction, optimizer=optimizer), 50)
        for direction in ("ascend", "descend", "auto")
    )
    assert up == -down < 0
    assert auto == (down if schedule == "official" else up)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", [0.0, 0.25, 0.5, 1.0, 1.0]), ("constant", [1.0] * 5), ("cosine", [0.0, 0.1464466, 0.5, 1.0, 1.0])],
)
def test_xi_over_eight_epochs(schedule, expected):
    assert [reversal_strength(schedule, epoch, 8) for epoch in (0, 2, 4, 8, 9)] == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_xi_never_falls_in_the_papers_schedules(schedule):
    strengths = [reversal_strength(schedule, epoch, 20) for epoch in range(25)]
    assert strengths == sorted(strengths)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("step", 0, 10), "got 'step'"), (("cosine", -1, 10), "got -1 and 10"), (("cosine", 0, 0), "got 0 and 0")],
)
def test_wrong_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        reversal_strength(*arguments)


# ------------------------------------------------------------------------------------------- parametrisation


def test_the_temperature_at_theta_one_is_the_golden_number():
    theta = torch.ones((), dtype=torch.float64)
    assert temperature(theta, 1.0, 20.0).item() == pytest.approx(15.621171572600, abs=1e-12)


@pytest.mark.parametrize("tau", [1.01, 4.0, 15.62, 20.99])
def test_theta_is_the_inverse_of_the_temperature(tau):
    theta = torch.tensor(theta_of_temperature(tau, 1.0, 20.0), dtype=torch.float64)
    assert temperature(theta, 1.0, 20.0).item() == pytest.approx(tau)


@pytest.mark.parametrize("tau", [1.0, 21.0, 0.5])
def test_a_temperature_outside_its_range_is_refused(tau):
    with pytest.raises(ValueError, match=r"tau must lie between 1\.0 and 21\.0"):
        theta_of_temperature(tau, 1.0, 20.0)


def test_the_default_configuration_starts_at_theta_one():
    built = build_curriculum(EthtConfig(), learned=("tau",), alpha=1.0, beta=1.0)
    assert built.theta_tau.item() == pytest.approx(1.0)
    assert built().tau.item() == pytest.approx(15.621171572600)


def test_loss_weights_start_at_their_configured_value_exactly_and_are_bounded():
    assert loss_weight(torch.tensor(0.0), 0.3).item() == torch.tensor(0.3).item()
    assert loss_weight(torch.tensor(100.0), 0.3).item() == pytest.approx(0.6)
    assert loss_weight(torch.tensor(-100.0), 0.3).item() == pytest.approx(0.0)


def test_all_three_scalars_enter_the_loss_at_their_initial_values():
    scalars = curriculum()()
    assert (scalars.tau.item(), scalars.alpha.item(), scalars.beta.item()) == pytest.approx((4.0, 0.5, 2.0))


# -------------------------------------------------------------------------------------------------- reversal


@pytest.mark.parametrize("factor", [-1.0, -0.25, 0.0, 0.856])
def test_the_value_passes_and_the_gradient_is_multiplied(factor):
    value = torch.tensor(3.0, requires_grad=True)
    result = scale_gradient(value, torch.tensor(factor))
    (result**2).backward()
    assert result.item() == 3.0
    assert value.grad.item() == pytest.approx(6.0 * factor)


@pytest.mark.parametrize(("schedule", "factor"), [("cosine", -0.5), ("constant", -1.0), ("official", -0.5)])
def test_every_scalars_gradient_carries_the_schedules_factor(schedule, factor):
    module = curriculum(schedule=schedule, length=10)
    module.set_epoch(5, 100)
    scalars = module()
    (scalars.tau + scalars.alpha + scalars.beta).backward()
    # slope of the sigmoid: s (1 - s)
    tau_share = 3.0 / 20.0
    assert module.theta_tau.grad.item() == pytest.approx(factor * 20.0 * tau_share * (1 - tau_share), rel=1e-5)
    assert module.theta_alpha.grad.item() == pytest.approx(factor * 0.5 * 2 * 0.25)
    assert module.theta_beta.grad.item() == pytest.approx(factor * 2.0 * 2 * 0.25)


def test_sgd_climbs_the_loss_while_descent_is_asked_for():
    module = curriculum(schedule="constant", learning_rate=0.1)
    optimizer = module.build_optimizer(list(module.parameters()))
    before = module().tau.item()
    module().tau.backward()  # the loss grows with tau
    optimizer.step()
    assert module().tau.item() > before


def test_the_length_is_the_whole_training_unless_given():
    module = curriculum()
    module.set_epoch(50, 100)
    assert module.xi == pytest.approx(0.5)
    short = curriculum(length=10)
    short.set_epoch(50, 100)
    assert short.xi == 1.0


def test_the_official_length_is_210_epochs_whatever_the_training_is():
    module = curriculum(schedule="official")
    module.set_epoch(105, 350)
    assert (module.xi, module.gradient_factor.item()) == pytest.approx((0.5, -0.5))


def test_the_first_epoch_is_epoch_zero_before_anyone_sets_it():
    assert curriculum().xi == 0.0
    assert curriculum(schedule="official").gradient_factor.item() == -1.0


def test_with_adam_the_gradient_only_changes_sign_and_xi_scales_the_step():
    module = curriculum(optimizer="adam", length=10, learning_rate=0.01)
    optimizer = module.build_optimizer(list(module.parameters()))
    assert isinstance(optimizer, torch.optim.Adam)
    for epoch, xi in ((0, 0.0), (5, 0.5), (10, 1.0)):
        module.set_epoch(epoch, 100)
        assert module.gradient_factor.item() == -1.0
        assert [group["lr_scale"] for group in optimizer.param_groups] == pytest.approx([xi])


def test_the_step_scale_survives_loading_an_optimizers_state():
    module = curriculum(optimizer="adam", length=10)
    optimizer = module.build_optimizer(list(module.parameters()))
    optimizer.load_state_dict(optimizer.state_dict())  # replaces the group dictionaries
    module.set_epoch(5, 100)
    assert optimizer.param_groups[0]["lr_scale"] == pytest.approx(0.5)


def test_with_sgd_the_step_is_plain():
    module = curriculum()
    optimizer = module.build_optimizer(list(module.parameters()))
    module.set_epoch(5, 10)
    (group,) = optimizer.param_groups
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["momentum"], group["weight_decay"], group["lr"]) == (0, 0, 1e-3)
    assert "lr_scale" not in group


# -------------------------------------------------------------------------------------------- what is learned


@pytest.mark.parametrize("learned", [(), ("tau",), ("tau", "alpha"), ("alpha", "beta"), ("tau", "alpha", "beta")])
def test_only_what_is_learned_asks_for_a_gradient(learned):
    built = build_curriculum(EthtConfig(learn=learned), learned=learned, alpha=1.0, beta=1.0)
    asking = {name for name, parameter in built.named_parameters() if parameter.requires_grad}
    assert asking == {f"theta_{name}" for name in learned}


def test_nothing_is_learned_when_not_trainable():
    built = build_curriculum(EthtConfig(trainable=False), learned=("tau", "alpha"), alpha=1.0, beta=1.0)
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_checkpoints_have_the_same_names_whatever_is_learned():
    names = {"theta_tau", "theta_alpha", "theta_beta"}
    assert set(curriculum(learned=()).state_dict()) == set(curriculum().state_dict()) == names


def test_an_unknown_scalar_is_refused():
    with pytest.raises(ValueError, match="gamma"):
        curriculum(learned=("gamma",))


# --------------------------------------------------------------------------- a schedule of the start values


def test_a_temperature_that_is_not_learned_becomes_the_scheduled_one():
    scalars = curriculum(learned=("alpha",))
    scalars.move(tau_before=4.0, tau=9.0, alpha=0.5, beta=2.0)
    assert float(scalars().tau) == pytest.approx(9.0, rel=1e-6)
    assert torch.equal(scalars.theta_tau, curriculum(init_tau=9.0).theta_tau)


def test_a_learned_temperature_keeps_its_distance_from_the_start():
    scalars = curriculum()
    with torch.no_grad():
        scalars.theta_tau.add_(0.5)
    scalars.move(tau_before=4.0, tau=9.0, alpha=0.5, beta=2.0)
    assert float(scalars.theta_tau.detach()) == pytest.approx(theta_of_temperature(9.0, 1.0, 20.0) + 0.5, rel=1e-6)
    before = scalars.theta_tau.clone()
    scalars.move(tau_before=9.0, tau=9.0, alpha=0.5, beta=2.0)
    assert torch.equal(scalars.theta_tau, before)


def test_learned_weights_keep_their_learned_factor():
    scalars = curriculum()
    with torch.no_grad():
        scalars.theta_alpha.fill_(0.7)
    factor = float(scalars().alpha.detach()) / 0.5
    scalars.move(tau_before=4.0, tau=4.0, alpha=3.0, beta=1.0)
    assert float(scalars().alpha.detach()) == pytest.approx(3.0 * factor, rel=1e-6)
    assert float(scalars().beta.detach()) == pytest.approx(1.0, rel=1e-6)


def test_a_start_outside_its_range_is_refused():
    with pytest.raises(ValueError, match="tau must lie between 1"):
        curriculum().move(tau_before=4.0, tau=30.0, alpha=0.5, beta=2.0)
