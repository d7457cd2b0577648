"""What a study cost."""

from __future__ import annotations

import math

import pytest

from analysis.report.spending import Devices, cost_grid, devices_of, machine_words, spending
from tests.analysis.recorded import StudyBuilder, Workbench, best
from tests.analysis.report.studies import SPECIFICATION, texts, trials


def test_hours_are_of_every_training_begun_here(workbench: Workbench, reported: StudyBuilder) -> None:
    found = spending(workbench.read("reported"), trials(workbench, "reported"))
    base, full, crash = found.students
    assert (base.hours, base.device_hours, base.one.mean, base.one.n) == (2.0, 2.0, 3600, 2)
    assert (full.hours, full.runs, full.taken_over, full.one.n) == (2.0, 1, 1, 2)
    assert crash.hours == pytest.approx((1800 + 600) / 3600)
    assert crash.one.n == 0
    assert found.unfinished_hours == 0.5  # the failed one; the running one may still give a result
    (teacher,) = found.teachers
    assert (teacher.label, teacher.hours) == ("teacher hrnet_w48 at 128x128", 0.5)


def test_the_sums_stand_below_students_and_below_all(workbench: Workbench, reported: StudyBuilder) -> None:
    sheet = cost_grid(spending(workbench.read("reported"), trials(workbench, "reported"))).sheet
    assert [heading.text for heading in sheet.header][3:] == ["One training (min)", "Trainings", "Hours", "GPU-hours"]
    rows = texts(sheet)
    assert rows[0] == ["base", "28.50", "0.600", "60.0 ± 0.0 (2)", "2", "2.00", "2.00"]
    assert rows[1][4] == "1 + 1 taken over"
    assert rows[2] == ["crash", "—", "—", "—", "2", "0.67", "0.67"]
    assert rows[3] == ["All students", "", "", "", "5 + 1 taken over", "4.67", "4.67"]
    assert rows[5] == ["Students and teachers", "", "", "", "6 + 1 taken over", "5.17", "5.17"]
    assert sheet.rules == (4,)
    notes = " ".join(sheet.remarks)
    assert "Of the hours, 0.50 went into trainings that gave no result." in notes
    assert "Machine the study was started from: 2 x H200, 16 CPUs (EPYC)." in notes


def test_a_teachers_cpu_hours_are_not_known_and_so_is_their_sum(workbench: Workbench) -> None:
    builder = workbench.study("on-cpus", seeds=[0], resources={"num_workers": 1, "cpus_per_worker": 2})
    builder.trial("base", 0, best(0.5, train_seconds=3600.0), teacher="t")
    builder.trial("teacher", 0, {"train_seconds": 60.0}, kind="teacher", fingerprint="t", trial_id="the-teacher")
    found = spending(workbench.read("on-cpus"), trials(workbench, "on-cpus"))
    assert found.students[0].device_hours == 2.0
    assert math.isnan(found.teachers[0].device_hours)
    assert texts(cost_grid(found).sheet)[-1][-1] == "—"
    assert "equal share of the whole machine" in " ".join(cost_grid(found).sheet.remarks)


def test_without_recorded_devices_there_is_no_column_for_them(workbench: Workbench, modules: StudyBuilder) -> None:
    sheet = cost_grid(spending(workbench.read("modules"), trials(workbench, "modules"))).sheet
    assert [heading.text for heading in sheet.header][-2:] == ["Trainings", "Hours"]
    assert {len(row) for row in sheet.rows} == {len(sheet.header)} == {len(sheet.alignment)}
    assert "Machine the study was started from: not recorded." in sheet.remarks


def test_what_a_training_holds_is_the_workers_devices(workbench: Workbench, reported: StudyBuilder) -> None:
    assert devices_of(workbench.read("reported")) == Devices("GPU", 1.0)
    assert SPECIFICATION["resources"]["num_workers"] == 2


def test_a_machine_in_words() -> None:
    assert machine_words({"cpu": "EPYC", "cpus": 1, "gpus": []}) == "1 CPU (EPYC)"
    assert machine_words(None) == ""
