"""The trainings that a study asks for, whatever became of them: how far each came and how long it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from analysis.ablation import current_trials, student_trials
from analysis.store import METRICS, Store, StudyRecord
from orchestrator import keys

EPOCH_SECONDS = "time/epoch_seconds"
TRAIN_SECONDS = METRICS + "train_seconds"
NOT_STARTED = "not started"
ARMS, SEARCHED, TEACHERS = "arm", "search", "teacher"  # values of the column `role`
_ENDED = (keys.FINISHED, keys.PRUNED, keys.FAILED, keys.DIVERGED)


def trials_of(store: Store, record: StudyRecord) -> pd.DataFrame:
    """One row per training of the present study: arms in the study's order, then its search, then its teachers.

    Beside the columns of StudyRecord.trials: `role`, `label` (the arm in print), `starts` (how often it was begun; 0
    for a result taken over from elsewhere), `seconds` (of its epochs) and `epochs` (those done; NaN once finished).
    """
    found = pd.concat([_arms(record), _searched(record), _teachers(record)], ignore_index=True)
    found["label"] = found["arm"].map(labels(record)).fillna(found["arm"])
    found["starts"] = [_starts(attempt, source) for attempt, source in zip(found["attempt"], found["reused_from"])]
    return _timed(store, found)


def arms_of(record: StudyRecord) -> tuple[str, ...]:
    """The arms of a study's table, in its order."""
    layout = record.specification["table"]
    return tuple(layout.get("arms") or student_trials(record)["arm"].drop_duplicates())


def labels(record: StudyRecord) -> dict[str, str]:
    """Arm -> what is printed; its name where blocks of a table repeat a label."""
    own = record.specification["table"].get("labels") or {}
    found = {arm: str(own.get(arm, arm)) for arm in arms_of(record)}
    repeated = {label for label, count in Counter(found.values()).items() if count > 1}
    return {arm: arm if label in repeated else label for arm, label in found.items()}


def seeds_of(record: StudyRecord) -> tuple[int, ...]:
    """The repeats of every arm."""
    return tuple(record.specification.get("seeds") or sorted(set(student_trials(record)["seed"])))


def _arms(record: StudyRecord) -> pd.DataFrame:
    trials = current_trials(student_trials(record))
    order = {arm: index for index, arm in enumerate(arms_of(record))}
    trials = trials[trials["arm"].isin(order) & trials["seed"].isin(seeds_of(record))]
    position = trials["arm"].map(order)
    return trials.assign(role=ARMS, position=position).sort_values(["position", "seed"]).drop(columns="position")


def _searched(record: StudyRecord) -> pd.DataFrame:
    trials = record.searched if record.specification.get("search") else record.trials[:0]
    return trials.assign(role=SEARCHED)


def _teachers(record: StudyRecord) -> pd.DataFrame:
    """Those the present plan lists, and those of students at hand (a search may need others)."""
    trials, planned = record.trials, record.specification.get("teachers") or ()
    students = trials[trials["kind"] == "student"]
    is_used = trials["trial_id"].isin(planned) | trials["fingerprint"].isin(set(students["teacher"]))
    return trials[(trials["kind"] == "teacher") & is_used].assign(role=TEACHERS)


def _starts(attempt: str, reused_from: str) -> int:
    """An earlier version recorded no attempts."""
    return int(attempt) if attempt else int(not reused_from)


def _timed(store: Store, trials: pd.DataFrame) -> pd.DataFrame:
    """Seconds and epochs: of a finished training as it says itself, of the others from what they have reported."""
    is_finished = trials["state"] == keys.FINISHED
    known = trials[TRAIN_SECONDS] if TRAIN_SECONDS in trials else pd.Series(np.nan, index=trials.index)
    known = known.where(is_finished)
    epochs = store.epochs(trials[known.isna()], [EPOCH_SECONDS]).groupby("run_id")
    reported = trials["run_id"].map(epochs["value"].sum())
    done = trials["run_id"].map(epochs["epoch"].max()).fillna(0.0).where(~is_finished)
    seconds = known.fillna(reported.fillna(0.0).where(~is_finished, reported))
    return trials.assign(seconds=seconds.astype(float), epochs=done.astype(float))


@dataclass(frozen=True)
class Standing:
    """How far a study is.

    Attributes:
        planned: trainings it asks for, teachers and all trials of its search among them.
        counts: state, or NOT_STARTED -> how many; none that are zero.
    """

    planned: int
    counts: dict[str, int]

    @property
    def finished(self) -> int:
        """Trainings that gave a result; in a search, one that the pruner stopped did its part."""
        return self.counts.get(keys.FINISHED, 0) + self.counts.get(keys.PRUNED, 0)

    @property
    def is_under_way(self) -> bool:
        """Whether results may still come without anybody asking for a retry."""
        return any(state not in _ENDED for state in self.counts)

    def sentence(self, now: datetime) -> str:
        """How many trainings have finished, what of the others, and when that was so."""
        others = [f"{count} {state}" for state, count in self.counts.items() if state != keys.FINISHED]
        rest = f" ({', '.join(others)})" if others else ""
        moment = now.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        done = self.counts.get(keys.FINISHED, 0)
        text = f"{done} of {self.planned} trainings have finished{rest}, as the store had it on {moment}."
        if self.is_under_way:
            return f"Partial: {text} Numbers below are of what has finished, and will change."
        return text if self.finished == self.planned else f"Incomplete: {text}"


def standing(record: StudyRecord, trials: pd.DataFrame) -> Standing:
    """How far a study is.

    Args:
        record: the study.
        trials: as `trials_of` gives them.
    """
    found = trials["state"].value_counts()
    planned = max(_planned(record, trials), len(trials))
    counts = {state: int(found[state]) for state in keys.STATES if state in found}
    missing = planned - len(trials)
    return Standing(planned, counts | ({NOT_STARTED: missing} if missing else {}))


def _planned(record: StudyRecord, trials: pd.DataFrame) -> int:
    search = record.specification.get("search") or {}
    proposals = int(search.get("trials") or 0)
    teachers = max(len(record.specification.get("teachers") or ()), int((trials["role"] == TEACHERS).sum()))
    arms = len(arms_of(record)) * len(seeds_of(record))
    # A pure search names its base as an arm and may never train it.
    has_arms = not search or bool(record.specification.get("trials")) or bool((trials["role"] == ARMS).any())
    return (arms if has_arms else 0) + proposals + teachers


def not_begun(record: StudyRecord, trials: pd.DataFrame) -> list[tuple[str, int]]:
    """Label and seed of the arms' repeats that the store knows nothing of, in the study's order."""
    arms = trials[trials["role"] == ARMS]
    if record.specification.get("search") and arms.empty:
        return []
    begun = set(zip(arms["arm"], arms["seed"]))
    return [
        (label, seed) for arm, label in labels(record).items() for seed in seeds_of(record) if (arm, seed) not in begun
    ]


def rows_of(frame: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """One mapping per row."""
    return ({str(name): value for name, value in row.items()} for row in frame.to_dict("records"))
