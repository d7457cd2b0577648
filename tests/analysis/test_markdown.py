"""GitHub's Markdown."""

from __future__ import annotations

import re

from analysis.markdown import markdown
from tests.analysis.sheets import grouped, nasty


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_columns_are_aligned_and_pipes_escaped() -> None:
    lines = table_lines(markdown(nasty()))
    assert len({len(line) for line in lines}) == 1
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3}


def test_best_is_bold_second_underlined_and_marks_are_raised() -> None:
    assert "| **1.00 ± 0.10 (3)** | <ins>2.00 (3)</ins> |" in table_lines(markdown(grouped()))[2]
    assert "**−1.00 ± 0.10 (2)**¹,²" in markdown(nasty())


def test_a_heading_below_a_group_says_all_by_itself() -> None:
    assert re.split(r"\s*\|\s*", table_lines(markdown(grouped()))[0])[1:-1] == ["Arm", "S: a", "S: b", "Params (M)"]
