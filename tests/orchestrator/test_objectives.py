"""Several objectives and limits on reported values: read with their faults, told to Optuna, shown while it runs."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from orchestrator import keys
from orchestrator.conductor import WAIT, Conductor
from orchestrator.execution import Outcome
from orchestrator.objectives import excess, objectives
from orchestrator.plan import Metric, Plan
from orchestrator.progress import headline, standing
from orchestrator.specification import specification
from tests.orchestrator.plans import METRIC, kill, learning_rates, make_plan, open_conductor
from tests.orchestrator.test_sampler import stored
from tests.orchestrator.test_study import faults, read

STUDY = """\
study: s
base: tiny
metric: {{name: val/pckh@0.5}}
search:
  trials: 4
  space: {{distill.alpha: {{low: 0.1, high: 10}}}}
  {more}
"""
TWO = "objectives: [{name: val/pckh@0.5, mode: max}, {name: gmacs, direction: minimize}]"
COST = Metric("gmacs", "min", "best")
BOTH = (METRIC, COST)
RESULTS = ((0.5, 3.0), (0.7, 5.0), (0.4, 4.0), (0.6, 2.0))  # score and cost; the third is beaten


def test_objectives_and_limits_are_read(tmp_path):
    search = read(
        tmp_path, STUDY.format(more=f"{TWO}\n  limits: {{params_m: {{max: 30}}, val/pckh@0.1: {{min: 0.2}}}}")
    )
    assert search.search is not None
    assert objectives(search.search, search.metric) == BOTH
    assert search.search.limits == {"params_m": {"max": 30}, "val/pckh@0.1": {"min": 0.2}}


def test_one_objective_is_the_metric(tmp_path):
    study = read(tmp_path, STUDY.format(more="objectives: [{name: val/pckh@0.5, mode: max}]"))
    assert study.search is not None
    assert study.search.objectives == ()
    assert objectives(study.search, study.metric) == (study.metric,)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ("objectives: 3", "search.objectives: must be a list of {name: ..., mode: max or min}, got 3"),
        ("objectives: [{name: gmacs}]", "search.objectives[0].mode: is missing (direction)"),
        (
            "objectives: [{name: val/pckh@0.5, mode: max}, {name: gmac, mode: min}]",
            "search.objectives[1].name: no such score or cost: 'gmac' (did you mean 'gmacs'?)",
        ),
        (
            "objectives: [{name: val/pckh@0.5, mode: max}, {name: test/pckh@0.5, mode: max}]",
            "search.objectives[1].name: a search is not steered by the test split; use val/...",
        ),
        (
            "objectives: [{name: val/pckh@0.5, mode: max}, {name: val/pckh@0.5, mode: max}]",
            "search.objectives[1].name: val/pckh@0.5 is in the list twice",
        ),
        (
            "objectives: [{name: gmacs, mode: min}, {name: params_m, mode: min}]",
            "search.objectives: the study's metric val/pckh@0.5 (mode max) must be one of them",
        ),
        (
            f"{TWO}\n  pruner: asha",
            "search.pruner: asha compares one value, and the search has several objectives; use pruner: none",
        ),
        ("limits: 3", "search.limits: must be a section {name: {max: value}}, got 3"),
        ("limits: {params: {max: 3}}", "no such score or cost: 'params' (did you mean 'params_m'?)"),
        ("limits: {params_m: {}}", "search.limits.params_m: needs min, max or both"),
        ("limits: {params_m: {min: 3, max: 2}}", "search.limits.params_m: no value is in it: min 3 is above max"),
        ("limits: {params_m: {most: 2}}", "search.limits.params_m.most: unknown key"),
        (
            "limits: {params_m: {max: 3}}\n  sampler: random",
            "search.sampler: random knows no search.limits; use tpe, gp, nsga2, nsga3",
        ),
    ],
)
def test_faults_are_one_line(tmp_path, more, fault):
    found = faults(tmp_path, STUDY.format(more=more))
    assert len(found) == 1
    assert fault in found[0]
    assert found[0].startswith("study.yaml:")


def test_cma_es_takes_one_objective(tmp_path):
    found = faults(tmp_path, STUDY.format(more=f"{TWO}\n  sampler: cmaes"))
    assert any("search.sampler: cmaes takes one objective; use tpe, random" in line for line in found)


def test_a_limit_is_exceeded_on_its_side() -> None:
    summary = {"params_m": 31.0, "best/val/ap": 0.4, "final/val/ap": 0.1}
    limits = {"params_m": {"max": 30.0, "min": 1.0}, "val/ap": {"min": 0.5}, "gmacs": {"max": 1.0}}
    beyond = excess(limits, "best", summary, {})
    assert beyond == {"params_m max": 1.0, "params_m min": -30.0, "val/ap min": pytest.approx(0.1)}


def weighed(**changes: Any) -> Plan:
    return make_plan(search=learning_rates(**{"sampler": "nsga2", "objectives": BOTH, "trials": 4, **changes}))


def finish(conductor: Conductor, results: tuple[tuple[float, ...], ...], names: tuple[str, ...]) -> None:
    """Train as many trials as there are results, with these summaries."""
    for values in results:
        spec = conductor.next_trial()
        assert spec is not None
        assert spec is not WAIT
        job = conductor.on_started(spec)
        conductor.on_epoch(job.trial_id, job.attempt, 1, {METRIC.name: values[0]})
        conductor.on_outcome(job.trial_id, job.attempt, Outcome(keys.FINISHED, dict(zip(names, values, strict=True))))


NAMES = (f"best/{METRIC.name}", "gmacs")


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "tpe", "gp", "random", "qmc"])
def test_values_are_told_in_order_and_survive_a_rebuild(tmp_path: Path, sampler: str) -> None:
    plan = weighed(sampler=sampler)
    conductor = open_conductor(plan, tmp_path)
    finish(conductor, RESULTS, NAMES)
    before = stored(tmp_path)
    assert [tuple(trial.values) for trial in before] == list(RESULTS)
    kill(conductor)
    (tmp_path / "tiny" / "optuna.db").unlink()
    kill(open_conductor(plan, tmp_path))
    for old, new in zip(before, stored(tmp_path), strict=True):
        assert (old.params, old.values, old.state, old.system_attrs) == (
            new.params,
            new.values,
            new.state,
            new.system_attrs,
        )


def test_an_objective_that_was_not_reported_fails_the_trial(tmp_path: Path) -> None:
    conductor = open_conductor(weighed(), tmp_path)
    finish(conductor, ((0.5,), (0.5,)), NAMES[:1])
    assert {trial.reason for trial in conductor.history.trials.values()} == {"the training reported no gmacs"}
    finish(conductor, ((0.5, math.inf),), NAMES)
    assert [trial.state for trial in stored(tmp_path)] == [TrialState.FAIL] * 3


def test_another_set_of_objectives_rebuilds_the_optuna_study(tmp_path: Path) -> None:
    conductor = open_conductor(weighed(), tmp_path)
    finish(conductor, RESULTS, NAMES)
    kill(conductor)
    open_conductor(weighed(objectives=(), trials=5), tmp_path)
    assert [trial.values for trial in stored(tmp_path)] == [[score] for score, _ in RESULTS]


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_a_genetic_search_goes_on_as_if_nothing_had_happened(tmp_path: Path, sampler: str) -> None:
    """The parents that it chose are Optuna's ids of trials, which are others in a study that was built anew."""
    results = tuple((0.1 * (index % 7), 1.0 + index % 5) for index in range(14))
    plan = weighed(sampler=sampler, sampler_options={"population_size": 4}, trials=14)
    undisturbed = open_conductor(plan, tmp_path / "undisturbed")
    finish(undisturbed, results, NAMES)
    first = open_conductor(plan, tmp_path)
    finish(first, results[:10], NAMES)
    parents = first._sampler._study_attributes()  # type: ignore[union-attr]
    kill(first)
    (tmp_path / "tiny" / "optuna.db").unlink()
    second = open_conductor(plan, tmp_path)
    assert second._sampler._study_attributes() == parents != {}  # type: ignore[union-attr]
    finish(second, results[10:], NAMES)
    assert [trial.params for trial in stored(tmp_path)] == [trial.params for trial in stored(tmp_path / "undisturbed")]


def test_the_headline_tells_the_front_and_no_best(tmp_path: Path) -> None:
    plan = weighed()
    conductor = open_conductor(plan, tmp_path)
    conductor.begin(specification(plan))
    finish(conductor, RESULTS, NAMES)
    now = standing(conductor.history, 0.0, 0.0)
    assert now.front == ("search-0001", "search-0003")
    assert now.best is None
    assert "2 on the front of val/pckh@0.5, gmacs" in headline(now)


def limited(**changes: Any) -> Plan:
    return make_plan(search=learning_rates(**{"limits": {"params_m": {"max": 30.0}}, "trials": 12, **changes}))


LIMITED = (f"best/{METRIC.name}", "params_m")


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "nsga3"])
def test_optuna_is_told_how_far_a_trial_exceeds_its_limits(tmp_path: Path, sampler: str) -> None:
    plan = limited(sampler=sampler)
    conductor = open_conductor(plan, tmp_path)
    finish(conductor, ((0.5, 28.0), (0.9, 34.0)), LIMITED)
    before = stored(tmp_path)
    assert [trial.constraints for trial in before] == [{"0": -2.0}, {"0": 4.0}]
    kill(conductor)
    (tmp_path / "tiny" / "optuna.db").unlink()
    kill(open_conductor(plan, tmp_path))
    assert [trial.constraints for trial in stored(tmp_path)] == [{"0": -2.0}, {"0": 4.0}]


def test_a_limit_that_came_later_fails_trials_that_did_not_report_it(tmp_path: Path) -> None:
    """Optuna's samplers refuse trials of which some have constraints and some have none."""
    first = open_conductor(limited(limits={}, sampler="gp"), tmp_path)
    finish(first, ((0.5,), (0.6,)), LIMITED[:1])
    kill(first)
    second = open_conductor(limited(sampler="gp"), tmp_path)
    finish(second, ((0.5, 28.0),), LIMITED)
    assert [trial.state.name for trial in stored(tmp_path)] == ["FAIL", "FAIL", "COMPLETE"]


def test_a_sampler_keeps_away_from_what_exceeds_a_limit(tmp_path: Path) -> None:
    """The score grows with the step size, and so does the size of the network; the limit cuts off the better half."""
    conductor = open_conductor(limited(trials=24, seed=2), tmp_path)
    for _ in range(24):
        spec = conductor.next_trial()
        assert spec is not None
        assert spec is not WAIT
        rate = spec.overrides["train.learning_rate"]
        job = conductor.on_started(spec)
        summary = dict(zip(LIMITED, (rate, 30.0 + math.log10(rate / 1e-3)), strict=True))
        conductor.on_outcome(job.trial_id, job.attempt, Outcome(keys.FINISHED, summary))
    late = [trial.params["train.learning_rate"] for trial in stored(tmp_path)[12:]]
    assert sum(rate <= 1e-3 for rate in late) >= 6  # without the limit none: it climbs to the greatest rates


def test_a_trial_beyond_a_limit_is_never_the_best(tmp_path: Path) -> None:
    plan = limited()
    conductor = open_conductor(plan, tmp_path)
    conductor.begin(specification(plan))
    finish(conductor, ((0.5, 28.0), (0.9, 34.0)), LIMITED)
    assert standing(conductor.history, 0.0, 0.0).best == ("search-0000", 0.5)


def test_a_trial_beyond_a_limit_is_not_on_the_front(tmp_path: Path) -> None:
    plan = weighed(limits={"gmacs": {"max": 4.5}})
    conductor = open_conductor(plan, tmp_path)
    conductor.begin(specification(plan))
    finish(conductor, RESULTS, NAMES)
    assert standing(conductor.history, 0.0, 0.0).front == ("search-0003",)


READER = """
import json, sys, optuna
study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{sys.argv[1]}")
print(json.dumps({
    "directions": [int(each) for each in study.directions],
    "best": [trial.number for trial in study.best_trials],
    "constraints": [trial.constraints for trial in study.trials],
    "states": [trial.state.name for trial in study.trials],
    "broken": [trial.user_attrs.get("constraint", "") for trial in study.trials],
}))
"""


def test_another_process_opens_the_file_with_optuna_while_the_study_runs(tmp_path: Path) -> None:
    space = learning_rates().space | {
        "train.batch_size": {"type": "int", "low": 2, "high": 9, "log": False, "step": None, "when": {}}
    }
    rule = {"left": "train.batch_size", "op": ">", "right": 7, "is_path": False, "when": {}}
    limits = {"params_m": {"max": 30.0}}
    plan = weighed(space=space, constraints=(rule,), limits=limits, seed=4)
    conductor = open_conductor(plan, tmp_path)
    finish(conductor, ((0.5, 3.0, 28.0), (0.9, 1.0, 34.0)), (*NAMES, "params_m"))
    command = [sys.executable, "-c", READER, str(tmp_path / "tiny" / "optuna.db")]
    seen = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    kept = [number for number, text in enumerate(seen["broken"]) if not text]
    assert seen["directions"] == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert seen["best"] == kept[:1]
    assert [seen["constraints"][number] for number in kept] == [{"0": -2.0}, {"0": 4.0}]
    assert {"FAIL", "COMPLETE"} == set(seen["states"])
    assert set(seen["broken"]) == {"", "train.batch_size > 7"}
