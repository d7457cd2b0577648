"""Whether early epochs rank the trials of a search as their results do: Spearman's rank correlation at each rung.

A pruner stops trials by their rank after a few epochs. It may be trusted where this rank is the final one's, which
only trials that were trained to the end can tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.statistics import FloatArray

FULL_TRIALS = 20  # fewer say too little
CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class RungRank:
    """The rank correlation of the metric after an epoch with the result, over `n` trials of full length.

    Attributes:
        epoch: the rung.
        n: trials that have both.
        rho: Spearman's coefficient; NaN where n < FULL_TRIALS, or where all values are equal.
        low, high: 95 % bootstrap interval, trials being resampled; NaN likewise.
    """

    epoch: int
    n: int
    rho: float
    low: float
    high: float


def rung_ranks(early: pd.DataFrame, results: pd.Series, rungs: Sequence[int]) -> tuple[RungRank, ...]:
    """The rank correlation at each rung.

    Args:
        early: run_id, epoch, value of the metric.
        results: the metric's final value by run_id, of trials that were trained to the end, each training once.
        rungs: epochs.
    """
    return tuple(_at(epoch, early[early["epoch"] == epoch], results) for epoch in rungs)


def _at(epoch: int, early: pd.DataFrame, results: pd.Series) -> RungRank:
    pairs = pd.concat([early.set_index("run_id")["value"], results], axis=1, join="inner").dropna().to_numpy(float)
    if len(pairs) < FULL_TRIALS or not np.isfinite(pairs).all():
        return RungRank(epoch, len(pairs), math.nan, math.nan, math.nan)
    rng = np.random.default_rng(SEED)
    drawn = pairs[rng.integers(0, len(pairs), (RESAMPLES, len(pairs)))]
    resampled = spearman(drawn[..., 0], drawn[..., 1])
    low, high = np.nanquantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return RungRank(
        epoch, len(pairs), float(spearman(pairs[None, :, 0], pairs[None, :, 1])[0]), float(low), float(high)
    )


def spearman(first: FloatArray, second: FloatArray) -> FloatArray:
    """Spearman's coefficient of each row, ties at their mean rank.

    Args:
        first, second: (m, n).

    Returns:
        (m,), NaN where a row has one value only.
    """
    from scipy.stats import rankdata  # takes as long to import as all the rest of a table

    a, b = (rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (first, second))
    spread = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    found: FloatArray = np.divide((a * b).sum(axis=1), spread, out=np.full(len(a), np.nan), where=spread > 0)
    return found


def sentences(ranks: Sequence[RungRank], is_pruned: bool) -> list[str]:
    """What a table says of them."""
    if not ranks:
        return []
    most = max(each.n for each in ranks)
    if most < FULL_TRIALS:
        way = f" Of few trials the pruner leaves fewer: train {FULL_TRIALS} with pruner: none." if is_pruned else ""
        few = f"Not enough full trials (n = {most} < {FULL_TRIALS}).{way}"
        return [f"Do early epochs rank trials as the result does? {few}"]
    known = [_text(each) for each in ranks]
    whose = " (of those the pruner let through)" if is_pruned else ""
    return [f"Rank correlation of early epochs with the result, full trials{whose}: {'; '.join(known)}."]


def _text(each: RungRank) -> str:
    if math.isnan(each.rho):
        return f"epoch {each.epoch} unknown (n = {each.n})"
    return f"epoch {each.epoch} {each.rho:.2f} [{each.low:.2f}, {each.high:.2f}] (n = {each.n})"
