"""Every choice of every distillation option, read off the declarations: a new choice is tested by being declared."""

import itertools
import json
import typing
from dataclasses import is_dataclass

from cdkd.config import TrainingConfig, annotation_at, field_at
from cdkd.options import declared_fields

COMPANIONS = {
    "distill.cca.adapter_side": {"distill.logit_alignment": "fully_connected"},
    "distill.logit_alignment": {"teacher.split_ratio": 1.0},
    "distill.etht.direction=ascend": {"distill.etht.schedule": "official"},  # elsewhere `auto` says the same
    "distill.sape.feature=heads": {"head.kind": "cal", "distill.cca.enabled": False},
}
"""What has to be set too for an option, or one choice of it, to be read and allowed (at `BASE`'s sizes)."""

CROSSED = (
    ("distill.feature_alignment", "distill.sape.loss"),
    ("distill.feature_alignment", "distill.sape.cosine"),
    ("distill.feature_alignment", "distill.sape.feature"),
    ("distill.feature_alignment", "distill.sape.detach_student"),
    ("distill.feature_alignment", "distill.sape.trainable"),
    ("distill.feature_alignment", "distill.logit_alignment"),
)
"""Pairs of options of which every combination is tried."""

PATHS = [
    path
    for path in declared_fields(TrainingConfig)
    if path.startswith("distill.") and not is_dataclass(annotation_at(path))
]


def choices_of(path):
    """The values an option declares: its choices or both truth values; of a list none, each one, and all."""
    choices, annotation = field_at(path).metadata["choices"], annotation_at(path)
    if annotation is bool:
        return [True, False]
    if choices is None:
        return []
    if typing.get_origin(annotation) is tuple:
        return [[], *([choice] for choice in choices), list(choices)]
    return list(choices)


def overrides_of(*chosen):
    """The overrides of some (path, value), with their companions."""
    names = [name for path, value in chosen for name in (path, f"{path}={value}")]
    companions = {key: value for name in names for key, value in COMPANIONS.get(name, {}).items()}
    return companions | dict(chosen)


def named(*chosen):
    return ", ".join(f"{path.removeprefix('distill.')}={json.dumps(value)}" for path, value in chosen)


CHOSEN = [(path, value) for path in PATHS for value in choices_of(path)]
SINGLE = {named(each): overrides_of(each) for each in CHOSEN}
PAIRS = {
    named((one, first), (other, second)): overrides_of((one, first), (other, second))
    for one, other in CROSSED
    for first, second in itertools.product(choices_of(one), choices_of(other))
}
