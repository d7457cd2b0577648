"""A committed table against the store, in every format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from analysis.comparison import Mismatch, NoTable, compare
from analysis.render import FORMATS
from analysis.sheet import Entry, Sheet
from analysis.tables import sheets
from tests.analysis.recorded import StudyBuilder, Workbench
from tests.analysis.sheets import grouped, nasty, wide

PRINTED = [extension for extension in FORMATS if extension != "csv"]


def changed(sheet: Sheet, row: int, column: int, **changes: object) -> Sheet:
    rows = [list(entries) for entries in sheet.rows]
    rows[row][column] = replace(rows[row][column], **changes)
    return replace(sheet, rows=tuple(map(tuple, rows)))


@pytest.fixture
def study(workbench: Workbench, modules: StudyBuilder) -> Sheet:
    return sheets(workbench.read("modules"))[0]


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("name", ["modules", "resolutions", "tuning"])
def test_what_was_written_matches(
    workbench: Workbench, request: pytest.FixtureRequest, name: str, extension: str
) -> None:
    request.getfixturevalue(name)
    for sheet in sheets(workbench.read(name)):
        assert compare(FORMATS[extension](sheet) + "\n", sheet, extension) == []


@pytest.mark.parametrize("extension", PRINTED)
@pytest.mark.parametrize("make", [nasty, grouped, wide])
def test_any_sheet_matches_itself(make: Callable[[], Sheet], extension: str) -> None:
    assert compare(FORMATS[extension](make()) + "\n", make(), extension) == []


@pytest.mark.parametrize("extension", PRINTED)
def test_a_changed_number_is_named_by_row_and_column_with_both_values(study: Sheet, extension: str) -> None:
    old = FORMATS[extension](changed(study, 3, 3, text="74.90 ± 1.04 (3)"))
    assert compare(old, study, extension) == [
        Mismatch("CDKD_full", "PCKh@0.5 val (%)", "74.90 ± 1.04 (3)", "74.83 ± 1.04 (3)")
    ]


@pytest.mark.parametrize("extension", PRINTED)
def test_the_same_holds_below_a_group_of_headings(extension: str) -> None:
    old = FORMATS[extension](changed(grouped(), 1, 2, text="2.50 (3)"))
    assert compare(old, grouped(), extension) == [Mismatch("two", "S: b", "2.50 (3)", "2.00 (3)")]


def test_csv_lines_are_named_by_arm_and_metric(study: Sheet) -> None:
    old = FORMATS["csv"](study).replace("best/val/pckh@0.5,%,71.5,", "best/val/pckh@0.5,%,71.4,")
    assert compare(old, study, "csv") == [Mismatch("projector best/val/pckh@0.5", "mean", "71.4", "71.5")]


@pytest.mark.parametrize("extension", PRINTED)
def test_a_bold_that_moved_is_a_difference(study: Sheet, extension: str) -> None:
    [found] = compare(FORMATS[extension](changed(study, 3, 3, is_best=False)), study, extension)
    assert (found.row, found.column) == ("CDKD_full", "PCKh@0.5 val (%)")
    assert found.committed != found.stored


@pytest.mark.parametrize("extension", PRINTED)
def test_rows_on_one_side_alone_are_told(study: Sheet, extension: str) -> None:
    old = FORMATS[extension](changed(replace(study, rows=study.rows[:4]), 0, 0, text="SimDR"))
    assert sorted(map(str, compare(old, study, extension))) == [
        "row SimCC: not in the committed table",
        "row SimDR: not in the store",
        "row etht_only: not in the committed table",
    ]


@pytest.mark.parametrize("extension", PRINTED)
def test_another_order_and_other_headings_are_told(study: Sheet, extension: str) -> None:
    swapped = replace(study, rows=(study.rows[1], study.rows[0], *study.rows[2:]))
    [found] = compare(FORMATS[extension](swapped), study, extension)
    assert str(found).startswith("order of rows: committed projector, SimCC, ")
    fewer = replace(
        study, header=study.header[:-1], alignment=study.alignment[:-1], rows=tuple(r[:-1] for r in study.rows)
    )
    [found] = compare(FORMATS[extension](fewer), study, extension)
    assert found.row == "headings"
    assert "Training" not in found.committed
    assert "Training" in found.stored


@pytest.mark.parametrize("extension", PRINTED)
def test_rows_of_one_name_are_told_apart(extension: str) -> None:
    sheet = replace(grouped(), rows=(grouped().rows[0], grouped().rows[0]), rules=())
    old = FORMATS[extension](changed(sheet, 1, 3, text="30.0"))
    assert [found.row for found in compare(old, sheet, extension)] == ["one (2)"]


@pytest.mark.parametrize("extension", PRINTED)
def test_text_around_the_table_is_the_authors(study: Sheet, extension: str) -> None:
    edited = replace(study, caption=("Our own words.",), remarks=(), footnotes=(), origins=("x = other run",))
    assert compare(FORMATS[extension](edited), study, extension) == []


@pytest.mark.parametrize("extension", FORMATS)
def test_a_file_without_a_table_is_refused(study: Sheet, extension: str) -> None:
    with pytest.raises(NoTable, match=f"in {extension}"):
        compare("", study, extension)


def test_a_mark_belongs_to_the_cell_and_not_to_its_value() -> None:
    sheet = replace(grouped(), rows=((Entry("one"), Entry("1.00 (2)", marks=(1,)), Entry("2"), Entry("3")),), rules=())
    for extension in PRINTED:
        [found] = compare(FORMATS[extension](changed(sheet, 0, 1, marks=())), sheet, extension)
        assert found.column == "S: a"
