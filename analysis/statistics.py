"""Repeats of an arm: mean and deviation, intervals, differences paired by seed, exact tests, Holm's correction.

What a table needs is a small class from a frame (or array) to a frame; randomness is passed in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

FloatArray = NDArray[np.float64]
RESAMPLES = 9999
LEVEL = 0.05  # of the tests, over all rows of a table
MOST_EXACT = 16  # pairs up to which all signs are tried
SEED = 20240229  # of the resampling behind a printed table: the same store prints the same table


@dataclass(frozen=True)
class Repeats:
    """Scores of one arm over its seeds.

    Attributes:
        mean: NaN when there is no value.
        std: sample standard deviation (ddof = 1); NaN for fewer than two values.
        n: number of values.
    """

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean difference to the baseline over the seeds both have.

    Attributes:
        mean: NaN without a common seed.
        low: lower end of the confidence interval; NaN for fewer than two pairs.
        high: upper end, likewise.
        n: number of pairs.
    """

    mean: float
    low: float
    high: float
    n: int


class Interval(Protocol):
    """A confidence interval of the mean."""

    def __call__(self, values: Sequence[float]) -> tuple[float, float]:
        """Lower and upper end; NaN for fewer than two values."""


def repeats(values: Iterable[float]) -> Repeats:
    """Mean, sample standard deviation and number of the values. A NaN among them stays visible in the mean."""
    numbers = list(values)
    n = len(numbers)
    if not n:
        return Repeats(math.nan, math.nan, 0)
    # In plain Python: a large table has ten thousands of cells of five values, where NumPy takes ten times as long.
    mean = _sum(numbers) / n
    std = math.sqrt(_sum((value - mean) ** 2 for value in numbers) / (n - 1)) if n > 1 else math.nan
    return Repeats(mean, std, n)


def _sum(numbers: Iterable[float]) -> float:
    """The exact sum; NaN where infinite values cancel."""
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return math.nan


def t_quantile(probability: float, degrees_of_freedom: int) -> float:
    """Quantile of Student's t distribution.

    Raises:
        ValueError: if the probability is outside (0, 1) or there is no degree of freedom.
    """
    _check_probability("probability", probability)
    if degrees_of_freedom < 1:
        raise ValueError(f"degrees_of_freedom must be at least 1, got {degrees_of_freedom}")
    return float(stdtrit(degrees_of_freedom, probability))


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must be in (0, 1), got {value}")


@dataclass(frozen=True)
class StudentInterval:
    """Student's t interval of the mean: exact for normal noise, also for three seeds."""

    confidence: float = 0.95

    def __call__(self, values: Sequence[float]) -> tuple[float, float]:
        """Lower and upper end; NaN for fewer than two values."""
        found = repeats(values)
        if found.n < 2:
            return math.nan, math.nan
        half = t_quantile((1 + self.confidence) / 2, found.n - 1) * found.std / math.sqrt(found.n)
        return found.mean - half, found.mean + half


@dataclass(frozen=True)
class BootstrapInterval:
    """Bootstrap interval of the mean: percentile, or bias-corrected and accelerated (BCa; Efron 1987).

    With few values it is too narrow: over three of them a percentile interval cannot leave their range.

    Attributes:
        is_bca: correct bias and skew.
        seed: of the generator of every call, so that equal values have equal intervals in any table.
    """

    is_bca: bool = False
    confidence: float = 0.95
    resamples: int = RESAMPLES
    seed: int = SEED

    def __call__(self, values: Sequence[float]) -> tuple[float, float]:
        """Lower and upper end; NaN for fewer than two values."""
        array = np.asarray(values, dtype=np.float64)
        if len(array) < 2:
            return math.nan, math.nan
        if np.ptp(array) == 0:
            return float(array[0]), float(array[0])
        means = resampled_means(array, self.resamples, np.random.default_rng(self.seed))
        tails = ((1 - self.confidence) / 2, (1 + self.confidence) / 2)
        low, high = np.quantile(means, bca_tails(array, means, tails) if self.is_bca else tails)
        return float(low), float(high)


def resampled_means(values: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Means of samples drawn with replacement."""
    chosen = rng.integers(0, len(values), size=(resamples, len(values)))
    means: FloatArray = values[chosen].mean(axis=1)
    return means


def bca_tails(values: FloatArray, means: FloatArray, tails: tuple[float, float]) -> tuple[float, float]:
    """The probabilities at which BCa reads the bootstrap distribution of the mean (Efron & Tibshirani 1993, 14.10).

    Args:
        values: n of them, not all equal.
        means: of the resamples.
        tails: those of the percentile interval.
    """
    below = (np.count_nonzero(means < values.mean()) + np.count_nonzero(means <= values.mean())) / (2 * len(means))
    bias = float(ndtri(below))
    left_out = (values.sum() - values) / (len(values) - 1)  # jackknife
    spread = left_out.mean() - left_out
    acceleration = float((spread**3).sum() / (6 * (spread**2).sum() ** 1.5))
    low, high = (bias + float(ndtri(tail)) for tail in tails)
    corrected = [float(ndtr(bias + z / (1 - acceleration * z))) for z in (low, high)]
    return corrected[0], corrected[1]


INTERVALS: Mapping[str, Interval] = {
    "t": StudentInterval(),
    "percentile": BootstrapInterval(),
    "bca": BootstrapInterval(is_bca=True),
}


def paired(arm: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Differences `arm - baseline` by seed: equal seeds share initialisation and data order, so their noise cancels."""
    return [arm[seed] - baseline[seed] for seed in sorted(arm.keys() & baseline.keys())]


def paired_difference(
    arm: Mapping[int, float], baseline: Mapping[int, float], interval: Interval = StudentInterval()
) -> Difference:
    """Mean difference `arm - baseline`, paired by seed, with its interval.

    Args:
        arm: value by seed.
        baseline: value by seed.
        interval: of the mean difference.
    """
    pairs = paired(arm, baseline)
    found = repeats(pairs)
    return Difference(found.mean, *interval(pairs), found.n)


@dataclass(frozen=True)
class SignFlipTest:
    """Two-sided test of paired differences: under no effect every difference is as likely with either sign.

    It assumes no more than that, so it tells what n pairs can carry at all: its p-value is never below 2^-(n-1).

    Attributes:
        most_exact: pairs up to which all signs are tried; with more the sum is close enough to normal.
    """

    most_exact: int = MOST_EXACT

    def __call__(self, differences: Sequence[float]) -> float:
        """The p-value; NaN without a pair, 1 when all differences are zero."""
        values = np.asarray(differences, dtype=np.float64)
        if not len(values):
            return math.nan
        if not values.any():
            return 1.0
        if len(values) > self.most_exact:
            return float(2 * ndtr(-abs(values.sum()) / math.sqrt(values @ values)))
        # A sum and its negative are equally extreme: half of the sign patterns tell everything.
        signs = np.array([(1.0, *rest) for rest in itertools.product((1.0, -1.0), repeat=len(values) - 1)])
        return float(np.mean(np.abs(signs @ values) >= abs(values.sum()) * (1 - 1e-12)))


def smallest_p(n: int) -> float:
    """The smallest p-value that the sign-flip test of n pairs can give."""
    return 2.0 ** -(n - 1) if n else 1.0


def pairs_needed(comparisons: int, level: float = LEVEL) -> int:
    """How many pairs a row needs before its p-value can reach the level after Holm over so many comparisons."""
    return 1 + math.ceil(math.log2(max(comparisons, 1) / level))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: the probability of any false claim among the rows stays at the level.

    Args:
        p_values: one per comparison; a NaN is no comparison and stays NaN.
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    adjusted = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = highest
    return adjusted


@dataclass(frozen=True)
class PairedComparison:
    """Compares arms with their baselines, seed by seed.

    Attributes:
        interval: of the mean difference.
        test: of no difference.
    """

    interval: Interval = StudentInterval()
    test: Callable[[Sequence[float]], float] = SignFlipTest()

    def __call__(self, values: pd.DataFrame, baselines: Mapping[str, str]) -> pd.DataFrame:
        """Compares.

        Args:
            values: columns arm, seed, value; one row per arm and seed.
            baselines: arm -> the arm it is compared with; arms without one are left out.

        Returns:
            One row per compared arm, in the order of `baselines`: arm, baseline, mean, low, high, n, p, and p_holm over
            these rows. p_holm is NaN where n pairs could not reach the level whatever the differences.
        """
        by_seed = {arm: dict(zip(rows["seed"], rows["value"])) for arm, rows in values.groupby("arm", sort=False)}
        rows = []
        for arm, baseline in baselines.items():
            found = paired(by_seed.get(arm, {}), by_seed.get(baseline, {}))
            mean = repeats(found)
            p = self.test(found) if mean.n > 1 else math.nan
            rows.append((arm, baseline, mean.mean, *self.interval(found), mean.n, p))
        frame = pd.DataFrame(rows, columns=["arm", "baseline", "mean", "low", "high", "n", "p"])
        needed = pairs_needed(int(frame["p"].notna().sum()))
        return frame.assign(p_holm=np.where(frame["n"] >= needed, holm(list(frame["p"])), math.nan))


@dataclass(frozen=True)
class Reproduction:
    """Whether a printed value lies within our mean's interval, widened by the printed standard deviation.

    Attributes:
        low: lower end of the widened interval.
        high: upper end.
        is_reproduced: None where one seed or none gives no interval.
    """

    low: float
    high: float
    is_reproduced: bool | None


def reproduction(
    values: Sequence[float], printed: float, printed_std: float = 0.0, interval: Interval = StudentInterval()
) -> Reproduction:
    """Judges whether our values reproduce a printed one."""
    low, high = interval(values)
    low, high = low - printed_std, high + printed_std
    return Reproduction(low, high, None if math.isnan(low) else low <= printed <= high)
