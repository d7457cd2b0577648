from __future__ import annotations

import math

import pytest
from scipy import stats

from orchestrator.plan import Block, RepeatRule
from orchestrator.repeats import half_width, read_rule, repeats_due

SEEDS = (0, 1, 2, 3, 4, 5)
MEAN = RepeatRule(3, "mean", 0.01)
DIFFERENCE = RepeatRule(2, "difference", 0.01)


def over(values: dict[str, dict[int, float]]) -> dict[str, set[int]]:
    return {arm: set(seeds) for arm, seeds in values.items()}


def due(rule: RepeatRule, values: dict[str, dict[int, float]], blocks: tuple[Block, ...]) -> dict[str, int]:
    return repeats_due(rule, SEEDS, blocks, over(values), values)


def test_half_width_is_that_of_students_t() -> None:
    sample = [0.71, 0.74, 0.70, 0.78]
    low, high = stats.t.interval(0.95, 3, loc=sum(sample) / 4, scale=stats.sem(sample))
    assert half_width(sample) == pytest.approx((high - low) / 2, rel=1e-12)
    assert half_width([0.7]) == math.inf
    assert half_width([0.7, 0.7]) == 0


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ci95 <= 0.005", RepeatRule(3, "mean", 0.005)),
        ("  ci95<=1e-2 ", RepeatRule(3, "mean", 0.01)),
        ("ci95(difference) <= 0.004", RepeatRule(3, "difference", 0.004)),
    ],
)
def test_rules_are_read(text: str, rule: RepeatRule) -> None:
    assert read_rule(3, 8, text) == rule


@pytest.mark.parametrize(
    ("minimum", "maximum", "text", "complaint"),
    [
        (3, 8, "ci99 <= 0.1", "must be written"),
        (3, 8, "ci95 < 0.1", "must be written"),
        (3, 8, "ci95 <= small", "must end in a number, got 'small'"),
        (3, 8, "ci95 <= -0.1", "must be a number above 0, got -0.1"),
        (3, 8, "ci95 <= inf", "must be a number above 0, got inf"),
        (8, 3, "ci95 <= 0.1", "max must be at least min, got 3 and 8"),
    ],
)
def test_other_rules_are_refused(minimum: int, maximum: int, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_rule(minimum, maximum, text)


def test_every_arm_begins_with_the_least() -> None:
    assert due(MEAN, {}, (Block(("a", "b"), ""),)) == {"a": 3, "b": 3}


def test_nothing_is_added_before_the_last_repeat_is_over() -> None:
    values = {"a": {0: 0.1, 1: 0.5}}
    assert due(MEAN, values, (Block(("a",), ""),)) == {"a": 3}


def test_a_narrow_arm_stops_and_a_wide_one_goes_on_to_the_most() -> None:
    values = {"a": {0: 0.5, 1: 0.501, 2: 0.5}, "b": {seed: 0.1 * seed for seed in SEEDS}}
    assert due(MEAN, values, (Block(("a", "b"), ""),)) == {"a": 3, "b": 6}


def test_it_stops_at_the_first_repeat_that_is_enough() -> None:
    values = {"a": {0: 0.5, 1: 0.52, 2: 0.5, 3: 0.51, 4: 0.51, 5: 0.9}}
    widths = [half_width([values["a"][seed] for seed in range(count)]) for count in (3, 4, 5)]
    assert widths[0] > widths[1] > MEAN.width >= 0.0
    enough = next(count for count, width in zip((3, 4, 5, 6), [*widths, 0.0]) if width <= 0.012)
    assert due(RepeatRule(3, "mean", 0.012), values, (Block(("a",), ""),)) == {"a": enough}


def test_a_failed_seed_is_over_and_counts_for_nothing() -> None:
    ended = {"a": {0, 1, 2}}
    values = {"a": {0: 0.5, 1: 0.9}}
    assert repeats_due(MEAN, SEEDS, (Block(("a",), ""),), ended, values) == {"a": 4}


def test_the_baseline_has_every_seed_of_the_arms_compared_with_it() -> None:
    values = {"base": {0: 0.5, 1: 0.5, 2: 0.5}, "a": {0: 0.1, 1: 0.5, 2: 0.9}}
    blocks = (Block(("base", "a"), "base"),)
    assert due(MEAN, values, blocks) == {"base": 4, "a": 4}
    outside = (Block(("a",), "base"),)  # the baseline of a block need not be among its rows
    assert due(MEAN, values, outside) == {"a": 4, "base": 4}


def test_a_difference_needs_both_arms_and_is_paired() -> None:
    noisy = {0: 0.1, 1: 0.9}
    blocks = (Block(("base", "a"), "base"),)
    shifted = {seed: value + 0.05 for seed, value in noisy.items()}
    assert due(DIFFERENCE, {"base": noisy, "a": shifted}, blocks)["a"] == 2  # the pairs agree exactly
    assert due(DIFFERENCE, {"a": shifted}, blocks)["a"] == 2  # nothing to compare with yet
    crossed = {0: 0.9, 1: 0.1}
    assert due(DIFFERENCE, {"base": noisy, "a": crossed}, blocks)["a"] == 3


def test_under_a_rule_for_differences_the_baseline_only_follows() -> None:
    values = {"base": {0: 0.1, 1: 0.9}, "a": {0: 0.15, 1: 0.95}}
    blocks = (Block(("base", "a"), "base"),)
    assert due(DIFFERENCE, values, blocks) == {"base": 2, "a": 2}  # its own mean is as wide as can be


def test_an_arm_that_never_succeeds_is_not_asked_again() -> None:
    assert repeats_due(MEAN, SEEDS, (Block(("a",), ""),), {"a": {0, 1, 2}}, {}) == {"a": 3}
