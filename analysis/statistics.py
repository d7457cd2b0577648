"""Repeats of an arm: mean, standard deviation, paired differences with Student's t interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit


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


def repeats(values: Iterable[float]) -> Repeats:
    """Mean, sample standard deviation and number of the values. A NaN among them stays visible in the mean."""
    array = np.asarray(list(values), dtype=np.float64)
    mean = float(array.mean()) if array.size else math.nan
    std = float(array.std(ddof=1)) if array.size > 1 else math.nan
    return Repeats(mean, std, int(array.size))


def t_quantile(probability: float, degrees_of_freedom: int) -> float:
    """Quantile of Student's t distribution.

    Raises:
        ValueError: if the probability is outside (0, 1) or there is no degree of freedom.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability must be in (0, 1), got {probability}")
    if degrees_of_freedom < 1:
        raise ValueError(f"degrees_of_freedom must be at least 1, got {degrees_of_freedom}")
    return float(stdtrit(degrees_of_freedom, probability))


def paired_difference(
    arm: Mapping[int, float], baseline: Mapping[int, float], *, confidence: float = 0.95
) -> Difference:
    """Difference `arm - baseline`, paired by seed: seeds share initialisation and data order, so their noise cancels.

    Args:
        arm: value by seed.
        baseline: value by seed.
        confidence: coverage of the two-sided t interval of the mean difference.
    """
    seeds = sorted(arm.keys() & baseline.keys())
    pairs = repeats(arm[seed] - baseline[seed] for seed in seeds)
    if pairs.n < 2:
        return Difference(pairs.mean, math.nan, math.nan, pairs.n)
    half = t_quantile((1 + confidence) / 2, pairs.n - 1) * pairs.std / math.sqrt(pairs.n)
    return Difference(pairs.mean, pairs.mean - half, pairs.mean + half, pairs.n)
