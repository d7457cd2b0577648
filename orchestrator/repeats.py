"""How many repeats an arm gets: as many as make its interval narrow, between two bounds.

A study says `repeats: {min: 3, max: 8, until: ci95 <= 0.005}`. Which seeds are due is a function of the
results alone, so that a driver that replays the ledger asks for the same ones. Seeds are taken in order,
for every arm the same, and the baseline has every seed that an arm compared with it has: differences are
paired by seed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from orchestrator.plan import Block, RepeatRule

LEVEL = 0.95
STATISTICS = {"ci95": "mean", "ci95(difference)": "difference"}
"""What the interval is of, by its spelling in a study: the arm's mean, or its difference to the baseline."""
_RULE = re.compile(r"\s*(ci95(?:\(difference\))?)\s*<=\s*(\S+)\s*")


def read_rule(minimum: int, maximum: int, until: str) -> RepeatRule:
    """The rule that a study states.

    Raises:
        ValueError: saying what is wrong with it.
    """
    found = _RULE.fullmatch(until)
    if found is None:
        raise ValueError(f"must be written `ci95 <= 0.005` or `ci95(difference) <= 0.005`, got {until!r}")
    try:
        width = float(found.group(2))
    except ValueError:
        raise ValueError(f"must end in a number, got {found.group(2)!r}") from None
    if not 0 < width < math.inf:
        raise ValueError(f"the half width must be a number above 0, got {found.group(2)}")
    if maximum < minimum:
        raise ValueError(f"max must be at least min, got {maximum} and {minimum}")
    return RepeatRule(minimum, STATISTICS[found.group(1)], width)


Values = Mapping[str, Mapping[int, float]]
"""The metric of every finished training, by arm and seed."""


def repeats_due(
    rule: RepeatRule, seeds: Sequence[int], blocks: Sequence[Block], ended: Mapping[str, set[int]], values: Values
) -> dict[str, int]:
    """How many of the seeds each arm is to have by now.

    Args:
        rule: the study's.
        seeds: all that may be trained, in order.
        blocks: arms and the baseline of each block.
        ended: seeds of each arm whose training is over, whatever came of it.
        values: results so far.
    """
    due: dict[str, int] = {}
    for block in blocks:
        judged = [arm for arm in block.arms if rule.statistic == "mean" or arm != block.baseline]
        for arm in judged:
            due[arm] = _due(rule, seeds, arm, block.baseline, ended, values)
        if block.baseline:
            most = max((due[arm] for arm in judged), default=rule.minimum)
            due[block.baseline] = max(due.get(block.baseline, 0), most)
    return due


def _due(
    rule: RepeatRule, seeds: Sequence[int], arm: str, baseline: str, ended: Mapping[str, set[int]], values: Values
) -> int:
    """Go on while the first repeats are over and their interval is still wide."""
    count = rule.minimum
    if set(seeds[:count]) <= ended.get(arm, set()) and not values.get(arm):
        return count  # an arm that never succeeds is not asked again
    compared = {arm, baseline} - {""} if rule.statistic == "difference" else {arm}
    while count < len(seeds) and all(set(seeds[:count]) <= ended.get(name, set()) for name in compared):
        if half_width(_sample(rule, seeds[:count], arm, baseline, values)) <= rule.width:
            break
        count += 1
    return count


def _sample(rule: RepeatRule, seeds: Sequence[int], arm: str, baseline: str, values: Values) -> list[float]:
    """What the interval is taken of: the arm's values, or their differences to the baseline's of the same seeds."""
    own = values.get(arm, {})
    if rule.statistic == "mean" or not baseline or arm == baseline:
        return [own[seed] for seed in seeds if seed in own]
    other = values.get(baseline, {})
    return [own[seed] - other[seed] for seed in seeds if seed in own and seed in other]


def half_width(sample: Sequence[float]) -> float:
    """Half the width of the 95 % interval of a mean by Student's t; infinite for fewer than two values."""
    from analysis.statistics import StudentInterval  # a slow import: pandas

    if len(sample) < 2:
        return math.inf
    low, high = StudentInterval(LEVEL)(sample)
    return (high - low) / 2
