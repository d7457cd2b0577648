from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator import keys
from orchestrator.conductor import WAIT, Conductor, Wait
from orchestrator.execution import Job, Outcome
from orchestrator.ledger import Record, read_from
from orchestrator.objectives import value_of
from orchestrator.plan import Metric, TrialSpec
from tests.orchestrator.plans import (
    METRIC,
    fake_teacher,
    kill,
    learning_rates,
    make_plan,
    open_conductor,
    play,
    states,
    student,
    teacher,
)


def flat(job: Job, epoch: int) -> float:
    return 0.5 + 0.01 * epoch


def test_teachers_run_before_the_students_that_need_them(tmp_path: Path) -> None:
    needed = teacher()
    plan = make_plan(student("full", teacher=needed.fingerprint), student("plain"), teachers=(needed,))
    conductor = open_conductor(plan, tmp_path)
    first = conductor.next_trial()
    assert first == needed
    job = conductor.on_started(needed)
    assert job.folder == str(tmp_path / "teachers" / needed.fingerprint)
    second = conductor.next_trial()
    assert second is not None
    assert second is not WAIT
    assert second.arm == "plain"  # needs no teacher, so it need not wait
    conductor.on_started(second)
    assert conductor.next_trial() is WAIT
    fake_teacher(conductor.paths, needed.fingerprint)
    conductor.on_finished(job.trial_id, job.attempt, {})
    third = conductor.next_trial()
    assert third is not None
    assert third is not WAIT
    assert conductor.on_started(third).teacher_file == str(tmp_path / "teachers" / needed.fingerprint / "best.pt")


def test_finished_trials_are_kept_and_interrupted_ones_begin_again(tmp_path: Path) -> None:
    plan = make_plan(student("a"), student("b"), student("c"))
    first = open_conductor(plan, tmp_path)
    assert play(first, flat, limit=1) == ["a-seed0"]
    spec = first.next_trial()
    assert spec is not None
    assert spec is not WAIT
    job = first.on_started(spec)
    first.on_epoch(job.trial_id, job.attempt, 1, {METRIC.name: 0.5})
    kill(first)
    second = open_conductor(plan, tmp_path)
    assert states(second)["b-seed0"] == keys.INTERRUPTED
    assert play(second, flat) == ["b-seed0", "c-seed0"]
    assert second.history.trials["b-seed0"].attempt == 2
    assert set(states(second).values()) == {keys.FINISHED}
    assert second.next_trial() is None
    kill(second)
    assert play(open_conductor(plan, tmp_path), flat) == []


def test_every_record_is_on_disk_before_a_listener_hears_of_it(tmp_path: Path) -> None:
    plan = make_plan(student("a"))
    heard: list[bool] = []

    def listen(record: Record) -> None:
        heard.append(read_from(tmp_path / "tiny" / "ledger.jsonl")[0][-1] == record)

    play(open_conductor(plan, tmp_path, listeners=[listen]), flat)
    assert heard == [True] * 6  # invoked, started, three epochs, ended


def test_the_first_report_of_an_epoch_stands(tmp_path: Path) -> None:
    plan = make_plan(student("a"))
    conductor = open_conductor(plan, tmp_path)
    conductor.on_started(plan.trials[0])
    assert not conductor.on_epoch("a-seed0", 1, 1, {METRIC.name: 0.4})
    assert not conductor.on_epoch("a-seed0", 1, 1, {METRIC.name: 0.9})
    assert conductor.history.trials["a-seed0"].epochs == {1: {METRIC.name: 0.4}}


def test_failed_trials_wait_for_retry_failed(tmp_path: Path) -> None:
    plan = make_plan(student("a"), student("b"))
    first = open_conductor(plan, tmp_path)
    job = first.on_started(plan.trials[0])
    first.on_failed(job.trial_id, job.attempt, "DataError: no such file", "Traceback ...")
    assert play(first, flat) == ["b-seed0"]
    assert first.has_failures()
    kill(first)
    second = open_conductor(plan, tmp_path)
    assert play(second, flat) == []
    kill(second)
    third = open_conductor(plan, tmp_path, retry_failed=True)
    assert play(third, flat) == ["a-seed0"]
    assert not third.has_failures()


def test_students_of_a_failed_teacher_fail_with_its_reason(tmp_path: Path) -> None:
    needed = teacher()
    plan = make_plan(student("full", teacher=needed.fingerprint), student("plain"), teachers=(needed,))
    conductor = open_conductor(plan, tmp_path)
    job = conductor.on_started(needed)
    conductor.on_diverged(job.trial_id, job.attempt, "loss task is not finite in epoch 2")
    assert play(conductor, flat) == ["plain-seed0"]
    failed = conductor.history.trials["full-seed0"]
    assert failed.state == keys.FAILED
    assert failed.reason == "its teacher teacher diverged: loss task is not finite in epoch 2"
    kill(conductor)
    again = open_conductor(plan, tmp_path, retry_failed=True)
    assert play(again, flat) == ["teacher", "full-seed0"]


def test_a_trained_teacher_is_shared_by_studies(tmp_path: Path) -> None:
    needed = teacher()
    fake_teacher(open_conductor(make_plan(study="other"), tmp_path).paths, needed.fingerprint)
    plan = make_plan(student("full", teacher=needed.fingerprint), teachers=(needed,))
    conductor = open_conductor(plan, tmp_path)
    assert play(conductor, flat) == ["full-seed0"]
    assert conductor.history.trials["teacher"].reused_from == f"teachers/{needed.fingerprint}"


def test_a_damaged_teacher_is_trained_again(tmp_path: Path) -> None:
    needed = teacher()
    plan = make_plan(student("full", teacher=needed.fingerprint), teachers=(needed,))
    conductor = open_conductor(plan, tmp_path)
    fake_teacher(conductor.paths, needed.fingerprint).write_bytes(b"rotten")
    assert conductor.next_trial() == needed
    assert not (conductor.paths.teacher(needed.fingerprint) / "summary.json").exists()


def test_a_teacher_that_another_driver_trains_is_waited_for(tmp_path: Path) -> None:
    needed = teacher()
    plans = [make_plan(student("full", teacher=needed.fingerprint), teachers=(needed,), study=name) for name in "xy"]
    first, second = (open_conductor(plan, tmp_path) for plan in plans)
    job = first.on_started(first.next_trial())  # type: ignore[arg-type]
    assert second.next_trial() is WAIT
    fake_teacher(first.paths, needed.fingerprint)
    first.on_finished(job.trial_id, job.attempt, {})
    found = second.next_trial()
    assert found is not None
    assert found is not WAIT
    assert found.trial_id == "full-seed0"


def test_a_finished_result_of_another_study_is_taken_over(tmp_path: Path) -> None:
    other = open_conductor(make_plan(student("old_name", {}), study="earlier"), tmp_path)
    play(other, flat)
    conductor = open_conductor(make_plan(student("new_name", {}), student("b")), tmp_path)
    assert play(conductor, flat) == ["b-seed0"]
    taken = conductor.history.trials["new_name-seed0"]
    assert (taken.state, taken.reused_from) == (keys.FINISHED, "earlier/old_name-seed0")
    assert taken.summary == other.history.trials["old_name-seed0"].summary
    assert taken.epochs == other.history.trials["old_name-seed0"].epochs


def test_what_another_study_finishes_meanwhile_is_not_trained_again(tmp_path: Path) -> None:
    specs = [student("a"), student("b"), student("c")]
    here = open_conductor(make_plan(*specs), tmp_path)
    first = here.next_trial()
    assert first is not None
    assert first is not WAIT
    there = open_conductor(make_plan(specs[1], study="meanwhile"), tmp_path)
    job = here.on_started(first)
    assert play(there, flat) == ["b-seed0"]
    here.on_finished(job.trial_id, job.attempt, {f"best/{METRIC.name}": 0.5})
    assert play(here, flat) == ["c-seed0"]
    assert here.history.trials["b-seed0"].reused_from == "meanwhile/b-seed0"


def test_what_another_study_trains_now_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shared, own = student("a"), student("b")
    there = open_conductor(make_plan(shared, study="meanwhile"), tmp_path)
    job = there.on_started(shared)
    here = open_conductor(make_plan(shared, own), tmp_path)
    assert here.next_trial() == own
    here.on_finished("b-seed0", here.on_started(own).attempt, {f"best/{METRIC.name}": 0.5})
    assert [here.next_trial(), here.next_trial()] == [WAIT, WAIT]
    assert caplog.messages == ["a-seed0 waits: meanwhile/a-seed0 is the same training and runs now"]
    there.on_finished(job.trial_id, job.attempt, {f"best/{METRIC.name}": 0.5})
    assert here.next_trial() is None
    assert here.history.trials["a-seed0"].reused_from == "meanwhile/a-seed0"


def test_a_search_goes_on_while_another_study_trains_what_it_proposes(tmp_path: Path) -> None:
    here = open_conductor(make_plan(search=learning_rates()), tmp_path)
    proposed = here.next_trial()
    assert isinstance(proposed, TrialSpec)
    same = dataclasses.replace(proposed, trial_id="same-seed0", arm="same", number=-1)
    open_conductor(make_plan(same, study="meanwhile"), tmp_path).on_started(same)
    assert here.next_trial() == proposed


def test_what_a_dead_driver_was_training_is_not_waited_for(tmp_path: Path) -> None:
    shared = student("a")
    there = open_conductor(make_plan(shared, study="meanwhile"), tmp_path)
    there.on_started(shared)
    here = open_conductor(make_plan(shared), tmp_path)
    assert here.next_trial() is WAIT
    kill(there)
    assert here.next_trial() == shared


def test_a_trial_whose_worker_dies_goes_on_and_fails_after_the_fourth_death(tmp_path: Path) -> None:
    plan = make_plan(student("a"))
    conductor = open_conductor(plan, tmp_path)
    attempts = []
    for _ in range(4):
        spec = conductor.next_trial()
        assert spec is not None
        assert spec is not WAIT
        attempts.append(conductor.on_started(spec).attempt)
        conductor.on_lost("a-seed0", attempts[-1], "the worker was killed")
    assert attempts == [1, 2, 3, 4]
    assert conductor.next_trial() is None
    assert states(conductor) == {"a-seed0": keys.FAILED}


def test_a_superseded_attempt_has_no_say(tmp_path: Path) -> None:
    plan = make_plan(student("a"))
    conductor = open_conductor(plan, tmp_path)
    conductor.on_started(plan.trials[0])
    conductor.on_lost("a-seed0", 1, "the worker was killed")
    conductor.on_started(plan.trials[0])
    assert conductor.on_epoch("a-seed0", 1, 1, {METRIC.name: 0.1})
    conductor.on_outcome("a-seed0", 1, Outcome(keys.FAILED, reason="late"))
    assert conductor.history.trials["a-seed0"].epochs == {}
    assert states(conductor) == {"a-seed0": keys.RUNNING}


def test_a_stop_interrupts_running_trials_and_begins_no_more(tmp_path: Path) -> None:
    plan = make_plan(student("a"), student("b"))
    conductor = open_conductor(plan, tmp_path)
    conductor.on_started(plan.trials[0])
    conductor.request_stop("Ctrl-C")
    assert conductor.on_epoch("a-seed0", 1, 1, {METRIC.name: 0.1})
    conductor.on_outcome("a-seed0", 1, Outcome("stopped", {}))
    assert conductor.next_trial() is None
    conductor.close("Ctrl-C")
    assert states(conductor) == {"a-seed0": keys.INTERRUPTED}
    assert conductor.history.stopped_reason == "Ctrl-C"


@pytest.mark.parametrize(("value", "state"), [(float("nan"), keys.DIVERGED), (None, keys.FAILED), (0.5, keys.FINISHED)])
def test_a_finished_training_counts_only_with_a_finite_metric(tmp_path: Path, value: float | None, state: str) -> None:
    plan = make_plan(student("a"))
    conductor = open_conductor(plan, tmp_path)
    conductor.on_started(plan.trials[0])
    conductor.on_finished("a-seed0", 1, {} if value is None else {f"best/{METRIC.name}": value})
    assert states(conductor) == {"a-seed0": state}


def test_the_value_comes_from_the_selected_epoch() -> None:
    epochs = {1: {"train/loss": 3.0}, 2: {"train/loss": 1.0}, 3: {"train/loss": 2.0}}
    assert value_of(Metric("val/ap", "max", "best"), {"best/val/ap": 0.4, "final/val/ap": 0.3}, {}) == 0.4
    assert value_of(Metric("val/ap", "max", "last"), {"best/val/ap": 0.4, "final/val/ap": 0.3}, {}) == 0.3
    assert value_of(Metric("train_seconds", "min", "last"), {"train_seconds": 7.0}, {}) == 7.0
    assert value_of(Metric("train/loss", "min", "best"), {}, epochs) == 1.0
    assert value_of(Metric("train/loss", "max", "best"), {}, epochs) == 3.0
    assert value_of(Metric("train/loss", "min", "last"), {}, epochs) == 2.0
    assert value_of(Metric("val/ar", "max", "best"), {}, epochs) is None


def test_a_search_runs_to_its_budget_and_survives_the_drivers_death(tmp_path: Path) -> None:
    def curve(job: Job, epoch: int) -> float:
        return 1.0 - abs(job.config["train"]["learning_rate"] - 3e-3) * 10 + 0.001 * epoch

    undisturbed = open_conductor(make_plan(search=learning_rates(), study="undisturbed"), tmp_path / "u")
    play(undisturbed, curve)
    plan = make_plan(search=learning_rates())
    first = open_conductor(plan, tmp_path / "k")
    play(first, curve, limit=3)
    spec = first.next_trial()
    assert spec is not None
    assert spec is not WAIT
    job = first.on_started(spec)
    first.on_epoch(job.trial_id, job.attempt, 1, {METRIC.name: curve(job, 1)})
    kill(first)
    second = open_conductor(plan, tmp_path / "k")
    begun = play(second, curve)
    assert begun[0] == spec.trial_id
    assert len(second.history.trials) == 6
    rates = [
        [trial.spec.overrides["train.learning_rate"] for trial in conductor.history.trials.values()]
        for conductor in (undisturbed, second)
    ]
    assert rates[0] == rates[1]  # the same proposals with and without the crash


def test_a_proposal_evaluated_before_is_answered_from_the_ledger(tmp_path: Path) -> None:
    space = {"train.batch_size": {"type": "categorical", "choices": [4, 8], "when": {}}}
    plan = make_plan(search=learning_rates(space=space, sampler="random", trials=8))
    conductor = open_conductor(plan, tmp_path)
    begun = play(conductor, lambda job, epoch: job.config["train"]["batch_size"] / 10)
    assert len(begun) == 2
    assert len(conductor.history.trials) == 8
    reused = [trial for trial in conductor.history.trials.values() if trial.reused_from]
    assert len(reused) == 6
    assert all(trial.reused_from == f"tiny/{begun[0]}" or trial.reused_from == f"tiny/{begun[1]}" for trial in reused)
    told = conductor._sampler._study.get_trials()  # type: ignore[union-attr]
    assert all(trial.value == trial.params["train.batch_size"] / 10 for trial in told)


def test_a_proposal_that_is_no_configuration_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    space = {"student.input_size": {"type": "int", "low": 32, "high": 64, "step": 16, "log": False, "when": {}}}
    plan = make_plan(search=learning_rates(space=space, sampler="grid", trials=9))
    conductor = open_conductor(plan, tmp_path)
    begun = play(conductor, flat)
    assert len(begun) == 2  # 48 is not a multiple of 32
    bad = [trial for trial in conductor.history.trials.values() if trial.state == keys.FAILED]
    assert [trial.reason for trial in bad] == ["student.input_size: must be a multiple of 32, got 48"]


def test_twenty_studies_that_want_a_teacher_at_the_same_moment_train_it_once(tmp_path: Path) -> None:
    needed = teacher()
    wanting = [student("full", seed=number, teacher=needed.fingerprint) for number in range(20)]
    plans = [make_plan(one, teachers=(needed,), study=f"study-{one.seed}") for one in wanting]
    studies = [open_conductor(plan, tmp_path) for plan in plans]
    ready = threading.Barrier(len(studies))

    def ask(conductor: Conductor) -> TrialSpec | Wait | None:
        ready.wait()
        return conductor.next_trial()

    with ThreadPoolExecutor(len(studies)) as pool:
        asked = list(pool.map(ask, studies))
    (trainer,) = (conductor for conductor, found in zip(studies, asked) if found == needed)
    assert asked.count(WAIT) == len(studies) - 1
    job = trainer.on_started(needed)
    fake_teacher(trainer.paths, needed.fingerprint)
    trainer.on_finished(job.trial_id, job.attempt, {})
    files = set()
    for conductor in studies:
        found = conductor.next_trial()
        assert isinstance(found, TrialSpec)
        files.add(conductor.on_started(found).teacher_file)
    assert len(files) == 1
