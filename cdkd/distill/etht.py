"""ETHT, easy-to-hard training: temperature and loss weights learned against the student (paper Eq. 9-12, method 5).

The student descends the loss, the scalars ascend it, at a strength xi that grows over the training:
one backward pass serves both, because the gradient is multiplied by -xi on its way to the scalars
(by xi where the scalars are to descend too).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cdkd.config import EthtConfig

SCHEDULES = ("cosine", "linear", "constant", "official")
OFFICIAL_LENGTH = 210
"""Epochs over which the released code's factor falls, whatever the length of the training."""


def reversal_strength(schedule: str, epoch: int, length: int) -> float:
    """xi, in [0, 1] (paper Eq. 12: T_i / T_max is epoch / length).

    Args:
        schedule: `cosine` and `linear` grow from 0 to 1, `constant` is 1, `official` falls from 1 to 0 by a cosine.
        epoch: completed epochs, 0 in the first one.
        length: epochs after which xi stays as it is.

    Raises:
        ValueError: an unknown schedule, a negative epoch or no length.
    """
    if epoch < 0 or length < 1:
        raise ValueError(f"epoch must be at least 0 and length at least 1, got {epoch} and {length}")
    progress = min(epoch, length) / length
    if schedule == "cosine":
        return (1.0 - math.cos(math.pi * progress)) / 2.0
    if schedule == "linear":
        return progress
    if schedule == "constant":
        return 1.0
    if schedule == "official":
        return (1.0 + math.cos(math.pi * progress)) / 2.0
    raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")


def temperature(theta: Tensor, tau_min: float, tau_range: float) -> Tensor:
    """tau = tau_min + tau_range * sigmoid(theta), so tau stays between tau_min and tau_min + tau_range."""
    return tau_min + tau_range * torch.sigmoid(theta)


def theta_of_temperature(tau: float, tau_min: float, tau_range: float) -> float:
    """The inverse of `temperature`.

    Raises:
        ValueError: tau is not strictly inside its range.
    """
    share = (tau - tau_min) / tau_range
    if not 0.0 < share < 1.0:
        raise ValueError(f"tau must lie between {tau_min} and {tau_min + tau_range}, got {tau}")
    return math.log(share / (1.0 - share))


def loss_weight(theta: Tensor, initial: float) -> Tensor:
    """initial * 2 * sigmoid(theta): `initial` at theta 0, and bounded, since ascent without a bound diverges."""
    return initial * 2.0 * torch.sigmoid(theta)


class _ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradients[0] * factor, None


def scale_gradient(value: Tensor, factor: Tensor) -> Tensor:
    """`value` itself; its gradient is multiplied by `factor`."""
    scaled: Tensor = _ScaleGradient.apply(value, factor)  # type: ignore[no-untyped-call]
    return scaled


@dataclass(frozen=True)
class Scalars:
    """Temperature and loss weights of one step, each ()."""

    tau: Tensor
    alpha: Tensor
    beta: Tensor


class Curriculum(nn.Module):
    """The learned scalars and the strength of their reversal.

    theta_tau, theta_alpha and theta_beta always exist (a checkpoint has the same names whatever is
    learned); those not learned have `requires_grad` False and keep their value.

    With plain SGD the gradient is multiplied by -xi (paper Eq. 10-11). Adam would divide a slowly
    varying factor out again, so with it the gradient only changes its sign and xi scales the step size:
    `set_epoch` writes xi as `lr_scale` into the groups of every optimizer in `followers`.

    Args:
        learned: of tau, alpha, beta.
        init_tau: temperature at the start.
        tau_min: lower bound of the temperature.
        tau_range: width of its range.
        alpha: weight of the feature loss at the start.
        beta: weight of the logit loss at the start.
        schedule: growth of xi, see `reversal_strength`.
        ascends: whether the scalars climb the loss; else they descend it, as the student does.
        length: epochs over which xi grows; 0 for the whole training (`official`: 210 epochs).
        optimizer: `sgd` or `adam`.
        learning_rate: base step size.
    """

    gradient_factor: Tensor

    def __init__(
        self,
        *,
        learned: Sequence[str],
        init_tau: float,
        tau_min: float,
        tau_range: float,
        alpha: float,
        beta: float,
        schedule: str = "cosine",
        ascends: bool = True,
        length: int = 0,
        optimizer: str = "sgd",
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__()
        unknown = set(learned) - {"tau", "alpha", "beta"}
        if unknown:
            raise ValueError(f"learned must be of tau, alpha, beta, got {sorted(unknown)}")
        self.tau_min, self.tau_range = tau_min, tau_range
        self.initial_alpha, self.initial_beta = alpha, beta
        self.schedule, self.length = schedule, length
        self.sign = -1.0 if ascends else 1.0
        self.optimizer, self.learning_rate = optimizer, learning_rate
        theta_tau = theta_of_temperature(init_tau, tau_min, tau_range)
        self.theta_tau = nn.Parameter(torch.tensor(theta_tau), requires_grad="tau" in learned)
        self.theta_alpha = nn.Parameter(torch.tensor(0.0), requires_grad="alpha" in learned)
        self.theta_beta = nn.Parameter(torch.tensor(0.0), requires_grad="beta" in learned)
        self.register_buffer("gradient_factor", torch.tensor(0.0), persistent=False)
        self.followers: list[torch.optim.Optimizer] = []
        self.xi = 0.0
        self.set_epoch(0, 1)

    def forward(self) -> Scalars:
        """The scalars as they enter the loss, with the reversal on the way back."""
        return Scalars(
            tau=temperature(scale_gradient(self.theta_tau, self.gradient_factor), self.tau_min, self.tau_range),
            alpha=loss_weight(scale_gradient(self.theta_alpha, self.gradient_factor), self.initial_alpha),
            beta=loss_weight(scale_gradient(self.theta_beta, self.gradient_factor), self.initial_beta),
        )

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Set xi.

        Args:
            epoch: completed epochs, 0 in the first one.
            epochs: epochs of the whole training.
        """
        whole = OFFICIAL_LENGTH if self.schedule == "official" else epochs
        length = self.length or whole
        self.xi = reversal_strength(self.schedule, epoch, length)
        self.gradient_factor.fill_(self.sign if self.optimizer == "adam" else self.sign * self.xi)
        for group in (group for optimizer in self.followers for group in optimizer.param_groups):
            group["lr_scale"] = self.xi

    def move(self, *, tau_before: float, tau: float, alpha: float, beta: float) -> None:
        """Change the values that the scalars start from, in the middle of a training; what was learned stays.

        A learned weight keeps its factor 2 sigmoid(theta). A learned temperature keeps its distance from the
        start, measured in theta; one that is not learned becomes `tau`.

        Args:
            tau_before: temperature at the start as it was until now.
            tau: the new one.
            alpha: the new weight of the feature loss.
            beta: the new weight of the logit loss.

        Raises:
            ValueError: a temperature is not inside its range.
        """
        self.initial_alpha, self.initial_beta = alpha, beta
        if tau == tau_before:
            return
        before, now = (theta_of_temperature(value, self.tau_min, self.tau_range) for value in (tau_before, tau))
        learned = self.theta_tau.detach() - before if self.theta_tau.requires_grad else 0.0
        with torch.no_grad():
            self.theta_tau.copy_(torch.as_tensor(now + learned))

    def build_optimizer(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """The scalars' own optimizer: no momentum, no weight decay."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.learning_rate)
        adam = torch.optim.Adam(parameters, lr=self.learning_rate)
        self.followers.append(adam)
        return adam


def build_curriculum(config: EthtConfig, *, learned: Sequence[str], alpha: float, beta: float) -> Curriculum:
    """The curriculum of a configuration.

    Args:
        config: the options.
        learned: what has a use in this training (`TrainingConfig.learned`); nothing when not `config.trainable`.
        alpha: weight of the feature loss.
        beta: weight of the logit loss.
    """
    return Curriculum(
        learned=learned if config.trainable else (),
        init_tau=config.init_tau,
        tau_min=config.tau_min,
        tau_range=config.tau_range,
        alpha=alpha,
        beta=beta,
        schedule=config.schedule,
        ascends=config.ascends,
        length=config.length,
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
    )
