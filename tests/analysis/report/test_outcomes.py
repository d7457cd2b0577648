"""What failed, what was begun again and what was taken over."""

from __future__ import annotations

from analysis.report.document import Grid, Words
from analysis.report.outcomes import MOST_ROWS, outcome_blocks
from orchestrator import keys
from tests.analysis.recorded import StudyBuilder, Workbench
from tests.analysis.report.studies import texts, trials


def test_every_training_without_a_result_is_named_with_its_reason(workbench: Workbench, reported: StudyBuilder) -> None:
    found = trials(workbench, "reported")
    grid, *words = outcome_blocks(found, [("CDKD <full>", 9)])
    assert isinstance(grid, Grid)
    failed, running, absent = texts(grid.sheet)
    ids = list(found.loc[found["arm"] == "crash", "run_id"])
    assert failed == ["crash", "0", keys.FAILED, "once", "2", "No space left", ids[0]]
    assert running[:5] == ["crash", "1", keys.RUNNING, "once", "1"]
    assert absent == ["CDKD <full>", "9", "not started", "—", "—", "—", "—"]
    said = " ".join(one.text for one in words)
    assert "Begun again twice in all" in said
    assert "full-seed0" in said
    assert "(3 times)" in said
    assert "from other/full-seed1" in said


def test_when_all_went_well_it_is_said(workbench: Workbench, resolutions: StudyBuilder) -> None:
    blocks = list(outcome_blocks(trials(workbench, "resolutions"), []))
    assert blocks == [
        Words("Every training that was begun gave a result."),
        Words("No training was begun more than once."),
    ]


def test_pruned_trials_are_counted_and_not_listed(workbench: Workbench, tuning: StudyBuilder) -> None:
    grid, *words = outcome_blocks(trials(workbench, "tuning"), [])
    assert [row[2] for row in texts(grid.sheet)] == [keys.FAILED]
    assert words[0].text.startswith("Stopped early by the search's pruner: 1 trial.")


def test_a_long_list_is_cut_and_says_so(workbench: Workbench, resolutions: StudyBuilder) -> None:
    grid = next(iter(outcome_blocks(trials(workbench, "resolutions"), [("a", seed) for seed in range(MOST_ROWS + 5)])))
    assert len(grid.sheet.rows) == MOST_ROWS
    assert grid.sheet.remarks == ("5 more are not shown.",)
