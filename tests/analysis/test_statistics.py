"""Statistics against pandas and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.statistics import (
    INTERVALS,
    BootstrapInterval,
    PairedComparison,
    SignFlipTest,
    StudentInterval,
    holm,
    paired_difference,
    pairs_needed,
    repeats,
    reproduction,
    smallest_p,
    t_quantile,
)

SKEWED = [78.1, 78.4, 79.0, 77.7, 81.5, 78.0, 78.2, 79.9]


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


def test_infinite_values_have_no_mean_that_could_be_compared() -> None:
    assert repeats([math.inf, 1.0]).mean == math.inf
    assert math.isnan(repeats([math.inf, -math.inf]).mean)


def test_the_t_interval_agrees_with_scipy() -> None:
    expected = stats.t.interval(0.95, len(SKEWED) - 1, loc=np.mean(SKEWED), scale=stats.sem(SKEWED))
    assert StudentInterval()(SKEWED) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "method"), [("percentile", "percentile"), ("bca", "BCa")])
def test_bootstrap_intervals_agree_with_scipy(name: str, method: str) -> None:
    rng = np.random.default_rng(1)
    expected = stats.bootstrap(
        (SKEWED,), np.mean, confidence_level=0.9, n_resamples=20_000, method=method, rng=rng
    ).confidence_interval
    found = BootstrapInterval(is_bca=name == "bca", confidence=0.9, resamples=20_000)(SKEWED)
    assert found == pytest.approx((expected.low, expected.high), abs=0.03)
    assert INTERVALS[name] == BootstrapInterval(is_bca=name == "bca")


def test_bca_corrects_the_skew_that_the_percentile_interval_ignores() -> None:
    percentile, bca = BootstrapInterval()(SKEWED), BootstrapInterval(is_bca=True)(SKEWED)
    assert bca[0] > percentile[0]
    assert bca[1] > percentile[1]


def test_the_same_values_have_the_same_bootstrap_interval() -> None:
    assert BootstrapInterval()(SKEWED) == BootstrapInterval()(SKEWED) != BootstrapInterval(seed=1)(SKEWED)


@pytest.mark.parametrize("interval", INTERVALS.values(), ids=INTERVALS)
def test_one_value_has_no_interval_and_equal_values_have_an_empty_one(interval: StudentInterval) -> None:
    assert all(math.isnan(end) for end in interval([1.0]))
    assert interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [0.5, -0.1, 0.7, 0.2, 0.4], [1.0, -1.0, 2.0, 2.0]])
def test_the_sign_flip_test_agrees_with_scipy(values: list[float]) -> None:
    expected = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert SignFlipTest()(values) == pytest.approx(expected)


def test_the_smallest_p_is_reached_when_all_signs_agree() -> None:
    assert SignFlipTest()([0.1, 0.2, 0.9, 0.4, 0.3]) == smallest_p(5) == 1 / 16
    assert SignFlipTest()([0.0, 0.0]) == 1.0
    assert math.isnan(SignFlipTest()([]))


def test_many_pairs_are_tested_by_the_normal_approximation() -> None:
    values = list(np.random.default_rng(2).normal(0.6, 1.0, 16))
    assert SignFlipTest(most_exact=5)(values) == pytest.approx(SignFlipTest()(values), abs=0.01)


@pytest.mark.parametrize(("comparisons", "needed"), [(1, 6), (2, 7), (4, 8), (6, 8), (7, 9)])
def test_fewer_pairs_could_not_reach_the_level(comparisons: int, needed: int) -> None:
    assert pairs_needed(comparisons) == needed
    assert comparisons * smallest_p(needed) <= 0.05 < comparisons * smallest_p(needed - 1)


def test_holm_by_hand() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2 raised to its predecessor, 0.6 * 1.
    assert holm([0.03, 0.01, 0.6, 0.02]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_holm_leaves_out_what_is_no_comparison() -> None:
    adjusted = holm([0.03, math.nan, 0.01])
    assert adjusted[::2] == pytest.approx([0.03, 0.02])
    assert math.isnan(adjusted[1])


def long_frame(**arms: list[float]) -> pd.DataFrame:
    rows = [(arm, seed, value) for arm, values in arms.items() for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["arm", "seed", "value"])


def test_a_comparison_takes_a_frame_to_a_frame() -> None:
    rng = np.random.default_rng(0)
    base = list(rng.normal(0, 1, 8))
    values = long_frame(base=base, up=[value + 1 for value in base], same=list(rng.normal(0, 1, 8)), one=[3.0])
    found = PairedComparison()(values, {"up": "base", "same": "base", "one": "base"}).set_index("arm")
    assert list(found.index) == ["up", "same", "one"]
    assert found.loc["up", "mean"] == pytest.approx(1.0)
    assert found.loc["up", "p_holm"] == 2 * found.loc["up", "p"] == 2 * 2**-7
    assert list(found["n"]) == [8, 8, 1]
    assert math.isnan(found.loc["one", "p"])


def test_no_adjusted_p_where_the_pairs_cannot_carry_a_claim() -> None:
    base = [0.1, 0.2, 0.3, 0.4, 0.5]
    found = PairedComparison()(long_frame(base=base, up=[value + 9 for value in base]), {"up": "base"})
    assert found["p"].item() == 1 / 16
    assert math.isnan(found["p_holm"].item())


@pytest.mark.parametrize(
    ("printed", "std", "verdict"),
    [(78.0, 0.0, True), (81.0, 0.0, False), (81.0, 1.0, True), (75.2, 0.0, False)],
)
def test_a_value_is_reproduced_within_the_interval_widened_by_its_own_deviation(
    printed: float, std: float, verdict: bool
) -> None:
    found = reproduction([77.0, 78.0, 79.0], printed, std)  # 78 +- 4.3027 / sqrt(3) = 75.52 to 80.48
    assert (found.low, found.high) == pytest.approx((75.516 - std, 80.484 + std), abs=1e-3)
    assert found.is_reproduced is verdict


def test_one_seed_reproduces_nothing() -> None:
    assert reproduction([78.0], 78.0).is_reproduced is None
