"""Which trainings a report tells of, and how far the study is."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from analysis.report.trials import Standing, labels, not_begun, standing
from orchestrator import keys
from tests.analysis.recorded import SEARCH, StudyBuilder, Workbench, best, specification_of
from tests.analysis.report.studies import trials

NOW = datetime(2026, 11, 23, 2, 5, tzinfo=UTC)


def test_arms_come_in_the_studys_order_and_only_teachers_that_are_used(
    workbench: Workbench, reported: StudyBuilder
) -> None:
    found = trials(workbench, "reported")
    expected = [(arm, seed) for arm in ("base", "full", "crash") for seed in (0, 1)]
    assert list(zip(found["arm"], found["seed"]))[:-1] == expected
    assert list(found["role"]) == ["arm"] * 6 + ["teacher"]
    assert found["trial_id"].iloc[-1] == "teacher-new"


def test_seconds_are_what_a_finished_training_says_else_the_sum_of_its_epochs(
    workbench: Workbench, reported: StudyBuilder
) -> None:
    found = trials(workbench, "reported").set_index(["arm", "seed"])
    assert found.loc[("base", 0), "seconds"] == 3600
    assert found.loc[("crash", 0), ["seconds", "epochs"]].tolist() == [1800, 2]
    assert math.isnan(found.loc[("base", 0), "epochs"])


def test_a_result_taken_over_was_begun_no_time_and_a_retried_one_thrice(
    workbench: Workbench, reported: StudyBuilder
) -> None:
    found = trials(workbench, "reported").set_index(["arm", "seed"])["starts"]
    assert (found[("base", 0)], found[("full", 0)], found[("full", 1)]) == (1, 3, 0)


def test_without_a_recorded_attempt_a_training_was_begun_once_unless_taken_over(workbench: Workbench) -> None:
    builder = workbench.study("attempts", seeds=[0])
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.5), reused_from="other/x")
    assert list(trials(workbench, "attempts")["starts"]) == [1, 0]


def test_a_finished_training_of_unknown_length_has_none(workbench: Workbench, modules: StudyBuilder) -> None:
    builder = workbench.study("timeless", seeds=[0])
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, {}, state=keys.FAILED)
    found = trials(workbench, "timeless")["seconds"]
    assert math.isnan(found.iloc[0])
    assert found.iloc[1] == 0


def test_seeds_and_arms_that_are_no_longer_asked_for_are_left_out(workbench: Workbench) -> None:
    builder = workbench.study("report-shrunk", seeds=[0])
    for arm, seed in (("base", 0), ("base", 1), ("full", 0), ("dropped", 0)):
        builder.trial(arm, seed, best(0.5))
    found = trials(workbench, "report-shrunk")
    assert list(zip(found["arm"], found["seed"])) == [("base", 0), ("full", 0)]


def test_what_was_stopped_early_is_measured_by_its_epochs(workbench: Workbench) -> None:
    builder = workbench.study("stopped-early", seeds=[0])
    builder.trial(
        "base", 0, best(0.5, train_seconds=99.0), state=keys.PRUNED, epochs={"time/epoch_seconds": [5.0, 6.0]}
    )
    found = trials(workbench, "stopped-early").iloc[0]
    assert (found["seconds"], found["epochs"]) == (11, 2)


def test_a_label_that_two_arms_share_gives_way_to_their_names(workbench: Workbench) -> None:
    table = {"arms": ["a/32", "a/64", "b"], "labels": {"a/32": "A", "a/64": "A", "b": "B"}}
    workbench.study("shared-labels", specification_of("shared-labels", table=table))
    assert labels(workbench.read("shared-labels")) == {"a/32": "a/32", "a/64": "a/64", "b": "B"}


def test_a_running_study_is_partial_with_counts_and_time(workbench: Workbench, reported: StudyBuilder) -> None:
    where = standing(workbench.read("reported"), trials(workbench, "reported"))
    assert where == Standing(7, {keys.RUNNING: 1, keys.FINISHED: 5, keys.FAILED: 1})
    assert where.sentence(NOW) == (
        "Partial: 5 of 7 trainings have finished (1 running, 1 failed), as the store had it on 2026-11-23 02:05 UTC. "
        "Numbers below are of what has finished, and will change."
    )


def test_trials_that_were_never_begun_are_counted_and_named(workbench: Workbench, modules: StudyBuilder) -> None:
    record, found = workbench.read("modules"), trials(workbench, "modules")
    assert standing(record, found).counts["not started"] == 3
    assert not_begun(record, found) == [("ensemble", 2), ("etht_only", 1), ("etht_only", 2)]


@pytest.mark.parametrize(
    ("counts", "beginning"),
    [
        ({keys.FINISHED: 2}, "2 of 2"),
        ({keys.FINISHED: 1, keys.PRUNED: 1}, "1 of 2"),
        ({keys.FINISHED: 1, keys.FAILED: 1}, "Incomplete: 1 of 2"),
        ({keys.FINISHED: 1, keys.INTERRUPTED: 1}, "Partial: 1 of 2"),
    ],
)
def test_only_what_may_still_come_makes_a_study_partial(counts: dict, beginning: str) -> None:
    assert Standing(2, counts).sentence(NOW).startswith(beginning)


def test_a_search_is_planned_at_full_length(workbench: Workbench, tuning: StudyBuilder) -> None:
    where = standing(workbench.read("tuning"), trials(workbench, "tuning"))
    assert where.planned == 1 + SEARCH["trials"]
    assert where.counts["not started"] == 1


def test_a_search_whose_base_is_not_asked_for_plans_no_arms(workbench: Workbench) -> None:
    layout = {"columns": ["val/pckh@0.5"], "baseline": "", "arms": ["base"]}
    builder = workbench.study("pure", specification_of("pure", table=layout, seeds=[7], search=SEARCH))
    builder.trial("search", 0, best(0.5))
    record = workbench.read("pure")
    assert standing(record, trials(workbench, "pure")).planned == SEARCH["trials"]
    assert not_begun(record, trials(workbench, "pure")) == []
