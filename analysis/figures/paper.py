"""The paper's printed results (analysis/paper_tables.yaml) as points beside ours."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

FILE = Path(__file__).parents[1] / "paper_tables.yaml"
# Keypoint set and score of a study -> table and column of the paper that has the same on the same data set.
SAME = {
    ("mpii16", "val/pckh@0.5"): ("table_I", "pckh05"),
    ("mpii16", "val/pckh@0.1"): ("table_I", "pckh01"),
    ("mpii16", "val/pckh@0.11"): ("table_I", "pckh011"),
    ("coco17", "val/ap"): ("table_II", "ap"),
    ("crowdpose14", "test/ap@det"): ("table_III", "ap"),  # YOLOv3's boxes
}
POINT_COLUMNS = ["label", "size", "gflops", "params_m", "value"]


def paper_points(protocol: dict[str, Any], metric: str, sizes: Collection[int]) -> tuple[str, pd.DataFrame]:
    """The paper's points that a study may be shown beside.

    Args:
        protocol: the study's; drawn data are no data set of the paper.
        metric: the score, such as `val/ap`.
        sizes: input sizes of the study.

    Returns:
        The table's title, and POINT_COLUMNS (printed units) of the rows of these sizes with a printed cost and score;
        both empty where the paper has nothing comparable.
    """
    table, name = SAME.get((str(protocol.get("keypoints")), metric), ("", ""))
    if not table or protocol.get("splits", "drawn") == "drawn":
        return "", pd.DataFrame(columns=POINT_COLUMNS)
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))[table]
    rows = [_point(row, values, name) for row, values in content["rows"].items() if {"gflops", name} <= values.keys()]
    return str(content["title"]), pd.DataFrame(
        [row for row in rows if row["size"] in sizes], columns=POINT_COLUMNS
    ).reset_index(drop=True)


def _point(row: str, values: dict[str, Any], name: str) -> dict[str, Any]:
    """A row named `method/backbone/size`."""
    method, _, size = row.split("/")
    return {
        "label": method,
        "size": int(size),
        "gflops": float(values["gflops"]),
        "params_m": float(values["params_m"]),
        "value": float(values[name]),
    }
