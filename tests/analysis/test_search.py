"""The table of a search."""

from __future__ import annotations

import json

import pytest

from analysis.errors import MixedProtocols
from analysis.search import SearchTable, search_table
from analysis.search_sheet import search_sheet
from analysis.store import Store
from analysis.tables import read
from orchestrator import keys
from tests.analysis.recorded import PROTOCOL, SEARCH, StudyBuilder, Workbench, best, specification_of


def test_finished_trials_come_first_best_first(workbench: Workbench, tuning: StudyBuilder) -> None:
    table = search_table(workbench.read("tuning"))
    assert table is not None
    assert [(trial.trial_id, trial.value) for trial in table.trials] == [
        ("search-1", pytest.approx(65.0)),
        ("search-0", pytest.approx(61.0)),
        ("search-3", pytest.approx(58.0)),
        ("search-2", None),
        ("search-4", None),
    ]


def test_a_pruned_trial_has_no_value_however_good(workbench: Workbench, tuning: StudyBuilder) -> None:
    table = search_table(workbench.read("tuning"))
    assert table is not None
    assert {trial.state: trial.value for trial in table.trials}["pruned"] is None


def test_a_study_may_allow_its_search_a_difference(workbench: Workbench) -> None:
    layout = {"arms": ["base"], "allow": ["epochs"]}
    builder = workbench.study("searched-allowed", specification_of("searched-allowed", table=layout, search=SEARCH))
    builder.trial("base", 7, best(0.60))
    builder.trial("search", 0, best(0.61), trial_id="search-0", protocol=PROTOCOL | {"epochs": 9})
    table = search_table(workbench.read("searched-allowed"))
    assert table is not None
    assert table.protocol_notes == ("Protocols differ in epochs, as allowed: 3 (base); 9 (search).",)


def test_counts_are_of_all_trials_also_when_few_are_shown(workbench: Workbench, tuning: StudyBuilder) -> None:
    table = search_table(workbench.read("tuning"), top=2)
    assert table is not None
    assert len(table.trials) == 2
    assert table.counts == {"finished": 3, "pruned": 1, "failed": 1}


def test_parameters_are_those_of_the_space_and_what_else_varies(workbench: Workbench, tuning: StudyBuilder) -> None:
    table = search_table(workbench.read("tuning"))
    assert table is not None
    assert table.parameters == ("distill.alpha", "distill.tau", "distill.kernel")


def test_the_base_stands_beside_the_search(workbench: Workbench, tuning: StudyBuilder) -> None:
    table = search_table(workbench.read("tuning"))
    assert table is not None
    assert (table.base.mean, table.base.n, len(table.base_runs)) == (60.0, 1, 1)


def test_a_minimised_metric_ranks_upwards(workbench: Workbench) -> None:
    metric = {"name": "val/loss", "mode": "min", "select": "best"}
    builder = workbench.study("least-loss", specification_of("least-loss", metric=metric, search=SEARCH))
    for value in (0.3, 0.1, 0.2):
        builder.trial("search", 0, {"best/val/loss": value})
    table = search_table(workbench.read("least-loss"))
    assert table is not None
    assert [trial.value for trial in table.trials] == [0.1, 0.2, 0.3]


def test_a_base_of_another_protocol_is_refused(workbench: Workbench) -> None:
    builder = workbench.study("other-base", specification_of("other-base", seeds=[0], search=SEARCH))
    builder.trial("base", 0, best(0.5), protocol=PROTOCOL | {"epochs": 9})
    builder.trial("search", 0, best(0.6))
    with pytest.raises(MixedProtocols, match="epochs"):
        search_table(workbench.read("other-base"))


def test_a_study_without_a_search_has_no_such_table(workbench: Workbench, modules: StudyBuilder) -> None:
    assert search_table(workbench.read("modules")) is None


def test_members_of_a_population_are_shown_with_their_schedules(workbench: Workbench) -> None:
    search = SEARCH | {"space": {"distill.alpha": {}, "distill.beta": {}}, "trials": 3}
    builder = workbench.study("population", specification_of("population", seeds=[0], search=search))
    schedule = {"distill.alpha": [[1, 0.5], [3, 0.6], [5, 0.48]], "distill.beta": [[1, 2.0], [3, 1.6]]}
    lineage = [[1, "search-1"], [3, "search-0"]]
    tags = {"lineage": json.dumps(lineage), "schedule": json.dumps(schedule)}
    params = {"distill.alpha": "0.5", "distill.beta": "2.0", "schedule": "[...]"}
    builder.trial("search", 0, best(0.7), trial_id="search-0", params=params, **tags)
    constant = {"schedule": json.dumps({"distill.alpha": [[1, 0.5]], "distill.beta": [[1, 2.0]]}), "lineage": "[]"}
    builder.trial("search", 0, best(0.6), trial_id="search-1", params=params | {"schedule": "[]"}, **constant)
    builder.trial("search", 0, None, trial_id="search-2", state=keys.RUNNING, **constant)
    table = search_table(workbench.read("population"))
    assert table is not None
    assert table.parameters == ("distill.alpha", "distill.beta")
    assert [trial.parameters for trial in table.trials] == [
        ("0.5 to 0.48 in 2 steps", "2 to 1.6 in 1 step"),
        ("0.5", "2"),
        ("0.5", "2"),
    ]
    sheet = search_sheet(table)
    assert sheet.remarks[0] == (
        "search-0 was trained by search-1 from epoch 1, search-0 from epoch 3; in a study: set: "
        "{distill.alpha: 0.5, distill.beta: 2.0, schedule: [{epoch: 3, option: distill.alpha, value: 0.6}, "
        "{epoch: 3, option: distill.beta, value: 1.6}, {epoch: 5, option: distill.alpha, value: 0.48}]}"
    )
    assert [record["schedule"] for record in sheet.records][1] == "{distill.alpha: 0.5, distill.beta: 2.0}"


BOTH = [
    {"name": "val/pckh@0.5", "mode": "max", "select": "best"},
    {"name": "gmacs", "mode": "min", "select": "best"},
]


def weighed(workbench: Workbench, name: str, **search) -> SearchTable:
    """Five trials: two on the front, one beaten, one cheap beyond a limit of 3 M parameters, one pruned."""
    builder = workbench.study(name, specification_of(name, search=SEARCH | {"pruner": "none"} | search))
    for score, cost, size in [(0.60, 2.0, 1.0), (0.70, 4.0, 2.0), (0.65, 4.0, 3.0), (0.80, 1.0, 3.5)]:
        builder.trial("search", 0, best(score) | {"gmacs": cost, "params_m": size})
    builder.trial("search", 0, best(0.99) | {"gmacs": 0.5, "params_m": 1.0}, state="pruned")
    table = search_table(read(Store(workbench.uri), name))
    assert table is not None
    return table


def test_several_objectives_have_a_front_that_comes_first(workbench: Workbench) -> None:
    table = weighed(workbench, "weighed", objectives=BOTH, limits={"params_m": {"max": 3.0}})
    assert [column.metric for column in (table.metric, *table.others)] == ["val/pckh@0.5", "gmacs", "params_m"]
    assert [(trial.value, trial.others, trial.is_front, trial.is_within) for trial in table.trials] == [
        (pytest.approx(70.0), (4.0, 2.0), True, True),
        (pytest.approx(60.0), (2.0, 1.0), True, True),
        (pytest.approx(65.0), (4.0, 3.0), False, True),
        (pytest.approx(80.0), (1.0, 3.5), False, False),
        (None, (None, None), False, True),
    ]
    assert table.front == 2


def test_the_whole_front_is_shown_however_few_are_asked_for(workbench: Workbench) -> None:
    weighed(workbench, "whole-front", objectives=BOTH, limits={"params_m": {"max": 3.0}})
    table = search_table(workbench.read("whole-front"), top=1)
    assert table is not None
    assert [trial.is_front for trial in table.trials] == [True, True]


def test_the_sheet_tells_front_and_limits(workbench: Workbench) -> None:
    sheet = search_sheet(weighed(workbench, "told-front", objectives=BOTH, limits={"params_m": {"max": 3.0}}))
    assert sheet.caption[1:4] == (
        "Pareto front first: 2 trials, in bold, that no other beats in all of PCKh@0.5 val (max) and MACs (min).",
        "Limits: params_m at most 3; a trial beyond one is never the best.",
        "Then best first, 5 shown; of 6 trials planned: 4 finished, 1 pruned.",
    )
    assert [row[-1].text for row in sheet.rows] == [
        "finished, front",
        "finished, front",
        "finished",
        "finished, over a limit",
        "pruned",
    ]
    assert [entry.is_best for entry in sheet.rows[0][-4:]] == [True, True, True, False]
    assert not any(entry.is_best for row in sheet.rows[2:] for entry in row)
    assert [record["front"] for record in sheet.records] == [True, True, False, False, False]
    assert [record["within_limits"] for record in sheet.records] == [True, True, True, False, True]
    assert sheet.records[0]["gmacs"] == 4.0


def test_a_trial_beyond_a_limit_is_not_the_best_of_one_objective(workbench: Workbench) -> None:
    table = weighed(workbench, "limited", limits={"params_m": {"max": 3.0}})
    assert [trial.value for trial in table.trials] == [pytest.approx(v) for v in (70.0, 65.0, 60.0, 80.0)] + [None]
    bold = [[entry.is_best for entry in row].count(True) for row in search_sheet(table).rows]
    assert bold == [2, 0, 0, 0, 0]


def test_the_rank_correlation_of_early_epochs_is_of_full_trials_each_training_once(workbench: Workbench) -> None:
    specification = specification_of("early", search=SEARCH | {"rungs": [1, 2]})
    builder = workbench.study("early", specification)
    for index in range(22):
        curve = {"val/pckh@0.5": [0.01 * (index % 5), 0.02 * index, 0.03 * index]}
        builder.trial("search", 0, best(0.03 * index), epochs=curve)
    builder.trial("search", 0, best(0.0), epochs={"val/pckh@0.5": [0.9, 0.9, 0.9]}, fingerprint="twin")
    builder.trial("search", 0, best(0.0), epochs={"val/pckh@0.5": [0.9, 0.9, 0.9]}, fingerprint="twin")
    builder.trial("search", 0, best(0.9), epochs={"val/pckh@0.5": [0.9]}, state="pruned")
    table = search_table(read(Store(workbench.uri), "early"))
    assert table is not None
    assert [(each.epoch, each.n) for each in table.ranks] == [(1, 23), (2, 23)]
    assert table.ranks[0].rho < table.ranks[1].rho < 1
    remarks = search_sheet(table).remarks
    assert any(line.startswith("Rank correlation of early epochs") and "(n = 23)" in line for line in remarks)


def test_trials_that_the_study_would_train_another_way_now_are_not_of_the_search(workbench: Workbench) -> None:
    specification = specification_of("superseded", search=SEARCH | {"rungs": [1]}) | {"superseded": ["search-0"]}
    builder = workbench.study("superseded", specification)
    for index in range(2):
        builder.trial("search", 0, best(0.9 - 0.1 * index), trial_id=f"search-{index}", epochs={"val/pckh@0.5": [0.5]})
    record = workbench.read("superseded")
    table = search_table(record)
    assert table is not None
    assert [trial.trial_id for trial in table.trials] == ["search-1"]
    assert table.counts == {"finished": 1}
    assert set(record.early["trial_id"]) == {"search-1"}
    assert len(record.trials) == 2  # a run stays to be found by its id
