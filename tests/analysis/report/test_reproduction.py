"""How a report says a study can be repeated."""

from __future__ import annotations

from analysis.report.document import Code, Grid, Words
from analysis.report.reproduction import origin, reproduction_blocks, row_commands, run_grid, study_command
from tests.analysis.recorded import StudyBuilder, Workbench
from tests.analysis.report.studies import texts, trials


def test_the_recorded_command_and_versions_are_shown(workbench: Workbench, reported: StudyBuilder) -> None:
    found = origin(workbench.read("reported"), trials(workbench, "reported"), "other.yaml")
    assert found.command == "cdkd run /home/jane/studies/reported.yaml --set train.epochs=3"
    assert found.revisions == {"abc123": 7}
    grid, _, code, *_ = reproduction_blocks(found, {"base": "again a b"})
    assert isinstance(grid, Grid)
    assert ["Versions", "python 3.11.9, torch 2.6.0"] in texts(grid.sheet)
    assert ["Digest of the data", "cafe" * 8] in texts(grid.sheet)
    assert isinstance(code, Code)
    assert code.lines[0] == found.command
    assert code.lines[2] == f"export MLFLOW_TRACKING_URI={workbench.uri}"
    assert code.lines[-1] == "again a b  # base"


def test_a_study_that_recorded_no_command_is_run_by_the_file_the_reader_named() -> None:
    assert study_command({}, "x", "my studies/x.yaml") == "cdkd run 'my studies/x.yaml'"
    unknown = study_command({}, "x", changes="--set 'ablation.seeds=[1]'")
    assert unknown.startswith("cdkd run x.yaml --set 'ablation.seeds=[1]'  # or")
    assert study_command({"command": "cdkd run a.yaml"}, "x", "b.yaml", "--set c=1") == "cdkd run a.yaml --set c=1"


def test_a_store_is_named_without_its_password(workbench: Workbench, reported: StudyBuilder) -> None:
    record = workbench.read("reported")
    hidden = type(record)(record.study, record.specification, record.trials, "https://me:secret@host/x")
    assert origin(hidden, trials(workbench, "reported")).store == "https://host/x"


def test_each_row_has_one_line_with_the_runs_of_its_seeds(workbench: Workbench, reported: StudyBuilder) -> None:
    found = trials(workbench, "reported")
    rows = row_commands(found, [0])
    assert list(rows) == ["base", "CDKD <full>", "crash"]
    first = found["run_id"].iloc[0]
    assert rows["base"] == f"again {first[:12]}"
    same = found.assign(run_id=[f"{'0' * 12}{index}" for index in range(len(found))])
    assert row_commands(same, [0])["base"] == f"again {'0' * 12}0"  # where its beginning does not tell a run, all of it


def test_a_dirty_revision_is_warned_of(workbench: Workbench, reported: StudyBuilder) -> None:
    found = origin(workbench.read("reported"), trials(workbench, "reported").assign(revision="abc-dirty"))
    last = list(reproduction_blocks(found, {}))[-1]
    assert isinstance(last, Words)
    assert "not committed" in last.text


def test_every_run_is_listed_with_a_rule_between_arms(workbench: Workbench, reported: StudyBuilder) -> None:
    found = trials(workbench, "reported")
    sheet = run_grid(found).sheet
    assert [row[3] for row in texts(sheet)] == list(found["run_id"])
    assert sheet.rules == (2, 4, 6)
    assert texts(sheet)[2][5] == "feed" * 4
    assert texts(sheet)[-1][0] == "teacher"
