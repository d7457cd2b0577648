"""Numbers in print."""

from __future__ import annotations

import math

import pytest

from analysis.columns import column
from analysis.sheet import cell_text, difference_text, number, probability, seeds_text, signed, value_and_spread
from analysis.statistics import Difference, Repeats


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [(0.364, "0.36", "+0.36"), (-0.364, "−0.36", "−0.36"), (-0.001, "0.00", "0.00"), (0.0, "0.00", "0.00")],
)
def test_numbers_have_a_true_minus_and_no_negative_zero(value: float, plain: str, with_sign: str) -> None:
    assert (number(value, 2), signed(value, 2)) == (plain, with_sign)


@pytest.mark.parametrize(
    ("metric", "statistics", "text"),
    [
        ("val/ap", Repeats(78.366, 0.021, 5), "78.37 ± 0.02 (5)"),
        ("val/ap", Repeats(78.366, math.nan, 1), "78.37 (1)"),
        ("val/ap", Repeats(math.nan, math.nan, 0), "—"),
        ("val/ap", Repeats(math.nan, math.nan, 2), "nan ± nan (2)"),
        ("val/ap", Repeats(50.0, 0.0, 2), "50.00 ± 0.00 (2)"),
        ("params_m", Repeats(28.5, 0.0, 5), "28.50"),
        ("params_m", Repeats(28.5, math.nan, 1), "28.50"),
        ("params_m", Repeats(28.5, 0.1, 5), "28.50 ± 0.10 (5)"),
    ],
)
def test_a_cell_has_mean_deviation_and_n(metric: str, statistics: Repeats, text: str) -> None:
    assert cell_text(statistics, column(metric, "best")) == text


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (None, "—"),
        (Difference(math.nan, math.nan, math.nan, 0), "—"),
        (Difference(0.5, math.nan, math.nan, 1), "+0.50 (1)"),
        (Difference(0.5, -0.25, 1.25, 3), "+0.50 [−0.25, +1.25] (3)"),
    ],
)
def test_a_difference_has_an_interval_from_two_pairs_on(difference: Difference | None, text: str) -> None:
    assert difference_text(difference, 2) == text


@pytest.mark.parametrize(("p", "text"), [(0.03125, "0.031"), (0.0004, "<0.001"), (1.0, "1.000"), (math.nan, "—")])
def test_probabilities_have_three_digits(p: float, text: str) -> None:
    assert probability(p) == text


@pytest.mark.parametrize(
    ("seeds", "text"),
    [([3], "seed 3"), ([0, 1, 2], "seeds 0, 1, 2"), ([2, 3, 4, 5], "seeds 2 to 5"), ([0, 1, 2, 4], "seeds 0, 1, 2, 4")],
)
def test_runs_of_seeds_are_shortened(seeds: list[int], text: str) -> None:
    assert seeds_text(seeds) == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("78.37 ± 0.02 (5)", ("78.37", " ± 0.02 (5)")),
        ("−0.50 [−1.00, 0.00] (3)", ("−0.50", " [−1.00, 0.00] (3)")),
        ("90.00 (1)", ("90.00", " (1)")),
        ("28.50", ("28.50", "")),
        ("CDKD (ours)", ("CDKD (ours)", "")),
    ],
)
def test_the_spread_of_a_number_can_be_printed_smaller(text: str, parts: tuple[str, str]) -> None:
    assert value_and_spread(text) == parts
