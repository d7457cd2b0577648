"""Which scores a study may name, given its data."""

from typing import Any

import pytest

from cdkd.config import TrainingConfig, resolve
from orchestrator.metrics import COLUMN_SCORES, column_fault, objective_fault, parts_of


def of(keypoint_set: str, *, detections: str = "", **data: Any) -> TrainingConfig:
    """A configuration of files with a validation split."""
    train, val = {"annotations": "a", "images": "a"}, {"annotations": "b", "images": "b", "detections": detections}
    kind = {"kind": "coco_layout", "keypoint_set": keypoint_set, "train": [train], "val": [val]}
    return resolve({"data": kind | data})


def test_printed_groups_and_the_plain_mean_are_columns():
    config = of("crowdpose14")
    assert [column_fault(f"val/pckh@0.5/{part}", config) for part in parts_of(config)] == [""] * len(parts_of(config))
    assert {"head", "shoulder", "unweighted", "left_ankle"} <= set(parts_of(config))


@pytest.mark.parametrize(
    ("name", "keypoint_set", "message"),
    [
        ("val/pckh@0.5/shoulders", "mpii16", "has no keypoint 'shoulders' (did you mean 'shoulder'?)"),
        ("val/ap/head", "mpii16", "ap is of whole persons; it has no part 'head'"),
        ("val/ap@det", "coco17", "needs a person detector's boxes, and data.val names no detections"),
        ("val/ap_hard", "coco17", "ap_hard is CrowdPose's"),
        ("val/pckh@0.11", "coco17", "coco17 has no head segment"),
        ("test/ap", "coco17", "data.test names none"),
        ("val/ap@dat", "coco17", "no such score or cost: 'val/ap@dat' (did you mean 'val/ap@det'?)"),
    ],
)
def test_a_column_the_data_cannot_have_is_refused(name: str, keypoint_set: str, message: str):
    assert message in column_fault(name, of(keypoint_set))


def test_a_detectors_scores_are_columns_where_there_are_its_boxes():
    config = of("crowdpose14", detections="boxes.json")
    assert [column_fault(f"val/{name}@det", config) for name in ("ap", "ar", "ap_hard")] == [""] * 3
    assert "must be val/<score>" in objective_fault("val/ap@det", config), "it is taken at the end, not every epoch"


def test_every_column_score_has_a_use():
    crowd, plain = of("crowdpose14", detections="boxes.json"), of("mpii16")
    usable = {name for name in COLUMN_SCORES for config in (crowd, plain) if not column_fault(f"val/{name}", config)}
    assert usable == set(COLUMN_SCORES)
