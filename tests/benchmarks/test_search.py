"""The benchmark of the search, on made-up trainings: budgets, regrets, and the driver under simulated workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from benchmarks import search as benchmark
from benchmarks.search import BUDGET, EPOCHS, SPACE, Trace, check_same, draw, ours, search_spec, speed_up


class Bowl:
    """Trainings whose accuracy depends on the momentum, and rises with the epochs; the time on the units."""

    def curve(self, options: Mapping[str, Any], epochs: Sequence[int]) -> np.ndarray:
        accuracy = [90 - 100 * abs(options["momentum"] - 0.7) - 20 / epoch for epoch in epochs]
        return np.column_stack([np.array(epochs) * options["max_units"], accuracy])


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "BUDGET", 14)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_driver_runs_to_its_budget_on_simulated_workers(workers: int) -> None:
    trace, proposed = ours(Bowl(), search_spec(0, trials=14), workers)  # type: ignore[arg-type]
    assert trace.budgets == list(range(1, 15))
    assert len(proposed) == 14
    assert max(trace.values) == pytest.approx(max(Bowl().curve(each, [EPOCHS])[0, 1] for each in proposed))


def test_a_pruned_trial_costs_its_epochs_and_gives_no_value() -> None:
    trace, proposed = ours(Bowl(), search_spec(0, "asha", trials=200), 1)  # type: ignore[arg-type]
    assert len(proposed) > 14 > len(trace.values)
    assert trace.budgets[-1] <= 15


def test_the_driver_proposes_what_optuna_does() -> None:
    check_same(Bowl())  # type: ignore[arg-type]


def test_a_trace_holds_the_best_so_far() -> None:
    trace = Trace([1.0, 2.5, 3.0], [0.3, 0.2, 0.9])
    assert trace.best(np.arange(0, 5)).tolist() == [-np.inf, 0.3, 0.3, 0.9, 0.9]


def test_the_speed_up_is_of_budgets_to_randoms_last_regret() -> None:
    random = np.linspace(1, 0.2, BUDGET)[None, None, :]
    fast = np.linspace(1, 0.0, BUDGET)[None, None, :] ** 8
    assert speed_up(random, random) == 1
    assert speed_up(fast, random) == BUDGET / (np.flatnonzero(fast[0, 0] <= 0.2)[0] + 1)
    assert speed_up(np.ones((1, 1, BUDGET)), random) == 0


def test_random_configurations_are_in_the_space() -> None:
    drawn = draw(500, np.random.default_rng(0))
    for column, declaration in zip(drawn.T, SPACE.values(), strict=True):
        assert column.min() >= declaration["low"] - 1e-12
        assert column.max() <= declaration["high"] + 1e-12
        assert declaration["type"] == "float" or (column == np.round(column)).all()
    assert set(drawn[:, 4]) == {1, 2, 3, 4, 5}


def test_a_missing_surrogate_is_one_line(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(benchmark.VARIABLE, raising=False)
    for argument in (None, str(tmp_path)):
        with pytest.raises(SystemExit, match=r"no surrogate: --surrogate FOLDER or .* must hold model\.onnx"):
            benchmark.surrogate_folder(argument)


def test_differences_pair_seeds_and_tasks() -> None:
    noise = np.random.default_rng(0).normal(size=(3, 6, BUDGET))
    found = benchmark._difference(noise + 0.05, noise, np.random.default_rng(0))
    assert all(at[side] == pytest.approx(0.05) for at in found.values() for side in ("difference", "low", "high"))


def test_the_arms_have_the_options_of_a_study() -> None:
    assert search_spec(0).sampler_options == {"multivariate": False}
