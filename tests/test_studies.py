"""Every study that ships with cdkd validates, compiles and, at its smallest, runs to its end."""

from __future__ import annotations

import gc
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from analysis.store import Store
from cdkd.config import TrainConfig
from cdkd.data.splits import load_splits
from cdkd.identity import semantic_mapping
from cdkd.training import learning_rate_factor
from orchestrator import keys
from orchestrator.cli import main
from orchestrator.compiler import compile_study
from orchestrator.library import STUDIES, base_names, profile_names
from orchestrator.reference import paper_tables
from orchestrator.study import Study, load_study
from orchestrator.training_file import read_training_file
from orchestrator.yaml_reader import read_file

FILES = sorted(STUDIES.glob("*.yaml"))
BASES = sorted((STUDIES / "bases").glob("*.yaml"))
PROFILES = sorted((STUDIES / "profiles").glob("*.yaml"))
REAL_DATA = STUDIES.parent.parent / "shared" / "data"


STUDY_NAMES = {
    *("table1_mpii", "table2_coco", "table3_crowdpose", "table4_modules", "table4_modules_coco"),
    *("table5_alignment", "table6_sau_kernels"),
    *("table7_etht", "fig6_projectors", "table8_cca_universality", "table9_sape_universality", "table10_cost"),
    *("presets", "matched_budget", "merge_offsets", "flip_shift", "box_protocols", "tau", "search_cdkd"),
    *("quickstart", "quickstart_front", "quickstart_population", "quickstart_search"),
}

WITHOUT_REFERENCE = {
    "fig6_projectors": "the paper draws curves without values",
}

NOT_HERE = {  # rows of the paper's tables without an arm
    "table1_mpii": {"PRTR/HRNet-W32/32", "PRTR/HRNet-W32/64", "OKDHP/4-Stack HG/64"},  # models to come
    "table2_coco": {f"{model}/{size}" for model in ("PCT/Swin-Base", "DistilPose/HRNet-W32") for size in (32, 64)},
    "table8_cca_universality": {"teacher"},
    "table9_sape_universality": {"CAL/256", "HRNet/256"},  # teachers
}


def test_there_are_studies_and_bases():
    assert {path.stem for path in FILES} == STUDY_NAMES
    assert set(base_names(FILES[0])) == {path.stem for path in BASES} != set()


def head_of(file: Path) -> list[str]:
    """The comment lines that a study file opens with, without the first, which is the editor's."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines())
    return list(lines)[1:]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_its_head_says_what_it_asks_how_to_run_it_what_it_costs_and_what_the_paper_says(file: Path):
    question, command, cost, *_ = head = head_of(file)
    assert "?" in question
    assert command.startswith(f"#   cdkd run studies/{file.name}")
    assert cost.startswith("# Cost")
    assert any(words in line for words in ("# The paper", "not in the paper") for line in head)


def references_of(file: Path) -> list[tuple[str, str]]:
    """The columns of a study's table that the paper's values stand beside, each with the paper's column."""
    content = read_file(file).plain()
    said = content.get("table", {}).get("reference") or {}
    return list(said.items()) if isinstance(said, dict) else [(content["metric"]["name"], said)]


NAMED = [name for name in sorted(STUDY_NAMES) if name.startswith(("table", "fig"))]
REFERENCES = [(name, *pair) for name in NAMED for pair in references_of(STUDIES / f"{name}.yaml")]


def test_each_table_of_the_paper_stands_beside_its_study():
    assert {name for name, *_ in REFERENCES} == set(NAMED) - WITHOUT_REFERENCE.keys() != set()


@pytest.mark.parametrize(("name", "column", "reference"), REFERENCES)
def test_every_row_that_the_paper_prints_is_an_arm_of_its_study(name: str, column: str, reference: str):
    """An arm that is renamed away from its row would lose the paper's value without a word."""
    table, _, printed = reference.partition(".")
    rows = {arm for arm, row in paper_tables()[table]["rows"].items() if printed in row}
    study = load_study(STUDIES / f"{name}.yaml")
    layout = study.table
    values = layout.reference if column == study.metric.name else layout.references[column].values
    assert set(values) == rows - NOT_HERE.get(name, set()) != set()


def test_a_row_on_a_detectors_boxes_is_not_compared_with_annotated_ones():
    coco, crowd = (load_study(STUDIES / name).table for name in ("table2_coco.yaml", "table3_crowdpose.yaml"))
    assert coco.references["val/ap@det"].values == {"SimCC*/HRNet-W48/64": 59.7}
    assert "SimCC*/HRNet-W48/64" not in coco.reference
    assert crowd.reference == {}
    assert crowd.references["test/ap@det"].values["CDKD/HRNet-W32/64"] == 47.0


@pytest.fixture
def with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data root with empty annotation files of the names that the bases ask for."""
    monkeypatch.setenv("CDKD_DATA_ROOT", str(tmp_path))
    shared = (read_file(file).plain()["set"] for file in PROFILES)
    for layer in (*(read_file(base).plain() for base in BASES), *shared):
        data = layer.get("data", {})
        for source in (source for split in ("train", "val", "test") for source in data.get(split, [])):
            (tmp_path / source["images"]).mkdir(parents=True, exist_ok=True)
            for file in (
                tmp_path / source[role] for role in ("annotations", "detections", "head_boxes") if role in source
            ):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps({"images": [], "annotations": []}))


@pytest.mark.parametrize("file", BASES, ids=lambda path: path.stem)
def test_the_step_size_falls_twice_however_long_a_base_is_trained(file: Path):
    train = read_file(file).plain()["train"]
    milestones = tuple(train.get("milestones", TrainConfig().milestones))
    assert [round(part * 210) for part in milestones] == [170, 200]  # the paper's (method section 6.2)
    assert learning_rate_factor(TrainConfig(epochs=20, milestones=milestones), 20) == pytest.approx(0.01)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_it_validates(file: Path, monkeypatch, capsys):
    monkeypatch.delenv("CDKD_DATA_ROOT", raising=False)
    assert main(["validate", str(file)]) == 0
    assert capsys.readouterr().out.startswith("ok ")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("with_data")
def test_it_compiles_with_each_profile(file: Path):
    profiles = {*read_file(file).plain().get("profiles", {}), *profile_names(file)}
    assert {"tiny", "lsp"} <= profiles
    for profile in (None, *sorted(profiles)):
        plan = compile_study(load_study(file, profile=profile))
        assert plan.question
        assert plan.trials or plan.search
        assert len({spec.trial_id for spec in (*plan.trials, *plan.teachers)}) == len(plan.trials) + len(plan.teachers)
        assert {spec.teacher for spec in plan.trials} <= {"", *(teacher.fingerprint for teacher in plan.teachers)}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_label_tells_what_profile_lsp_trains(file: Path, monkeypatch):
    """An arm is named after the paper's network and input size; a row must not be, where a smaller one is trained."""
    monkeypatch.delenv("CDKD_DATA_ROOT", raising=False)
    study = load_study(file, profile="lsp")
    labels = {arm.name: study.table.labels.get(arm.name, arm.name) for arm in study.arms}
    assert len(set(labels.values())) == len(study.arms)
    for arm in study.arms:
        said = re.findall(r"HRNet-W\d+|ResNet-\d+|/\d+", labels[arm.name])
        student = arm.config.student
        backbone = student.backbone.replace("hrnet_w", "HRNet-W").replace("resnet", "ResNet-")
        assert set(said) <= {backbone, f"/{student.input_size}"}
    assert set(study.table.merged.values()) <= set(study.table.arms)


@pytest.mark.usefixtures("with_data")
def test_arms_of_one_size_have_one_teacher_whatever_their_schedule():
    plan = compile_study(load_study(STUDIES / "matched_budget.yaml"))
    by_arm = {spec.arm: spec.teacher for spec in plan.trials if spec.teacher}
    assert by_arm["cdkd_released/64"] == by_arm["cdkd_matched/64"] != by_arm["cdkd_released/32"]
    assert len(plan.teachers) == 2  # with three bins a pixel and with two


@pytest.mark.usefixtures("with_data")
def test_the_released_variant_has_a_teacher_of_its_own_and_says_so():
    file = STUDIES / "presets.yaml"
    teachers = {spec.arm: spec.teacher for spec in compile_study(load_study(file)).trials if spec.teacher}
    assert teachers["paper"] == teachers["fixed"] != teachers["official"]
    assert any("two teachers" in line for line in head_of(file))


def test_a_model_of_two_tables_has_one_recipe():
    one, other = (
        {arm.name: arm.config for arm in load_study(STUDIES / f"{name}.yaml").arms}
        for name in ("table1_mpii", "table9_sape_universality")
    )
    for ours, theirs in (("HRNet/HRNet-W32/64", "HRNet/64"), ("CAL/HRNet-W32/32", "CAL/32")):
        assert one[ours].train == other[theirs].train
        assert semantic_mapping(one[ours]) == semantic_mapping(other[theirs])


@pytest.mark.usefixtures("with_data")
def test_the_arms_that_table_iv_shares_with_table_ii_are_one_training():
    modules, models = (
        {spec.arm: spec.fingerprint for spec in compile_study(load_study(STUDIES / f"{name}.yaml")).trials}
        for name in ("table4_modules_coco", "table2_coco")
    )
    assert modules["baseline"] == models["SimCC/HRNet-W32/32"]
    assert modules["full"] == models["CDKD/HRNet-W32/32"]


def test_a_resnet_50_is_trained_by_its_published_recipe():
    """Method section 1.5."""
    for arm in load_study(STUDIES / "table8_cca_universality.yaml").arms:
        train, views = arm.config.train, arm.config.data.augmentation
        assert [round(part * train.epochs) for part in train.milestones] == [90, 120]
        assert (train.epochs, views.rotation_degrees, views.scale_factor) == (140, 40.0, 0.3)
        assert arm.config.for_teacher().train.epochs == 210


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for all studies: a training that several ask for is done once.

    A training ends with a collection of garbage, which among all that tests have imported takes as long as the
    training itself; what is there before is left out of it.
    """
    gc.freeze()
    yield tmp_path_factory.mktemp("every-study")
    gc.unfreeze()


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_it_runs_to_its_end_at_its_smallest(file: Path, results: Path, capsys):
    study = load_study(file, profile="tiny")
    assert small(study) == []
    assert main(["run", str(file), "--profile", "tiny", "--in-process", "--results", str(results)]) == 0
    printed = capsys.readouterr().out
    assert rows_without(printed, [study.table.labels.get(arm, arm) for arm in study.table.arms]) == []
    assert "finished without" not in printed
    record = Store(f"sqlite:///{results / 'mlflow.db'}").read(study.name)
    states = set(record.trials["state"])
    assert states <= {keys.FINISHED, *([keys.PRUNED] if study.search else [])}
    assert keys.FINISHED in states
    assert len(record.trials) >= len(study.arms) * len(study.seeds)


def small(study: Study) -> list[str]:
    """Arms that the profile leaves larger than a look at whether they run needs."""
    configs = {"the study": study.config} | {arm.name: arm.config for arm in study.arms}
    most = {"epochs": 3, "batch_size": 16}
    return [
        f"{name}: {option}"
        for name, config in configs.items()
        for option, limit in most.items()
        if getattr(config.train, option) > limit or getattr(config.teacher, option) > limit
    ]


def rows_without(printed: str, labels: list[str]) -> list[str]:
    """Labels of arms that stand in no table of a text, or there without a number in any column."""
    lines = (line.replace("\\*", "*").split("|") for line in printed.splitlines())
    rows = {cells[1].strip(): cells[2:] for cells in lines if len(cells) > 3}
    return [label for label in labels if not any("(1)" in cell for cell in rows.get(label, ()))]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_its_name_is_its_files(file: Path):
    assert load_study(file).name.startswith(file.stem.replace("_", "-"))


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real data are not beside the repository")
def test_a_study_on_real_people_compiles_with_them(monkeypatch):
    monkeypatch.setenv("CDKD_DATA_ROOT", str(REAL_DATA))
    plan = compile_study(load_study(STUDIES / "table4_modules.yaml", profile="lsp"))
    assert [spec.arm for spec in plan.trials[:3]] == ["baseline", "+projector", "+projector+ensemble"]
    assert len(plan.trials) == 21
    assert len(plan.teachers) == 1
    assert plan.teachers[0].config["train"]["milestones"] == [0.8095, 0.9524]  # as in the trainings on record
    assert plan.table.switches["+cca"] == {
        "projector": False,
        "ensemble": False,
        "sau": False,
        "cca": True,
        "etht": False,
    }
    assert plan.trials[0].protocol["splits"]["test"] == [{"annotations": "lsp/test.json", "images": "lsp/images"}]


SAMPLES = {  # base -> folder of the sample, annotations, detections
    "mpii_64": ("mpii", "test_mpii.json", ""),
    "coco_64": ("coco", "test_coco.json", "test_coco_det_AP_H_56.json"),
    "crowdpose_64": ("crowdpose", "test_crowdpose.json", "test_crowdpose_det_AP_40.json"),
}


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real data are not beside the repository")
@pytest.mark.parametrize("base", SAMPLES)
def test_a_base_reads_its_data_set_as_downloaded(base: str, tmp_path: Path):
    """The samples of the official files, under the names that the data sets ship with."""
    folder, annotations, boxes = SAMPLES[base]
    sample = REAL_DATA / "official_format" / folder
    config = read_training_file(STUDIES / "bases" / f"{base}.yaml", [f"data.root={tmp_path}"])
    sources = [*config.data.train, *config.data.val, *config.data.test]
    for source in sources:
        (tmp_path / source.annotations).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source.annotations).write_bytes((sample / annotations).read_bytes())
        (tmp_path / source.images).mkdir(parents=True, exist_ok=True)
        for image in sample.glob("*.jpg"):
            (tmp_path / source.images / image.name).write_bytes(image.read_bytes())
        if source.detections:
            (tmp_path / source.detections).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / source.detections).write_bytes((sample / boxes).read_bytes())
        if source.head_boxes:
            _write_head_boxes(tmp_path / source.annotations, tmp_path / source.head_boxes)
    splits = load_splits(config.data)
    people = [split.instances for split in (splits.train, splits.val, splits.test)]
    count = len(json.loads((sample / annotations).read_text())) if folder == "mpii" else len(people[0])
    assert [len(part) for part in people if part] == [count] * len(sources) != []
    assert all(one.head_size == pytest.approx(60.0) for one in splits.val.instances) or folder != "mpii"
    has_boxes = [bool(split.detected) for split in (splits.val, splits.test)]
    assert has_boxes == {"mpii": [False, False], "coco": [True, False], "crowdpose": [False, True]}[folder]


def _write_head_boxes(annotations: Path, target: Path) -> None:
    """A gt_valid.mat for these persons, whose head boxes are 60 wide and 80 high."""
    records = json.loads(annotations.read_text())
    boxes = np.zeros((2, 2, len(records)))
    boxes[1] = [[60.0], [80.0]]
    content = {
        "pos_gt_src": np.array([record["joints"] for record in records]).transpose(1, 2, 0),
        "jnt_missing": 1 - np.array([record["joints_vis"] for record in records]).T,
        "headboxes_src": boxes,
    }
    scipy.io.savemat(str(target), content)


def test_the_papers_tables_are_numbers_by_arm():
    tables = paper_tables()
    assert len(tables) == 10
    cells = [
        value
        for table in tables.values()
        for row in table["rows"].values()
        for key, value in row.items()
        if key != "with"
    ]
    assert len(cells) > 400
    assert all(isinstance(value, (int, float)) for value in cells)
    assert tables["table_IV"]["rows"]["+cca+etht"] == {
        "with": ["cca", "etht"],
        "coco_ap": 30.6,
        "mpii_mean": 78.85,
        "mpii_std": 0.18,
    }
    assert tables["table_I"]["rows"]["CDKD/HRNet-W32/64"]["pckh05"] == 79.4
