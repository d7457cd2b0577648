from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from orchestrator.conductor import WAIT, Conductor
from orchestrator.errors import UserError
from orchestrator.execution import Job
from orchestrator.plan import Plan
from orchestrator.sampler import make_pruner, make_sampler
from orchestrator.search_options import SAMPLERS
from tests.orchestrator.plans import METRIC, kill, learning_rates, make_plan, open_conductor, play


def stored(results: Path) -> list[optuna.trial.FrozenTrial]:
    """Optuna's trials as another process reads them."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{results / 'tiny' / 'optuna.db'}")
    return optuna.load_study(study_name="tiny", storage=storage).get_trials()


def worse_each_time(job: Job, epoch: int) -> float:
    """A metric by which every later trial is worse from its first epoch on."""
    return 0.9 - 0.1 * int(job.trial_id.removeprefix("search-"))


def pruned_plan(**changes: Any) -> Plan:
    options = {"min_resource": 1, "reduction_factor": 2, "min_early_stopping_rate": 0}
    return make_plan(search=learning_rates(pruner="asha", pruner_options=options, trials=4, **changes))


def test_a_pruned_trial_is_told_pruned_at_its_step(tmp_path: Path) -> None:
    conductor = open_conductor(pruned_plan(), tmp_path)
    play(conductor, worse_each_time)
    trials = stored(tmp_path)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] + [TrialState.PRUNED] * 3
    assert trials[1].intermediate_values == {1: pytest.approx(0.8)}
    assert trials[1].value == pytest.approx(0.8)
    assert conductor.history.trials["search-0001"].reason == "pruned after epoch 1"


def test_failed_and_diverged_trials_are_told_fail(tmp_path: Path) -> None:
    conductor = open_conductor(make_plan(search=learning_rates(trials=3)), tmp_path)
    for end in (_fail, _diverge, _finish_with_nan):
        spec = conductor.next_trial()
        assert spec is not None
        assert spec is not WAIT
        end(conductor, conductor.on_started(spec))
    assert [trial.state for trial in stored(tmp_path)] == [TrialState.FAIL] * 3


def _fail(conductor: Conductor, job: Job) -> None:
    conductor.on_failed(job.trial_id, job.attempt, "out of memory")


def _diverge(conductor: Conductor, job: Job) -> None:
    conductor.on_diverged(job.trial_id, job.attempt, "loss task is not finite")


def _finish_with_nan(conductor: Conductor, job: Job) -> None:
    conductor.on_epoch(job.trial_id, job.attempt, 1, {METRIC.name: math.nan})
    conductor.on_finished(job.trial_id, job.attempt, {f"best/{METRIC.name}": math.nan})


@pytest.mark.parametrize("damage", ["lost", "garbage", "behind"])
def test_the_optuna_study_is_rebuilt_from_the_ledger(tmp_path: Path, damage: str) -> None:
    """Equal in state, parameters, values, steps and the pruner's rungs, and later proposals are the same."""
    file = tmp_path / "tiny" / "optuna.db"
    first = open_conductor(pruned_plan(), tmp_path)
    play(first, worse_each_time, limit=2)
    behind = file.read_bytes()
    play(first, worse_each_time, limit=1)
    before = stored(tmp_path)
    kill(first)
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(b"no database at all" * 50 if damage == "garbage" else behind)
    second = open_conductor(pruned_plan(), tmp_path)
    after = stored(tmp_path)
    for old, new in zip(before, after, strict=True):
        assert (old.number, old.state, old.params, old.values) == (new.number, new.state, new.params, new.values)
        assert old.intermediate_values == new.intermediate_values
        assert old.system_attrs == new.system_attrs
        assert old.user_attrs == new.user_attrs
    play(second, worse_each_time)
    undisturbed = open_conductor(pruned_plan(), tmp_path / "undisturbed")
    play(undisturbed, worse_each_time)
    expected = stored(tmp_path / "undisturbed")
    assert [trial.params for trial in stored(tmp_path)] == [trial.params for trial in expected]


def test_no_trial_stays_running_after_a_crash_between_proposal_and_ledger(tmp_path: Path) -> None:
    plan = make_plan(search=learning_rates(trials=2))
    first = open_conductor(plan, tmp_path)
    asked = first.next_trial()  # Optuna has it, the ledger does not
    assert asked is not None
    assert asked is not WAIT
    kill(first)
    assert [trial.state for trial in stored(tmp_path)] == [TrialState.RUNNING]
    second = open_conductor(plan, tmp_path)
    assert stored(tmp_path) == []
    again = second.next_trial()
    assert again is not None
    assert again is not WAIT
    assert again.overrides == asked.overrides


def test_an_interrupted_trial_goes_on_under_its_number(tmp_path: Path) -> None:
    plan = make_plan(search=learning_rates(trials=1))
    first = open_conductor(plan, tmp_path)
    spec = first.next_trial()
    assert spec is not None
    assert spec is not WAIT
    job = first.on_started(spec)
    first.on_epoch(job.trial_id, 1, 1, {METRIC.name: 0.1})
    kill(first)
    second = open_conductor(plan, tmp_path)
    assert play(second, lambda job, epoch: epoch / 10) == [spec.trial_id]
    (trial,) = stored(tmp_path)
    assert (trial.number, trial.state, trial.value) == (0, TrialState.COMPLETE, pytest.approx(0.3))
    assert trial.intermediate_values == {1: 0.1, 2: 0.2, 3: pytest.approx(0.3)}


def test_retried_failures_are_running_again_for_optuna(tmp_path: Path) -> None:
    plan = make_plan(search=learning_rates(trials=1))
    first = open_conductor(plan, tmp_path)
    spec = first.next_trial()
    assert spec is not None
    assert spec is not WAIT
    first.on_started(spec)
    first.on_failed(spec.trial_id, 1, "disk full")
    kill(first)
    second = open_conductor(plan, tmp_path, retry_failed=True)
    assert [trial.state for trial in stored(tmp_path)] == [TrialState.RUNNING]
    assert play(second, worse_each_time) == [spec.trial_id]
    assert [trial.state for trial in stored(tmp_path)] == [TrialState.COMPLETE]


def test_enqueued_configurations_come_first(tmp_path: Path) -> None:
    wanted = {"train.learning_rate": 0.005}
    conductor = open_conductor(make_plan(search=learning_rates(trials=2, enqueue=(wanted,))), tmp_path)
    spec = conductor.next_trial()
    assert spec is not None
    assert spec is not WAIT
    assert spec.overrides == wanted


def test_a_grid_is_run_whole_and_once(tmp_path: Path) -> None:
    space = {
        "train.batch_size": {"type": "categorical", "choices": [4, 8], "when": {}},
        "distill.sape.kernels": {"type": "categorical", "choices": [[3, 5], [3, 5, 7, 7], []], "when": {}},
    }
    plan = make_plan(search=learning_rates(space=space, sampler="grid", trials=100))
    conductor = open_conductor(plan, tmp_path)
    play(conductor, worse_each_time, limit=3)
    kill(conductor)
    again = open_conductor(plan, tmp_path)
    play(again, worse_each_time)
    cells = {repr(sorted(trial.params.items())) for trial in stored(tmp_path)}
    assert len(cells) == len(stored(tmp_path)) == 6


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "cmaes"])
def test_every_sampler_proposes_and_is_told(tmp_path: Path, name: str) -> None:
    space = {
        "train.learning_rate": {"type": "float", "low": 0.001, "high": 0.003, "log": False, "step": 0.001, "when": {}},
        "train.batch_size": {"type": "categorical", "choices": [4, 8], "when": {}},
    }
    plan = make_plan(search=learning_rates(space=space, sampler=name, trials=4))
    play(open_conductor(plan, tmp_path), worse_each_time)
    assert {trial.state for trial in stored(tmp_path)} == {TrialState.COMPLETE}
    assert len(stored(tmp_path)) == 4


def test_wrong_names_and_options_are_one_line() -> None:
    with pytest.raises(UserError, match=r"^search.sampler: must be one of tpe, .*'tpee' \(did you mean 'tpe'\?\)$"):
        make_sampler(learning_rates(sampler="tpee"), 0)
    with pytest.raises(UserError, match=r"^search.pruner_options: SuccessiveHalvingPruner: .*reduction_factor"):
        make_pruner(learning_rates(pruner="asha", pruner_options={"reduction_factor": 1}), 3)
    with pytest.raises(UserError, match=r"^search.sampler_options: TPESampler: .*n_startup"):
        make_sampler(learning_rates(sampler_options={"n_startup": 1}), 0)
