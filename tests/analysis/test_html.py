"""HTML: well formed, self-contained, two lines of headings where there are groups."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from analysis.html import html, html_fragment
from tests.analysis.sheets import NASTY, grouped, nasty


class Reader(HTMLParser):
    """Collects cells and checks that every element is closed in its turn."""

    VOID = ("meta",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.spans: list[list[tuple[int, int]]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.spans.append([])
        if tag in ("td", "th"):
            given = dict(attrs)
            self.rows[-1].append("")
            self.spans[-1].append((int(given.get("rowspan") or 1), int(given.get("colspan") or 1)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.mark.parametrize("make", [nasty, grouped])
def test_it_is_well_formed_and_needs_no_other_file(make) -> None:
    reader = Reader(html(make()))
    assert reader.open == []
    assert {name for name, _ in reader.attributes} <= {
        "lang", "charset", "name", "content", "class", "scope", "colspan", "rowspan"
    }  # fmt: skip


def test_texts_are_shown_as_they_stand() -> None:
    rows = Reader(html(nasty())).rows
    assert rows[0] == [NASTY, "Δ"]
    assert rows[1] == [f"[{NASTY}", "−1.00 ± 0.10 (2)1,2"]


def test_headings_below_a_group_fill_the_columns() -> None:
    reader = Reader(html_fragment(grouped()))
    assert reader.rows[:2] == [["Arm", "S", "Params (M)"], ["a", "b"]]
    assert reader.spans[:2] == [[(2, 1), (1, 2), (2, 1)], [(1, 1), (1, 1)]]


def test_best_is_bold_second_underlined_and_the_spread_small() -> None:
    text = html_fragment(grouped())
    assert '<td class="r"><b>1.00</b><small> ± 0.10 (3)</small></td>' in text
    assert '<td class="r"><u>2.00</u><small> (3)</small></td>' in text


def test_a_block_is_a_body_of_its_own() -> None:
    bodies = html_fragment(grouped()).split("<tbody>")[1:]
    assert [body.count("<tr>") for body in bodies] == [2, 1]


def test_a_fragment_is_no_page() -> None:
    text = html_fragment(grouped())
    assert text.startswith('<figure class="table">')
    assert "<style>" not in text
