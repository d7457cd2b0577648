"""What a report says, and its Markdown twin."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from analysis.ablation import Choices
from analysis.errors import MixedProtocols
from analysis.report.document import Document, Grid, Items, Picture, Result, Words
from analysis.report.sections import document, gather, protocol_grid
from analysis.report.text import report_markdown
from analysis.report.write import write_report
from analysis.store import Store
from orchestrator import keys
from tests.analysis.recorded import PROTOCOL, StudyBuilder, Workbench, best
from tests.analysis.report.studies import texts, trials

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def made(workbench: Workbench, study: str, folder: Path, choices: Choices | None = None) -> Document:
    return document(gather(Store(workbench.uri), study, choices or Choices()), folder, NOW)


def section(found: Document, title: str) -> tuple:
    return next(one.blocks for one in found.sections if one.title == title)


def test_a_report_answers_every_question_in_order(workbench: Workbench, reported: StudyBuilder, tmp_path: Path) -> None:
    found = made(workbench, "reported", tmp_path)
    assert [one.title for one in found.sections] == [
        "Results", "Figures", "Protocol", "Arms", "Cost", "Failures and retries", "Selection and statistics",
        "How to repeat it", "Runs", "Configuration",
    ]  # fmt: skip
    assert found.question == "Does it help & what does it cost?"
    assert found.is_partial


def test_the_table_leaves_question_and_protocol_to_the_report(
    workbench: Workbench, reported: StudyBuilder, tmp_path: Path
) -> None:
    (result,) = section(made(workbench, "reported", tmp_path), "Results")
    assert isinstance(result, Result)
    assert result.sheet.question == ""
    assert result.sheet.remarks
    assert not any(remark.startswith("Protocol") for remark in result.sheet.remarks)


def test_every_picture_has_a_file_and_a_caption_with_its_seeds(
    workbench: Workbench, modules: StudyBuilder, tmp_path: Path
) -> None:
    pictures = section(made(workbench, "modules", tmp_path), "Figures")
    assert {picture.name for picture in pictures} >= {"curves", "gradients"}
    for picture in pictures:
        assert isinstance(picture, Picture)
        assert picture.file.parent == tmp_path / "figures"
        assert picture.file.is_file()
        assert re.search(r"n = \d", picture.caption)


def test_the_protocol_has_every_field_and_says_where_a_teachers_differs(
    workbench: Workbench, reported: StudyBuilder
) -> None:
    sheet = protocol_grid(trials(workbench, "reported")).sheet
    assert texts(sheet) == [
        ["data", "cafe" * 8, ""],
        ["splits.val", "val.json with val", ""],
        ["epochs", "3", "8"],
        ["select_by", "val/pckh@0.5", ""],
    ]


def test_the_protocol_is_of_what_the_table_shows(workbench: Workbench) -> None:
    builder = workbench.study("report-edited", seeds=[0])
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, {}, state=keys.RUNNING, protocol=PROTOCOL | {"epochs": 9})
    assert ["epochs", "3"] in texts(protocol_grid(trials(workbench, "report-edited")).sheet)


def test_without_teachers_the_protocol_has_one_column_and_all_values(
    workbench: Workbench, resolutions: StudyBuilder
) -> None:
    sheet = protocol_grid(trials(workbench, "resolutions")).sheet
    assert len(sheet.header) == 2
    assert ["input_size", "32 or 64"] in texts(sheet)


def test_selection_repeats_and_interval_are_stated(
    workbench: Workbench, reported: StudyBuilder, tmp_path: Path
) -> None:
    (items,) = section(made(workbench, "reported", tmp_path, Choices(interval="bca")), "Selection and statistics")
    assert isinstance(items, Items)
    said = dict(items.items)
    assert "the best val/pckh@0.5 of its own training" in said["Selection"]
    assert said["Repeats"] == "seeds 0, 1 for every arm (n = 2); fewer have finished of crash (0)."
    assert "BCa bootstrap" in said["Differences"]


def test_the_last_epoch_is_stated_too(workbench: Workbench, tmp_path: Path) -> None:
    metric = {"name": "val/pckh@0.5", "mode": "max", "select": "last"}
    builder = workbench.study("last", seeds=[0], metric=metric)
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.5))
    (items,) = section(made(workbench, "last", tmp_path), "Selection and statistics")
    assert dict(items.items)["Selection"].startswith("every score is of the last epoch")
    assert dict(items.items)["Repeats"] == "seed 0 for every arm (n = 1), all finished."


def test_a_search_is_described(workbench: Workbench, tuning: StudyBuilder, tmp_path: Path) -> None:
    items, grid = section(made(workbench, "tuning", tmp_path), "Search")
    assert items.items[0] == ("Sampler", "tpe")
    assert isinstance(grid, Grid)


def test_a_study_of_which_nothing_has_begun_has_a_report(workbench: Workbench, tmp_path: Path) -> None:
    workbench.study("announced")
    found = made(workbench, "announced", tmp_path)
    assert found.standing.startswith("Partial: 0 of 6 trainings have finished (6 not started)")
    assert "Figures" not in [one.title for one in found.sections]
    assert report_markdown(found, tmp_path).startswith("# announced")


def test_mixed_protocols_are_refused_unless_allowed(workbench: Workbench, tmp_path: Path) -> None:
    builder = workbench.study("report-of-two-protocols", seeds=[0])
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.5), protocol=PROTOCOL | {"epochs": 4})
    with pytest.raises(MixedProtocols):
        made(workbench, "report-of-two-protocols", tmp_path)
    (result,) = section(made(workbench, "report-of-two-protocols", tmp_path, Choices(allow=["epochs"])), "Results")
    assert any("Protocols differ in epochs" in remark for remark in result.sheet.remarks)


def test_markdown_says_the_same_and_links_its_figures(
    workbench: Workbench, modules: StudyBuilder, tmp_path: Path
) -> None:
    html, markdown = write_report(gather(Store(workbench.uri), "modules"), tmp_path, NOW)
    text = markdown.read_text()
    assert html.name == "report.html"
    assert "\n> Partial: 10 of 15 trainings have finished" in text
    links = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert links
    assert all((tmp_path / link).is_file() for link in links)
    assert "\n\n\n" not in text
    assert not re.search(r"^#+ *$", text, re.MULTILINE)
    for title in re.findall(r'<h2 id="[^"]*">([^<]+)</h2>', html.read_text()):
        assert f"\n## {title}\n" in text


def test_a_finished_report_has_no_mark(workbench: Workbench, resolutions: StudyBuilder, tmp_path: Path) -> None:
    found = made(workbench, "resolutions", tmp_path)
    assert not found.is_partial
    assert section(found, "Failures and retries")[0] == Words("Every training that was begun gave a result.")
    assert "\n48 of 48 trainings have finished, as the store" in report_markdown(found, tmp_path)
