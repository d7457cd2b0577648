"""The canonical identity of a configuration: what makes it another training, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from cdkd.config import HEADS, TrainingConfig, field_at, resolve
from cdkd.identity import semantic_mapping
from cdkd.options import declared_fields
from tests.cdkd.schedules import ALPHA, BETA, scheduled

PATHS = list(declared_fields(TrainingConfig))
LEAVES = [path for path in PATHS if not any(other.startswith(path + ".") for other in PATHS)]


@pytest.mark.parametrize("path", LEAVES)
def test_every_field_is_either_in_the_identity_or_operational(path: str) -> None:
    """Walks all fields: a new field without a decision fails here."""
    item = field_at(path)
    parents = [".".join(path.split(".")[:count]) for count in range(1, path.count(".") + 1)]
    operational = item.metadata["operational"] or any(field_at(parent).metadata["operational"] for parent in parents)
    step = {"epoch": 2, "option": "distill.alpha", "value": 3.0}
    sources = [{"annotations": "a.json", "images": "a"}]
    everything_on = resolve({"data.kind": "coco_layout", "data.train": sources, "schedule": [step]})
    plain = {"distill.sape.enabled": False, "distill.cca.enabled": False}
    adapter = resolve({"distill.logit_alignment": "fully_connected"})
    identity = semantic_mapping(everything_on) | semantic_mapping(resolve()) | semantic_mapping(adapter)
    for kind in HEADS:
        identity |= semantic_mapping(resolve(plain, {"head.kind": kind}))
    assert (path in identity) == (not operational)


def test_operational_fields_do_not_change_the_identity() -> None:
    assert semantic_mapping(resolve({"runtime.threads": 2, "data.root": "/x"})) == semantic_mapping(resolve())


@pytest.mark.parametrize(
    "irrelevant",
    [
        {"distill.sape.projectors": 5},
        {"distill.alpha": 3.0},
        {"distill.cca.merge": "split"},
        {"teacher.input_size": 128},
        {"distill.etht.learn": []},
        {"distill.feature_alignment": "avgpool"},
        {"distill.logit_alignment": "fully_connected"},
        {"distill.cca.adapter_side": "teacher"},
        {"preset": "fixed"},
    ],
)
def test_parts_that_are_switched_off_do_not_change_the_identity(irrelevant: dict[str, Any]) -> None:
    plain = {"distill.sape.enabled": False, "distill.cca.enabled": False}
    assert semantic_mapping(resolve(irrelevant, plain)) == semantic_mapping(resolve(plain))


FEATURES, LOGITS = "distill.feature_alignment", "distill.logit_alignment"


@pytest.mark.parametrize(
    ("method", "unread"),
    [
        *(
            ({FEATURES: name}, {path: value})
            for name in ("conv_downsample", "avgpool", "fully_connected")
            for path, value in (
                ("distill.sape.projector", "full"),
                ("distill.sape.projectors", 1),
                ("distill.sape.sau", False),
                ("distill.sape.kernels", [3]),
                ("distill.sape.fuse", "concat"),
                ("distill.sape.fuse_order", "fc_gap_sum"),
                ("distill.sape.add_mean_branch", True),
                ("distill.sape.hidden", 4),
                ("distill.sape.hidden_relu", True),
                ("distill.sape.extra_fc", "post_gap"),
            )
        ),
        ({FEATURES: "avgpool"}, {"distill.sape.trainable": False}),
        ({"distill.sape.loss": "mse"}, {"distill.sape.cosine": "channel"}),
        ({"distill.sape.loss": "mse"}, {"distill.sape.eps": 0.1}),
        ({LOGITS: "fully_connected"}, {"distill.cca.merge": "centred"}),
        ({LOGITS: "same_class_number", "teacher.input_size": 64}, {"distill.cca.merge": "centred"}),
        ({LOGITS: "same_class_number", "teacher.input_size": 64}, {"distill.cca.adapter_side": "teacher"}),
        ({LOGITS: "cca"}, {"distill.cca.adapter_side": "teacher"}),
        *(
            ({"train.decay": decay, "teacher.checkpoint": "t.pt"}, unread)
            for decay in ("cosine", "linear")
            for unread in ({"train.milestones": [3]}, {"train.gamma": 0.5})
        ),
        ({"train.decay": "cosine"}, {"train.milestones": [3]}),  # a teacher that is trained has its own
    ],
)
def test_options_that_a_method_does_not_read_do_not_change_the_identity(
    method: dict[str, Any], unread: dict[str, Any]
) -> None:
    assert semantic_mapping(resolve(method, unread)) == semantic_mapping(resolve(method))
    assert not unread.keys() & semantic_mapping(resolve(method)).keys()


@pytest.mark.parametrize(
    ("method", "read"),
    [
        ({FEATURES: "conv_downsample"}, {"distill.sape.trainable": False}),
        ({FEATURES: "fully_connected"}, {"distill.sape.cosine": "channel"}),
        ({FEATURES: "avgpool"}, {"distill.sape.loss": "mse"}),
        ({FEATURES: "avgpool"}, {"distill.sape.detach_student": True}),
        ({FEATURES: "avgpool"}, {"distill.sape.feature": "stage4"}),
        ({LOGITS: "fully_connected"}, {"distill.cca.adapter_side": "teacher"}),
        ({LOGITS: "fully_connected"}, {"distill.cca.mask_invisible": True}),
        ({}, {FEATURES: "fully_connected"}),
        ({}, {LOGITS: "fully_connected"}),
        ({}, {"distill.etht.direction": "descend"}),
        ({}, {"train.decay": "cosine"}),
        ({"train.decay": "cosine"}, {"train.gamma": 0.5}),  # by which the teacher's step size falls
    ],
)
def test_options_that_a_method_reads_change_the_identity(method: dict[str, Any], read: dict[str, Any]) -> None:
    assert semantic_mapping(resolve(method, read)) != semantic_mapping(resolve(method))


@pytest.mark.parametrize(("schedule", "named"), [("cosine", "ascend"), ("official", "descend")])
def test_a_direction_that_auto_would_take_too_does_not_change_the_identity(schedule: str, named: str) -> None:
    auto = {"distill.etht.schedule": schedule}
    assert semantic_mapping(resolve(auto, {"distill.etht.direction": named})) == semantic_mapping(resolve(auto))


def test_a_teachers_split_ratio_that_is_the_students_does_not_change_the_identity() -> None:
    same, other = (resolve({"simcc.split_ratio": 2.0, "teacher.split_ratio": ratio}) for ratio in (2.0, 4.0))
    plain = semantic_mapping(resolve({"simcc.split_ratio": 2.0}))
    assert semantic_mapping(same) == plain != semantic_mapping(other)
    assert same.teacher_split_ratio == 2.0


def test_one_projector_has_no_unit_to_weigh_it() -> None:
    config = resolve({"distill.sape.projectors": 1})
    assert not config.uses_sau
    assert semantic_mapping(config) == semantic_mapping(
        resolve({"distill.sape.projectors": 1, "distill.sape.sau": False})
    )


def test_a_teacher_given_as_a_file_has_no_schedule_that_counts() -> None:
    given = {"teacher.checkpoint": "teacher.pt"}
    assert semantic_mapping(resolve(given, {"teacher.milestones": [0.5]})) == semantic_mapping(resolve(given))


def test_steps_that_change_nothing_are_not_part_of_the_identity() -> None:
    plain = semantic_mapping(scheduled())
    assert "schedule" not in plain
    assert semantic_mapping(scheduled((3, ALPHA, 1.0), (11, ALPHA, 2.0))) == plain
    off = {"distill__sape__enabled": False}
    assert semantic_mapping(scheduled((3, ALPHA, 2.0), **off)) == semantic_mapping(scheduled(**off))
    steps = [(3, ALPHA, 2.0), (3, BETA, 2.0)]
    assert semantic_mapping(scheduled(*steps)) == semantic_mapping(scheduled(*reversed(steps))) != plain
