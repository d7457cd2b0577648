"""Whole texts against small golden files; `CDKD_UPDATE_GOLDEN=1 pytest tests/analysis/test_render.py` rewrites them."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from analysis.columns import Heading
from analysis.markdown import markdown
from analysis.render import FORMATS, sidecar
from analysis.sheet import Entry, Sheet
from analysis.store import Store
from analysis.tables import read, sheets, write
from tests.analysis.recorded import StudyBuilder, Workbench

GOLDEN = Path(__file__).parent / "golden"


def every_sheet(workbench: Workbench, builder: StudyBuilder) -> dict[str, Sheet]:
    return {sheet.name: sheet for sheet in sheets(workbench.read(builder.study))}


def assert_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("CDKD_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("extension", [*FORMATS])
def test_an_ablation_is_printed_as_the_golden_file(workbench: Workbench, modules: StudyBuilder, extension: str) -> None:
    text = FORMATS[extension](every_sheet(workbench, modules)["modules"])
    assert_golden(f"modules.{extension}", modules.anonymous(text))


@pytest.mark.parametrize("extension", [*FORMATS])
def test_blocks_and_groups_are_printed_as_the_golden_file(
    workbench: Workbench, resolutions: StudyBuilder, extension: str
) -> None:
    text = FORMATS[extension](every_sheet(workbench, resolutions)["resolutions"])
    assert_golden(f"resolutions.{extension}", resolutions.anonymous(text))


@pytest.mark.parametrize("extension", [*FORMATS])
def test_a_search_is_printed_as_the_golden_file(workbench: Workbench, tuning: StudyBuilder, extension: str) -> None:
    text = FORMATS[extension](every_sheet(workbench, tuning)["tuning-search"])
    assert_golden(f"tuning-search.{extension}", tuning.anonymous(text))


def test_the_csv_file_has_full_precision_and_empty_fields(workbench: Workbench, modules: StudyBuilder) -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](every_sheet(workbench, modules)["modules"]))))
    first = next(row for row in rows if row["arm"] == "full" and row["metric"] == "best/val/pckh@0.5")
    assert float(first["mean"]) == pytest.approx((74 + 76 + 74.5) / 3, abs=1e-7)
    assert (first["n"], first["cca"], first["paper"]) == ("3", "1", "79.24")
    empty = next(row for row in rows if row["arm"] == "etht_only")
    assert (empty["mean"], empty["std"], empty["n"]) == ("", "", "0")
    assert {len(row) for row in rows} == {len(rows[0])}


def test_the_sidecar_hides_credentials_of_the_store() -> None:
    sheet = Sheet("s", "", (), (Heading("Arm"),), "l", ((Entry("a"),),), (), ())
    assert json.loads(sidecar(sheet, "https://me:secret@host/x"))["store"] == "https://host/x"


def test_files_are_written_with_their_sidecar(workbench: Workbench, modules: StudyBuilder, tmp_path: Path) -> None:
    sheet = every_sheet(workbench, modules)["modules"]
    paths = write(sheet, tmp_path / "new", ["md", "tex"], workbench.uri)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["modules.json", "modules.md", "modules.tex"]
    assert paths[0].read_text(encoding="utf-8") == markdown(sheet)
    with pytest.raises(ValueError, match="got docx"):
        write(sheet, tmp_path, ["docx"], workbench.uri)


def test_no_more_is_read_than_a_table_needs(workbench: Workbench, modules: StudyBuilder, tuning: StudyBuilder) -> None:
    store = Store(workbench.uri)
    names = [name for name in read(store, "modules").trials if name.startswith(("metrics.", "params."))]
    assert sorted(names) == [
        "metrics.best/test/pckh@0.5",
        "metrics.best/val/pckh@0.5",
        "metrics.params_m",
        "metrics.train_seconds",
    ]
    assert [FORMATS["csv"](sheet) for sheet in sheets(read(store, "tuning"))] == [
        FORMATS["csv"](sheet) for sheet in sheets(workbench.read("tuning"))
    ]
