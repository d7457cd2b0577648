"""Rows to frames, with rows made by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.errors import StoreError
from analysis.frames import Cells, Points, TrialRows, as_logged, columns_of, epochs_frame, trials_frame
from orchestrator import keys

TEXT = pd.Series(["text"]).dtype


def rows(*cells: tuple[str, str, object], tags: dict[str, str] | None = None) -> TrialRows:
    """Two trials, `b` before `a`; cells: metrics where the value is a number or None, else parameters."""
    is_text = [isinstance(value, str) for _, _, value in cells]
    metrics = [cell for cell, text in zip(cells, is_text) if not text]
    params = [cell for cell, text in zip(cells, is_text) if text]
    marked = [("a", name, value) for name, value in (tags or {}).items()]
    started = [(7, "a"), (3, "b")]
    return TrialRows(started, *(Cells(*columns_of(some, 3)) for some in (metrics, params, marked)))


def test_trials_are_oldest_first_and_names_in_alphabetical_order() -> None:
    frame = trials_frame(rows(("a", "z", 1.0), ("a", "c:d", 2.0), ("b", "p", "x"), ("a", "o", "y")))
    assert list(frame["run_id"]) == ["b", "a"]
    assert list(frame["started"]) == [3, 7]
    assert list(frame.columns[-4:]) == ["params.o", "params.p", "metrics.c@d", "metrics.z"]


def test_what_a_run_did_not_record_is_missing() -> None:
    frame = trials_frame(rows(("a", "m", None), ("b", "m", 0.0), ("b", "p", "")))
    assert frame["metrics.m"].isna().to_list() == [False, True]
    assert frame["params.p"].isna().to_list() == [False, True]
    assert frame["params.p"].iloc[0] == ""


def test_a_tag_that_is_absent_or_empty_is_an_empty_text_except_where_one_is_meant() -> None:
    frame = trials_frame(rows(tags={keys.ARM: None, keys.SEED: "", keys.STATE: "", keys.PROTOCOL: None}))
    for _, row in frame.iterrows():
        assert (row["arm"], row["reason"], row["seed"], row["state"], row["protocol"]) == ("", "", -1, keys.RUNNING, {})


def test_types_do_not_depend_on_what_is_recorded() -> None:
    for frame in (trials_frame(rows(("a", "m", 1.0), ("a", "p", "1"))), trials_frame(rows(("b", "m", None)))):
        types = frame.dtypes.to_dict()
        assert {types["started"], types["seed"]} == {np.dtype("int64")}
        assert types["metrics.m"] == np.dtype("float64")
        assert types["protocol"] == np.dtype(object)
        assert {types[name] for name in ("run_id", "arm", "state", "reason", "teacher")} == {TEXT}
        assert {types[name] for name in types if name.startswith("params.")} <= {TEXT}


@pytest.mark.parametrize(
    ("tag", "text"), [(keys.SEED, "one"), (keys.PROTOCOL, "{"), (keys.PROTOCOL, "[]"), (keys.PROTOCOL, "1")]
)
def test_an_unreadable_tag_names_run_and_tag(tag: str, text: str) -> None:
    with pytest.raises(StoreError, match=f"run a carries an unreadable tag {tag}: "):
        trials_frame(rows(tags={tag: text}))


def test_the_largest_floats_are_infinite_values() -> None:
    largest = np.finfo(np.float64).max
    np.testing.assert_array_equal(as_logged([largest, -largest, None, 0.0]), [math.inf, -math.inf, math.nan, 0.0])
    assert as_logged([np.nextafter(largest, 0)])[0] < math.inf


def test_epochs_follow_the_order_of_trials_and_metrics() -> None:
    trials = trials_frame(rows()).iloc[::-1]
    points = [("b", "x:y", 2, 1, 0.2), ("b", "x:y", 1, 1, 0.1), ("a", "z", 1, 1, None), ("a", "x:y", 1, 1, 0.3)]
    frame = epochs_frame(trials, ["z", "x@y"], Points(*columns_of(points, 5)))
    expected = [("a", "z", 1), ("a", "x@y", 1), ("b", "x@y", 1), ("b", "x@y", 2)]
    assert list(frame[["run_id", "metric", "epoch"]].itertuples(index=False, name=None)) == expected
    assert frame["value"].to_list()[1:] == [0.3, 0.1, 0.2]
    assert math.isnan(frame["value"].iloc[0])


def test_of_an_epoch_reported_again_the_latest_value_counts() -> None:
    points = [("a", "z", 1, 6, 0.1), ("a", "z", 1, 5, 0.9)]
    frame = epochs_frame(trials_frame(rows()), ["z"], Points(*columns_of(points, 5)))
    assert frame["value"].to_list() == [0.1]


def test_of_equal_times_the_larger_number_counts_and_a_number_before_nan() -> None:
    points = [("a", "z", 1, 5, 0.2), ("a", "z", 1, 5, 0.3), ("a", "z", 1, 5, None)]
    frame = epochs_frame(trials_frame(rows()), ["z"], Points(*columns_of(points, 5)))
    assert frame["value"].to_list() == [0.3]


def test_columns_of_no_rows_are_empty() -> None:
    assert columns_of([], 3) == [[], [], []]
    assert columns_of(iter([(1, 2), (3, 4)]), 2) == [[1, 3], [2, 4]]
