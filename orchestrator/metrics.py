"""The names a study may use for its metric and its table's columns. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence

from cdkd.config import SCORES, TrainingConfig
from cdkd.keypoints import KEYPOINT_SETS
from cdkd.options import nearest

SPLITS = ("val", "test")
COSTS = (
    *("params_m", "gmacs", "gflops", "teacher_params_m", "teacher_gmacs", "teacher_gflops"),
    *("adapter_params_m", "adapter_gmacs", "train_seconds", "epoch_seconds", "peak_memory_mb"),
    *("converged_epoch", "best/epoch"),
)
"""Of the deployed student; of what is there for its training alone (teacher, adapters); of the training itself."""
PRECISIONS = ("ap", "ap50", "ap75", "apm", "apl", "ar", "ap_easy", "ap_medium", "ap_hard")
DETECTED = "@det"
"""Ends the name of a score on a person detector's boxes, which is taken once, at the end of a training."""
COLUMN_SCORES = (
    *(name for name in SCORES if name not in PRECISIONS),
    *PRECISIONS,
    *(name + DETECTED for name in PRECISIONS),
)
UNWEIGHTED = "unweighted"


def objective_fault(name: str, config: TrainingConfig) -> str:
    """Why a name is no metric of a study with this configuration; empty when it is."""
    split, _, score = name.partition("/")
    if split not in SPLITS or score not in SCORES:
        known = [f"{split}/{score}" for split in SPLITS for score in SCORES]
        scores = ", ".join(SCORES)
        return f"must be val/<score> or test/<score>, the score one of {scores}, got {name!r}{nearest(name, known)}"
    return _score_fault(split, score, config)


def column_fault(name: str, config: TrainingConfig) -> str:
    """Why a name is no column of a table (a cost, a score, or a score of some keypoints); empty when it is."""
    split, _, rest = name.partition("/")
    score, _, part = rest.partition("/")
    if name in COSTS:
        return ""
    if split not in SPLITS or score not in COLUMN_SCORES:
        known = [*COSTS, *(f"{split}/{score}" for split in SPLITS for score in COLUMN_SCORES)]
        return f"no such score or cost: {name!r}{nearest(name, known)}"
    return _score_fault(split, score, config) or (_part_fault(score, part, config) if part else "")


def parts_of(config: TrainingConfig) -> Sequence[str]:
    """What a keypoint score can be asked of: single keypoints, printed groups, and the plain mean over keypoints."""
    keypoint_set = KEYPOINT_SETS[config.data.keypoint_set]
    return list(dict.fromkeys((*keypoint_set.groups, UNWEIGHTED, *keypoint_set.names)))


def _part_fault(score: str, part: str, config: TrainingConfig) -> str:
    if not score.startswith("pck"):
        return f"{score} is of whole persons; it has no part {part!r}"
    known = parts_of(config)
    if part not in known:
        return f"{config.data.keypoint_set} has no keypoint {part!r}{nearest(part, known)}"
    return ""


def _score_fault(split: str, score: str, config: TrainingConfig) -> str:
    """Why this data cannot have the score; empty when it can."""
    keypoint_set = KEYPOINT_SETS[config.data.keypoint_set]
    if score.startswith("pckh@") and keypoint_set.head_segment is None:
        return f"{keypoint_set.name} has no head segment, so no {score}; use ap, or pck@0.2"
    if score.startswith(("ap_easy", "ap_medium", "ap_hard")) and keypoint_set.name != "crowdpose14":
        return f"{score} is CrowdPose's: only crowdpose14 has it"
    sources = () if config.data.kind == "synthetic" else getattr(config.data, split)
    if split == "test" and not sources:
        return f"test/{score} needs a test split, and data.test names none"
    if score.endswith(DETECTED) and not any(source.detections for source in sources):
        return f"{split}/{score} needs a person detector's boxes, and data.{split} names no detections"
    return ""
