"""`cdkd teachers` on folders as trainings leave them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.teachers import TeacherStore
from tests.orchestrator.plans import fake_teacher, kill, make_plan, open_conductor, play, student, teacher


def listed(results: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The printed line of each teacher."""
    assert main(["teachers", "--results", str(results)]) == 0
    return {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}


def test_a_folder_without_teachers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["teachers", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no teachers in {tmp_path}\n"


def test_complete_damaged_running_and_stopped_teachers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, broken, running, stopped = (teacher(f"t{seed}", {"teacher.seed": seed}) for seed in range(4))
    plan = make_plan(student("full", teacher=whole.fingerprint), teachers=(whole,), study="first")
    conductor = open_conductor(plan, tmp_path)
    play(conductor, lambda job, epoch: 0.5)
    kill(conductor)
    again = open_conductor(dataclasses.replace(plan, study="second"), tmp_path)
    kill(again)
    fake_teacher(conductor.paths, broken.fingerprint).write_bytes(b"other")
    needs = student("late", teacher=stopped.fingerprint)
    third = open_conductor(make_plan(needs, teachers=(stopped,), study="third"), tmp_path)
    job = third.on_started(stopped)
    third.on_epoch(job.trial_id, job.attempt, 1, {})
    kill(third)
    store = TeacherStore(conductor.paths)
    assert store.claim(running.fingerprint)
    lines = listed(tmp_path, capsys)
    assert set(lines) == {spec.fingerprint for spec in (whole, broken, running, stopped)}
    assert "hrnet_w16 at 64" in lines[whole.fingerprint]
    assert "complete, digest verified" in lines[whole.fingerprint]
    assert lines[whole.fingerprint].endswith("first")
    assert "damaged: the file is not the one that was trained" in lines[broken.fingerprint]
    assert "being trained" in lines[running.fingerprint]
    assert "stopped after epoch 1 of 1" in lines[stopped.fingerprint]
    store.release(running.fingerprint)
    assert "incomplete" in listed(tmp_path, capsys)[running.fingerprint]
