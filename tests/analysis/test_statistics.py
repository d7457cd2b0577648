"""Statistics against pandas and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics import paired_difference, repeats, t_quantile


def test_repeats_agree_with_pandas() -> None:
    values = pd.Series([78.1, 78.4, 79.0, 77.7])
    found = repeats(values)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.std == pytest.approx(values.std(ddof=1), abs=1e-12)
    assert found.n == 4


def test_one_value_has_no_deviation_and_none_has_no_mean() -> None:
    one, none = repeats([3.0]), repeats([])
    assert (one.mean, one.n) == (3.0, 1)
    assert math.isnan(one.std)
    assert math.isnan(none.mean)
    assert none.n == 0


def test_a_nan_is_not_averaged_away() -> None:
    assert math.isnan(repeats([1.0, math.nan]).mean)


@pytest.mark.parametrize(("degrees", "expected"), [(1, 12.706), (2, 4.303), (4, 2.776), (30, 2.042)])
def test_quantiles_are_those_of_the_printed_tables(degrees: int, expected: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize(("probability", "degrees"), [(0.0, 3), (1.0, 3), (0.975, 0)])
def test_quantile_refuses_what_has_none(probability: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        t_quantile(probability, degrees)


def test_paired_difference_agrees_with_scipy() -> None:
    rng = np.random.default_rng(3)
    arm = dict(enumerate(rng.normal(79, 1, 6)))
    baseline = dict(enumerate(rng.normal(78, 1, 6)))
    found = paired_difference(arm, baseline)
    test = stats.ttest_rel(list(arm.values()), list(baseline.values()))
    interval = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-10)
    assert found.n == 6


def test_only_common_seeds_are_paired() -> None:
    found = paired_difference({0: 2.0, 1: 5.0, 7: 100.0}, {1: 4.0, 0: 0.0, 9: -100.0})
    assert (found.mean, found.n) == (1.5, 2)


def test_one_pair_has_no_interval_and_none_has_no_difference() -> None:
    one, none = paired_difference({0: 2.0}, {0: 1.0}), paired_difference({0: 2.0}, {1: 1.0})
    assert (one.mean, one.n) == (1.0, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(none.mean)
    assert none.n == 0
