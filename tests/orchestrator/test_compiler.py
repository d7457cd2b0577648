"""Studies to plans: trials, teachers, identities."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cdkd.config import TrainingConfig
from cdkd.options import ConfigError, from_mapping
from orchestrator.compiler import begun_afresh, compile_study, refit_trial, search_trial
from orchestrator.errors import UserError
from orchestrator.fingerprint import fingerprint
from orchestrator.plan import Plan
from orchestrator.study import load_study

BASE = """\
student: {input_size: 32, backbone: hrnet_w16}
teacher: {input_size: 128, backbone: hrnet_w16, epochs: 4, seed: 5}
simcc: {split_ratio: 2.0}
train: {epochs: 3}
"""
LADDER = """\
study: s
base: tiny
metric: {name: val/pckh@0.5}
ablation:
  components:
    sape: {off: {distill.sape.enabled: false}}
    cca: {off: {distill.cca.enabled: false}}
  design: [{ladder: [sape, cca]}, full, baseline, {arms: {wide: {student.backbone: hrnet_w32}}}]
  seeds: [3, 1]
"""
SEARCH = """\
study: s
base: tiny
metric: {name: val/pckh@0.5}
search:
  trials: 5
  training_seed: 9
  space: {distill.alpha: {low: 0.1, high: 1}}
"""


def planned(folder: Path, text: str, *overrides: str, base: str = BASE) -> Plan:
    (folder / "bases").mkdir(exist_ok=True)
    (folder / "bases" / "tiny.yaml").write_text(base)
    (folder / "study.yaml").write_text(text)
    return compile_study(load_study(folder / "study.yaml", overrides))


def test_trials_are_arms_times_seeds_all_arms_of_a_seed_first(tmp_path):
    plan = planned(tmp_path, LADDER)
    arms = ["baseline", "+sape", "+sape+cca", "wide"]
    assert [(spec.seed, spec.arm) for spec in plan.trials] == [(seed, arm) for seed in (3, 1) for arm in arms]
    assert plan.table.arms == tuple(arms)
    assert plan.seeds == (3, 1)


def test_a_trial_is_complete(tmp_path):
    spec = planned(tmp_path, LADDER).trials[1]
    assert spec.trial_id == f"plus_sape-seed3-{spec.fingerprint[:8]}"
    assert spec.kind == "student"
    assert spec.overrides == {"distill.cca.enabled": False}
    config = from_mapping(TrainingConfig, spec.config)
    assert config.seed == 3
    assert not config.distill.cca.enabled
    assert spec.number == -1


def test_ids_and_fingerprints_are_unique_and_the_same_every_time(tmp_path):
    plan, again = planned(tmp_path, LADDER), planned(tmp_path, LADDER)
    assert plan == again
    assert len({spec.trial_id for spec in plan.trials}) == len({spec.fingerprint for spec in plan.trials}) == 8


def test_a_plan_survives_json(tmp_path):
    plain = dataclasses.asdict(planned(tmp_path, LADDER))
    assert json.loads(json.dumps(plain))["trials"][0]["arm"] == "baseline"


def test_students_share_one_teacher_and_the_baseline_needs_none(tmp_path):
    plan = planned(tmp_path, LADDER)
    assert len(plan.teachers) == 1
    teacher = plan.teachers[0]
    assert (teacher.kind, teacher.seed, teacher.teacher) == ("teacher", 5, "")
    assert teacher.config["student"]["input_size"] == 128
    assert teacher.config["train"]["epochs"] == 4
    needed = {spec.arm: spec.teacher for spec in plan.trials}
    assert needed["baseline"] == ""
    assert needed["+sape"] == needed["wide"] == teacher.fingerprint


def test_an_arm_that_changes_the_teacher_has_its_own(tmp_path):
    text = LADDER.replace("student.backbone: hrnet_w32", "teacher.backbone: hrnet_w32")
    plan = planned(tmp_path, text)
    assert len(plan.teachers) == 2
    wide = next(spec for spec in plan.trials if spec.arm == "wide")
    assert wide.teacher == plan.teachers[1].fingerprint


class TestTeacherFile:
    def test_it_is_known_by_its_content_wherever_it_lies(self, tmp_path):
        (tmp_path / "a.pt").write_bytes(b"one")
        (tmp_path / "b.pt").write_bytes(b"one")
        (tmp_path / "c.pt").write_bytes(b"other")
        plans = [planned(tmp_path, LADDER, f"teacher.checkpoint={tmp_path / name}.pt") for name in "abc"]
        assert all(plan.teachers == () for plan in plans)
        assert all(spec.teacher == "" for plan in plans for spec in plan.trials)
        same, moved, other = ([spec.fingerprint for spec in plan.trials] for plan in plans)
        assert same == moved
        baseline = [index for index, spec in enumerate(plans[0].trials) if spec.arm == "baseline"]
        assert all((same[index] == other[index]) == (index in baseline) for index in range(len(same)))

    def test_a_missing_one_is_a_line_at_the_option(self, tmp_path):
        with pytest.raises(UserError) as caught:
            planned(tmp_path, LADDER + "set:\n  teacher.checkpoint: none.pt\n")
        assert caught.value.lines == [
            f"{tmp_path}/study.yaml:11:3: teacher.checkpoint: "
            f"weights file cannot be read: {tmp_path}/none.pt: No such file or directory"
        ]

    def test_a_missing_one_of_an_arm_is_a_line_at_the_arm(self, tmp_path):
        text = LADDER.replace("student.backbone: hrnet_w32", "teacher.checkpoint: none.pt")
        with pytest.raises(UserError, match=r"study.yaml:8:\d+: teacher.checkpoint: weights file cannot be read"):
            planned(tmp_path, text)


class TestData:
    BASE = (
        BASE + "data:\n  kind: coco_layout\n  keypoint_set: lsp14\n  root: sets\n"
        "  train: [{annotations: a.json, images: images}]\n"
    )

    def write(self, folder: Path, names: list[str]) -> None:
        images = folder / "bases" / "sets" / "images"
        images.mkdir(parents=True, exist_ok=True)
        for name in names:
            (images / name).write_bytes(b"image")
        content = {"images": [{"file_name": name} for name in names], "annotations": []}
        (images.parent / "a.json").write_text(json.dumps(content))

    def test_a_missing_data_set_is_a_line_at_its_root(self, tmp_path):
        with pytest.raises(UserError) as caught:
            planned(tmp_path, LADDER, base=self.BASE)
        assert len(caught.value.lines) == 1
        assert caught.value.lines[0].startswith(f"{tmp_path}/bases/tiny.yaml:8:3: data.root: data set not found")

    def test_other_data_are_another_identity_and_another_protocol(self, tmp_path):
        self.write(tmp_path, ["1.jpg"])
        plan = planned(tmp_path, LADDER, base=self.BASE)
        moved = tmp_path / "moved"
        moved.mkdir()
        self.write(moved, ["1.jpg", "2.jpg"])
        other = planned(moved, LADDER, base=self.BASE)
        assert not {spec.fingerprint for spec in plan.trials} & {spec.fingerprint for spec in other.trials}
        assert plan.trials[0].protocol["data"] != other.trials[0].protocol["data"]

    def test_the_same_data_elsewhere_are_the_same(self, tmp_path):
        self.write(tmp_path, ["1.jpg"])
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        self.write(elsewhere, ["1.jpg"])
        plans = [planned(folder, LADDER, base=self.BASE) for folder in (tmp_path, elsewhere)]
        assert plans[0].trials[0].fingerprint == plans[1].trials[0].fingerprint


class TestSearch:
    def test_a_proposal_becomes_a_trial(self, tmp_path):
        plan = planned(tmp_path, SEARCH)
        spec, teacher = search_trial(plan, 7, {"distill.alpha": 0.25})
        assert (spec.arm, spec.number, spec.seed) == ("search", 7, 9)
        assert spec.trial_id == f"search-0007-{spec.fingerprint[:8]}"
        assert spec.config["distill"]["alpha"] == 0.25
        assert spec.overrides == {"distill.alpha": 0.25}
        assert teacher is not None
        assert [teacher] == list(plan.teachers)
        assert spec.teacher == teacher.fingerprint

    def test_two_numbers_with_the_same_values_are_the_same_training(self, tmp_path):
        plan = planned(tmp_path, SEARCH)
        first, second = (search_trial(plan, number, {"distill.alpha": 0.5})[0] for number in (1, 2))
        assert first.fingerprint == second.fingerprint
        assert first.trial_id != second.trial_id

    def test_a_search_that_changes_the_teacher_trains_it_only_when_proposed(self, tmp_path):
        plan = planned(tmp_path, SEARCH.replace("distill.alpha: {", "data.augmentation.rotation_degrees: {"))
        assert plan.teachers == ()
        overrides = {"data.augmentation.rotation_degrees": 0.5}
        assert search_trial(plan, 0, overrides)[1] is not None

    def test_a_proposal_that_breaks_a_rule_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="odd"):
            search_trial(planned(tmp_path, SEARCH), 0, {"distill.sape.kernels": [4]})

    def test_a_study_may_hold_both(self, tmp_path):
        plan = planned(tmp_path, LADDER + SEARCH[SEARCH.index("search:") :])
        assert len(plan.trials) == 8
        assert plan.search is not None
        assert len(plan.teachers) == 1


def test_a_search_trial_equal_to_an_arm_is_the_same_training(tmp_path):
    plan = planned(tmp_path, LADDER + SEARCH[SEARCH.index("search:") :], "search.training_seed=3")
    full = next(spec for spec in plan.trials if spec.arm == "+sape+cca" and spec.seed == 3)
    spec, _ = search_trial(plan, 0, {"distill.alpha": 1.0})
    assert spec.fingerprint == full.fingerprint
    config = from_mapping(TrainingConfig, spec.config)
    assert spec.fingerprint == fingerprint(config, data_digest=spec.protocol["data"], teacher=spec.teacher)


REPEATED = """\
study: s
base: tiny
metric: {name: val/pckh@0.5}
ablation:
  arms: {a: {distill.alpha: 2.0}, b: {distill.alpha: 3.0}}
  repeats: {min: 2, max: 4, until: ci95 <= 0.01}
"""


def test_repeats_beyond_the_least_are_held_in_reserve(tmp_path):
    plan = planned(tmp_path, REPEATED)
    assert [(spec.seed, spec.arm) for spec in plan.trials] == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
    assert [(spec.seed, spec.arm) for spec in plan.reserve] == [(2, "a"), (2, "b"), (3, "a"), (3, "b")]
    assert plan.seeds == (0, 1, 2, 3)


def test_a_refit_is_the_training_of_a_proposal_on_another_seed(tmp_path):
    plan = planned(tmp_path, SEARCH + "  refit: {seeds: [4]}\n")
    assert [(spec.arm, spec.seed) for spec in plan.trials] == [("base", 4)]
    proposed, _ = search_trial(plan, 0, {"distill.alpha": 0.3})
    spec, teacher = refit_trial(plan, "best-1", 4, {"distill.alpha": 0.3})
    assert (spec.arm, spec.seed, spec.number) == ("best-1", 4, -1)
    assert teacher is not None
    assert spec.teacher == proposed.teacher == teacher.fingerprint
    assert spec.config == {**proposed.config, "seed": 4}
    assert spec.fingerprint != proposed.fingerprint


def test_a_plan_begun_afresh_has_new_ids_for_the_same_trainings(tmp_path):
    plan = planned(tmp_path, REPEATED)
    assert begun_afresh(plan, 0, 0.0) is plan
    fresh = begun_afresh(plan, 2, 5.0)
    assert (fresh.generation, fresh.fresh_since) == (2, 5.0)
    for before, now in zip((*plan.trials, *plan.reserve), (*fresh.trials, *fresh.reserve), strict=True):
        assert now.trial_id == f"{before.trial_id}-fresh2"
        assert now.fingerprint == before.fingerprint
        assert now.generation == 2
    assert fresh.teachers == plan.teachers
