from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator import keys
from orchestrator.progress import Progress, Standing, drawing, duration, headline, lines, standing
from orchestrator.specification import specification
from tests.orchestrator.plans import METRIC, make_plan, open_conductor, play, student, teacher


def halfway(results: Path, listener: object = None) -> Standing:
    """One of three trials finished at 0.52, one failed, one in its second epoch, ten seconds an epoch."""
    plan = make_plan(student("a"), student("bb"), student("ccc"))
    conductor = open_conductor(plan, results)
    conductor.begin(specification(plan))
    play(conductor, lambda job, epoch: 0.5 + epoch / 100, limit=1)
    conductor.on_started(plan.trials[1])
    conductor.on_failed("bb-seed0", 1, "DataError: no such file")
    conductor.on_started(plan.trials[2])
    for epoch in (1, 2):
        conductor.on_epoch("ccc-seed0", 1, epoch, {METRIC.name: 0.1 * epoch, "time/epoch_seconds": 10.0})
    began = conductor.history.began or 0.0
    return standing(conductor.history, began + 100, began)


def test_a_standing_counts_what_the_ledger_says(tmp_path: Path) -> None:
    now = halfway(tmp_path)
    assert (now.study, now.total, now.done) == ("tiny", 3, 2)
    assert now.counts == {keys.FINISHED: 1, keys.FAILED: 1, keys.RUNNING: 1}
    assert now.best == ("a-seed0", pytest.approx(0.53))
    (running,) = now.running
    assert (running.trial_id, running.epoch, running.epochs, running.value) == ("ccc-seed0", 2, 3, 0.2)
    assert now.failures == {"bb-seed0": "DataError: no such file"}
    assert now.elapsed_s == 100
    assert now.left_s == pytest.approx(10)  # one epoch of ten seconds


def test_a_teacher_that_no_student_needs_any_more_is_not_waited_for(tmp_path: Path) -> None:
    trained = teacher()
    plan = make_plan(student("a", {}, teacher=trained.fingerprint), teachers=(trained,))
    first = open_conductor(plan, tmp_path)
    play(first, lambda job, epoch: 0.5)
    first._ledger.close()
    again = make_plan(*plan.trials, teachers=(dataclasses.replace(trained, fingerprint="gone"),), study="again")
    conductor = open_conductor(again, tmp_path)
    conductor.begin(specification(again))
    before = standing(conductor.history, 1.0, 0.0)
    assert (before.done, before.total) == (0, 2)
    assert play(conductor, lambda job, epoch: 0.5) == []
    after = standing(conductor.history, 1.0, 0.0)
    assert (after.done, after.total) == (1, 1)


def test_the_headline_and_the_lines_say_it(tmp_path: Path) -> None:
    now = halfway(tmp_path)
    assert headline(now) == (
        "2/3 trials, 1 running, 1 finished, 1 failed, best val/pckh@0.5 0.5300 (a-seed0), "
        "elapsed 1 min 40 s, about 10 s left"
    )
    text = lines(now)
    assert text[1].startswith("  running ccc-seed0: epoch 2/3, val/pckh@0.5 0.2000")
    assert text[2] == "  failed  bb-seed0: DataError: no such file"


def test_the_drawing_shows_trials_and_failures(tmp_path: Path) -> None:
    out = Console(file=io.StringIO(), width=120, record=True)
    out.print(drawing(halfway(tmp_path)))
    shown = out.export_text()
    assert "ccc-seed0" in shown
    assert "2/3 trials, 1 running" in shown
    assert "bb-seed0: DataError: no such file" in shown


def test_without_a_terminal_every_trial_that_ends_is_one_line(tmp_path: Path) -> None:
    plan = make_plan(student("a"), student("bb"))
    conductor = open_conductor(plan, tmp_path)
    conductor.begin(specification(plan))
    out = io.StringIO()
    with Progress(conductor.history, out) as progress:
        conductor.listen(progress.hear)
        play(conductor, lambda job, epoch: 0.5)
    said = out.getvalue().splitlines()
    assert [line for line in said if line.startswith("[")] == [
        "[1/2] a-seed0 finished val/pckh@0.5 0.5000",
        "[2/2] bb-seed0 finished val/pckh@0.5 0.5000",
    ]
    assert said[-1].startswith("2/2 trials, 2 finished")


def test_on_a_terminal_one_table_is_drawn() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    from orchestrator.history import History

    history = History()
    history.specification = specification(make_plan(student("a")))
    out = Terminal()
    with Progress(history, out):
        pass
    assert "0/1 trials" in out.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(3.9, "3 s"), (61, "1 min 01 s"), (3700, "1 h 01 min")])
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
