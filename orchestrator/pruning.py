"""How many trials of a search its pruner leaves to train to the end, before it runs.

Optuna's halving is played with trials whose ranks never change and which come in no order; one after another, as
it counts them. A sampler that gets better lets more through, trials whose ranks change let fewer through.
"""

from __future__ import annotations

import functools
import math
import random
from bisect import insort

from orchestrator.plan import SearchSpec
from orchestrator.search_options import ETA, FULL_TRIALS

MOST_TRIALS = 1000
REPEATS = 20


def expected_full(search: SearchSpec, trials: int) -> float | None:
    """How many of so many trials (at most MOST_TRIALS) should be trained to the end; None where nobody can say.

    Args:
        search: with its pruner and rungs.
        trials: that it proposes.
    """
    counts = _expected(search)
    return counts[min(trials, MOST_TRIALS)] if counts else None


def enough_trials(search: SearchSpec) -> int | None:
    """The least number of trials, in tens, of which FULL_TRIALS should be; None where nobody can say, or too many."""
    counts = _expected(search)
    return next((trials for trials in range(0, len(counts), 10) if counts[trials] >= FULL_TRIALS), None)


def _expected(search: SearchSpec) -> tuple[float, ...]:
    """Full trials by the number of trials; empty for a pruner that is no halving."""
    if search.pruner == "none":
        return tuple(map(float, range(MOST_TRIALS + 1)))
    eta, rungs = max(2, int(search.pruner_options.get("reduction_factor", ETA))), len(search.rungs)
    if search.pruner == "asha":
        return _played((rungs,), (1,), eta)
    if search.pruner != "hyperband":
        return ()
    brackets = tuple(range(max(1, rungs), 0, -1))  # one that begins at each rung, with Optuna's shares of the trials
    return _played(brackets, tuple(math.ceil(len(brackets) * eta ** (left - 1) / left) for left in brackets), eta)


@functools.cache
def _played(brackets: tuple[int, ...], shares: tuple[int, ...], eta: int) -> tuple[float, ...]:
    """Mean number of full trials by the number of trials, in brackets of so many rungs with these shares of them."""
    draws, found = random.Random(0), [0.0] * (MOST_TRIALS + 1)
    for _ in range(REPEATS):
        ladders: list[list[list[float]]] = [[[] for _ in range(rungs)] for rungs in brackets]
        full = 0
        for number in range(1, MOST_TRIALS + 1):
            full += _passes(draws.random(), draws.choices(ladders, shares)[0], eta)
            found[number] += full / REPEATS
    return tuple(found)


def _passes(value: float, ladder: list[list[float]], eta: int) -> bool:
    """Whether a trial passes all rungs; each notes its value."""
    for rung in ladder:
        insort(rung, value)
        if value < rung[-max(1, len(rung) // eta)]:
            return False
    return True
