"""The training configuration: presets, layers, rules between options and what a schedule may change."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest

from cdkd.config import (
    PRESETS,
    TAU_AT_THETA_ONE,
    AugmentationConfig,
    TrainingConfig,
    annotation_at,
    downsampling_steps,
    field_at,
    resolve,
    schedulable_paths,
)
from cdkd.options import ConfigError, to_mapping
from tests.cdkd.method_options import SECTION_12
from tests.cdkd.schedules import ALPHA, BETA, TAU, scheduled

SOURCE = {"annotations": "a.json", "images": "a"}


def problems_of(*layers: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(*layers)
    return [str(problem) for problem in caught.value.problems]


def test_defaults_are_the_paper_preset() -> None:
    assert resolve() == TrainingConfig()
    assert resolve({"preset": "paper"}) == resolve()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"seed": True}, "must be a whole number, got true"),
        ({"train.learning_rate": 0}, "must be greater than 0, got 0.0"),
        ({"train.learning_rate": "1e-3"}, "YAML reads 1e-3 as a text"),
        ({"train.learning_rate": math.inf}, "must be a finite number"),
        ({"distill.sape.kernels": [3, 4]}, "kernel sizes must be odd"),
        ({"distill.sape.kernels": []}, "must name at least one kernel"),
        ({"distill.sape.kernels": 3}, "must be a list, got 3"),
        ({"student.input_size": 48}, "must be a multiple of 32, got 48"),
        ({"distill.etht.init_tau": 30.0}, "must lie between tau_min=1.0"),
        ({"teacher.split_ratio": 2.5}, "do not divide into"),
        ({"simcc.split_ratio": 1.1, "student.input_size": 32}, "281 teacher bins do not divide into 35 student bins"),
        (
            {"distill.logit_alignment": "same_class_number"},
            "distill.logit_alignment: same_class_number needs equal class counts, got 192 of the student and 768 of "
            "the teacher; set simcc.split_ratio: 12 with teacher.split_ratio: 3, or teacher.split_ratio: 0.75",
        ),
        (
            {"distill.feature_alignment": "conv_downsample", "teacher.input_size": 192},
            "distill.feature_alignment: conv_downsample needs teacher.input_size to be 2, 4, 8, ... times "
            "student.input_size, got 192 and 64",
        ),
        (
            {"distill.feature_alignment": "avgpool", "teacher.input_size": 96, "distill.cca.enabled": False},
            "avgpool needs teacher.input_size to be a multiple of student.input_size, got 96 and 64",
        ),
        ({"data.warp": "size_minus_one"}, "data.warp: must be size: CCA's classes lie over each other"),
        ({"simcc.split_ratio": 0.02}, "simcc.split_ratio: must give the student at least 2 bins, got 1"),
        ({"teacher.split_ratio": 0.001}, "teacher.split_ratio: must give the teacher at least 2 bins, got 0"),
        (
            {"data": {"kind": "mpii", "train": [SOURCE], "val": [SOURCE, {**SOURCE, "head_boxes": "b.mat"}]}},
            "either every source has head_boxes or none",
        ),
        ({"data": {"kind": "mpii", "keypoint_set": "lsp14", "train": [SOURCE]}}, "must be mpii16"),
        (
            {"data": {"kind": "coco_layout", "train": [{**SOURCE, "detections": "d.json"}]}},
            "data.train[0].detections: belongs to data.val or data.test",
        ),
        (
            {"data": {"kind": "coco_layout", "train": [SOURCE], "val": [{**SOURCE, "head_boxes": "b.mat"}]}},
            "data.val[0].head_boxes: belongs to",
        ),
        ({"data.kind": "coco_layout"}, "must name at least one annotation file"),
        ({"student": 5}, "student: must be a section of keys, got 5"),
        ({"distill": {"sape": None}}, "distill.sape: must be a section of keys, got nothing"),
    ],
)
def test_wrong_values_are_refused_with_rule_and_value(layer: dict[str, Any], message: str) -> None:
    assert any(message in found for found in problems_of(layer))


@pytest.mark.parametrize(
    "layer",
    [
        {"simcc.split_ratio": 12.0, "teacher.split_ratio": 3.0},
        {"teacher.split_ratio": 0.75},
        {"teacher.input_size": 64},
        {"distill.cca.enabled": False},
    ],
)
def test_same_class_number_is_allowed_in_both_readings_and_at_equal_resolution(layer: dict[str, Any]) -> None:
    config = resolve({"distill.logit_alignment": "same_class_number"}, layer)
    assert config.distill.logit_alignment == "same_class_number"


@pytest.mark.parametrize(
    ("teacher_side", "student_side", "steps"),
    [(16, 8, 1), (64, 16, 2), (64, 8, 3), (8, 8, None), (24, 8, None), (8, 16, None), (20, 8, None), (36, 8, None)],
)
def test_how_often_the_teachers_side_is_halved(teacher_side: int, student_side: int, steps: int | None) -> None:
    assert downsampling_steps(teacher_side, student_side) == steps


COMPANIONS: dict[str, dict[str, Any]] = {  # value -> what else has to be set for it
    "same_class_number": {"teacher.input_size": 64},
    "heads": {"head.kind": "cal", "distill.cca.enabled": False},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, value) for path, values in SECTION_12.values() for value in values],
    ids=lambda value: str(value),
)
def test_every_option_of_the_methods_notes_takes_every_value(path: str, value: Any) -> None:
    given = list(value) if isinstance(value, tuple) else value
    companion = COMPANIONS.get(str(value), {})
    config: Any = resolve(companion, {path: given})
    for name in path.split("."):
        config = getattr(config, name)
    assert config == value


@pytest.mark.parametrize(("path", "values"), SECTION_12.values(), ids=SECTION_12)
def test_no_choice_is_missing_from_the_methods_notes(path: str, values: tuple[Any, ...]) -> None:
    declared = field_at(path).metadata["choices"]
    is_list_or_backbone = isinstance(values[0], tuple) or path == "teacher.backbone"
    if declared is not None and not is_list_or_backbone:
        assert set(values) == set(declared)


def test_presets_set_the_same_keys_and_name_existing_fields() -> None:
    assert {frozenset(values) for values in PRESETS.values()} == {frozenset(PRESETS["paper"])}
    for path in PRESETS["paper"]:
        field_at(path)


def test_a_later_preset_replaces_an_earlier_one_and_explicit_keys_of_its_layer_win() -> None:
    config = resolve({"preset": "official", "distill.cca.merge": "split"}, {"preset": "fixed"})
    assert config.distill.cca.merge == "centred"
    config = resolve({"preset": "fixed"}, {"preset": "official", "distill.cca.merge": "split"})
    assert config.distill.cca.merge == "split"
    assert config.distill.sape.detach_student


@pytest.mark.parametrize("section", [{"distill": {}}, {"distill": {"sape": {}}}, {"distill.sape": {}}])
def test_an_empty_section_leaves_the_presets_values(section: dict[str, Any]) -> None:
    before = copy.deepcopy(section)
    assert resolve({"preset": "official"} | section) == resolve({"preset": "official"})
    assert section == before


def test_initial_temperature_is_the_released_one() -> None:
    assert pytest.approx(15.621171572600, abs=1e-11) == TAU_AT_THETA_ONE


def test_teacher_configuration_is_plain_simcc_at_the_teachers_size() -> None:
    config = resolve({"teacher": {"input_size": 128, "backbone": "hrnet_w16", "epochs": 7, "seed": 5}, "seed": 9})
    teacher = config.for_teacher()
    assert not teacher.needs_teacher
    assert (teacher.student.input_size, teacher.train.epochs, teacher.seed) == (128, 7, 5)
    assert teacher == resolve({"seed": 1}, to_mapping(config) | {"seed": 1}).for_teacher()


def test_the_teachers_schedule_is_its_own() -> None:
    """Students of different schedules have one teacher; what it is trained by, they may vary as well."""
    one, other = (resolve({"train.milestones": milestones}) for milestones in ([0.5], [4, 0.9]))
    assert one.for_teacher() == other.for_teacher()
    assert one.for_teacher().train.milestones == (170 / 210, 200 / 210)
    assert resolve({"teacher.milestones": [0.5]}).for_teacher().train.milestones == (0.5,)


def test_how_a_students_step_size_falls_leaves_the_teacher_as_it_is() -> None:
    assert resolve({"train.decay": "cosine"}).for_teacher() == resolve().for_teacher()


def test_a_schedule_holds_from_the_start_of_its_epochs_on() -> None:
    config = scheduled((6, ALPHA, 4.0), (3, ALPHA, 2.0), (3, "data.augmentation.rotation_degrees", 10.0))
    assert [config.at_epoch(epoch).distill.alpha for epoch in (1, 2, 3, 5, 6, 10)] == [1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    assert config.at_epoch(3).data.augmentation.rotation_degrees == 10.0
    assert config.at_epoch(6).schedule == ()
    assert config.up_to(5).schedule == config.schedule[1:]
    assert config.for_teacher().schedule == ()


def test_what_may_change_during_a_training_is_a_number_and_no_shape() -> None:
    assert schedulable_paths() == (
        *(f"data.augmentation.{item.name}" for item in dataclasses.fields(AugmentationConfig)),
        "simcc.label_smoothing",
        ALPHA,
        BETA,
        TAU,
        "train.learning_rate",
        "train.weight_decay",
    )
    assert {annotation_at(path) for path in schedulable_paths()} == {float}


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ((2, "distill.alpa", 1.0), "schedule[0].option: 'distill.alpa' cannot change during a training (did you mean"),
        ((2, "train.epochs", 3.0), "schedule[0].option: 'train.epochs' cannot change during a training"),
        ((1, ALPHA, 2.0), "schedule[0].epoch: must be at least 2, got 1"),
        ((2, ALPHA, -1.0), "schedule[0].value: distill.alpha must be at least 0, got -1.0"),
        ((2, TAU, 30.0), "schedule[0].value: distill.etht.init_tau must lie between tau_min=1.0"),
    ],
)
def test_a_faulty_step_is_one_line(step: tuple[int, str, float], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scheduled(step)
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith(fault)


def test_two_values_from_the_same_epoch_on_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule\[1\]: distill.alpha has two values from epoch 2 on"):
        scheduled((2, ALPHA, 2.0), (2, ALPHA, 3.0))
