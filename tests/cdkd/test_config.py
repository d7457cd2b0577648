"""The configuration reader: strict, complete in its complaints, canonical in its identity."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import pytest

from cdkd.config import (
    HEADS,
    PRESETS,
    TAU_AT_THETA_ONE,
    AugmentationConfig,
    ConfigError,
    TrainingConfig,
    annotation_at,
    declared_fields,
    downsampling_steps,
    field_at,
    from_mapping,
    resolve,
    schedulable_paths,
    semantic_mapping,
    to_mapping,
)
from tests.cdkd.method_options import SECTION_12

SOURCE = {"annotations": "a.json", "images": "a"}
PATHS = list(declared_fields(TrainingConfig))
LEAVES = [path for path in PATHS if not any(other.startswith(path + ".") for other in PATHS)]


def problems_of(*layers: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(*layers)
    return [str(problem) for problem in caught.value.problems]


def test_defaults_are_the_paper_preset() -> None:
    assert resolve() == TrainingConfig()
    assert resolve({"preset": "paper"}) == resolve()


def test_a_resolved_configuration_survives_a_round_trip() -> None:
    config = resolve({"distill.sape.kernels": [3, 5], "student": {"input_size": 32}, "preset": "fixed"})
    assert from_mapping(TrainingConfig, to_mapping(config)) == config


def test_every_problem_is_reported_with_its_path_and_the_nearest_name() -> None:
    found = problems_of({"student": {"input_sizes": 32}, "distill.cca.merge": "center", "train": {"epochs": "ten"}})
    assert found == [
        "distill.cca.merge: must be one of floor, centred, split, matrix, got 'center' (did you mean 'centred'?)",
        "student.input_sizes: unknown key (did you mean 'input_size'?)",
        'train.epochs: must be a whole number, got "ten"',
    ]


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


def test_an_error_keeps_its_problems_on_the_way_to_another_process() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"train.epochs": 0, "seed": -1})
    received = pickle.loads(pickle.dumps(caught.value))
    assert str(received) == str(caught.value)
    assert received.problems == caught.value.problems


def test_initial_temperature_is_the_released_one() -> None:
    assert pytest.approx(15.621171572600, abs=1e-11) == TAU_AT_THETA_ONE


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
        ({"train.decay": "cosine"}, {"train.milestones": [3]}),  # the teacher's step size falls there
    ],
)
def test_options_that_a_method_reads_change_the_identity(method: dict[str, Any], read: dict[str, Any]) -> None:
    assert semantic_mapping(resolve(method, read)) != semantic_mapping(resolve(method))


@pytest.mark.parametrize(("schedule", "named"), [("cosine", "ascend"), ("official", "descend")])
def test_a_direction_that_auto_would_take_too_does_not_change_the_identity(schedule: str, named: str) -> None:
    auto = {"distill.etht.schedule": schedule}
    assert semantic_mapping(resolve(auto, {"distill.etht.direction": named})) == semantic_mapping(resolve(auto))


def test_one_projector_has_no_unit_to_weigh_it() -> None:
    config = resolve({"distill.sape.projectors": 1})
    assert not config.uses_sau
    assert semantic_mapping(config) == semantic_mapping(
        resolve({"distill.sape.projectors": 1, "distill.sape.sau": False})
    )


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


def test_a_teacher_given_as_a_file_has_no_schedule_that_counts() -> None:
    given = {"teacher.checkpoint": "teacher.pt"}
    assert semantic_mapping(resolve(given, {"teacher.milestones": [0.5]})) == semantic_mapping(resolve(given))


def test_how_a_students_step_size_falls_leaves_the_teacher_as_it_is() -> None:
    assert resolve({"train.decay": "cosine"}).for_teacher() == resolve().for_teacher()


ALPHA, BETA, TAU = "distill.alpha", "distill.beta", "distill.etht.init_tau"


def scheduled(*steps: tuple[int, str, float], **layer: object) -> TrainingConfig:
    """A training of ten epochs with a schedule."""
    listed = [{"epoch": epoch, "option": option, "value": value} for epoch, option, value in steps]
    return resolve({"train.epochs": 10, "schedule": listed}, {path.replace("__", "."): v for path, v in layer.items()})


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


def test_steps_that_change_nothing_are_not_part_of_the_identity() -> None:
    plain = semantic_mapping(scheduled())
    assert "schedule" not in plain
    assert semantic_mapping(scheduled((3, ALPHA, 1.0), (11, ALPHA, 2.0))) == plain
    off = {"distill__sape__enabled": False}
    assert semantic_mapping(scheduled((3, ALPHA, 2.0), **off)) == semantic_mapping(scheduled(**off))
    steps = [(3, ALPHA, 2.0), (3, BETA, 2.0)]
    assert semantic_mapping(scheduled(*steps)) == semantic_mapping(scheduled(*reversed(steps))) != plain
