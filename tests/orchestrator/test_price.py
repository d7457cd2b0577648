"""What a plan will cost: kinds of trainings, rates from the store, and their sum."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cdkd.config import TrainingConfig
from cdkd.options import declared_fields
from orchestrator.conductor import Conductor
from orchestrator.history import SECONDS
from orchestrator.ledger import Ledger
from orchestrator.paths import StudyPaths
from orchestrator.plan import Budget, Plan, Resources, TrialSpec
from orchestrator.price import TIMELESS, Kinds, Pricer, Rate, Span, remembered, work_of
from orchestrator.resources import Machine
from orchestrator.specification import specification
from tests.orchestrator.plans import METRIC, kill, make_plan, student, teacher

BOX = Machine(cpus=2, gpus=0)
WORDS = {"cpu": "a processor", "cpus": 2, "gpus": []}


def kinds_of(teachers: int = 1, **resources: Any) -> Kinds:
    return Kinds(Resources(**resources), BOX, WORDS, teachers)


@pytest.mark.parametrize("name", TIMELESS)
def test_every_option_that_costs_no_time_exists(name: str) -> None:
    assert name in declared_fields(TrainingConfig)


@pytest.mark.parametrize(
    "overrides",
    [{"train.learning_rate": 0.5}, {"seed": 3}, {"train.epochs": 9}, {"simcc.label_smoothing": 0.3}],
)
def test_trainings_that_take_the_same_time_are_of_one_kind(overrides: dict[str, Any]) -> None:
    kinds = kinds_of()
    assert kinds.of(student("a", overrides)) == kinds.of(student("a", {}))


@pytest.mark.parametrize(
    "overrides",
    [
        {"student.input_size": 64},
        {"train.batch_size": 4},
        {"evaluation.flip_test": True},
        {"runtime.cache_images": False},
        {"data.synthetic.train_images": 48},
    ],
)
def test_trainings_that_differ_in_time_are_of_two_kinds(overrides: dict[str, Any]) -> None:
    kinds = kinds_of()
    assert kinds.of(student("a", overrides)) != kinds.of(student("a", {}))


def test_a_teacher_cache_is_part_of_a_kind_whatever_its_size_and_only_where_there_is_a_teacher() -> None:
    kinds = kinds_of()
    plain = [kinds.of(student("a", {"runtime.teacher_cache_gb": size})) for size in (0.0, 1.0, 2.0)]
    distilled = [kinds.of(student("a", {"runtime.teacher_cache_gb": size}, teacher="t")) for size in (0.0, 1.0, 2.0)]
    assert plain[0] == plain[1] == plain[2]
    assert distilled[0] != distilled[1] == distilled[2]


def test_a_training_of_a_version_with_fewer_options_is_of_the_same_kind() -> None:
    spec = student("a", {})
    runtime = {name: value for name, value in spec.config["runtime"].items() if name != "teacher_cache_gb"}
    older = dataclasses.replace(spec, config={**spec.config, "runtime": runtime})
    assert kinds_of().of(older) == kinds_of().of(spec)


def test_the_machine_and_the_neighbours_are_part_of_a_kind() -> None:
    spec = student("a", {})
    alone = kinds_of(max_concurrent_trials=1)
    assert kinds_of().side_by_side(spec) == 2
    assert alone.side_by_side(spec) == 1
    assert len({kinds_of().of(spec), alone.of(spec), kinds_of(cpus_per_worker=2).of(spec)}) == 3
    elsewhere = Kinds(Resources(), BOX, {**WORDS, "cpu": "another"}, 1)
    assert elsewhere.of(spec) != kinds_of().of(spec)


def test_work_is_grouped_by_kind() -> None:
    jobs = [(student("a", {}), 3), (student("b", {"train.learning_rate": 0.1}), 2), (teacher(), 1)]
    first, second = work_of(jobs, kinds_of())
    assert (first.arms, first.epochs) == (("a", "b"), (3, 2))
    assert (second.arms, second.epochs) == (("teacher",), (1,))


def record(plan: Plan, results: Path, seconds: dict[str, list[float]]) -> Path:
    """A study whose trials reported epochs of these seconds; the ledger's file."""
    paths = StudyPaths(results, plan.study)
    conductor = Conductor(plan, Ledger.open(paths.ledger, writer=True), paths)
    conductor.begin({**specification(plan), "machine": WORDS})
    for spec in plan.trials:
        job = conductor.on_started(spec)
        for epoch, value in enumerate(seconds[spec.trial_id], start=1):
            conductor.on_epoch(job.trial_id, job.attempt, epoch, {METRIC.name: 0.5, SECONDS: value})
        conductor.on_finished(job.trial_id, job.attempt, {f"best/{METRIC.name}": 0.5})
    kill(conductor)
    return paths.ledger


def test_rates_are_remembered_by_kind(tmp_path: Path) -> None:
    plan = make_plan(
        student("a", {}), student("b", {"train.learning_rate": 0.1}), student("c", {"train.batch_size": 4})
    )
    ledger = record(plan, tmp_path, {"a-seed0": [2.0, 2.0], "b-seed0": [4.0, 4.0], "c-seed0": [9.0, 11.0]})
    rates = remembered([ledger, tmp_path / "none.jsonl"])
    kinds = kinds_of()
    same, other = rates[kinds.of(plan.trials[0])], rates[kinds.of(plan.trials[2])]
    assert (same.epoch, same.source) == (3.0, "2 trainings of tiny")
    assert (same.low, same.high) == pytest.approx((2.2, 3.8))
    assert (other.epoch, other.source) == (10.0, "1 training of tiny")
    assert (other.low, other.high) == pytest.approx((7.5, 12.5))  # at least a quarter to either side
    assert 0 <= same.extra < 60


def test_a_training_without_times_says_nothing(tmp_path: Path) -> None:
    plan = make_plan(student("a", {}))
    paths = StudyPaths(tmp_path, plan.study)
    conductor = Conductor(plan, Ledger.open(paths.ledger, writer=True), paths)
    conductor.begin({**specification(plan), "machine": WORDS})
    conductor.on_started(plan.trials[0])
    kill(conductor)
    assert remembered([paths.ledger]) == {}


def pricer(rate: Rate, *specs: TrialSpec, **resources: Any) -> Pricer:
    kinds = kinds_of(**resources)
    return Pricer({kinds.of(spec): rate for spec in specs}, kinds)


TEN = Rate(epoch=10.0, low=8.0, high=15.0, extra=5.0, source="test")


def test_device_hours_and_time_on_the_clock_are_added_up() -> None:
    specs = [student(name, {}) for name in "abc"]
    found = pricer(TEN, *specs, cpus_per_worker=1).price([(spec, 3) for spec in specs])
    assert found.cpu_hours == Span(90 / 3600, 72 / 3600, 135 / 3600)
    assert found.gpu_hours == Span(0, 0, 0)
    assert found.wall_s == Span(70, 58, 100)  # two at a time, then the third
    alone = pricer(TEN, *specs, max_concurrent_trials=1).price([(spec, 3) for spec in specs])
    assert alone.wall_s.middle == 105


def test_students_wait_for_their_teacher_only() -> None:
    needed = teacher()
    taught, plain = student("t", teacher=needed.fingerprint), student("p", {})
    jobs = [(taught, 1), (plain, 1), (needed, 4)]
    found = pricer(TEN, needed, taught, plain).price(jobs)
    assert found.wall_s.middle == 45 + 15  # the teacher has all CPUs, then both students run


def test_possible_repeats_are_in_the_upper_end_alone() -> None:
    spec = student("a", {})
    found = pricer(TEN, spec).price([(spec, 1)], [(spec, 1)] * 2)
    assert found.cpu_hours == Span(10 / 3600, 8 / 3600, 45 / 3600)
    assert found.wall_s == Span(15, 13, 40)


def test_kinds_without_a_rate_are_named() -> None:
    known, unknown = student("a", {}), student("b", {"train.batch_size": 4})
    found = pricer(TEN, known).unknown([(known, 1), (unknown, 2)])
    assert [work.arms for work in found] == [("b",)]


@pytest.mark.parametrize(("limit", "count"), [(0.5, 0), (1.0, 1), (2.9, 2), (100.0, 3)])
def test_a_budget_allows_whole_trainings_in_order(limit: float, count: int) -> None:
    spec = student("a", {})
    hour = dataclasses.replace(TEN, epoch=3600.0)
    found = pricer(hour, spec).within(Budget(cpu_hours=limit), [(spec, 1)] * 3, {"gpu_hours": 0.0, "cpu_hours": 0.0})
    assert found == count
    spent = pricer(hour, spec).within(Budget(cpu_hours=limit), [(spec, 1)] * 3, {"gpu_hours": 0.0, "cpu_hours": 99.5})
    assert spent == 0
    assert pricer(hour, spec).within(Budget(), [(spec, 1)] * 3, {}) == 3


def test_the_start_of_a_run_is_on_the_clock_once() -> None:
    spec = student("a", {})
    found = pricer(dataclasses.replace(TEN, start=20.0), spec).price([(spec, 1)] * 4)
    assert found.wall_s.middle == 20 + 2 * 15
    assert found.cpu_hours.middle == 40 / 3600


def test_what_runs_took_around_their_trials_is_remembered(tmp_path: Path) -> None:
    plan = make_plan(student("a", {}))
    ledger = record(plan, tmp_path, {"a-seed0": [2.0]})
    with Ledger.open(ledger, writer=True) as opened:
        opened.append("stopped", {"reason": "finished"})
    (rate,) = remembered([ledger]).values()
    assert 0 < rate.start < 60
