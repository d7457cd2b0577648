"""Numbers in print: rounding, bold, marks."""

from __future__ import annotations

import math

import pytest

from analysis.ablation import ablation_table
from analysis.columns import column
from analysis.sheet import Sheet, ablation_sheet, cell_text, difference_text, number, signed
from analysis.statistics import Difference, Repeats
from tests.analysis.recorded import StudyBuilder, Workbench, best, specification_of


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [(0.364, "0.36", "+0.36"), (-0.364, "−0.36", "−0.36"), (-0.001, "0.00", "0.00"), (0.0, "0.00", "0.00")],
)
def test_numbers_have_a_true_minus_and_no_negative_zero(value: float, plain: str, with_sign: str) -> None:
    assert (number(value, 2), signed(value, 2)) == (plain, with_sign)


@pytest.mark.parametrize(
    ("metric", "statistics", "text"),
    [
        ("val/ap", Repeats(78.366, 0.021, 5), "78.37 ± 0.02 (5)"),
        ("val/ap", Repeats(78.366, math.nan, 1), "78.37 (1)"),
        ("val/ap", Repeats(math.nan, math.nan, 0), "—"),
        ("val/ap", Repeats(math.nan, math.nan, 2), "nan ± nan (2)"),
        ("val/ap", Repeats(50.0, 0.0, 2), "50.00 ± 0.00 (2)"),
        ("params_m", Repeats(28.5, 0.0, 5), "28.50 (5)"),
        ("params_m", Repeats(28.5, 0.1, 5), "28.50 ± 0.10 (5)"),
    ],
)
def test_a_cell_has_mean_deviation_and_n(metric: str, statistics: Repeats, text: str) -> None:
    assert cell_text(statistics, column(metric, "best")) == text


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        (None, "—"),
        (Difference(math.nan, math.nan, math.nan, 0), "—"),
        (Difference(0.5, math.nan, math.nan, 1), "+0.50 (1)"),
        (Difference(0.5, -0.25, 1.25, 3), "+0.50 [−0.25, +1.25] (3)"),
    ],
)
def test_a_difference_has_an_interval_from_two_pairs_on(difference: Difference | None, text: str) -> None:
    assert difference_text(difference, 2) == text


def sheet_of(workbench: Workbench, study: str) -> Sheet:
    return ablation_sheet(ablation_table(workbench.read(study)))


def test_an_arm_that_lost_seeds_is_marked_and_never_best(workbench: Workbench, modules: StudyBuilder) -> None:
    sheet = sheet_of(workbench, "modules")
    rows = {row[0].text: row for row in sheet.rows}
    assert [row[0].text for row in sheet.rows if row[3].is_bold] == ["CDKD_full"]
    assert rows["ensemble"][0].marks == (1, 2)
    assert sheet.footnotes[:2] == (
        "ensemble, seed 1: diverged (task loss is inf at epoch 2).",
        "ensemble, seed 2: missing.",
    )


def test_equal_prints_share_the_bold_and_all_equal_have_none(workbench: Workbench) -> None:
    tied, equal = workbench.study("tied", seeds=[0]), workbench.study("all-equal", seeds=[0])
    for arm, value in (("base", 0.500001), ("full", 0.500002)):
        equal.trial(arm, 0, best(value))
    for arm, value in (("base", 0.500001), ("full", 0.500002)):
        tied.trial(arm, 0, best(value, params_m=1.0 if arm == "base" else 2.0))
    assert not any(entry.is_bold for row in sheet_of(workbench, "all-equal").rows for entry in row)
    assert not any(row[-1].is_bold for row in sheet_of(workbench, "tied").rows), "costs have no best"


def test_the_caption_tells_metric_selection_statistics_and_protocol(
    workbench: Workbench, modules: StudyBuilder
) -> None:
    caption = " ".join(sheet_of(workbench, "modules").caption)
    for part in ("val/pckh@0.5 at the best epoch on val", "standard deviation", "Student's t", "Table IV", "epochs 3"):
        assert part in caption


def test_every_cell_can_be_traced_to_its_runs(workbench: Workbench, modules: StudyBuilder) -> None:
    sheet = sheet_of(workbench, "modules")
    cells = {(cell["arm"], cell["column"]): cell["runs"] for cell in sheet.provenance["cells"]}
    assert len(cells) == 5 * 4
    runs = cells["full", "val/pckh@0.5"]
    assert [(run["seed"], run["value"], modules.names[run["run_id"]]) for run in runs] == [
        (seed, value, run["trial_id"]) for seed, value, run in zip((0, 1, 2), (0.74, 0.76, 0.745), runs, strict=True)
    ]
    assert {(absence["arm"], absence["seed"], absence["state"]) for absence in sheet.provenance["absent"]} >= {
        ("ensemble", 1, "diverged"),
        ("etht_only", 0, "running"),
    }


def test_an_incomplete_arm_that_ties_with_the_best_is_not_bold(workbench: Workbench) -> None:
    specification = specification_of("tie-incomplete", table={"arms": ["base", "full", "cut"]}, seeds=[0, 1])
    builder = workbench.study("tie-incomplete", specification)
    for arm, value, seeds in (("base", 0.5, 2), ("full", 0.6, 2), ("cut", 0.6, 1)):
        for seed in range(seeds):
            builder.trial(arm, seed, best(value))
    rows = sheet_of(workbench, "tie-incomplete").rows
    assert [row[0].text for row in rows if row[1].is_bold] == ["full"]
