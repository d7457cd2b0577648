"""The distiller: student, frozen teacher and every learnable part, from images to named losses (paper Eq. 8).

L = task_scale * L_task + alpha * legacy_factor * L_feature + beta * legacy_factor * tau^2 * L_logit
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from cdkd.config import TrainConfig, TrainingConfig
from cdkd.data.streams import torch_generator
from cdkd.distill.cca import CrossClassAlignment, build_cca
from cdkd.distill.etht import Curriculum, build_curriculum
from cdkd.distill.sape import FeatureAlignment, Sape, build_sape
from cdkd.models.pose import FEATURE_STRIDE, PoseNet, PoseOutput, build_pose_net
from cdkd.simcc import simcc_loss

FEATURES: Mapping[str, Callable[[PoseOutput], Tensor]] = {
    "final_layer": lambda output: output.final_feature,
    "stage4": lambda output: output.backbone_feature,
}


@dataclass(frozen=True)
class TaskLoss:
    """The supervised SimCC loss: its reduction and label smoothing as in `simcc_loss`, and its factor."""

    label_smoothing: float
    reduction: str
    scale: float = 1.0

    def __call__(self, output: PoseOutput, bins: Tensor, weight: Tensor) -> Tensor:
        """The loss before the factor, ()."""
        return simcc_loss(
            output.logits_x,
            output.logits_y,
            bins,
            weight,
            label_smoothing=self.label_smoothing,
            reduction=self.reduction,
        )


@dataclass(frozen=True)
class DistillerOutput:
    """What one step computes.

    Attributes:
        losses: `task` and, where switched on, `feature` and `logit`, as they enter the total.
        raw: the same without weights, factors and tau^2; detached.
        total: their sum, to go backward from.
        student: the student's output.
    """

    losses: dict[str, Tensor]
    raw: dict[str, Tensor]
    total: Tensor
    student: PoseOutput


@dataclass(frozen=True)
class OptimizerGroup:
    """Parameters that are stepped alike."""

    name: str
    optimizer: str
    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    weight_decay: float = 0.0


class Distiller(nn.Module):
    """Everything a training step needs, the teacher included.

    The teacher is no submodule: it is in no parameter list, state dict or `train()` call, but it follows
    `.to()` and its kin. It runs in evaluation mode without gradient.

    Args:
        student: learns.
        teacher: None where no distillation loss is on.
        task: the supervised loss.
        sape: feature alignment, or None.
        cca: logit alignment, or None.
        curriculum: temperature and loss weights.
        feature: which feature is aligned, a name in FEATURES.
        legacy_factor: constant on both distillation losses (released code: 0.4).

    Raises:
        ValueError: a distillation loss without a teacher, or an unknown feature.
    """

    def __init__(
        self,
        *,
        student: PoseNet,
        teacher: PoseNet | None,
        task: TaskLoss,
        sape: Sape | None,
        cca: CrossClassAlignment | None,
        curriculum: Curriculum,
        feature: str = "final_layer",
        legacy_factor: float = 1.0,
    ) -> None:
        super().__init__()
        has_distillation = sape is not None or cca is not None
        if has_distillation and teacher is None:
            raise ValueError("a distillation loss is switched on and there is no teacher")
        if feature not in FEATURES:
            raise ValueError(f"feature must be one of {', '.join(FEATURES)}, got {feature!r}")
        self.student = student
        self.sape = sape
        self.cca = cca
        self.curriculum = curriculum
        self.task = task
        self.feature_of = FEATURES[feature]
        self.legacy_factor = legacy_factor
        # in a tuple, so that nn.Module does not register it
        self._teacher = (_freeze(teacher),) if teacher is not None and has_distillation else ()
        self._projector_weights: Tensor | None = None

    @property
    def teacher(self) -> PoseNet | None:
        """The frozen teacher; None where no distillation loss is on."""
        return self._teacher[0] if self._teacher else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for teacher in self._teacher:
            teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(
        self, student_images: Tensor, teacher_images: Tensor | None, bins: Tensor, weight: Tensor
    ) -> DistillerOutput:
        """Losses of one batch.

        Args:
            student_images: (B, 3, S, S) normalised.
            teacher_images: (B, 3, T, T), the same views; may be None where there is no teacher.
            bins: (B, J, 2) labels.
            weight: (B, J), 0 for a keypoint without a label.

        Raises:
            ValueError: the teacher's images are missing.
        """
        student = self.student(student_images)
        scalars = self.curriculum()
        raw = {"task": self.task(student, bins, weight)}
        losses = {"task": self.task.scale * raw["task"]}
        teacher = self._teach(teacher_images)
        if self.sape is not None and teacher is not None:
            alignment: FeatureAlignment = self.sape(self.feature_of(student), self.feature_of(teacher))
            self._projector_weights = alignment.weights.detach().mean((0, 2))
            raw["feature"] = alignment.loss
            losses["feature"] = scalars.alpha * self.legacy_factor * alignment.loss
        if self.cca is not None and teacher is not None:
            ours, theirs = ((output.logits_x, output.logits_y) for output in (student, teacher))
            raw["logit"] = self.cca(ours, theirs, weight, scalars.tau)
            # tau^2 stays attached: the temperature follows the gradient of the loss as it is
            losses["logit"] = scalars.beta * self.legacy_factor * scalars.tau.square() * raw["logit"]
        return DistillerOutput(
            losses=losses,
            raw={name: loss.detach() for name, loss in raw.items()},
            total=torch.stack(tuple(losses.values())).sum(),
            student=student,
        )

    @torch.no_grad()
    def _teach(self, images: Tensor | None) -> PoseOutput | None:
        if self.teacher is None:
            return None
        if images is None:
            raise ValueError("the teacher's images are missing")
        output: PoseOutput = self.teacher(images)
        return replace(output, **{name: value.float() for name, value in vars(output).items()})

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Set the curriculum's xi; `epoch` counts completed epochs, so it is 0 in the first one."""
        self.curriculum.set_epoch(epoch, epochs)

    def follow(self, before: TrainingConfig, now: TrainingConfig) -> None:
        """Take over what a schedule changes between two epochs: label smoothing, loss weights and temperature.

        Args:
            before: in force in the last epoch (`TrainingConfig.at_epoch`).
            now: in force in the next one.
        """
        self.task = replace(self.task, label_smoothing=now.simcc.label_smoothing)
        self.curriculum.move(
            tau_before=before.distill.etht.init_tau,
            tau=now.distill.etht.init_tau,
            alpha=now.distill.alpha,
            beta=now.distill.beta,
        )

    def parameter_groups(self, train: TrainConfig) -> list[OptimizerGroup]:
        """Every trainable parameter, once: student and SAPE under Adam, the scalars by themselves.

        Frozen parts and empty groups are left out.
        """
        adam = {"optimizer": "adam", "learning_rate": train.learning_rate, "weight_decay": train.weight_decay}
        scalars = {"optimizer": self.curriculum.optimizer, "learning_rate": self.curriculum.learning_rate}
        parts: list[tuple[str, nn.Module | None, dict[str, Any]]] = [
            ("student", self.student, adam),
            ("sape", self.sape, adam),
            ("curriculum", self.curriculum, scalars),
        ]
        groups = [
            OptimizerGroup(name, parameters=_trainable(module), **options) for name, module, options in parts if module
        ]
        return [group for group in groups if group.parameters]

    def gradient_ratios(self, output: DistillerOutput) -> dict[str, float]:
        """How strongly each distillation loss that is on pulls at the student, relative to the task loss.

        The ratio of gradient norms at the student's backbone feature; 0 for a branch without gradient.
        Call before the backward pass. Waits for the device.
        """
        task = _gradient_norm(output.losses["task"], output.student.backbone_feature)
        norms = {
            name: _gradient_norm(loss, output.student.backbone_feature)
            for name, loss in output.losses.items()
            if name != "task"
        }
        return {name: 0.0 if float(norm) == 0 else float(norm / task) for name, norm in norms.items()}

    def diagnostics(self) -> dict[str, float]:
        """Scalars in use, and the SAU's mean weight of each projector in the last forward. Waits for the device."""
        with torch.no_grad():
            scalars = self.curriculum()
        values = {}
        if self.sape is not None:
            values["alpha"] = float(scalars.alpha)
        if self.cca is not None:
            values |= {"tau": float(scalars.tau), "beta": float(scalars.beta)}
        if self.teacher is not None:
            values["xi"] = self.curriculum.xi
        return values | self._unit_weights()

    def _unit_weights(self) -> dict[str, float]:
        if self.sape is None or self.sape.unit is None or self._projector_weights is None:
            return {}
        return {f"sau_weight_{index}": weight for index, weight in enumerate(self._projector_weights.tolist())}


def _freeze(teacher: PoseNet) -> PoseNet:
    return teacher.eval().requires_grad_(False)


def _trainable(module: nn.Module) -> tuple[nn.Parameter, ...]:
    return tuple(parameter for parameter in module.parameters() if parameter.requires_grad)


def _gradient_norm(loss: Tensor, feature: Tensor) -> Tensor:
    """Norm of d loss / d feature, 0 where no gradient flows; the graph is kept."""
    if not loss.requires_grad:
        return feature.new_zeros(())
    (gradient,) = torch.autograd.grad(loss, feature, retain_graph=True, allow_unused=True)
    if gradient is None:
        return feature.new_zeros(())
    norm: Tensor = torch.linalg.vector_norm(gradient.double())
    return norm


def build_optimizers(distiller: Distiller, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """Adam over student and SAPE and, where scalars are learned, their own optimizer.

    Every parameter group carries its `name`.
    """
    groups = distiller.parameter_groups(config.train)
    networks = [group for group in groups if group.name != "curriculum"]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam(
            [
                {
                    "params": group.parameters,
                    "lr": group.learning_rate,
                    "weight_decay": group.weight_decay,
                    "name": group.name,
                }
                for group in networks
            ]
        )
    ]
    for group in groups:
        if group.name == "curriculum":
            optimizers.append(distiller.curriculum.build_optimizer(group.parameters))
    return optimizers


def build_distiller(config: TrainingConfig, keypoint_count: int, teacher: PoseNet | None) -> Distiller:
    """The distiller of a configuration, on the CPU.

    Student and SAPE draw from streams of their own, so that switching one part off leaves the other's
    weights as they were.

    Args:
        config: the configuration.
        keypoint_count: J.
        teacher: trained; None where `config.needs_teacher` is False.

    Raises:
        ValueError: the teacher is missing, is not the configuration's, or its feature has not the student's channels.
    """
    student = build_pose_net(
        config.student.backbone,
        config.student.input_size,
        config.simcc.split_ratio,
        keypoint_count,
        generator=torch_generator(config.seed, "student"),
        head_init=config.simcc.head_init,
    )
    if config.needs_teacher:
        teacher = _checked_teacher(config, keypoint_count, teacher)
    distill, simcc = config.distill, config.simcc
    return Distiller(
        student=student,
        teacher=teacher,
        task=TaskLoss(simcc.label_smoothing, simcc.loss, simcc.task_scale),
        sape=_build_sape(config, student, teacher),
        cca=_build_cca(config),
        curriculum=build_curriculum(distill.etht, learned=config.learned, alpha=distill.alpha, beta=distill.beta),
        feature=distill.sape.feature,
        legacy_factor=distill.legacy_factor,
    )


def _checked_teacher(config: TrainingConfig, keypoint_count: int, teacher: PoseNet | None) -> PoseNet:
    if teacher is None:
        raise ValueError("a distillation loss is switched on (distill.sape or distill.cca) and there is no teacher")
    expected = (config.teacher.input_size, config.teacher_split_ratio, keypoint_count)
    actual = (teacher.input_size, teacher.split_ratio, teacher.keypoint_count)
    if actual != expected:
        raise ValueError(f"the teacher must have input size, split ratio and keypoints {expected}, got {actual}")
    return teacher


def _build_cca(config: TrainingConfig) -> CrossClassAlignment | None:
    if not config.distill.cca.enabled:
        return None
    return build_cca(
        config.distill.cca,
        student=(config.student.input_size, config.simcc.split_ratio),
        teacher=(config.teacher.input_size, config.teacher_split_ratio),
    )


def _build_sape(config: TrainingConfig, student: PoseNet, teacher: PoseNet | None) -> Sape | None:
    sape = config.distill.sape
    if not sape.enabled or teacher is None:
        return None
    channels, teacher_channels = (_channels(net, sape.feature) for net in (student, teacher))
    if channels != teacher_channels:
        raise ValueError(
            f"distill.sape.feature {sape.feature} needs equal channel counts: student.backbone "
            f"{config.student.backbone} has {channels}, teacher.backbone {config.teacher.backbone} {teacher_channels}"
        )
    return build_sape(
        sape,
        has_unit=config.uses_sau,
        channels=channels,
        student_side=config.student.input_size // FEATURE_STRIDE,
        teacher_side=config.teacher.input_size // FEATURE_STRIDE,
        generator=torch_generator(config.seed, "sape"),
    )


def _channels(net: PoseNet, feature: str) -> int:
    return net.final_layer.out_channels if feature == "final_layer" else net.final_layer.in_channels
