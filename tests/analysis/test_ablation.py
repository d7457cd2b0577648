"""Which runs enter which cell."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analysis.ablation import AblationTable, Choices, Row, ablation_table
from analysis.errors import MixedProtocols
from orchestrator import keys
from tests.analysis.recorded import PROTOCOL, StudyBuilder, Workbench, best, specification_of


def made(workbench: Workbench, study: str, *allow: str) -> AblationTable:
    return ablation_table(workbench.read(study), Choices(allow))


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
    comparison = row_of(table, "full").comparison
    assert comparison is not None
    found = comparison.difference
    half = 4.302652729911275 * pairs.std() / math.sqrt(3)  # t(0.975, 2)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (pairs.mean(), pairs.mean() - half, pairs.mean() + half)
    )
    assert comparison.baseline == "plain"
    assert row_of(table, "plain").comparison is None


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


def test_a_study_may_allow_a_difference_and_its_reader_another(workbench: Workbench) -> None:
    builder = workbench.study("mixed-by-the-study", specification_of("mixed-by-the-study", table={"allow": ["epochs"]}))
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.6), protocol=PROTOCOL | {"epochs": 4, "input_size": 32})
    with pytest.raises(MixedProtocols, match="input_size"):
        made(workbench, "mixed-by-the-study")
    assert made(workbench, "mixed-by-the-study", "input_size").protocol_notes == (
        "Protocols differ in input_size, as allowed: 64 (base); 32 (full).",
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


def test_a_block_is_compared_with_its_own_baseline(workbench: Workbench, resolutions: StudyBuilder) -> None:
    table = made(workbench, "resolutions")
    assert table.baselines == ("SimCC/32", "SimCC/64")
    small = row_of(table, "CDKD/32")
    ours, theirs = small.cells[1].statistics.mean, row_of(table, "SimCC/32").cells[1].statistics.mean
    assert small.comparison is not None
    assert small.comparison.baseline == "SimCC/32"
    assert small.comparison.difference.mean == pytest.approx(ours - theirs)
    assert row_of(table, "SimCC/64").comparison is None
    assert [len(block) for block in table.row_blocks] == [3, 3]


def test_a_baseline_need_not_be_a_row(workbench: Workbench) -> None:
    layout = {"arms": ["full"], "blocks": [{"arms": ["full"], "baseline": "base"}]}
    builder = workbench.study("hidden-baseline", specification_of("hidden-baseline", table=layout, seeds=[0]))
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.6))
    table = made(workbench, "hidden-baseline")
    assert [row.arm for row in table.rows] == ["full"]
    assert table.rows[0].comparison is not None
    assert table.rows[0].comparison.difference.mean == pytest.approx(10.0)


def test_blocks_may_differ_in_what_every_row_states_and_in_nothing_else(
    workbench: Workbench, resolutions: StudyBuilder
) -> None:
    assert made(workbench, "resolutions").protocol_notes == ()
    assert "input_size" not in made(workbench, "resolutions").protocol
    specification = specification_of("unstated", seeds=[0])
    builder = workbench.study("unstated", specification)
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.6), protocol=PROTOCOL | {"input_size": 32})
    with pytest.raises(MixedProtocols, match="input_size"):
        made(workbench, "unstated")


def test_p_values_are_adjusted_over_all_rows_of_the_table(workbench: Workbench, resolutions: StudyBuilder) -> None:
    comparisons = [row.comparison for row in made(workbench, "resolutions").rows if row.comparison]
    assert len(comparisons) == 4
    assert min(one.p for one in comparisons) == 2**-7
    assert min(one.p_holm for one in comparisons) == 4 * 2**-7


def test_the_papers_value_is_judged_by_our_interval(workbench: Workbench, resolutions: StudyBuilder) -> None:
    table = made(workbench, "resolutions")
    verdicts = {row.arm: row.reference.reproduction.is_reproduced for row in table.rows if row.reference}
    assert verdicts == {"SimCC/32": True, "CDKD/32": False, "CDKD/64": True}
    widened = row_of(table, "CDKD/64").reference
    assert widened is not None
    assert widened.std == 0.2
    assert widened.reproduction.high - widened.reproduction.low > 0.4


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_the_interval_is_the_readers_choice(workbench: Workbench, modules: StudyBuilder, interval: str) -> None:
    record = workbench.read("modules")
    by_t, chosen = ablation_table(record), ablation_table(record, Choices(interval=interval))
    rows = [row_of(table, "full").comparison for table in (by_t, chosen)]
    assert rows[0] is not None
    assert rows[1] is not None
    assert rows[1].difference.low > rows[0].difference.low, "over three pairs a bootstrap is narrower than t"
    assert chosen.interval == interval


def test_both_epochs_stand_side_by_side_on_request(workbench: Workbench, modules: StudyBuilder) -> None:
    table = ablation_table(workbench.read("modules"), Choices(side_by_side=True))
    assert [column.stored for column in table.columns[:2]] == ["best/val/pckh@0.5", "final/val/pckh@0.5"]
    assert table.metric == table.columns[0]
    cells = row_of(table, "plain").cells
    assert (cells[0].statistics.mean, cells[1].statistics.mean) == pytest.approx((70.0, 69.0))


def test_what_a_run_is_known_by_comes_with_its_value(workbench: Workbench) -> None:
    builder = workbench.study("known", seeds=[4])
    run_id = builder.trial("base", 4, best(0.5), teacher="t1", revision="r1", reused_from="other/base-seed4")
    [source] = made(workbench, "known").rows[0].cells[0].sources
    assert (source.seed, source.run_id, source.teacher, source.revision) == (4, run_id, "t1", "r1")
    assert source.reused_from == "other/base-seed4"
