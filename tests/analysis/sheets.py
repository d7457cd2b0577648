"""Sheets by hand for the tests of the formats."""

from __future__ import annotations

from analysis.columns import Heading
from analysis.sheet import Entry, Sheet

NASTY = "50% of a_b & $x^2$ {#} ~ \\ <|> [n]"


def nasty() -> Sheet:
    """Two columns with every letter that some format treats in its own way."""
    row = (Entry(f"[{NASTY}"), Entry("−1.00 ± 0.10 (2)", is_best=True, marks=(1, 2)))
    header = (Heading(NASTY), Heading("Δ"))
    return Sheet("n_a", NASTY, (NASTY,), header, "lr", (row, (Entry(""), Entry("✓"))), (NASTY, "b"), (NASTY,))


def grouped() -> Sheet:
    """Four columns, two of them below one heading, and two blocks."""
    header = (Heading("Arm"), Heading("S: a", "S", "a"), Heading("S: b", "S", "b"), Heading("Params (M)"))
    rows = tuple(
        (Entry(arm), Entry("1.00 ± 0.10 (3)", is_best=True), Entry("2.00 (3)", is_second=True), Entry("28.5"))
        for arm in ("one", "two", "three")
    )
    return Sheet("groups", "", ("Caption.",), header, "lrrr", rows, (), ("Remark.",), rules=(2,))


def wide(columns: int = 20) -> Sheet:
    """More columns than a page holds."""
    header = (Heading("Arm"), *(Heading(f"PCKh@0.5 val {index}") for index in range(columns)))
    row = (Entry("one"), *(Entry("79.40 ± 0.21 (5)", marks=(1,)) for _ in range(columns)))
    return Sheet("wide", "", ("Caption.",), header, "l" + "r" * columns, (row, row), ("note",), ())
