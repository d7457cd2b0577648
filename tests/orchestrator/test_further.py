"""Trials that come into being while a study runs, on the conductor with made-up numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cdkd.config import resolve
from orchestrator import keys
from orchestrator.compiler import begun_afresh
from orchestrator.execution import STOPPED, Job, Outcome
from orchestrator.further import ranked
from orchestrator.history import TrialHistory
from orchestrator.ledger import read_from
from orchestrator.plan import Block, Budget, Metric, Plan, RefitSpec, RepeatRule, Resources, TrialSpec, of_generation
from tests.orchestrator.plans import (
    BASE,
    METRIC,
    PLAIN,
    _spec,
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

MOST = 5


def repeated(rule: RepeatRule, *arms: str) -> Plan:
    """Arms with up to MOST seeds; the first one is the baseline."""
    specs = [student(arm, seed=seed) for seed in range(MOST) for arm in arms]
    certain = tuple(spec for spec in specs if spec.seed < rule.minimum)
    plan = make_plan(*certain)
    table = dataclasses.replace(plan.table, arms=arms, baseline=arms[0], blocks=(Block(arms, arms[0]),))
    reserve = tuple(spec for spec in specs if spec.seed >= rule.minimum)
    return dataclasses.replace(plan, table=table, reserve=reserve, repeats=rule, seeds=tuple(range(MOST)))


def refit_trial(plan: Plan, arm: str, seed: int, overrides: dict[str, Any]) -> tuple[TrialSpec, None]:
    config = resolve(plan.base, PLAIN, overrides, {"seed": seed})
    return _spec(f"{arm}-seed{seed}", "student", arm, config, overrides, ""), None


def wide(job: Job, epoch: int) -> float:
    """`quiet` is the same for every seed, every other arm is not."""
    return 0.5 if job.trial_id.startswith("quiet") else 0.2 + 0.1 * job.config["seed"]


def test_a_wide_arm_gets_more_seeds_and_its_baseline_the_same(tmp_path: Path) -> None:
    plan = repeated(RepeatRule(2, "mean", 0.21), "quiet", "noisy")
    conductor = open_conductor(plan, tmp_path)
    play(conductor, wide)
    assert set(conductor.history.trials) == {f"{arm}-seed{seed}" for arm in ("quiet", "noisy") for seed in range(4)}
    assert conductor.next_trial() is None


def test_arms_that_are_narrow_keep_the_least(tmp_path: Path) -> None:
    plan = repeated(RepeatRule(2, "mean", 0.2), "quiet", "quietest")
    conductor = open_conductor(plan, tmp_path)
    play(conductor, wide)
    assert len(conductor.history.trials) == 4


def test_a_new_driver_asks_for_the_same_repeats(tmp_path: Path) -> None:
    plan = repeated(RepeatRule(2, "mean", 1e-6), "quiet", "noisy")
    first = open_conductor(plan, tmp_path)
    begun = play(first, wide, limit=5)
    kill(first)
    second = open_conductor(plan, tmp_path)
    begun += play(second, wide)
    assert sorted(begun) == sorted(f"{arm}-seed{seed}" for arm in ("quiet", "noisy") for seed in range(MOST))
    assert second.history.specification["arm_seeds"] == {}  # begun by `begin({})`: nothing was planned
    assert len(second.history.specification["trials"]) == 6


def test_further_repeats_are_on_disk_before_they_begin(tmp_path: Path) -> None:
    plan = repeated(RepeatRule(2, "mean", 1e-6), "noisy")
    play(open_conductor(plan, tmp_path), wide)
    events = [
        (record.event, (record.data.get("trial") or {}).get("trial_id")) for record in read_from(_ledger(tmp_path))[0]
    ]
    extended = [position for position, (event, _) in enumerate(events) if event == keys.EXTENDED]
    assert len(extended) == MOST - 2
    assert extended[0] < events.index((keys.STARTED, "noisy-seed2"))


def _ledger(results: Path) -> Path:
    return results / "tiny" / "ledger.jsonl"


def by_rate(job: Job, epoch: int) -> float:
    return 1.0 - abs(job.config["train"]["learning_rate"] - 3e-3) * 10


def searched(**refit: Any) -> Plan:
    search = learning_rates(trials=5, refit=RefitSpec(**{"top": 2, "seeds": (7, 8), **refit}))
    base = [student("base", {}, seed=seed) for seed in (7, 8)]
    return dataclasses.replace(make_plan(*base, search=search), seeds=(7, 8))


def test_the_best_of_a_search_are_trained_again_on_fresh_seeds(tmp_path: Path) -> None:
    conductor = open_conductor(searched(), tmp_path, refit_trial=refit_trial)
    begun = play(conductor, by_rate)
    assert begun[-4:] == ["best-1-seed7", "best-2-seed7", "best-1-seed8", "best-2-seed8"]
    best, second = ranked(conductor.plan, conductor.history.trials.values())[:2]
    values = sorted((trial.summary[f"best/{METRIC.name}"] for trial in conductor.history.trials.values()), reverse=True)
    assert best.summary[f"best/{METRIC.name}"] == values[0]
    refitted = conductor.history.trials["best-1-seed7"].spec
    assert refitted.overrides == best.spec.overrides
    assert refitted.config["train"]["learning_rate"] == best.spec.overrides["train.learning_rate"]
    assert refitted.seed == 7
    assert conductor.history.trials["best-2-seed8"].spec.overrides == second.spec.overrides


def test_a_refit_waits_for_the_last_proposal(tmp_path: Path) -> None:
    conductor = open_conductor(searched(), tmp_path, refit_trial=refit_trial)
    begun = play(conductor, by_rate, limit=6)  # two of the base, four proposals
    assert not [name for name in begun if name.startswith("best")]
    last = conductor.next_trial()
    assert isinstance(last, TrialSpec)
    assert last.number == 4
    conductor.on_started(last)
    assert not isinstance(conductor.next_trial(), TrialSpec)


def test_with_several_objectives_the_front_is_refitted_and_what_exceeds_a_limit_is_not(tmp_path: Path) -> None:
    both = (METRIC, Metric("gmacs", "min", "best"))
    conductor = open_conductor(make_plan(search=learning_rates(trials=4)), tmp_path)
    plan = dataclasses.replace(
        conductor.plan,
        search=learning_rates(objectives=both, limits={"params_m": {"max": 3.0}}),
    )
    found = []
    for number, (score, cost, size) in enumerate([(0.5, 1.0, 1.0), (0.7, 3.0, 1.0), (0.6, 3.5, 1.0), (0.9, 1.0, 9.0)]):
        spec = _spec(f"search-{number}", "student", "search", resolve(BASE, {"train.gamma": score}), {}, "", number)
        trial = TrialHistory(spec, keys.FINISHED, 1, started=0.0)
        trial.summary = {f"best/{METRIC.name}": score, "gmacs": cost, "params_m": size}
        found.append(trial)
    assert [trial.spec.number for trial in ranked(plan, found)] == [1, 0, 2]  # 2 is beaten by 1, 3 is too large


def test_a_configuration_proposed_twice_is_refitted_once(tmp_path: Path) -> None:
    space = {"train.batch_size": {"type": "categorical", "choices": [4, 8], "when": {}}}
    search = learning_rates(space=space, sampler="random", trials=6, refit=RefitSpec(2, (7,)))
    conductor = open_conductor(make_plan(search=search), tmp_path, refit_trial=refit_trial)
    play(conductor, lambda job, epoch: job.config["train"]["batch_size"] / 10)
    sizes = {name: trial.spec.config["train"]["batch_size"] for name, trial in conductor.history.trials.items()}
    assert (sizes["best-1-seed7"], sizes["best-2-seed7"]) == (8, 4)


def with_seconds(conductor: Any, seconds: float, limit: int = 100) -> list[str]:
    """Play, with epochs that took this long."""
    begun = []
    while len(begun) < limit and isinstance(spec := conductor.next_trial(), TrialSpec):
        begun.append(spec.trial_id)
        job = conductor.on_started(spec)
        for epoch in range(1, spec.config["train"]["epochs"] + 1):
            metrics = {METRIC.name: 0.5, "time/epoch_seconds": seconds}
            if conductor.on_epoch(job.trial_id, job.attempt, epoch, metrics) and epoch < 3:
                conductor.on_outcome(job.trial_id, job.attempt, Outcome(STOPPED))
                break
        else:
            conductor.on_finished(job.trial_id, job.attempt, {f"best/{METRIC.name}": 0.5})
    return begun


def test_a_budget_stops_hard_names_what_is_left_and_can_be_raised(tmp_path: Path) -> None:
    plan = dataclasses.replace(make_plan(student("a"), student("b"), student("c")), budget=Budget(cpu_hours=4.0))
    conductor = open_conductor(plan, tmp_path)
    assert with_seconds(conductor, 3600.0) == ["a-seed0", "b-seed0"]
    assert conductor.spent_budget() == "the budget of 4 CPU hours is used up"
    assert states(conductor) == {"a-seed0": keys.FINISHED, "b-seed0": keys.INTERRUPTED}
    assert conductor.history.trials["b-seed0"].last_epoch == 1
    begun, never = conductor.left_out()
    assert (begun.spec.trial_id, never.trial_id) == ("b-seed0", "c-seed0")  # type: ignore[union-attr]
    kill(conductor)
    again = open_conductor(dataclasses.replace(plan, budget=Budget(cpu_hours=40.0)), tmp_path)
    assert with_seconds(again, 3600.0) == ["b-seed0", "c-seed0"]
    assert again.left_out() == []
    assert again.device_hours("cpu_hours") == 9.0


def test_a_plan_begun_afresh_trains_again_and_forgets_nothing(tmp_path: Path) -> None:
    plan = make_plan(student("a"), student("b"))
    first = open_conductor(plan, tmp_path)
    play(first, wide)
    kill(first)
    other = open_conductor(make_plan(student("a"), study="other"), tmp_path)
    assert play(other, wide) == []  # taken over
    kill(other)
    since = max(record.time for record in read_from(_ledger(tmp_path))[0]) + 1e-3
    fresh = open_conductor(begun_afresh(plan, 1, since), tmp_path)
    assert play(fresh, wide) == ["a-seed0-fresh1", "b-seed0-fresh1"]
    assert set(fresh.history.trials) == {"a-seed0", "b-seed0", "a-seed0-fresh1", "b-seed0-fresh1"}
    kill(fresh)
    again = open_conductor(begun_afresh(plan, 1, since), tmp_path)
    assert play(again, wide) == []


def test_a_search_begun_afresh_proposes_again(tmp_path: Path) -> None:
    plan = make_plan(search=learning_rates(trials=3))
    first = open_conductor(plan, tmp_path)
    assert len(play(first, by_rate)) == 3
    kill(first)

    def renamed(plan: Plan, number: int, overrides: dict[str, Any]) -> tuple[TrialSpec, None]:
        config = resolve(BASE, PLAIN, overrides)
        spec = _spec(f"search-{number:04d}-fresh1", "student", "search", config, overrides, "", number)
        return dataclasses.replace(spec, generation=1), None

    fresh = open_conductor(begun_afresh(plan, 1, 1e12), tmp_path, search_trials=renamed)
    assert play(fresh, by_rate) == [f"search-{number:04d}-fresh1" for number in range(3)]


def test_a_spent_budget_does_not_forget_what_the_results_asked_for(tmp_path: Path) -> None:
    plan = repeated(RepeatRule(2, "mean", 1e-6), "noisy")
    first = open_conductor(plan, tmp_path)
    play(first, wide)
    kill(first)
    spent = dataclasses.replace(plan, budget=Budget(cpu_hours=1e-12))
    again = open_conductor(spent, tmp_path)
    again.history.hours["cpu_hours"] = 1.0
    assert again.next_trial() is None
    assert len(again.history.specification["trials"]) == MOST - 2  # told once more for this run of the study


def test_a_failed_proposal_does_not_keep_the_refit_waiting(tmp_path: Path) -> None:
    conductor = open_conductor(searched(top=1), tmp_path, refit_trial=refit_trial, retry_failed=True)
    begun = []
    while isinstance(spec := conductor.next_trial(), TrialSpec):
        begun.append(spec.trial_id)
        job = conductor.on_started(spec)
        if spec.number == 1:
            conductor.on_failed(job.trial_id, job.attempt, "a bug")
        else:
            conductor.on_epoch(job.trial_id, job.attempt, 1, {METRIC.name: 0.5})
            conductor.on_finished(job.trial_id, job.attempt, {f"best/{METRIC.name}": by_rate(job, 1)})
    assert begun[-2:] == ["best-1-seed7", "best-1-seed8"]


def test_results_of_an_edited_study_are_not_refitted(tmp_path: Path) -> None:
    first = open_conductor(searched(), tmp_path, refit_trial=refit_trial)
    play(first, by_rate, limit=7)  # the base and all proposals
    kill(first)
    longer = dataclasses.replace(
        searched(), base={**first.plan.base, "train": {**first.plan.base["train"], "epochs": 5}}
    )
    again = open_conductor(longer, tmp_path, refit_trial=refit_trial)
    begun = play(again, by_rate)
    refitted = [again.history.trials[name].spec for name in begun if name.startswith("best")]
    proposed = [again.history.trials[name].spec for name in begun if name.startswith("search")]
    assert [spec.number for spec in proposed] == [5, 6, 7, 8, 9]
    assert {str(spec.overrides) for spec in refitted} < {str(spec.overrides) for spec in proposed}


def test_a_proposal_that_was_no_configuration_belongs_to_its_generation(tmp_path: Path) -> None:
    space = {"student.input_size": {"type": "int", "low": 32, "high": 64, "step": 16, "log": False, "when": {}}}
    plan = make_plan(search=learning_rates(space=space, sampler="grid", trials=9))

    def named(plan: Plan, number: int, overrides: dict[str, Any]) -> tuple[TrialSpec, None]:
        config = resolve(BASE, PLAIN, overrides)
        spec = _spec(f"search-{number:04d}", "student", "search", config, overrides, "", number)
        return of_generation(spec, plan.generation), None

    for generation in (0, 1, 1):
        conductor = open_conductor(begun_afresh(plan, generation, 1e12), tmp_path, search_trials=named)
        conductor.begin({"generation": generation})
        play(conductor, wide)
        kill(conductor)
    invalid = [name for name, trial in conductor.history.trials.items() if trial.state == keys.FAILED]
    assert len(invalid) == 2
    assert [name.endswith("-fresh1") for name in sorted(invalid, key=len)] == [False, True]
    assert len(conductor.history.trials) == 6


def test_device_hours_are_those_that_each_attempt_held(tmp_path: Path) -> None:
    needed = teacher()
    plan = make_plan(student("full", teacher=needed.fingerprint), teachers=(needed,))
    conductor = open_conductor(plan, tmp_path)
    job = conductor.on_started(needed, {"cpus": 16, "gpus": 0})
    conductor.on_epoch(job.trial_id, job.attempt, 1, {"time/epoch_seconds": 3600.0})
    assert conductor.device_hours("cpu_hours") == 16.0
    fake_teacher(conductor.paths, needed.fingerprint)  # the driver dies after the training, before it heard of its end
    kill(conductor)
    again = open_conductor(dataclasses.replace(plan, resources=Resources(cpus_per_worker=2)), tmp_path)
    again.next_trial()
    assert again.history.trials[needed.trial_id].reused_from
    assert again.device_hours("cpu_hours") == 16.0
    kill(again)
    assert open_conductor(plan, tmp_path).device_hours("cpu_hours") == 16.0
