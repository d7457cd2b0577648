"""Replay: what a ledger says happened."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from orchestrator import keys
from orchestrator.history import History
from orchestrator.ledger import Record
from orchestrator.plan import TrialSpec


def spec(trial_id: str = "full-seed0", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": "student", "arm": "full", "seed": 0, "config": {"seed": 0}, "overrides": {}}
    values |= {"fingerprint": "f" * 16, "teacher": "", "protocol": {"split": "val"}}
    return asdict(TrialSpec(trial_id=trial_id, **{**values, **changes}))


def records(*events: tuple[str, dict[str, Any]]) -> list[Record]:
    return [Record(seq, 100.0 + seq, event, data) for seq, (event, data) in enumerate(events)]


def started(trial_id: str = "full-seed0", attempt: int = 1) -> tuple[str, dict[str, Any]]:
    return keys.STARTED, {"trial": spec(trial_id), "attempt": attempt}


def epoch(
    number: int, value: float = 0.5, trial_id: str = "full-seed0", attempt: int = 1
) -> tuple[str, dict[str, Any]]:
    return keys.EPOCH, {"trial_id": trial_id, "attempt": attempt, "epoch": number, "metrics": {"val/ap": value}}


def ended(state: str = keys.FINISHED, attempt: int = 1, **data: Any) -> tuple[str, dict[str, Any]]:
    return keys.ENDED, {"trial_id": "full-seed0", "attempt": attempt, "state": state, "epoch": 2, **data}


INVOKED = (keys.INVOKED, {"specification": {"study": "first"}})


def test_a_trial_is_told_from_its_start_to_its_end() -> None:
    history = History.replay(
        records(INVOKED, started(), epoch(1, 0.1), epoch(2, 0.2), ended(summary={"best/val/ap": 0.2}, reason=""))
    )
    trial = history.trials["full-seed0"]
    assert asdict(trial.spec) == spec()
    assert (trial.state, trial.attempt, trial.started, trial.ended) == (keys.FINISHED, 1, 101.0, 104.0)
    assert trial.epochs == {1: {"val/ap": 0.1}, 2: {"val/ap": 0.2}}
    assert trial.epoch_times == {1: 102.0, 2: 103.0}
    assert trial.summary == {"best/val/ap": 0.2}
    assert trial.last_epoch == 2


def test_the_first_report_of_an_epoch_stands() -> None:
    history = History()
    lines = records(INVOKED, started(), epoch(1, 0.1), started(attempt=2), epoch(1, 0.9, attempt=2), epoch(2, 0.2))
    changed = [history.apply(record) for record in lines]
    trial = history.trials["full-seed0"]
    assert trial.epochs == {1: {"val/ap": 0.1}, 2: {"val/ap": 0.2}}
    assert trial.epoch_times[1] == 102.0
    assert changed[4] == ()
    assert changed[5] == ("full-seed0",)


def test_trials_iterate_in_the_order_first_seen() -> None:
    lines = records(started("c"), started("a"), started("b"), epoch(1, trial_id="a"), started("c", attempt=2))
    assert list(History.replay(lines).trials) == ["c", "a", "b"]


def test_a_trial_without_an_end_is_running_while_the_study_is_and_interrupted_when_it_is_not() -> None:
    lines = records(INVOKED, started(), epoch(1))
    assert History.replay(lines).trials["full-seed0"].state == keys.RUNNING
    trial = History.replay(lines, is_running=False).trials["full-seed0"]
    assert (trial.state, trial.ended) == (keys.INTERRUPTED, 102.0)


@pytest.mark.parametrize("event", [INVOKED, (keys.STOPPED, {"reason": "Ctrl-C"})])
def test_a_new_run_or_a_stop_interrupts_what_has_not_ended(event: tuple[str, dict[str, Any]]) -> None:
    lines = records(INVOKED, started(), event)
    assert History.replay(lines).trials["full-seed0"].state == keys.INTERRUPTED
    resumed = History.replay([*lines, *records(*[started()] * 3, started(attempt=2))[3:]])
    trial = resumed.trials["full-seed0"]
    assert (trial.state, trial.attempt, trial.ended) == (keys.RUNNING, 2, None)


def test_a_finished_trial_is_never_interrupted() -> None:
    lines = records(INVOKED, started(), ended(), INVOKED)
    assert History.replay(lines, is_running=False).trials["full-seed0"].state == keys.FINISHED


def test_a_retried_trial_forgets_why_it_failed_and_keeps_its_epochs() -> None:
    lines = records(INVOKED, started(), epoch(1), ended(keys.FAILED, reason="out of memory", summary={"a": 1.0}))
    failed = History.replay(lines).trials["full-seed0"]
    assert (failed.state, failed.reason) == (keys.FAILED, "out of memory")
    retried = History.replay([*lines, *records(*[started()] * 4, started(attempt=2))[4:]]).trials["full-seed0"]
    assert (retried.state, retried.reason, retried.summary) == (keys.RUNNING, "", {})
    assert list(retried.epochs) == [1]


def test_a_superseded_attempt_that_ends_late_has_no_say() -> None:
    lines = records(INVOKED, started(), started(attempt=2), ended(keys.FAILED, attempt=1))
    assert History.replay(lines).trials["full-seed0"].state == keys.RUNNING


def test_a_result_taken_over_is_finished_and_says_from_where() -> None:
    lines = records(
        INVOKED, (keys.REUSED, {"trial": spec(), "source": "other/full-seed0", "summary": {"best/val/ap": 0.3}})
    )
    trial = History.replay(lines, is_running=False).trials["full-seed0"]
    assert (trial.state, trial.reused_from, trial.attempt) == (keys.FINISHED, "other/full-seed0", 0)
    assert trial.summary == {"best/val/ap": 0.3}


def test_the_study_knows_its_last_specification_and_why_it_stopped() -> None:
    second = (keys.INVOKED, {"specification": {"study": "second"}})
    stopped = History.replay(records(INVOKED, (keys.STOPPED, {"reason": "asked to stop"})))
    assert (stopped.is_stopped, stopped.stopped_reason, stopped.stopped) == (True, "asked to stop", 101.0)
    again = History.replay(records(INVOKED, (keys.STOPPED, {"reason": "asked to stop"}), second))
    assert again.specification == {"study": "second"}
    assert (again.is_stopped, again.stopped_reason, again.invocations, again.began) == (False, "", 2, 100.0)


def test_events_and_fields_of_a_newer_version_are_left_alone() -> None:
    newer = (keys.STARTED, {"trial": {**spec(), "colour": "red"}, "attempt": 1})
    history = History.replay(records(INVOKED, ("weather", {"trial_id": "x"}), newer, epoch(1, trial_id="unknown")))
    assert list(history.trials) == ["full-seed0"]
