"""Populations: what is decided, what is handed over, and that no crash changes either."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cdkd.checkpoint import CheckpointFolder, digest_of, load_tensors
from cdkd.config import TrainingConfig, resolve
from cdkd.options import from_mapping
from cdkd.training import train
from orchestrator import conductor as conducting
from orchestrator import keys, ledger
from orchestrator.conductor import WAIT
from orchestrator.errors import Place
from orchestrator.history import History
from orchestrator.ledger import Record, read_from
from orchestrator.plan import Metric, Plan, PopulationSpec
from orchestrator.population import (
    Population,
    ancestry,
    as_overrides,
    explored,
    first_values,
    members,
    quantiles,
    schedule_of,
    values_at,
)
from orchestrator.yaml_reader import read_text
from tests.orchestrator.drive import drive, numbers
from tests.orchestrator.plans import PLAIN, kill, learning_rates, open_conductor, states
from tests.orchestrator.populations import (
    EPOCHS,
    PBT,
    RATE,
    SPACE,
    best_rate,
    final_scores,
    population_plan,
    results,
    scores_in,
    train_all,
    train_one,
)

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The made-up population, trained at one go."""
    return train_all(open_conductor(population_plan(), tmp_path_factory.mktemp("undisturbed")))


def records_of(conductor: Any, event: str = "") -> list[Record]:
    found = read_from(conductor.paths.ledger)[0]
    return [record for record in found if event in ("", record.event)]


# ------------------------------------------------------------------------------------------- values


def test_first_values_lie_in_the_space_and_follow_the_seed_and_the_number() -> None:
    space = {
        **SPACE,
        "distill.alpha": {"type": "float", "low": 0.0, "high": 1.0, "log": False, "step": 0.25, "when": {}},
        "distill.beta": {"type": "categorical", "choices": [0.5, 1.0, 4.0], "when": {}},
        "simcc.label_smoothing": {"type": "float", "low": 0.0, "high": 0.5, "log": False, "step": None, "when": {}},
        "data.augmentation.rotation_degrees": {"type": "int", "low": 0, "high": 9, "log": False, "step": 3, "when": {}},
    }
    search = learning_rates(space=space, pbt=PBT, trials=200)
    drawn = [first_values(search, number) for number in range(200)]
    assert drawn == [first_values(search, number) for number in range(200)]
    assert drawn[0] != first_values(dataclasses.replace(search, seed=2), 0)
    assert {values["distill.alpha"] for values in drawn} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert {values["distill.beta"] for values in drawn} == {0.5, 1.0, 4.0}
    assert {values["data.augmentation.rotation_degrees"] for values in drawn} == {0, 3, 6, 9}
    assert all(1e-5 <= values[RATE] <= 1e-1 for values in drawn)
    assert 70 < sum(values[RATE] < 1e-3 for values in drawn) < 130  # even on the log scale
    assert all(float(f"{values[RATE]:.6g}") == values[RATE] for values in drawn)


def test_enqueued_values_come_first_and_the_rest_is_drawn() -> None:
    search = learning_rates(space=SPACE, pbt=PBT, enqueue=({RATE: 0.05}, {}))
    plain = dataclasses.replace(search, enqueue=())
    assert first_values(search, 0) == {RATE: 0.05}
    assert [first_values(search, number) for number in (1, 2)] == [first_values(plain, number) for number in (1, 2)]


def explore(declaration: dict[str, Any], value: Any, resample: float = 0.0) -> set[Any]:
    options = dataclasses.replace(PBT, resample_probability=resample)
    rng = random.Random(0)
    return {explored({"x": declaration}, options, {"x": value}, rng)["x"] for _ in range(40)}


def test_values_are_perturbed_by_the_factors_within_the_space() -> None:
    assert explore(SPACE[RATE], 0.01) == {0.005, 0.02}
    assert explore(SPACE[RATE], 0.08) == {0.04, 0.1}
    assert explore({"type": "float", "low": 0.0, "high": 1.0, "log": False, "step": 0.25}, 0.5) == {0.25, 1.0}
    assert explore({"type": "int", "low": 0, "high": 9, "log": False, "step": 3}, 3) == {0, 6}
    assert explore({"type": "categorical", "choices": [0.5, 1.0, 4.0]}, 1.0) == {0.5, 4.0}
    assert explore({"type": "categorical", "choices": [0.5, 1.0, 4.0]}, 4.0) == {1.0, 4.0}


def test_values_are_drawn_anew_with_the_asked_probability() -> None:
    drawn = explore(SPACE[RATE], 0.01, resample=1.0)
    assert len(drawn) == 40
    assert min(drawn) < 1e-4 < 1e-2 < max(drawn)


@pytest.mark.parametrize(
    ("count", "quantile", "worst", "best"),
    [(1, 0.5, 0, 0), (2, 0.25, 1, 1), (3, 0.5, 1, 1), (4, 0.25, 1, 1), (5, 0.25, 2, 2), (8, 0.25, 2, 2)],
)
def test_quantiles_are_rounded_up_and_never_meet(count: int, quantile: float, worst: int, best: int) -> None:
    scores = {f"m{number}": float(number) for number in range(count)}
    low, high = quantiles(scores, dataclasses.replace(PBT, quantile=quantile))
    assert sorted(low) == [f"m{number}" for number in range(worst)]
    assert sorted(high) == sorted(f"m{number}" for number in range(count - best, count))


def test_looks_are_at_multiples_of_the_interval_and_never_at_the_end() -> None:
    population = Population(learning_rates(pbt=dataclasses.replace(PBT, interval=3)), Metric("m", "max", "best"), 9)
    assert [population.boundary(evolved) for evolved in (0, 2, 3, 5, 6, 8)] == [3, 3, 6, 6, None, None]


def test_a_schedule_reads_back_from_what_is_printed() -> None:
    overrides = {
        "distill.alpha": 0.5,
        RATE: 1e-05,
        "schedule": [{"epoch": 3, "value": 0.6, "option": "distill.alpha"}],
    }
    printed = as_overrides(overrides)
    assert printed == (
        "{distill.alpha: 0.5, train.learning_rate: 1e-05, schedule: [{epoch: 3, option: distill.alpha, value: 0.6}]}"
    )
    assert resolve(read_text(printed, Place("x")).plain()) == resolve(overrides)
    assert schedule_of(overrides) == {"distill.alpha": [[1, 0.5], [3, 0.6]], RATE: [[1, 1e-05]]}
    assert [values_at(overrides, epoch)["distill.alpha"] for epoch in (1, 2, 3)] == [0.5, 0.5, 0.6]


# --------------------------------------------------------------------------------------- made-up trainings


def test_a_population_finds_the_schedule_that_none_of_its_members_began_with(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best step size falls a hundredfold half way: a member that keeps its own can gain half at most."""
    monkeypatch.setattr(Population, "decide", lambda self, history, epoch: [])
    alone = train_all(open_conductor(population_plan(), tmp_path))
    assert all(not trial.lineage for trial in alone.history.trials.values())
    assert final_scores(undisturbed)[0] > final_scores(alone)[0] + 0.3
    trials = undisturbed.history.trials.values()
    best = max(trials, key=lambda trial: next(iter(trial.summary.values())))
    rates = [value for _, value in schedule_of(best.spec.overrides)[RATE]]
    assert rates[-1] < rates[0] / 10
    assert abs(rates[0] / best_rate(1) - 1) < 9


def test_every_member_ends_and_each_look_is_taken_once(undisturbed: Any) -> None:
    assert set(states(undisturbed).values()) == {keys.FINISHED}
    assert len(undisturbed.history.trials) == 6
    assert [record.data["epoch"] for record in records_of(undisturbed, keys.EVOLVED)] == [2, 4, 6]
    assert [record.data["epoch"] for record in records_of(undisturbed, keys.COPIED)] == [2, 4, 6]


def test_the_worst_follow_the_best_and_the_others_go_on_as_they_are(undisturbed: Any) -> None:
    seen: list[Record] = []
    for record in records_of(undisturbed):
        seen.append(record)
        if record.event != keys.EVOLVED:
            continue
        epoch, before = record.data["epoch"], History.replay(seen[:-1]).trials
        ranked = sorted(before, key=lambda name: before[name].epochs[epoch]["val/pckh@0.5"])
        followers = {exploit["trial"]["trial_id"]: exploit["donor"] for exploit in record.data["exploits"]}
        assert set(followers) == set(ranked[:2])
        assert set(followers.values()) <= set(ranked[-2:])
        after = History.replay(seen).trials
        assert all(after[name].spec == before[name].spec for name in ranked[2:])
        for exploit in record.data["exploits"]:
            past = before[exploit["donor"]].spec.overrides
            steps = exploit["trial"]["overrides"]["schedule"]
            assert [step for step in steps if step["epoch"] <= epoch] == past.get("schedule", [])
            assert {step["epoch"] for step in steps[len(past.get("schedule", [])) :]} <= {epoch + 1}
            assert values_at(exploit["trial"]["overrides"], epoch + 1) == exploit["values"]


def test_a_members_scores_are_those_of_its_schedule_from_the_start(undisturbed: Any) -> None:
    """Its configuration alone, without the population, tells how its state came about."""
    from tests.orchestrator.populations import gain

    assert any(trial.lineage for trial in undisturbed.history.trials.values())
    for name, trial in undisturbed.history.trials.items():
        config = from_mapping(TrainingConfig, trial.spec.config)
        gains = [gain(epoch, config.at_epoch(epoch).train.learning_rate) for epoch in range(1, EPOCHS + 1)]
        assert scores_in(undisturbed.paths.trial(name))[-1] == pytest.approx(sum(gains))


def test_an_ancestry_names_who_trained_which_epochs(undisturbed: Any) -> None:
    history = undisturbed.history
    for name, trial in history.trials.items():
        path = ancestry(history, name)
        starts = [start for start, _ in path]
        assert starts[0] == 1
        assert starts == sorted(set(starts))
        assert path[-1][1] == name
        scores = scores_in(undisturbed.paths.trial(name))
        for epoch in range(1, EPOCHS + 1):
            trainer = [who for start, who in path if start <= epoch][-1]
            assert history.trials[trainer].epochs[epoch]["val/pckh@0.5"] == scores[epoch - 1]
        assert len(path) > 1 or not trial.lineage


def test_replaying_the_ledger_gives_the_same_state_and_the_same_decisions(undisturbed: Any) -> None:
    records = records_of(undisturbed)
    replayed = History.replay(records)
    assert replayed.trials == undisturbed.history.trials
    assert (replayed.evolved, replayed.copied) == (6, 6)
    plan = population_plan()
    assert plan.search is not None
    population = Population(plan.search, plan.metric, EPOCHS, range(6))
    for place, record in enumerate(records):
        if record.event == keys.EVOLVED:
            decided = population.decide(History.replay(records[:place]), record.data["epoch"])
            assert [(one.trial_id, one.donor, one.overrides) for one in decided] == [
                (one["trial"]["trial_id"], one["donor"], one["trial"]["overrides"]) for one in record.data["exploits"]
            ]


def test_the_order_in_which_members_run_changes_nothing(undisturbed: Any, tmp_path: Path) -> None:
    conductor = open_conductor(population_plan(), tmp_path)
    while (spec := conductor.next_trial()) is not None:
        assert spec is not WAIT
        waiting = [one for one in conductor._waiting if not conductor._is_paused(one)]
        train_one(conductor, waiting[-1])
    assert results(conductor) == results(undisturbed)


class Crash(Exception):
    """Stands for the death of the driver."""


def crash_at(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Die at the failpoint that is passed as the `count`-th, whatever its name."""
    passed: list[str] = []

    def failpoint(name: str) -> None:
        passed.append(name)
        if len(passed) == count:
            raise Crash(name)

    for module in (conducting, ledger):
        monkeypatch.setattr(module, "failpoint", failpoint)


@pytest.mark.parametrize("count", range(7, 400, 40))
def test_a_crash_anywhere_loses_no_member_and_repeats_no_exploit(
    undisturbed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    with monkeypatch.context() as context:
        crash_at(context, count)
        first = open_conductor(population_plan(), tmp_path)
        with pytest.raises(Crash):
            train_all(first)
        kill(first)
    second = train_all(open_conductor(population_plan(), tmp_path))
    assert results(second) == results(undisturbed)
    assert [record.data["epoch"] for record in records_of(second, keys.EVOLVED)] == [2, 4, 6]


@pytest.mark.parametrize("point", ["after_evolved:2", "after_copy:3"])
def test_a_driver_killed_around_the_copy_is_replaced_and_the_exploit_is_done_once(
    undisturbed: Any, tmp_path: Path, point: str
) -> None:
    command = [sys.executable, "-m", "tests.orchestrator.populations", str(tmp_path)]
    killed = subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"CDKD_CRASH_AT": point}, timeout=120)
    assert killed.returncode == 137
    conductor = open_conductor(population_plan(), tmp_path)
    assert conductor.history.evolved > conductor.history.copied
    train_all(conductor)
    assert results(conductor) == results(undisturbed)
    assert len(records_of(conductor, keys.EVOLVED)) == len(records_of(conductor, keys.COPIED)) == 3


def test_a_member_that_diverges_goes_on_from_one_of_the_best(tmp_path: Path) -> None:
    conductor = train_all(open_conductor(population_plan(), tmp_path), diverges=(3, 2))
    lost = members(conductor.history)[3]
    assert lost.lineage[0].epoch == 2
    assert set(states(conductor).values()) == {keys.FINISHED}
    ended = [record.data["state"] for record in records_of(conductor, keys.ENDED) if is_of(record, lost.spec.trial_id)]
    assert ended[0] == keys.DIVERGED


def is_of(record: Record, trial_id: str) -> bool:
    return bool(record.data["trial_id"] == trial_id)


def test_a_member_that_fails_is_left_behind_and_the_others_go_on(tmp_path: Path) -> None:
    conductor = open_conductor(population_plan(), tmp_path)
    first = conductor.next_trial()
    assert first is not None
    assert first is not WAIT
    job = conductor.on_started(first)
    conductor.on_failed(job.trial_id, job.attempt, "no such file")
    train_all(conductor)
    assert sorted(states(conductor).values()) == [keys.FAILED] + [keys.FINISHED] * 5
    assert len(records_of(conductor, keys.EVOLVED)) == 3


def test_a_donor_whose_state_is_damaged_fails_its_follower_in_one_line(tmp_path: Path) -> None:
    conductor = open_conductor(population_plan(), tmp_path)

    def damage(record: Record) -> None:
        if record.event == keys.EVOLVED and record.data["epoch"] == 2:
            for exploit in record.data["exploits"]:
                (conductor.paths.trial(exploit["donor"]) / "checkpoint.json").write_text("{}")

    conductor.listen(damage)
    spec = conductor.next_trial()
    while not conductor.history.evolved:
        assert spec is not None
        assert spec is not WAIT
        train_one(conductor, spec)
        spec = conductor.next_trial()
    failed = [trial for trial in conductor.history.trials.values() if trial.state == keys.FAILED]
    assert len(failed) == 2
    assert all(trial.reason.endswith("holds no whole checkpoint of epoch 2") for trial in failed)


def test_members_are_no_stand_ins_for_each_other(tmp_path: Path) -> None:
    """Two members that begin alike are both trained; their paths part later."""
    space = {RATE: {"type": "categorical", "choices": [1e-3], "when": {}}}
    plan = population_plan(members=2)
    assert plan.search is not None
    plan = dataclasses.replace(plan, search=dataclasses.replace(plan.search, space=space))
    conductor = train_all(open_conductor(plan, tmp_path))
    assert [trial.reused_from for trial in conductor.history.trials.values()] == ["", ""]
    assert all(not trial.lineage for trial in conductor.history.trials.values())  # none is better than the other


# ----------------------------------------------------------------------------------------- real trainings


def real_plan() -> Plan:
    """Three small networks of three epochs, compared after each of them by their training loss."""
    pbt = PopulationSpec(interval=1, quantile=0.25, resample_probability=0.0, factors=(0.8, 1.2))
    plan = population_plan(members=3, epochs=3, pbt=pbt)
    return dataclasses.replace(plan, metric=Metric("train/loss", "min", "last"))


class Watch:
    """Looks at the members' files before and after the states are handed over."""

    def __init__(self, results_folder: Path) -> None:
        self.trials = results_folder / "tiny" / "trials"
        self.before: dict[str, dict[str, str]] = {}
        self.copies = 0

    def hear(self, record: Record) -> None:
        if record.event == keys.EVOLVED:
            self.before = {folder.name: self._digests(folder.name) for folder in self.trials.iterdir()}
        if record.event == keys.COPIED:
            followers = {copy["trial_id"] for copy in record.data["copies"]}
            assert all(self._digests(name) == self.before[name] for name in self.before.keys() - followers)
            for copy in record.data["copies"]:
                self._compare(copy, record.data["epoch"])

    def _digests(self, name: str) -> dict[str, str]:
        return {path.name: digest_of(path) for path in sorted((self.trials / name).iterdir()) if path.name != "stop"}

    def _compare(self, copy: dict[str, str], epoch: int) -> None:
        donor, follower = (CheckpointFolder(self.trials / copy[who]).load() for who in ("donor", "trial_id"))
        assert donor is not None
        assert follower is not None
        torch.testing.assert_close(follower["distiller"], donor["distiller"], rtol=0, atol=0)
        for ours, theirs in zip(follower["optimizers"], donor["optimizers"], strict=True):
            assert ours["state"]
            torch.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)
            assert ours["param_groups"] == theirs["param_groups"]
        assert any("running_mean" in name for name in follower["distiller"])
        assert self._digests(copy["trial_id"])[f"epoch-{epoch:04d}.pt"] == copy["sha256"]
        assert self._digests(copy["trial_id"])["best.pt"] == self._digests(copy["donor"])["best.pt"]
        self.copies += 1


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A population of real trainings in this process."""
    folder = tmp_path_factory.mktemp("real")
    watch = Watch(folder)
    conductor = drive(real_plan(), folder, "in_process", listeners=[watch.hear])
    assert watch.copies == 2
    return conductor


def test_real_members_take_over_the_donors_state_bit_for_bit(real: Any) -> None:
    """The comparison itself is in `Watch`, at the moment of the copy."""
    assert set(states(real).values()) == {keys.FINISHED}
    assert sum(len(trial.lineage) for trial in real.history.trials.values()) == 2
    for trial in real.history.trials.values():
        for descent in trial.lineage:
            reported = trial.epochs[descent.epoch + 1]["train/learning_rate"]
            assert reported == pytest.approx(descent.values[RATE] * milestone_factor(descent.epoch + 1))


def milestone_factor(epoch: int) -> float:
    """The step size falls tenfold after epoch 2 of 3, the milestone at 170/210."""
    return 0.1 if epoch > 2 else 1.0


def test_training_a_members_schedule_from_the_start_gives_its_weights(real: Any, tmp_path: Path) -> None:
    follower = next(trial for trial in real.history.trials.values() if trial.lineage)
    config = resolve(real.plan.base, PLAIN, follower.spec.overrides)
    train(config, lambda report: False, folder=tmp_path)
    found, expected = (
        load_tensors(folder / "last.pt")["state_dict"]
        for folder in (tmp_path, real.paths.trial(follower.spec.trial_id))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_second_run_of_a_finished_population_does_nothing(real: Any, tmp_path: Path) -> None:
    again = open_conductor(real_plan(), real.paths.results)
    assert again.next_trial() is None
    assert numbers(again) == numbers(real)
    kill(again)


# Ray leaves the processes of a cluster it ends to the garbage collector, without waiting for them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
def test_a_population_trained_on_ray_gives_the_numbers_of_one_process(real: Any, tmp_path: Path) -> None:
    """Members leave, take over states and go on under Tune as they do one after the other."""
    conductor = drive(real_plan(), tmp_path, "ray")
    assert {trial.attempt for trial in conductor.history.trials.values()} == {3}
    assert numbers(conductor) == numbers(real)
