"""The distiller: student, frozen teacher and every learnable part, from images to named losses (paper Eq. 8).

L = task_scale * L_task + alpha * legacy_factor * L_feature + beta * legacy_factor * tau^2 * L_logit
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cdkd.config import TrainConfig, TrainingConfig
from cdkd.data.streams import torch_generator
from cdkd.distill.aligners import FeatureSizes, build_feature_aligner, build_logit_aligner
from cdkd.distill.etht import Curriculum, build_curriculum
from cdkd.distill.feature_alignment import FeatureAlignment
from cdkd.heads.cal import OffsetHeatmaps
from cdkd.heads.codec import Codec
from cdkd.heads.simcc import SimCCCodec, SimCCLogits
from cdkd.heads.table import build_codec, build_pose_net
from cdkd.models.head import PoseOutput, Prediction
from cdkd.models.pose import FEATURE_STRIDE, PoseNet


def heatmaps_and_offsets(output: PoseOutput) -> Tensor | None:
    """CAL's heatmaps and, keypoint by keypoint, its offsets in x and y (B, 3J, S/4, S/4); None of other heads."""
    if not isinstance(output.prediction, OffsetHeatmaps):
        return None
    return torch.cat((output.prediction.maps, output.prediction.offsets.flatten(1, 2)), 1)


FEATURES: Mapping[str, Callable[[PoseOutput], Tensor | None]] = {
    "final_layer": lambda output: output.final_feature,
    "stage4": lambda output: output.backbone_feature,
    "heads": heatmaps_and_offsets,
}
MAPS_PER_KEYPOINT = {"final_layer": 1, "heads": 3}
"""Channels of those features that have as many as there are keypoints, or a multiple of it."""


@dataclass(frozen=True)
class Teaching:
    """What the losses read of the teacher's output.

    Attributes:
        feature: (B, C, T/4, T/4), the feature that is aligned; None where the head has none.
        logits: those of SimCC; None of every other head.
    """

    feature: Tensor | None
    logits: SimCCLogits | None


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
        codec: the supervised loss, and how the student's predictions are read.
        feature_aligner: from the features of student and teacher to a FeatureAlignment, or None.
        logit_aligner: from the logits of both, weight and temperature to a loss, or None.
        curriculum: temperature and loss weights.
        feature: which feature is aligned, a name in FEATURES.
        legacy_factor: constant on both distillation losses (released code: 0.4).

    Raises:
        ValueError: a distillation loss without a teacher, logit alignment without SimCC, or an unknown feature.
    """

    def __init__(
        self,
        *,
        student: PoseNet,
        teacher: PoseNet | None,
        codec: Codec[Any],
        feature_aligner: nn.Module | None,
        logit_aligner: nn.Module | None,
        curriculum: Curriculum,
        feature: str = "final_layer",
        legacy_factor: float = 1.0,
    ) -> None:
        super().__init__()
        has_distillation = feature_aligner is not None or logit_aligner is not None
        if has_distillation and teacher is None:
            raise ValueError("a distillation loss is switched on and there is no teacher")
        if logit_aligner is not None and not isinstance(codec, SimCCCodec):
            raise ValueError(f"logit alignment needs SimCC's logits, got {type(codec).__name__}")
        if feature not in FEATURES:
            raise ValueError(f"feature must be one of {', '.join(FEATURES)}, got {feature!r}")
        self.student = student
        self.feature_aligner = feature_aligner
        self.logit_aligner = logit_aligner
        self.curriculum = curriculum
        self.codec = codec
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
        self,
        student_images: Tensor,
        teacher_images: Tensor | None,
        keypoints_input: Tensor,
        visibility: Tensor,
        teaching: Teaching | None = None,
    ) -> DistillerOutput:
        """Losses of one batch.

        Args:
            student_images: (B, 3, S, S) normalised.
            teacher_images: (B, 3, T, T), the same views; may be None where there is no teacher.
            keypoints_input: float64 (B, J, 2) in pixels of the student's images.
            visibility: (B, J), 0 for a keypoint without a label.
            teaching: what `teach` says of the teacher's images, where that is known; they are not looked at then.

        Raises:
            ValueError: the teacher's images, the aligned feature or the aligned logits are missing.
        """
        student = self.student(student_images)
        scalars = self.curriculum()
        raw = {"task": self.codec.loss(student.prediction, keypoints_input, visibility)}
        losses = {"task": self.codec.task_scale * raw["task"]}
        if self.teacher is not None and teaching is None:
            if teacher_images is None:
                raise ValueError("the teacher's images are missing")
            teaching = self.teach(teacher_images)
        if self.feature_aligner is not None and teaching is not None:
            feature, teacher_feature = _present(self.feature_of(student)), _present(teaching.feature)
            alignment: FeatureAlignment = self.feature_aligner(feature, teacher_feature)
            self._projector_weights = alignment.mean_weights()
            raw["feature"] = alignment.loss
            losses["feature"] = scalars.alpha * self.legacy_factor * alignment.loss
        if self.logit_aligner is not None and teaching is not None:
            ours, theirs = _logits(student.prediction), _logits(teaching.logits)
            weight = self._weight(keypoints_input, visibility)
            raw["logit"] = self.logit_aligner((ours.x, ours.y), (theirs.x, theirs.y), weight, scalars.tau)
            # tau^2 stays attached: the temperature follows the gradient of the loss as it is
            losses["logit"] = scalars.beta * self.legacy_factor * scalars.tau.square() * raw["logit"]
        return DistillerOutput(
            losses=losses,
            raw={name: loss.detach() for name, loss in raw.items()},
            total=torch.stack(tuple(losses.values())).sum(),
            student=student,
        )

    def _weight(self, keypoints_input: Tensor, visibility: Tensor) -> Tensor:
        """(B, J), 0 for the keypoints that CCA may leave out."""
        assert isinstance(self.codec, SimCCCodec)
        return self.codec.encode(keypoints_input, visibility)[1]

    @torch.no_grad()
    def teach(self, images: Tensor) -> Teaching:
        """What the teacher says of images (B, 3, T, T), in single precision.

        Raises:
            ValueError: there is no teacher.
        """
        if self.teacher is None:
            raise ValueError("there is no teacher")
        output = self.teacher(images).float()
        logits = output.prediction if isinstance(output.prediction, SimCCLogits) else None
        return Teaching(self.feature_of(output), logits)

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Set the curriculum's xi; `epoch` counts completed epochs, so it is 0 in the first one."""
        self.curriculum.set_epoch(epoch, epochs)

    def follow(self, before: TrainingConfig, now: TrainingConfig) -> None:
        """Take over what a schedule changes between two epochs: label smoothing, loss weights and temperature.

        Args:
            before: in force in the last epoch (`TrainingConfig.at_epoch`).
            now: in force in the next one.
        """
        self.codec = build_codec(now)
        self.curriculum.move(
            tau_before=before.distill.etht.init_tau,
            tau=now.distill.etht.init_tau,
            alpha=now.distill.alpha,
            beta=now.distill.beta,
        )

    def parameter_groups(self, train: TrainConfig) -> list[OptimizerGroup]:
        """Every trainable parameter, once: student and aligners under Adam, the scalars by themselves.

        Frozen parts and empty groups are left out.
        """
        adam = {"optimizer": "adam", "learning_rate": train.learning_rate, "weight_decay": train.weight_decay}
        scalars = {"optimizer": self.curriculum.optimizer, "learning_rate": self.curriculum.learning_rate}
        parts: list[tuple[str, nn.Module | None, dict[str, Any]]] = [
            ("student", self.student, adam),
            ("feature_aligner", self.feature_aligner, adam),
            ("logit_aligner", self.logit_aligner, adam),
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
        if self.feature_aligner is not None:
            values["alpha"] = float(scalars.alpha)
        if self.logit_aligner is not None:
            values |= {"tau": float(scalars.tau), "beta": float(scalars.beta)}
        if self.teacher is not None:
            values["xi"] = self.curriculum.xi
        return values | self._unit_weights()

    def _unit_weights(self) -> dict[str, float]:
        if self._projector_weights is None:
            return {}
        return {f"sau_weight_{index}": weight for index, weight in enumerate(self._projector_weights.tolist())}


def _present(feature: Tensor | None) -> Tensor:
    if feature is None:
        raise ValueError("this head does not make the feature that distill.sape.feature names")
    return feature


def _logits(prediction: Prediction | None) -> SimCCLogits:
    if not isinstance(prediction, SimCCLogits):
        raise ValueError("logit alignment needs SimCC's logits, of the student and of the teacher")
    return prediction


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
    """Adam over student and aligners and, where scalars are learned, their own optimizer.

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

    Student and aligners draw from streams of their own, so that switching one part off leaves the others'
    weights as they were.

    Args:
        config: the configuration.
        keypoint_count: J.
        teacher: trained; None where `config.needs_teacher` is False.

    Raises:
        ValueError: the teacher is missing, is not the configuration's, or its feature has not the student's channels.
    """
    student = build_pose_net(config, keypoint_count, generator=torch_generator(config.seed, "student"))
    if config.needs_teacher:
        teacher = _checked_teacher(config, student, teacher)
    distill = config.distill
    return Distiller(
        student=student,
        teacher=teacher,
        codec=build_codec(config),
        feature_aligner=_feature_aligner(config, student, teacher),
        logit_aligner=build_logit_aligner(config) if distill.cca.enabled else None,
        curriculum=build_curriculum(distill.etht, learned=config.learned, alpha=distill.alpha, beta=distill.beta),
        feature=distill.sape.feature,
        legacy_factor=distill.legacy_factor,
    )


def _checked_teacher(config: TrainingConfig, student: PoseNet, teacher: PoseNet | None) -> PoseNet:
    if teacher is None:
        raise ValueError("a distillation loss is switched on (distill.sape or distill.cca) and there is no teacher")
    expected = (config.teacher.input_size, student.keypoint_count, type(student.head).__name__)
    actual = (teacher.input_size, teacher.keypoint_count, type(teacher.head).__name__)
    if actual != expected:
        raise ValueError(f"the teacher must have input size, keypoints and head {expected}, got {actual}")
    return teacher


def _feature_aligner(config: TrainingConfig, student: PoseNet, teacher: PoseNet | None) -> nn.Module | None:
    sape = config.distill.sape
    if not sape.enabled or teacher is None:
        return None
    channels, teacher_channels = (_channels(net, sape.feature) for net in (student, teacher))
    if channels != teacher_channels:
        raise ValueError(
            f"distill.sape.feature {sape.feature} needs equal channel counts: student.backbone "
            f"{config.student.backbone} has {channels}, teacher.backbone {config.teacher.backbone} {teacher_channels}"
        )
    sizes = FeatureSizes(
        channels,
        student_side=config.student.input_size // FEATURE_STRIDE,
        teacher_side=config.teacher.input_size // FEATURE_STRIDE,
    )
    return build_feature_aligner(config, sizes)


def _channels(net: PoseNet, feature: str) -> int:
    is_the_backbones = feature not in MAPS_PER_KEYPOINT
    return net.backbone.feature_channels if is_the_backbones else MAPS_PER_KEYPOINT[feature] * net.keypoint_count
