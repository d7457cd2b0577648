"""The rank correlation of early epochs with the result."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from analysis.rungs import FULL_TRIALS, rung_ranks, sentences, spearman

RNG = np.random.default_rng(0)
QUALITY = RNG.normal(size=30)
NAMES = [f"run{index}" for index in range(30)]
RESULTS = pd.Series(QUALITY, NAMES)
NOISY = QUALITY + RNG.normal(size=30)


def early(values: np.ndarray, epoch: int = 5, names: list[str] = NAMES) -> pd.DataFrame:
    return pd.DataFrame({"run_id": names, "epoch": epoch, "value": values})


def test_it_is_scipys_coefficient_ties_included() -> None:
    rows = RNG.integers(0, 4, (2, 10, 25)).astype(float)
    expected = [spearmanr(a, b).statistic for a, b in zip(*rows)]
    assert spearman(*rows) == pytest.approx(expected)
    assert math.isnan(spearman(np.ones((1, 5)), np.arange(5.0)[None])[0])


def test_each_rung_has_its_own_with_an_interval_around_it() -> None:
    both = pd.concat([early(NOISY, 5), early(QUALITY, 15)])
    first, second = rung_ranks(both, RESULTS, (5, 15))
    assert (first.epoch, first.n, second.epoch) == (5, 30, 15)
    assert first.rho == pytest.approx(spearmanr(NOISY, QUALITY).statistic)
    assert first.low < first.rho < first.high < 1
    assert second.rho == pytest.approx(1)
    assert (second.low, second.high) == (pytest.approx(1), pytest.approx(1))


def test_only_trials_with_a_result_and_the_rung_count() -> None:
    (found,) = rung_ranks(early(NOISY), RESULTS.iloc[:25], (5,))
    assert found.n == 25
    (none,) = rung_ranks(early(NOISY), RESULTS, (7,))
    assert none.n == 0


def test_too_few_trials_have_no_coefficient() -> None:
    (found,) = rung_ranks(early(NOISY), RESULTS.iloc[: FULL_TRIALS - 1], (5,))
    assert found.n == FULL_TRIALS - 1
    assert math.isnan(found.rho)
    assert sentences([found], False) == [
        "Do early epochs rank trials as the result does? Not enough full trials (n = 19 < 20)."
    ]
    assert sentences([found], True)[0].endswith("the pruner leaves fewer: train 20 with pruner: none.")


def test_the_sentence_has_coefficient_interval_and_n_and_tells_who_is_missing() -> None:
    (found,) = rung_ranks(early(NOISY), RESULTS, (5,))
    (line,) = sentences([found], True)
    assert line == (
        "Rank correlation of early epochs with the result, full trials (of those the pruner let through): "
        f"epoch 5 {found.rho:.2f} [{found.low:.2f}, {found.high:.2f}] (n = 30)."
    )
    assert "pruner" not in sentences([found], False)[0]
    assert sentences([], True) == []
