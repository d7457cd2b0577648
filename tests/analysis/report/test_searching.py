"""How a search is described."""

from __future__ import annotations

import pytest

from analysis.report.document import Grid, Items
from analysis.report.searching import range_text, search_blocks
from tests.analysis.figures.studies import SEARCH
from tests.analysis.report.studies import texts


@pytest.mark.parametrize(
    ("declaration", "text"),
    [
        ({"type": "float", "low": 0.01, "high": 10.0, "log": True}, "0.01 to 10, logarithmic"),
        ({"type": "int", "low": 1, "high": 4, "log": False, "step": 1}, "1 to 4 in steps of 1"),
        ({"type": "categorical", "choices": [True, [3, 5]]}, "true or [3, 5]"),
        ({"type": "float"}, "float"),
    ],
)
def test_ranges_in_words(declaration: dict, text: str) -> None:
    assert range_text(declaration) == text


def test_a_search_is_its_sampler_its_budget_and_its_space() -> None:
    items, grid = search_blocks(SEARCH | {"sampler_options": {"n_startup_trials": 5}, "pruner": ""})
    assert isinstance(items, Items)
    assert items.items[0] == ("Sampler", "tpe (n_startup_trials 5)")
    assert items.items[1] == ("Pruner", "none")
    assert isinstance(grid, Grid)
    assert ["distill.sape.projectors", "1 to 4", "distill.sape.enabled is true"] in texts(grid.sheet)


def test_a_population_is_told_in_one_sentence() -> None:
    pbt = {"interval": 2, "quantile": 0.25, "resample_probability": 0.1, "factors": [0.8, 1.25]}
    items = next(iter(search_blocks(SEARCH | {"pbt": pbt})))
    assert isinstance(items, Items)
    assert items.items[-1] == (
        "Population",
        "every 2 epochs the worst 25 % go on from one of the best, each option drawn anew with probability 0.1, "
        "else times 0.8 or 1.25",
    )


def test_objectives_rules_and_limits_are_told_where_there_are_any() -> None:
    both = [{"name": "val/ap", "mode": "max"}, {"name": "gmacs", "mode": "min"}]
    rule = {"left": "distill.alpha", "op": "<", "right": "distill.beta", "when": {"distill.sape.enabled": [True]}}
    limits = {"params_m": {"min": 1.0, "max": 30.0}}
    items, _ = search_blocks(SEARCH | {"objectives": both, "constraints": [rule], "limits": limits})
    assert isinstance(items, Items)
    assert items.items[2:5] == (
        ("Objectives", "val/ap (max); gmacs (min)"),
        ("Constraints", "distill.alpha < distill.beta where distill.sape.enabled is true"),
        ("Limits", "params_m at least 1 and at most 30"),
    )
