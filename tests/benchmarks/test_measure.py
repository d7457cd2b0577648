"""The arithmetic of paired timings."""

import json

import numpy as np
import pytest

from benchmarks.measure import compare, lines, ratio, write


def test_every_round_calls_each_arm_once_in_turn_and_warm_up_rounds_do_not_count():
    calls = []
    report = compare(
        {"slow": lambda: calls.append("slow"), "fast": lambda: calls.append("fast")},
        "slow",
        name="trial",
        pairs=3,
        warmups=2,
    )
    assert calls == ["slow", "fast"] * 5
    assert [len(arm["seconds"]) for arm in report["arms"].values()] == [3, 3]
    assert "times_as_fast" not in report["arms"]["slow"]


def test_the_ratio_is_the_median_of_pairs_however_the_machine_drifts():
    rng = np.random.default_rng(0)
    drift = np.array([1.0, 8.0, 3.0, 0.5, 2.0])
    values = ratio(4.0 * drift, drift, rng)
    assert values == {"ratio": 4.0, "low": 4.0, "high": 4.0}


def test_the_interval_holds_the_median_and_widens_with_the_spread():
    rng = np.random.default_rng(0)
    values = ratio([2.0, 2.1, 1.9, 2.0, 3.0], [1.0] * 5, rng)
    assert values["low"] <= values["ratio"] == 2.0 <= values["high"]
    assert values["low"] < values["high"]


def test_rates_are_units_over_the_median(tmp_path):
    report = compare({"one": lambda: None}, "one", name="trial", pairs=3, warmups=0, units=600.0, unit="crop pair")
    arm = report["arms"]["one"]
    assert arm["units_per_s"] == pytest.approx(600.0 / np.median(arm["seconds"]))
    assert "crop pairs/s" in lines(report)


def test_a_report_is_written_as_plain_json_and_nothing_is_left_beside_it(tmp_path):
    report = compare({"a": lambda: None, "b": lambda: None}, "a", name="trial", pairs=2, warmups=0)
    file = write(report, tmp_path / "out")
    assert json.loads(file.read_text())["arms"].keys() == {"a", "b"}
    assert [path.name for path in file.parent.iterdir()] == ["trial.json"]
    assert "times as fast as a (95 % CI" in lines(report)


@pytest.mark.parametrize(("baseline", "pairs"), [("c", 3), ("a", 0)])
def test_a_comparison_without_baseline_or_rounds_is_refused(baseline, pairs):
    with pytest.raises(ValueError, match="needs a baseline among \\['a'\\] and at least one pair"):
        compare({"a": lambda: None}, baseline, name="trial", pairs=pairs)
