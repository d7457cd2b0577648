"""What stands in which column, what is marked and what the notes say."""

from __future__ import annotations

import pytest

from analysis.ablation import Choices, ablation_table
from analysis.ablation_sheet import ablation_sheet
from analysis.render import FORMATS
from analysis.sheet import Entry, Sheet
from cdkd.training import CONVERGED
from orchestrator import keys
from tests.analysis.recorded import StudyBuilder, Workbench, best, specification_of


def sheet_of(workbench: Workbench, study: str, **choices) -> Sheet:
    return ablation_sheet(ablation_table(workbench.read(study), Choices(**choices)))


def column_of(sheet: Sheet, heading: str) -> list[Entry]:
    index = [one.text for one in sheet.header].index(heading)
    return [row[index] for row in sheet.rows]


def texts(sheet: Sheet, heading: str) -> list[str]:
    return [entry.text for entry in column_of(sheet, heading)]


def scored(workbench: Workbench, study: str, **means: float) -> Sheet:
    layout = {"arms": list(means), "baseline": "", "columns": ["val/pckh@0.5"]}
    builder = workbench.study(study, specification_of(study, table=layout, seeds=[0]))
    for arm, mean in means.items():
        builder.trial(arm, 0, best(mean))
    return sheet_of(workbench, study)


def test_an_arm_that_lost_seeds_is_marked_in_its_cells_and_never_best(
    workbench: Workbench, modules: StudyBuilder
) -> None:
    sheet = sheet_of(workbench, "modules")
    scores = column_of(sheet, "PCKh@0.5 val (%)")
    assert [entry.is_best for entry in scores] == [False, False, False, True, False]
    assert [entry.is_second for entry in scores] == [False, True, False, False, False]
    assert [entry.marks for entry in scores] == [(), (), (1,), (), (2,)]
    assert sheet.footnotes[0] == "ensemble: seed 1 diverged (task loss is inf at epoch 2); seed 2 missing."


def test_what_a_network_is_needs_no_repeats(workbench: Workbench, modules: StudyBuilder) -> None:
    parameters = column_of(sheet_of(workbench, "modules"), "Params (M)")
    assert [entry.marks for entry in parameters] == [(), (), (), (), (2,)]


@pytest.mark.parametrize("state", [state for state in keys.STATES if state != keys.FINISHED])
def test_a_cell_without_a_value_says_why(workbench: Workbench, state: str) -> None:
    study = f"empty-{state}"
    workbench.study(study, seeds=[0, 1]).trial("base", 0, best(0.9), state=state)
    sheet = sheet_of(workbench, study)
    assert texts(sheet, "PCKh@0.5 val (%)") == [state, "missing"]
    assert sheet.footnotes == (f"base: seed 0 {state}; seed 1 missing.", "full: seeds 0, 1 missing.")


def test_a_metric_nobody_recorded_is_a_dash(workbench: Workbench) -> None:
    workbench.study("unrecorded", seeds=[0]).trial("base", 0, {"params_m": 1.0})
    assert texts(sheet_of(workbench, "unrecorded"), "PCKh@0.5 val (%)")[0] == "—"


def test_equal_prints_share_the_bold_and_all_equal_have_none(workbench: Workbench) -> None:
    tied = scored(workbench, "tied", a=0.500001, b=0.500002, c=0.4)
    assert [row[1].is_best for row in tied.rows] == [True, True, False]
    equal = scored(workbench, "all-equal", a=0.500001, b=0.500002)
    assert not any(entry.is_best for row in equal.rows for entry in row)


def test_the_second_best_is_underlined_unless_it_is_the_worst(workbench: Workbench) -> None:
    three = scored(workbench, "three", a=0.5, b=0.6, c=0.4)
    assert [row[1].is_second for row in three.rows] == [True, False, False]
    two = scored(workbench, "two", a=0.5, b=0.6)
    assert not any(row[1].is_second for row in two.rows)


def test_the_least_is_best_of_a_metric_to_minimise(workbench: Workbench) -> None:
    metric = {"name": "val/pckh@0.5", "mode": "min", "select": "best"}
    layout = {"arms": ["a", "b", "c"], "columns": []}
    builder = workbench.study("least", specification_of("least", table=layout, seeds=[0], metric=metric))
    for arm, mean in (("a", 0.5), ("b", 0.6), ("c", 0.4)):
        builder.trial(arm, 0, best(mean))
    scores = column_of(sheet_of(workbench, "least"), "PCKh@0.5 val (%)")
    assert [(entry.is_best, entry.is_second) for entry in scores] == [(False, True), (False, False), (True, False)]


def test_costs_have_no_best(workbench: Workbench, modules: StudyBuilder) -> None:
    assert not any(entry.is_best for entry in column_of(sheet_of(workbench, "modules"), "Training time (s)"))


def test_every_block_has_its_own_best_and_a_rule_before_it(workbench: Workbench, resolutions: StudyBuilder) -> None:
    sheet = sheet_of(workbench, "resolutions")
    assert sheet.rules == (3,)
    assert [entry.is_best for entry in column_of(sheet, "PCKh@0.5 val (%)")] == [False, False, True] * 2


def test_options_stand_between_arm_and_scores(workbench: Workbench, resolutions: StudyBuilder) -> None:
    sheet = sheet_of(workbench, "resolutions")
    assert [heading.text for heading in sheet.header][:9] == [
        "Arm",
        "Input size",
        "Backbone",
        "Kernels: 3×3",
        "Kernels: 5×5",
        "Kernels: 7×7",
        "Learned: τ",
        "Learned: α",
        "PCKh@0.5 head val (%)",
    ]
    assert [entry.text for entry in sheet.rows[2]][:8] == ["CDKD", "32", "HRNet-W32", "1", "1", "2", "✓", "✓"]
    assert [entry.text for entry in sheet.rows[0]][3:8] == ["—", "—", "—", "", ""]
    assert {heading.group for heading in sheet.header[3:6]} == {"Kernels"}
    assert len(sheet.alignment) == len(sheet.header) == len(sheet.rows[0])


def test_an_arm_without_a_row_of_its_own_is_named_below(workbench: Workbench) -> None:
    layout = {"labels": {"base": "SimCC W16/32"}, "merged": {"SimCC W32/64": "base", "unseen": "elsewhere"}}
    workbench.study("merged-arms", specification_of("merged-arms", table=layout)).trial("base", 0, best(0.9))
    remarks = sheet_of(workbench, "merged-arms").remarks
    assert [note for note in remarks if "same training" in note] == [
        "SimCC W16/32 stands for SimCC W32/64 too: the same training."
    ]


def test_the_judgement_stands_behind_the_scores_that_share_a_heading(
    workbench: Workbench, resolutions: StudyBuilder
) -> None:
    sheet = sheet_of(workbench, "resolutions")
    assert [heading.text for heading in sheet.header][9:] == [
        "PCKh@0.5 val (%)",
        "Δ to baseline [95 %]",
        "p (Holm)",
        "Paper",
        "Ours − paper",
        "Reproduced",
        "Params (M)",
    ]


def test_the_papers_value_is_printed_as_in_the_paper(workbench: Workbench, resolutions: StudyBuilder) -> None:
    sheet = sheet_of(workbench, "resolutions")
    assert texts(sheet, "Paper") == ["59.5", "—", "64.0", "—", "—", "79.4 ± 0.2"]
    assert texts(sheet, "Reproduced") == ["yes", "—", "no", "—", "—", "yes"]
    assert texts(sheet, "Ours − paper")[2] == "−2.7"


def costs_beside_the_paper(workbench: Workbench, study: str) -> Sheet:
    """A table with the paper's parameters and test scores, and nothing of its metric."""
    layout = {
        "columns": ["val/pckh@0.5", "test/pckh@0.5", "params_m"],
        "references": {
            "params_m": {"title": "Table X, params_m", "values": {"base": 28.6, "full": 63.5}, "deviations": {}},
            "test/pckh@0.5": {"title": "Table I, pckh05", "values": {"full": 79.4}, "deviations": {"full": 0.2}},
        },
    }
    builder = workbench.study(study, specification_of(study, table=layout, seeds=[0, 1]))
    for arm in ("base", "full"):
        for seed, score in enumerate((0.7, 0.72)):
            builder.trial(arm, seed, best(0.5, **{"best/test/pckh@0.5": score}))
    return sheet_of(workbench, study)


def test_the_paper_stands_beside_each_column_that_it_has(workbench: Workbench) -> None:
    sheet = costs_beside_the_paper(workbench, "costs-beside-the-paper")
    assert [heading.text for heading in sheet.header] == [
        "Arm",
        "PCKh@0.5 val (%)",
        "Δ to base [95 %]",
        "PCKh@0.5 test (%)",
        "Paper: PCKh@0.5 test (%)",
        "Ours − paper: PCKh@0.5 test (%)",
        "Params (M)",
        "Paper: Params (M)",
        "Ours − paper: Params (M)",
    ]
    assert len(sheet.alignment) == len(sheet.header) == len(sheet.rows[0])
    assert [[entry.text for entry in row[4:6]] for row in sheet.rows] == [["—", "—"], ["79.4 ± 0.2", "−8.40"]]
    assert [[entry.text for entry in row[7:]] for row in sheet.rows] == [["28.6", "−0.10"], ["63.5", "−35.00"]]
    where = "PCKh@0.5 test (%) from Table I, pckh05; Params (M) from Table X, params_m"
    assert f"Paper's values beside other columns: {where}." in sheet.remarks


def test_a_cost_that_may_be_misread_is_explained(workbench: Workbench) -> None:
    layout = {"columns": ["val/pckh@0.5", "converged_epoch", "epoch_seconds", "params_m"]}
    builder = workbench.study("explained-costs", specification_of("explained-costs", table=layout, seeds=[0]))
    builder.trial("base", 0, best(0.5, converged_epoch=4.0, epoch_seconds=2.0))
    remarks = sheet_of(workbench, "explained-costs").remarks
    said = [remark for remark in remarks if remark.startswith("Converged epoch: ")]
    assert len(said) == 1
    assert ("within half a point" in said[0]) == (CONVERGED == 0.005)
    assert "Time per epoch: the mean over all epochs, each with its validation." in remarks
    assert not any(remark.startswith("Adapters") for remark in remarks)


@pytest.mark.parametrize("form", ["md", "csv", "tex", "html"])
def test_every_format_has_the_papers_other_columns(workbench: Workbench, form: str) -> None:
    text = FORMATS[form](costs_beside_the_paper(workbench, f"costs-beside-the-paper-{form}"))
    assert "79.4" in text
    assert "63.5" in text


def test_p_values_are_shown_where_the_pairs_can_carry_them(workbench: Workbench, resolutions: StudyBuilder) -> None:
    sheet = sheet_of(workbench, "resolutions")
    assert texts(sheet, "p (Holm)")[:3] == ["—", "0.031", "0.031"]
    assert any(note.startswith("p: exact sign-flip test") and "from 8 pairs on" in note for note in sheet.remarks)


def test_with_few_seeds_the_table_says_what_they_cannot_carry(workbench: Workbench, modules: StudyBuilder) -> None:
    sheet = sheet_of(workbench, "modules")
    assert "p (Holm)" not in [heading.text for heading in sheet.header]
    assert (
        "No claim of significance: with 3 pairs an exact test of a row gives p = 0.25 at the least, 0.5 by Holm over "
        "2 comparisons; 7 seeds can reach 0.05."
    ) in sheet.remarks


def test_the_notes_tell_metric_selection_statistics_and_protocol(workbench: Workbench, modules: StudyBuilder) -> None:
    sheet = sheet_of(workbench, "modules")
    told = " ".join([*sheet.caption, *sheet.remarks])
    for part in ("val/pckh@0.5) at the best epoch on val", "standard deviation", "by Student's t", "epochs 3"):
        assert part in told
    assert "Paper: Table IV, mpii_mean. Reproduced: the paper's value lies in the 95 % interval of our mean" in told


def test_a_bootstrap_interval_is_called_too_narrow(workbench: Workbench, modules: StudyBuilder) -> None:
    told = " ".join(sheet_of(workbench, "modules", interval="bca").remarks)
    assert "by the BCa bootstrap of 9999 resamples (too narrow for few seeds)" in told


def test_the_last_epoch_is_named_when_the_study_selects_it(workbench: Workbench) -> None:
    metric = {"name": "val/pckh@0.5", "mode": "max", "select": "last"}
    workbench.study("selects-last", specification_of("selects-last", metric=metric))
    assert "at the last epoch" in sheet_of(workbench, "selects-last").caption[0]


def test_an_incomplete_arm_that_ties_with_the_best_is_not_bold(workbench: Workbench) -> None:
    specification = specification_of("tie-incomplete", table={"arms": ["base", "full", "cut"]}, seeds=[0, 1])
    builder = workbench.study("tie-incomplete", specification)
    for arm, value, seeds in (("base", 0.5, 2), ("full", 0.6, 2), ("cut", 0.6, 1)):
        for seed in range(seeds):
            builder.trial(arm, seed, best(value))
    rows = sheet_of(workbench, "tie-incomplete").rows
    assert [row[0].text for row in rows if row[1].is_best] == ["full"]


def test_older_runs_left_out_are_counted(workbench: Workbench) -> None:
    builder = workbench.study("twice", seeds=[0])
    builder.trial("base", 0, best(0.9))
    builder.trial("base", 0, best(0.4))
    assert "1 older runs of the same arm and seed in the store are left out." in sheet_of(workbench, "twice").remarks
