"""The names a study may use for its metric and its table's columns. Standard library only."""

from __future__ import annotations

from cdkd.config import SCORES, TrainingConfig, nearest
from cdkd.keypoints import KEYPOINT_SETS

SPLITS = ("val", "test")
COSTS = ("params_m", "gmacs", "gflops", "train_seconds", "best/epoch")
COLUMN_SCORES = (*SCORES, "apm", "apl")


def objective_fault(name: str, config: TrainingConfig) -> str:
    """Why a name is no metric of a study with this configuration; empty when it is."""
    split, _, score = name.partition("/")
    if split not in SPLITS or score not in SCORES:
        known = [f"{split}/{score}" for split in SPLITS for score in SCORES]
        scores = ", ".join(SCORES)
        return f"must be val/<score> or test/<score>, the score one of {scores}, got {name!r}{nearest(name, known)}"
    return _score_fault(split, score, config)


def column_fault(name: str, config: TrainingConfig) -> str:
    """Why a name is no column of a table (a cost, a score, or a score of one keypoint); empty when it is."""
    split, _, rest = name.partition("/")
    score, _, keypoint = rest.partition("/")
    if name in COSTS:
        return ""
    if split not in SPLITS or score not in COLUMN_SCORES:
        known = [*COSTS, *(f"{split}/{score}" for split in SPLITS for score in COLUMN_SCORES)]
        return f"no such score or cost: {name!r}{nearest(name, known)}"
    keypoints = KEYPOINT_SETS[config.data.keypoint_set].names
    if keypoint and keypoint not in keypoints:
        return f"{config.data.keypoint_set} has no keypoint {keypoint!r}{nearest(keypoint, keypoints)}"
    return _score_fault(split, score, config)


def _score_fault(split: str, score: str, config: TrainingConfig) -> str:
    """Why this data cannot have the score; empty when it can."""
    keypoint_set = KEYPOINT_SETS[config.data.keypoint_set]
    if score.startswith("pckh@") and keypoint_set.head_segment is None:
        return f"{keypoint_set.name} has no head segment, so no {score}; use ap, or pck@0.2"
    has_test = config.data.kind != "synthetic" and config.data.test
    if split == "test" and not has_test:
        return f"test/{score} needs a test split, and data.test names none"
    return ""
