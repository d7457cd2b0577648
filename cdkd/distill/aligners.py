"""Which alignment a configuration names: the methods of paper Table V, each from its own file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from cdkd.config import CcaConfig, SapeConfig, TrainingConfig
from cdkd.data.streams import torch_generator
from cdkd.distill.cca import build_cca
from cdkd.distill.conv_downsample import build_avgpool, build_conv_downsample
from cdkd.distill.divergence import Divergence
from cdkd.distill.feature_alignment import AdaptedFeatures, FeatureDistance
from cdkd.distill.feature_fully_connected import build_fully_connected_lift
from cdkd.distill.logit_fully_connected import build_fully_connected_logits
from cdkd.distill.same_class_number import build_same_class_number
from cdkd.distill.sape import build_sape


@dataclass(frozen=True)
class FeatureSizes:
    """Sizes of the aligned features: C channels of both, h and H positions along a side."""

    channels: int
    student_side: int
    teacher_side: int


Sizes = tuple[int, float]
"""Input size in pixels and bins per pixel."""


def build_feature_aligner(config: TrainingConfig, sizes: FeatureSizes) -> nn.Module:
    """The method of `distill.feature_alignment`, frozen unless `distill.sape.trainable`.

    What it draws comes from a random stream of its own.
    """
    aligner = FEATURE_ALIGNMENTS[config.distill.feature_alignment](config, sizes)
    return aligner.requires_grad_(config.distill.sape.trainable)


def _distance(config: SapeConfig) -> FeatureDistance:
    return FeatureDistance(config.loss, config.cosine, config.eps)


def _sape(config: TrainingConfig, sizes: FeatureSizes) -> nn.Module:
    sape = config.distill.sape
    return build_sape(
        sape,
        has_unit=config.uses_sau,
        distance=_distance(sape),
        channels=sizes.channels,
        student_side=sizes.student_side,
        teacher_side=sizes.teacher_side,
        generator=torch_generator(config.seed, "sape"),
    )


def _adapted(
    config: TrainingConfig, *, student_adapter: nn.Module | None = None, teacher_adapter: nn.Module | None = None
) -> AdaptedFeatures:
    sape = config.distill.sape
    return AdaptedFeatures(
        student_adapter=student_adapter or nn.Identity(),
        teacher_adapter=teacher_adapter or nn.Identity(),
        distance=_distance(sape),
        detach_student=sape.detach_student,
    )


def _conv_downsample(config: TrainingConfig, sizes: FeatureSizes) -> nn.Module:
    down = build_conv_downsample(sizes.channels, sizes.student_side, sizes.teacher_side)
    return _adapted(config, teacher_adapter=down)


def _avgpool(config: TrainingConfig, sizes: FeatureSizes) -> nn.Module:
    return _adapted(config, teacher_adapter=build_avgpool(sizes.student_side, sizes.teacher_side))


def _fully_connected(config: TrainingConfig, sizes: FeatureSizes) -> nn.Module:
    generator = torch_generator(config.seed, "feature_fully_connected")
    lift = build_fully_connected_lift(sizes.student_side, sizes.teacher_side, generator)
    return _adapted(config, student_adapter=lift)


FEATURE_ALIGNMENTS: Mapping[str, Callable[[TrainingConfig, FeatureSizes], nn.Module]] = {
    "sape": _sape,
    "conv_downsample": _conv_downsample,
    "avgpool": _avgpool,
    "fully_connected": _fully_connected,
}


def build_logit_aligner(config: TrainingConfig) -> nn.Module:
    """The method of `distill.logit_alignment`.

    Raises:
        ValueError: the classifiers' lengths do not suit the method.
    """
    student = (config.student.input_size, config.simcc.split_ratio)
    teacher = (config.teacher.input_size, config.teacher_split_ratio)
    return LOGIT_ALIGNMENTS[config.distill.logit_alignment](config, student, teacher)


def _cca(config: TrainingConfig, student: Sizes, teacher: Sizes) -> nn.Module:
    cca = config.distill.cca
    return build_cca(cca.merge, _divergence(cca), student=student, teacher=teacher)


def _same_class_number(config: TrainingConfig, student: Sizes, teacher: Sizes) -> nn.Module:
    return build_same_class_number(_divergence(config.distill.cca), student=student, teacher=teacher)


def _fully_connected_logits(config: TrainingConfig, student: Sizes, teacher: Sizes) -> nn.Module:
    cca = config.distill.cca
    generator = torch_generator(config.seed, "logit_fully_connected")
    return build_fully_connected_logits(
        cca.adapter_side, _divergence(cca), student=student, teacher=teacher, generator=generator
    )


LOGIT_ALIGNMENTS: Mapping[str, Callable[[TrainingConfig, Sizes, Sizes], nn.Module]] = {
    "cca": _cca,
    "same_class_number": _same_class_number,
    "fully_connected": _fully_connected_logits,
}


def _divergence(config: CcaConfig) -> Divergence:
    return Divergence(
        class_reduction=config.class_reduction,
        batch_reduction=config.batch_reduction,
        mask_invisible=config.mask_invisible,
        tau_grad_teacher=config.tau_grad_teacher,
    )
