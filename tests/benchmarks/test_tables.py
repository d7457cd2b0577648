"""The benchmark of tables, on a small store: both ways see the same study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from analysis.frames import METRICS, PARAMS
from analysis.store import Store
from benchmarks.tables import ARMS, PARAMETERS, STUDY, SUMMARY, build, with_mlflow


@pytest.fixture(autouse=True)
def own_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`mlflow.search_runs` knows its store from the process and its environment only."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    yield
    mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("kind", ARMS)
def test_both_ways_give_the_frame_of_all_runs(kind: str, tmp_path: Path) -> None:
    uri = build(tmp_path, 20, kind)
    frame = Store(uri).read(STUDY).trials
    pd.testing.assert_frame_equal(frame, with_mlflow(uri), check_like=True)
    assert len(frame) == frame["trial_id"].nunique() == frame["run_id"].nunique() == 20
    assert {name for name in frame if name.startswith((METRICS, PARAMS))} == {
        *(METRICS + name for name in SUMMARY),
        *(PARAMS + name for name in PARAMETERS),
    }
    assert (len(SUMMARY), len(PARAMETERS)) == (20, 20)
    assert frame[METRICS + SUMMARY[0]].nunique() == 20 - len(ARMS[kind]) + 1  # those that MLflow wrote are equal
    assert frame["seed"].nunique() == 20 // len(ARMS[kind])
