"""Which runs enter which cell."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analysis.ablation import AblationTable, Row, ablation_table
from analysis.errors import MixedProtocols
from orchestrator import keys
from tests.analysis.recorded import PROTOCOL, StudyBuilder, Workbench, best, specification_of


def made(workbench: Workbench, study: str, *allow: str) -> AblationTable:
    return ablation_table(workbench.read(study), allow)


def row_of(table: AblationTable, arm: str) -> Row:
    return next(row for row in table.rows if row.arm == arm)


def test_cells_agree_with_plain_pandas(workbench: Workbench, modules: StudyBuilder) -> None:
    trials = workbench.read("modules").trials
    finished = trials[(trials["kind"] == "student") & (trials["state"] == "finished")]
    expected = finished.groupby("arm")["metrics.best/val/pckh@0.5"].agg(["mean", "std", "count"])
    for row in made(workbench, "modules").rows[:2]:
        found = row.cells[0].statistics
        assert [found.mean / 100, found.std / 100, found.n] == pytest.approx(list(expected.loc[row.arm]))


def test_the_difference_is_paired_by_seed(workbench: Workbench, modules: StudyBuilder) -> None:
    table = made(workbench, "modules")
    pairs = pd.Series([4.0, 5.0, 5.5])
    found = row_of(table, "full").difference
    half = 4.302652729911275 * pairs.std() / math.sqrt(3)  # t(0.975, 2)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx(
        (pairs.mean(), pairs.mean() - half, pairs.mean() + half)
    )
    assert row_of(table, "plain").difference is None


@pytest.mark.parametrize("state", [state for state in keys.STATES if state != keys.FINISHED])
def test_only_finished_trials_enter_a_cell(workbench: Workbench, state: str) -> None:
    study = f"state-{state}"
    builder = workbench.study(study, seeds=[0, 1])
    builder.trial("base", 0, best(0.5))
    run_id = builder.trial("base", 1, best(0.9), state=state, reason="why")
    row = row_of(made(workbench, study), "base")
    assert (row.cells[0].statistics.mean, row.cells[0].statistics.n) == (50.0, 1)
    assert [(a.seed, a.state, a.reason, a.run_id) for a in row.absences] == [(1, state, "why", run_id)]


def test_a_seed_nobody_started_is_missing(workbench: Workbench) -> None:
    workbench.study("unstarted").trial("base", 1, best(0.5))
    table = made(workbench, "unstarted")
    assert [(a.seed, a.state) for a in row_of(table, "base").absences] == [(0, "missing"), (2, "missing")]
    assert len(row_of(table, "full").absences) == 3


def test_a_finished_trial_without_the_metric_is_named(workbench: Workbench) -> None:
    workbench.study("half", seeds=[0]).trial("base", 0, {"params_m": 1.0})
    row = row_of(made(workbench, "half"), "base")
    assert [cell.statistics.n for cell in row.cells] == [0, 1]
    assert [a.state for a in row.absences] == ["finished without best/val/pckh@0.5"]


def test_the_newest_trial_of_an_arm_and_seed_counts(workbench: Workbench) -> None:
    builder = workbench.study("edited", seeds=[0])
    builder.trial("base", 0, best(0.9))
    newer = builder.trial("base", 0, best(0.4))
    table = made(workbench, "edited")
    assert [source.run_id for source in table.rows[0].cells[0].sources] == [newer]
    assert table.superseded == 1


def test_a_plan_in_the_specification_overrules_the_newest(workbench: Workbench) -> None:
    builder = workbench.study("went-back", seeds=[0], trials=["base-first"])
    first = builder.trial("base", 0, best(0.9), trial_id="base-first")
    builder.trial("base", 0, best(0.4), trial_id="base-second")
    assert [s.run_id for s in made(workbench, "went-back").rows[0].cells[0].sources] == [first]


def test_seeds_and_arms_the_study_no_longer_has_are_left_out(workbench: Workbench) -> None:
    builder = workbench.study("shrunk", seeds=[0])
    builder.trial("base", 0, best(0.5))
    builder.trial("base", 5, best(0.9))
    builder.trial("gone", 0, best(0.9), protocol=PROTOCOL | {"epochs": 99})
    table = made(workbench, "shrunk")
    assert [row.arm for row in table.rows] == ["base", "full"]
    assert table.rows[0].cells[0].statistics.mean == 50.0


def test_mixed_protocols_are_refused_unless_allowed(workbench: Workbench) -> None:
    builder = workbench.study("mixed", seeds=[0])
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.6), protocol=PROTOCOL | {"epochs": 4})
    with pytest.raises(MixedProtocols, match=r"epochs: 3 \(base\); 4 \(full\)"):
        made(workbench, "mixed")
    assert made(workbench, "mixed", "epochs").protocol_notes == (
        "Protocols differ in epochs, as allowed: 3 (base); 4 (full).",
    )


def test_an_unfinished_trial_of_another_protocol_is_no_mix(workbench: Workbench) -> None:
    builder = workbench.study("pruned-other", seeds=[0])
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.6), protocol=PROTOCOL | {"epochs": 4}, state=keys.PRUNED)
    assert made(workbench, "pruned-other").protocol_notes == ()


def test_the_last_epoch_is_read_when_the_study_says_so(workbench: Workbench) -> None:
    metric = {"name": "val/pckh@0.5", "mode": "max", "select": "last"}
    workbench.study("last-epoch", specification_of("last-epoch", seeds=[0], metric=metric)).trial("base", 0, best(0.5))
    assert made(workbench, "last-epoch").rows[0].cells[0].statistics.mean == pytest.approx(49.0)


def test_the_study_metric_is_a_column_even_when_not_listed(workbench: Workbench) -> None:
    workbench.study("unlisted", specification_of("unlisted", table={"columns": ["params_m"]}))
    assert [column.metric for column in made(workbench, "unlisted").columns] == ["val/pckh@0.5", "params_m"]
