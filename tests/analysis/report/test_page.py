"""A report as a page of its own."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.report.page import inlined, report_html
from analysis.report.sections import document, gather
from analysis.store import Store
from tests.analysis.recorded import StudyBuilder, Workbench

NOW = datetime(2026, 11, 23, tzinfo=UTC)
SVG = (
    '<?xml version="1.0"?><!DOCTYPE svg>\n<svg width="9pt" viewBox="0 0 9 9" version="1.1"><metadata>x</metadata>'
    '<defs><style type="text/css">*{a: b}</style></defs><path id="m1"/><g clip-path="url(#m1)">'
    '<use xlink:href="#m1"/></g></svg>'
)


class _Ids(HTMLParser):
    """Ids, references to them, and addresses of anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert tag not in ("script", "link", "img", "iframe")
        self.ids += [found["id"]] if "id" in found else []
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href") and value]


@pytest.fixture(scope="module")
def page(workbench: Workbench, modules: StudyBuilder, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    return report_html(document(gather(Store(workbench.uri), "modules"), folder, NOW))


def test_the_page_needs_no_other_file_and_its_ids_are_unique(page: str) -> None:
    found = _Ids()
    found.feed(page)
    assert len(found.ids) == len(set(found.ids))
    assert page.count("<svg ") >= 2
    assert found.links
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", page)
    assert set(re.findall(r"url\(#([\w-]+)\)", page)) <= set(found.ids)


def test_a_picture_keeps_its_drawing_under_a_prefix_and_leaves_its_style_sheet() -> None:
    assert inlined(SVG, "curves", 'A "title"') == (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" role="img" aria-label="A &quot;title&quot;" '
        'style="stroke-linejoin: round; stroke-linecap: butt"><defs></defs><path id="curves-m1"/>'
        '<g clip-path="url(#curves-m1)"><use href="#curves-m1"/></g></svg>'
    )


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="viewBox"):
        inlined("<svg></svg>", "x", "x")


def test_text_is_escaped(workbench: Workbench, reported: StudyBuilder, tmp_path: Path) -> None:
    html = report_html(document(gather(Store(workbench.uri), "reported"), tmp_path, NOW))
    assert "CDKD &lt;full&gt;" in html
    assert "<full>" not in html
    assert "Does it help &amp; what does it cost?" in html


def test_a_study_under_way_is_marked_as_such(page: str) -> None:
    assert '<p class="standing partial">Partial: 10 of 15 trainings have finished' in page


def test_tables_scroll_and_the_page_prints_on_a4(page: str) -> None:
    assert page.count("<table>") == page.count('<div class="scroll">\n<table>')
    assert "size: A4" in page


def test_paragraphs_lists_and_commands_are_on_the_page(page: str) -> None:
    assert "<p>No training was begun more than once.</p>" in page
    assert "<li><b>Deviation</b>: sample standard deviation over seeds (n - 1).</li>" in page
    assert re.search(r"<pre>cdkd run [^<]*\nagain [0-9a-f]{12} ", page)
