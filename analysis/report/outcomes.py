"""What became of the trainings that gave no result, of those begun more than once and of those taken over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from analysis.factors import NONE
from analysis.report.document import Block, Words, grid
from analysis.report.trials import ARMS, NOT_STARTED, SEARCHED, rows_of
from orchestrator import keys

MOST_ROWS = 60


def outcome_blocks(trials: pd.DataFrame, not_begun: Sequence[tuple[str, int]]) -> Iterator[Block]:
    """Words and tables on every training that did not simply begin and finish.

    Args:
        trials: as `trials_of` gives them.
        not_begun: label and seed of the arms' repeats that the store knows nothing of.
    """
    lost = trials[~trials["state"].isin([keys.FINISHED, keys.PRUNED])]
    rows = [_row(row) for row in rows_of(lost)] + [_absent(label, seed) for label, seed in not_begun]
    if rows:
        header = ["Training", "Seed", "State", "Begun", "Epochs", "Why", "Run"]
        left = [f"{len(rows) - MOST_ROWS} more are not shown."] if len(rows) > MOST_ROWS else []
        yield grid(header, rows[:MOST_ROWS], "lrllrll", remarks=left)
    else:
        yield Words("Every training that was begun gave a result.")
    yield from (Words(text) for text in _sentences(trials))


def _row(row: dict[str, Any]) -> list[str]:
    epochs = NONE if math.isnan(row["epochs"]) else f"{row['epochs']:.0f}"
    name = row["label"] if row["role"] == ARMS else row["trial_id"]
    return [name, str(row["seed"]), row["state"], times(row["starts"]), epochs, row["reason"] or NONE, row["run_id"]]


def _absent(label: str, seed: int) -> list[str]:
    return [label, str(seed), NOT_STARTED, NONE, NONE, NONE, NONE]


def times(count: int) -> str:
    """`once`, `twice`, `3 times`."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _sentences(trials: pd.DataFrame) -> Iterator[str]:
    pruned = trials[(trials["role"] == SEARCHED) & (trials["state"] == keys.PRUNED)]
    if len(pruned):
        yield f"Stopped early by the search's pruner: {_trials(len(pruned))}. A partial budget is no result."
    again = trials[trials["starts"] > 1]
    if len(again):
        extra = int((again["starts"] - 1).sum())
        listed = ", ".join(f"{row['trial_id']} ({times(row['starts'])})" for row in rows_of(again.head(MOST_ROWS)))
        yield (
            f"Begun again {times(extra)} in all, after a failure or an interruption (the last checkpoint is gone on "
            f"from): {listed}."
        )
    elif len(trials):
        yield "No training was begun more than once."
    taken = trials[trials["starts"] == 0]
    if len(taken):
        listed = ", ".join(f"{row['trial_id']} from {row['reused_from']}" for row in rows_of(taken.head(MOST_ROWS)))
        yield f"Taken over, with an equal fingerprint, instead of being trained: {listed}."


def _trials(count: int) -> str:
    return f"{count} {'trial' if count == 1 else 'trials'}"
