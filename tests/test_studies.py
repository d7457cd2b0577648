"""Every study that ships with cdkd validates and compiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.compiler import compile_study
from orchestrator.library import STUDIES, base_names
from orchestrator.reference import paper_tables
from orchestrator.study import load_study
from orchestrator.yaml_reader import read_file

FILES = sorted(STUDIES.glob("*.yaml"))
BASES = sorted((STUDIES / "bases").glob("*.yaml"))
REAL_DATA = STUDIES.parent.parent / "shared" / "data"


def test_there_are_studies_and_bases():
    assert {"quickstart", "quickstart_search", "lsp_components"} <= {path.stem for path in FILES}
    assert set(base_names(FILES[0])) == {path.stem for path in BASES} != set()


@pytest.fixture
def with_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data root with empty annotation files of the names that the bases ask for."""
    monkeypatch.setenv("CDKD_DATA_ROOT", str(tmp_path))
    for base in BASES:
        data = read_file(base).plain().get("data", {})
        for source in (source for split in ("train", "val", "test") for source in data.get(split, [])):
            (tmp_path / source["images"]).mkdir(parents=True, exist_ok=True)
            (tmp_path / source["annotations"]).write_text(json.dumps({"images": [], "annotations": []}))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_it_validates(file: Path, monkeypatch, capsys):
    monkeypatch.delenv("CDKD_DATA_ROOT", raising=False)
    assert main(["validate", str(file)]) == 0
    assert capsys.readouterr().out.startswith("ok ")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
@pytest.mark.usefixtures("with_data")
def test_it_compiles_with_each_profile(file: Path):
    profiles = read_file(file).plain().get("profiles", {})
    for profile in (None, *profiles):
        plan = compile_study(load_study(file, profile=profile))
        assert plan.question
        assert plan.trials or plan.search
        assert len({spec.trial_id for spec in (*plan.trials, *plan.teachers)}) == len(plan.trials) + len(plan.teachers)
        assert {spec.teacher for spec in plan.trials} <= {"", *(teacher.fingerprint for teacher in plan.teachers)}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_its_name_is_its_files(file: Path):
    assert load_study(file).name.startswith(file.stem.replace("_", "-"))


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real data are not beside the repository")
def test_the_study_on_real_people_compiles_with_them(monkeypatch):
    monkeypatch.setenv("CDKD_DATA_ROOT", str(REAL_DATA))
    plan = compile_study(load_study(STUDIES / "lsp_components.yaml"))
    assert [spec.arm for spec in plan.trials[:5]] == ["baseline", "+SAPE", "+CCA", "+CCA+ETHT", "CDKD"]
    assert len(plan.trials) == 15
    assert len(plan.teachers) == 1
    assert plan.table.switches["+CCA"] == {"sape": False, "cca": True, "etht": False}
    assert plan.trials[0].protocol["splits"]["test"] == [{"annotations": "lsp/test.json", "images": "lsp/images"}]


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
