"""The table of a search."""

from __future__ import annotations

import pytest

from analysis.errors import MixedProtocols
from analysis.search import search_table
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
