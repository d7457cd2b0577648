"""A whole search: proposals as Optuna alone makes them, pruners told honestly, conditional options, twins."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from cdkd.config import resolve
from cdkd.options import to_mapping
from orchestrator import keys
from orchestrator.compiler import search_trial
from orchestrator.conductor import WAIT, Conductor, Wait
from orchestrator.errors import UserError
from orchestrator.execution import Job
from orchestrator.plan import Plan, SearchSpec
from orchestrator.progress import standing
from orchestrator.sampler import proposal_seed
from orchestrator.search_options import rungs, with_defaults
from orchestrator.specification import specification
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
from tests.orchestrator.populations import population_plan
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

    @pytest.mark.parametrize("dies", ["driver", "worker"])
    def test_a_verdict_outlives_what_dies_before_the_trial_has_left(self, tmp_path, dies):
        conductor = open_conductor(pruned("asha"), tmp_path)
        play(conductor, worse_each_time, limit=1)
        job = begin(conductor)
        answers = [conductor.on_epoch(job.trial_id, 1, epoch, {METRIC.name: 0.1}) for epoch in (1, 2)]
        assert answers == [False, True]
        if dies == "driver":
            kill(conductor)
            conductor = open_conductor(pruned("asha"), tmp_path)
        else:
            conductor.on_lost(job.trial_id, 1, "its node is gone")
        following = conductor.next_trial()
        assert not isinstance(following, (Wait, type(None)))
        assert following.number == 2
        assert conductor.history.trials[job.trial_id].reason == "pruned after epoch 2"
        assert (stored(tmp_path)[1].state, stored(tmp_path)[1].last_step) == (TrialState.PRUNED, 2)

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

    def test_a_twin_that_waits_does_not_hold_up_other_proposals_and_few_wait(self, tmp_path):
        space = {"train.batch_size": {"type": "int", "low": 2, "high": 3, "log": False, "step": None, "when": {}}}
        known = tuple({"train.batch_size": size} for size in (2, 2, 3, 2, 2, 2, 2))
        plan = long_plan(learning_rates(space=space, trials=7, enqueue=known))
        conductor = open_conductor(plan, tmp_path, search_trials=search_trial)
        jobs = [begin(conductor), begin(conductor)]
        assert [job.config["train"]["batch_size"] for job in jobs] == [2, 3]
        assert conductor.next_trial() is WAIT
        assert conductor.remaining_proposals() == 2  # two run, the first twin and two more wait

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


KNOWN = {"train.learning_rate": 3e-3}


def edited(plan: Plan, **train: Any) -> Plan:
    return dataclasses.replace(plan, base={**plan.base, "train": {**plan.base["train"], **train}})


def begun_numbers(conductor: Conductor, **options: Any) -> list[int]:
    return [conductor.history.trials[name].spec.number for name in play(conductor, quality, **options)]


class TestAnEditedStudy:
    """Results of another configuration are not those of the search: it begins anew under numbers of its own."""

    def test_trials_of_another_configuration_are_neither_told_nor_counted(self, tmp_path):
        plan = make_plan(search=learning_rates(trials=3, enqueue=(KNOWN,)))
        first = open_conductor(plan, tmp_path)
        assert begun_numbers(first) == [0, 1, 2]
        kill(first)
        second = open_conductor(edited(plan, epochs=2), tmp_path)
        assert second.remaining_proposals() == 3
        assert begun_numbers(second) == [3, 4, 5]
        assert second.history.trials["search-0003"].spec.overrides == KNOWN
        told = stored(tmp_path)
        assert [trial.state for trial in told] == [TrialState.FAIL] * 3 + [TrialState.COMPLETE] * 3
        assert [trial.user_attrs.get("superseded", "") for trial in told] == ["another configuration"] * 3 + [""] * 3
        assert [bool(trial.params) for trial in told] == [False] * 3 + [True] * 3
        kill(second)
        before = (tmp_path / "tiny" / "optuna.db").read_bytes()
        third = open_conductor(edited(plan, epochs=2), tmp_path)
        assert third.next_trial() is None
        assert (tmp_path / "tiny" / "optuna.db").read_bytes() == before
        assert third.history.specification["superseded"] == ["search-0000", "search-0001", "search-0002"]

    def test_a_study_that_is_edited_back_has_its_results_again(self, tmp_path):
        plan = make_plan(search=learning_rates(trials=3, enqueue=(KNOWN,)))
        for each, begun in ((plan, [0, 1, 2]), (edited(plan, epochs=2), [3, 4, 5]), (plan, [])):
            conductor = open_conductor(each, tmp_path)
            assert begun_numbers(conductor) == begun
            kill(conductor)
        assert [trial.state for trial in stored(tmp_path)] == [TrialState.COMPLETE] * 3 + [TrialState.FAIL] * 3

    def test_an_interrupted_trial_does_not_go_on_with_the_old_configuration(self, tmp_path):
        plan = make_plan(search=learning_rates(trials=2))
        first = open_conductor(plan, tmp_path)
        job = begin(first)
        first.on_epoch(job.trial_id, job.attempt, 1, {METRIC.name: 0.5})
        kill(first)
        second = open_conductor(edited(plan, epochs=2), tmp_path)
        assert begun_numbers(second) == [1, 2]
        assert second.left_out() == []

    def test_a_rejected_proposal_is_superseded_with_the_one_that_followed_it(self, tmp_path):
        rule = {"left": "train.learning_rate", "op": "<", "right": 3e-3, "is_path": False, "when": {}}
        plan = make_plan(search=learning_rates(trials=3, constraints=(rule,), sampler="random"))
        for each in (plan, edited(plan, epochs=2)):
            conductor = open_conductor(each, tmp_path)
            assert len(play(conductor, quality)) == 3
            kill(conductor)
        told = stored(tmp_path)
        assert any("constraint" in trial.user_attrs for trial in told)
        marked = ["superseded" in trial.user_attrs for trial in told]
        assert marked == sorted(marked, reverse=True)
        assert marked.count(False) == 3 + sum("constraint" in trial.user_attrs for trial in told)

    @pytest.mark.parametrize("sampler", ["grid", "qmc"])
    def test_a_series_begins_at_its_first_point_again(self, tmp_path, sampler):
        space = {"train.batch_size": {"type": "categorical", "choices": [2, 4, 8], "when": {}}}
        plan = make_plan(search=learning_rates(space=space, trials=3, sampler=sampler))
        seen = []
        for each in (plan, edited(plan, weight_decay=0.5)):
            conductor = open_conductor(each, tmp_path)
            play(conductor, quality)
            trials = list(conductor.history.trials.values())[-3:]
            seen.append([trial.spec.overrides["train.batch_size"] for trial in trials])
            kill(conductor)
        assert sampler != "grid" or [sorted(values) for values in seen] == [[2, 4, 8], [2, 4, 8]]
        assert sampler != "qmc" or seen[0][1:] == seen[1][1:]  # the first is drawn at random, by its number

    def test_an_option_that_is_searched_no_more_makes_its_trials_others(self, tmp_path):
        space = {"train.learning_rate": RATE, "train.batch_size": SIZE}
        first = open_conductor(make_plan(search=learning_rates(space=space, trials=2)), tmp_path)
        play(first, quality)
        kill(first)
        second = open_conductor(make_plan(search=learning_rates(trials=2)), tmp_path)
        assert begun_numbers(second) == [2, 3]

    @pytest.mark.parametrize("kind", ["population", "brute_force"])
    def test_a_search_that_cannot_be_mixed_is_refused_in_one_line(self, tmp_path, kind):
        plan = population_plan(members=2) if kind == "population" else self.exhaustive()
        first = open_conductor(plan, tmp_path)
        spec = first.next_trial()
        assert not isinstance(spec, (Wait, type(None)))
        first.on_started(spec)
        kill(first)
        with pytest.raises(
            UserError,
            match=r"^tiny: the search holds trials of another .* \(1\), .*: cdkd run --fresh begins it anew$",
        ):
            open_conductor(edited(plan, epochs=7), tmp_path)

    @staticmethod
    def exhaustive() -> Plan:
        space = {"train.batch_size": {"type": "categorical", "choices": [2, 4], "when": {}}}
        return make_plan(search=learning_rates(space=space, sampler="brute_force", trials=2))

    def test_the_status_counts_what_is_of_the_study(self, tmp_path):
        plan = make_plan(search=learning_rates(trials=2))
        best = open_conductor(plan, tmp_path)
        play(best, lambda job, epoch: 0.9)
        kill(best)
        longer = edited(plan, epochs=2)
        conductor = open_conductor(longer, tmp_path)
        conductor.begin(specification(longer))
        play(conductor, lambda job, epoch: 0.5, limit=1)
        now = standing(conductor.history, 0.0, 0.0)
        assert (now.done, now.total) == (1, 2)
        assert now.best == ("search-0002", 0.5)
