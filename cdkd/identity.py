"""The identity of a training: the part of its configuration that determines the result, in one canonical form."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from cdkd.config import HEADS, CcaConfig, DistillConfig, SapeConfig, TrainingConfig, in_order
from cdkd.options import declared_fields, flatten_keys, to_mapping


def semantic_mapping(config: TrainingConfig) -> dict[str, Any]:
    """The part of a configuration that determines the result, by dotted path, in one canonical form.

    Left out are operational fields and every field of a part that is switched off, so that two
    spellings of the same training (a baseline with three unused projectors, say) compare equal.
    """
    declared = declared_fields(TrainingConfig)
    flat = flatten_keys(to_mapping(config))
    flat["distill.etht.learn"] = list(config.learned)
    flat["distill.sape.sau"] = config.uses_sau
    if config.distill.etht.ascends == config.distill.etht.ascends_by_itself:
        flat["distill.etht.direction"] = "auto"
    if config.teacher.split_ratio == config.simcc.split_ratio:
        flat["teacher.split_ratio"] = 0.0
    unused = _unused_sections(config)
    flat["schedule"] = _effective_steps(config, unused)
    return {
        path: value
        for path, value in sorted(flat.items())
        if not _is_operational(path, declared) and not path.startswith(unused) and (path != "schedule" or value)
    }


def _effective_steps(config: TrainingConfig, unused: tuple[str, ...]) -> list[dict[str, Any]]:
    """The steps of the schedule that change something that this training reads, in order."""
    values = flatten_keys(to_mapping(config))
    steps = []
    for step in in_order(config.schedule):
        changes = values[step.option] != step.value
        values[step.option] = step.value
        if changes and step.epoch <= config.train.epochs and not step.option.startswith(unused):
            steps.append(dataclasses.asdict(step))
    return steps


def _unused_sections(config: TrainingConfig) -> tuple[str, ...]:
    """Prefixes of the fields that nothing reads in this configuration."""
    unused = (
        ["data.train", "data.val", "data.test", "data.holdout", "data.on_bad_record"]
        if config.data.kind == "synthetic"
        else ["data.synthetic."]
    )
    unused += _options_of_other_heads(config.head.kind)
    if config.cal.mask != "disc":
        unused += ["cal.radius"]
    if config.train.decay != "step":
        unused += ["train.milestones"] if config.trains_teacher else ["train.milestones", "train.gamma"]
    if not config.needs_teacher:
        unused += ["teacher.", "distill.legacy_factor"]
    if not config.distill.sape.enabled:
        unused += [
            "distill.alpha",
            "distill.feature_alignment",
            *(f"distill.sape.{name}" for name in _names_but(SapeConfig, "enabled")),
        ]
    else:
        unused += [f"distill.sape.{name}" for name in _unread_by_the_feature_alignment(config)]
    if config.distill.cca.enabled:
        unused += [f"distill.cca.{name}" for name in _unread_by_the_logit_alignment(config.distill)]
    else:
        unused += [
            "distill.beta",
            "distill.logit_alignment",
            "distill.etht.init_tau",
            "distill.etht.tau_",
            *(f"distill.cca.{name}" for name in _names_but(CcaConfig, "enabled")),
        ]
    if not config.learned:
        unused += [
            "distill.etht.schedule",
            "distill.etht.direction",
            "distill.etht.length",
            "distill.etht.optimizer",
            "distill.etht.learning_rate",
            "distill.etht.trainable",
        ]
    if config.teacher.checkpoint:
        unused += [f"teacher.{name}" for name in OF_THE_TEACHERS_TRAINING]
    return tuple(unused)


def _options_of_other_heads(kind: str) -> list[str]:
    """The options that belong to heads, and not to this one."""
    every = tuple(options for traits in HEADS.values() for options in traits.options)
    paths = declared_fields(TrainingConfig)
    return [path for path in paths if path.startswith(every) and not path.startswith(HEADS[kind].options)]


OF_THE_TEACHERS_TRAINING = ("pretrained", "epochs", "batch_size", "learning_rate", "milestones", "seed")
"""Options of TeacherConfig that nothing reads where its weights are given."""

SHARED_BY_FEATURE_ALIGNMENTS = ("enabled", "feature", "loss", "cosine", "eps", "detach_student", "trainable")
"""Options of SapeConfig that hold for every method of `distill.feature_alignment`."""


def _unread_by_the_feature_alignment(config: TrainingConfig) -> Iterator[str]:
    """Options of an enabled SapeConfig that nothing reads."""
    sape, method = config.distill.sape, config.distill.feature_alignment
    if method != "sape":
        yield from _names_but(SapeConfig, *SHARED_BY_FEATURE_ALIGNMENTS)
    elif not config.uses_sau:
        yield from ("kernels", "fuse", "hidden", "extra_fc", "add_mean_branch")
    if method == "avgpool":
        yield "trainable"
    if sape.loss != "cosine":
        yield from ("cosine", "eps")


def _unread_by_the_logit_alignment(distill: DistillConfig) -> Iterator[str]:
    """Options of an enabled CcaConfig that nothing reads."""
    if distill.logit_alignment != "cca":
        yield "merge"
    if distill.logit_alignment != "fully_connected":
        yield "adapter_side"


def _names_but(cls: type, *left_out: str) -> list[str]:
    return [item.name for item in fields(cls) if item.name not in left_out]


def _is_operational(path: str, declared: Mapping[str, dataclasses.Field[Any]]) -> bool:
    parts = path.split(".")
    prefixes = (".".join(parts[: count + 1]) for count in range(len(parts)))
    return any(prefix in declared and declared[prefix].metadata["operational"] for prefix in prefixes)
