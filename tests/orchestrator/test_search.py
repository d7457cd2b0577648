"""A whole search: proposals as Optuna alone makes them, pruners told honestly, conditional options, twins."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from cdkd.config import resolve, to_mapping
from orchestrator import keys
from orchestrator.compiler import search_trial
from orchestrator.conductor import WAIT, Conductor
from orchestrator.execution import Job
from orchestrator.plan import Plan, SearchSpec
from orchestrator.sampler import proposal_seed
from orchestrator.search_options import rungs, with_defaults
from tests.orchestrator.plans import (
    BASE,
    METRIC,
    PLAIN,
    kill,
    learning_rates,
    make_plan,
    open_conductor,
    play,
    play_one,
    states,
    student,
)
from tests.orchestrator.test_sampler import stored, worse_each_time

EPOCHS = 9
RATE = {"type": "float", "low": 1e-4, "high": 1e-2, "log": True, "step": None, "when": {}}
SIZE = {"type": "int", "low": 2, "high": 16, "log": True, "step": None, "when": {}}


def long_plan(search: SearchSpec, *arms: Any, **base: Any) -> Plan:
    """A plan whose trainings have nine epochs."""
    config = to_mapping(resolve(BASE, PLAIN, {"train.epochs": EPOCHS}, base))
    return dataclasses.replace(make_plan(*arms, search=search), base=config)


def quality(job: Job, epoch: int) -> float:
    return 1 - abs(job.config["train"]["learning_rate"] - 3e-3) * 50 - job.config["train"]["batch_size"] / 100


class TestAsOptunaAlone:
    @pytest.mark.parametrize("options", [{}, {"n_startup_trials": 4, "multivariate": False}])
    def test_one_worker_proposes_what_a_loop_over_optuna_seeded_alike_does(self, tmp_path, options):
        space = {"train.learning_rate": RATE, "train.batch_size": SIZE}
        search = learning_rates(space=space, trials=16, seed=7, sampler_options=options)
        conductor = open_conductor(make_plan(search=search), tmp_path)
        play(conductor, quality)
        ours = [trial.spec.overrides for trial in conductor.history.trials.values()]
        assert ours == self.alone(conductor, options)

    @staticmethod
    def alone(conductor: Conductor, options: dict[str, Any]) -> list[dict[str, Any]]:
        study = optuna.create_study(direction="maximize")
        for number in range(16):
            study.sampler = optuna.samplers.TPESampler(seed=proposal_seed(7, number), **options)
            trial = study.ask()
            rate = trial.suggest_float("train.learning_rate", 1e-4, 1e-2, log=True)
            size = trial.suggest_int("train.batch_size", 2, 16, log=True)
            study.tell(trial, 1 - abs(rate - 3e-3) * 50 - size / 100)
        return [trial.params for trial in study.trials]


PRUNERS = {
    "median": ({"n_startup_trials": 1, "n_warmup_steps": 4}, {4}),
    "asha": ({"min_resource": 2}, {2, 6}),
    "hyperband": ({"min_resource": 2}, {2, 6}),
}


def pruned(name: str, trials: int = 8) -> Plan:
    options = with_defaults(name, PRUNERS[name][0], EPOCHS)
    return long_plan(learning_rates(pruner=name, pruner_options=options, trials=trials))


def begin(conductor: Conductor) -> Job:
    spec = conductor.next_trial()
    assert spec is not None
    assert spec is not WAIT
    return conductor.on_started(spec)


class TestPruners:
    @pytest.mark.parametrize("name", PRUNERS)
    def test_trials_are_told_pruned_at_the_pruners_step_failed_or_complete(self, tmp_path, name):
        conductor = open_conductor(pruned(name), tmp_path)
        play(conductor, worse_each_time, limit=1)
        job = begin(conductor)
        conductor.on_epoch(job.trial_id, job.attempt, 1, {METRIC.name: 0.8})
        conductor.on_failed(job.trial_id, job.attempt, "out of memory")
        play(conductor, worse_each_time)
        self.check(tmp_path, name, failed=1)

    @pytest.mark.parametrize("name", PRUNERS)
    def test_so_they_are_when_the_driver_dies_and_its_optuna_file_is_lost(self, tmp_path, name):
        first = open_conductor(pruned(name), tmp_path)
        play(first, worse_each_time, limit=3)
        job = begin(first)
        first.on_epoch(job.trial_id, job.attempt, 1, {METRIC.name: worse_each_time(job, 1)})
        kill(first)
        (tmp_path / "tiny" / "optuna.db").unlink()
        second = open_conductor(pruned(name), tmp_path)
        assert play(second, worse_each_time)[0] == job.trial_id
        self.check(tmp_path, name, failed=0)
        undisturbed = open_conductor(pruned(name), tmp_path / "undisturbed")
        play(undisturbed, worse_each_time)
        pairs = zip(stored(tmp_path), stored(tmp_path / "undisturbed"), strict=True)
        assert all((a.state, a.params, a.last_step) == (b.state, b.params, b.last_step) for a, b in pairs)

    @staticmethod
    def check(results: Path, name: str, failed: int) -> None:
        trials = stored(results)
        by_state = {state: [trial for trial in trials if trial.state == state] for state in TrialState}
        assert len(by_state[TrialState.FAIL]) == failed
        assert by_state[TrialState.PRUNED]
        assert {trial.last_step for trial in by_state[TrialState.PRUNED]} <= PRUNERS[name][1]
        assert {trial.last_step for trial in by_state[TrialState.COMPLETE]} == {EPOCHS}
        assert sum(map(len, by_state.values())) == sum(
            len(by_state[state]) for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE)
        )

    def test_arms_of_an_ablation_are_never_pruned(self, tmp_path):
        arms = [student(name) for name in ("a", "bb", "ccc")]
        options = with_defaults("asha", {}, 3)
        plan = make_plan(*arms, search=learning_rates(pruner="asha", pruner_options=options, trials=3))
        conductor = open_conductor(plan, tmp_path)
        values = iter([0.9, 0.2, 0.1])  # every arm is worse than the one before it
        for _ in arms:
            value = next(values)
            spec = conductor.next_trial()
            assert spec is not None
            assert spec is not WAIT
            play_one(conductor, spec, lambda job, epoch, value=value: value)
        play(conductor, worse_each_time)
        assert {state for name, state in states(conductor).items() if "seed0" in name} == {keys.FINISHED}
        assert keys.PRUNED in states(conductor).values()

    def test_defaults_wait_for_a_tenth_of_a_training(self):
        assert with_defaults("asha", {}, 52) == {"min_resource": 5, "reduction_factor": 3}
        assert with_defaults("hyperband", {}, 52) == {"min_resource": 5, "reduction_factor": 3, "max_resource": 52}
        assert with_defaults("median", {}, 52) == {"n_warmup_steps": 5}
        assert with_defaults("SuccessiveHalvingPruner", {"min_resource": 9}, 52)["min_resource"] == 9
        assert with_defaults("none", {}, 52) == {}
        assert with_defaults("asha", {}, 3)["min_resource"] == 1

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"min_resource": 5, "reduction_factor": 3}, (5, 15, 45)),
            ({"min_resource": 5, "reduction_factor": 3, "min_early_stopping_rate": 1}, (15, 45)),
            ({"n_warmup_steps": 10}, (10, 30)),
            ({}, (5, 15, 45)),
            ({"min_resource": 60}, ()),
        ],
    )
    def test_rungs_are_the_epochs_at_which_trials_are_compared(self, options, expected):
        assert rungs(options, 52) == expected


CONDITIONAL = {
    "distill.sape.enabled": {"type": "categorical", "choices": [True, False], "when": {}},
    "distill.sape.kernels": {
        "type": "categorical",
        "choices": [[3, 5, 7], [3, 5], []],
        "when": {"distill.sape.enabled": [True]},
    },
    "train.learning_rate": RATE,
}


class TestConditionalSpaces:
    @pytest.mark.parametrize(
        ("sampler", "options"),
        [
            ("tpe", {"n_startup_trials": 3}),
            ("tpe", {"n_startup_trials": 3, "multivariate": True, "group": True}),
            ("random", {}),
            ("gp", {"n_startup_trials": 3}),
            ("nsga2", {"population_size": 4}),
        ],
    )
    def test_every_sampler_takes_conditions_and_choices_of_lists(self, tmp_path, sampler, options):
        plan = make_plan(
            search=learning_rates(space=CONDITIONAL, sampler=sampler, sampler_options=options, trials=8, seed=5)
        )
        conductor = open_conductor(plan, tmp_path, search_trials=_trial)
        play(conductor, quality)
        proposals = [trial.spec.overrides for trial in conductor.history.trials.values()]
        assert len(proposals) == 8
        assert {"distill.sape.kernels" in each for each in proposals} == {True, False}
        for each in proposals:
            assert ("distill.sape.kernels" in each) == each["distill.sape.enabled"]
            assert each.get("distill.sape.kernels", []) in ([3, 5, 7], [3, 5], [])
        told = [trial.params for trial in stored(tmp_path)]
        assert {params["distill.sape.kernels"] for params in told if "distill.sape.kernels" in params} <= {
            "3-5-7",
            "3-5",
            "none",
        }


def _trial(plan: Plan, number: int, overrides: dict[str, Any]) -> Any:
    """Whatever is proposed, without the rules between options: nothing is trained here."""
    spec = student(f"search{number}", {"train.learning_rate": overrides["train.learning_rate"]})
    return dataclasses.replace(spec, trial_id=f"search-{number:04d}", number=number, overrides=overrides), None


class TestTwins:
    def test_proposals_that_differ_in_what_nothing_reads_are_trained_once(self, tmp_path):
        """Without SAPE the number of its projectors changes nothing: all proposals are one training."""
        space = {
            "distill.sape.projectors": {"type": "int", "low": 1, "high": 8, "log": False, "step": None, "when": {}}
        }
        plan = long_plan(learning_rates(space=space, sampler="random", trials=5))
        conductor = open_conductor(plan, tmp_path, search_trials=search_trial)
        assert len(play(conductor, quality)) == 1
        assert len({trial.spec.overrides["distill.sape.projectors"] for trial in conductor.history.trials.values()}) > 1
        assert [bool(trial.reused_from) for trial in conductor.history.trials.values()] == [False] + [True] * 4
        assert {trial.state for trial in stored(tmp_path)} == {TrialState.COMPLETE}

    def test_an_inactive_option_makes_twins_of_a_conditional_space(self, tmp_path):
        space = {
            "evaluation.flip_test": {"type": "categorical", "choices": [True, False], "when": {}},
            "train.batch_size": SIZE | {"high": 3, "log": False, "when": {"evaluation.flip_test": [True]}},
        }
        plan = long_plan(learning_rates(space=space, sampler="random", trials=12))
        conductor = open_conductor(plan, tmp_path, search_trials=search_trial)
        begun = play(conductor, quality)
        distinct = {repr(sorted(trial.spec.overrides.items())) for trial in conductor.history.trials.values()}
        assert len(begun) == len(distinct) == 3

    def test_a_twin_of_a_pruned_trial_is_not_trained_either(self, tmp_path):
        space = {"train.batch_size": {"type": "categorical", "choices": [4, 8], "when": {}}}
        options = {"min_resource": 1, "reduction_factor": 2}
        plan = long_plan(learning_rates(space=space, sampler="random", trials=8, pruner="asha", pruner_options=options))
        conductor = open_conductor(plan, tmp_path, search_trials=search_trial)
        first: list[int] = []

        def better_first(job: Job, epoch: int) -> float:
            first.append(job.config["train"]["batch_size"])
            return 0.9 if job.config["train"]["batch_size"] == first[0] else 0.1

        assert len(play(conductor, better_first)) == 2
        assert {trial.state for trial in stored(tmp_path)} == {TrialState.COMPLETE, TrialState.PRUNED}
