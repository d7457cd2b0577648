"""How many trials a pruner leaves to train to the end."""

from __future__ import annotations

import random
from statistics import fmean

import optuna
import pytest

from orchestrator.plan import SearchSpec
from orchestrator.pruning import enough_trials, expected_full
from orchestrator.sampler import make_pruner
from orchestrator.search_options import FULL_TRIALS, rungs, with_defaults
from tests.orchestrator.plans import learning_rates

EPOCHS = 52


def search(pruner: str) -> SearchSpec:
    options = with_defaults(pruner, {}, EPOCHS)
    return learning_rates(pruner=pruner, pruner_options=options, rungs=rungs(options, EPOCHS))


def left_by_optuna(found: SearchSpec, trials: int, seed: int) -> int:
    """Trials that are trained to the end, of so many whose ranks never change, one after another."""
    values = random.Random(seed)
    study = optuna.create_study(study_name=f"search-{seed}", pruner=make_pruner(found, EPOCHS))
    left = 0
    for _ in range(trials):
        trial, value = study.ask(), values.random()
        for epoch in found.rungs:
            trial.report(value, epoch)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, value)
            left += 1
    return left


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_the_expectation_is_what_optuna_leaves(pruner: str) -> None:
    found = search(pruner)
    expected = expected_full(found, 60)
    assert expected == pytest.approx(fmean(left_by_optuna(found, 60, seed) for seed in range(8)), rel=0.25)


def test_enough_trials_are_the_fewest_tens() -> None:
    found = search("asha")
    enough = enough_trials(found)
    assert enough is not None
    assert (expected_full(found, enough) or 0) >= FULL_TRIALS > (expected_full(found, enough - 10) or 99)
    assert enough_trials(learning_rates(trials=4)) == FULL_TRIALS


def test_a_pruner_without_a_rate_has_no_expectation() -> None:
    assert expected_full(search("median"), 40) is enough_trials(search("median")) is None
