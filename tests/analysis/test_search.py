"""The table of a search."""

from __future__ import annotations

import json

import pytest

from analysis.errors import MixedProtocols
from analysis.search import search_table
from analysis.search_sheet import search_sheet
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
