"""Rules between searched options: read with their faults, kept by every training, told to Optuna."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from orchestrator.constraints import broken, text
from orchestrator.ledger import read_from
from tests.orchestrator.plans import kill, learning_rates, make_plan, open_conductor, play
from tests.orchestrator.test_sampler import stored, worse_each_time
from tests.orchestrator.test_study import faults, read

STUDY = """\
study: s
base: tiny
metric: {{name: val/pckh@0.5}}
search:
  trials: 4
  {more}
  space:
    distill.alpha: {{type: float, low: 0.1, high: 10}}
    distill.beta: {{type: float, low: 0.1, high: 10}}
    distill.sape.enabled: {{}}
    distill.sape.projectors: {{type: int, low: 1, high: 8, when: {{distill.sape.enabled: true}}}}
    distill.sape.kernels: {{choices: [[3, 5], [3, 5, 7]]}}
  constraints: {rules}
"""
SMALL = '{left: distill.sape.projectors, op: "<=", right: 4}'


def rule(left: str, op: str, right: Any, is_path: bool = False, when: dict | None = None) -> dict[str, Any]:
    return {"left": left, "op": op, "right": right, "is_path": is_path, "when": when or {}}


@pytest.mark.parametrize(
    ("op", "kept", "broke"),
    [("<", 3, 4), ("<=", 4, 5), (">", 5, 4), (">=", 4, 3), ("==", 4, 5), ("!=", 3, 4)],
)
def test_every_operator_compares(op: str, kept: int, broke: int) -> None:
    assert broken([rule("a", op, 4)], {"a": kept}) == ""
    assert broken([rule("a", op, 4)], {"a": broke}) == f"a {op} 4"


def test_a_rule_may_compare_two_options_and_hold_only_under_a_condition() -> None:
    rules = [rule("a", "<", "b", is_path=True, when={"mode": ["x", "y"]})]
    assert text(rules[0]) == "a < b when mode is x or y"
    assert broken(rules, {"a": 2, "b": 1, "mode": "x"})
    assert not broken(rules, {"a": 1, "b": 2, "mode": "x"})
    assert not broken(rules, {"a": 2, "b": 1, "mode": "z"})


def test_a_rule_says_nothing_about_options_that_are_not_sampled() -> None:
    rules = [rule("a", "<", "b", is_path=True, when={"mode": ["x"]})]
    for missing in ("a", "b", "mode"):
        proposal = {"a": 2, "b": 1, "mode": "x"}
        del proposal[missing]
        assert not broken(rules, proposal)


def test_rules_are_read_as_plain_data(tmp_path):
    rules = f"[{SMALL}, {{left: distill.alpha, op: '>', right: distill.beta, when: {{distill.sape.enabled: true}}}}]"
    search = read(tmp_path, STUDY.format(rules=rules, more="")).search
    assert search is not None
    assert search.constraints == (
        rule("distill.sape.projectors", "<=", 4),
        rule("distill.alpha", ">", "distill.beta", is_path=True, when={"distill.sape.enabled": [True]}),
    )


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ("{a: 1}", "search.constraints: must be a list of rules, got a section of keys"),
        ("[{left: distill.alfa, op: '<', right: 1}]", "search.constraints[0].left: 'distill.alfa' is not sampled in "
         "this space (did you mean 'distill.alpha'?)"),
        ("[{left: distill.alpha, op: '<', right: distill.betta}]", "search.constraints[0].right: 'distill.betta' is "
         "not sampled in this space (did you mean 'distill.beta'?)"),
        ("[{left: distill.alpha, op: '<', right: true}]", "search.constraints[0].right: must be a number or a searched "
         "option, got true"),
        ("[{left: distill.alpha, op: '~', right: 1}]", "search.constraints[0].op: must be one of <, <=, >, >=, ==, !=, "
         "got '~'"),
        ("[{left: distill.alpha, op: '<'}]", "search.constraints[0].right: is missing (a value, or another searched "
         "option)"),
        ("[{left: distill.sape.kernels, op: '<', right: 3}]", "search.constraints[0].left: distill.sape.kernels is no "
         "number: < cannot compare it"),
        ("[{left: distill.alpha, op: '<', right: distill.sape.kernels}]", "search.constraints[0].right: "
         "distill.sape.kernels is no number"),
        ("[{left: distill.sape.projectors, op: '==', right: 99}]", "search.constraints[0].right: "
         "distill.sape.projectors can never be 99 in this space"),
        ("[{left: distill.alpha, op: '<', right: 1, when: {distill.tau: 1}}]", "search.constraints[0].when.distill.tau:"
         " 'distill.tau' is not sampled in this space"),
        ("[{left: distill.alpha, op: '<', right: 1, when: {distill.sape.enabled: 3}}]",
         "search.constraints[0].when.distill.sape.enabled: can never be 3 in this space"),
        ("[{left: distill.alpha, op: '<', right: 1, when: 3}]", "search.constraints[0].when: must be a section "
         "{path: value}, got 3"),
        ("[{left: distill.alpha, op: '<', right: 0.05}]", "search.constraints: none of 2000 configurations drawn from "
         "the space keeps these rules"),
        ("[{left: '__import__(\"os\")', op: '<', right: 1}]", "search.constraints[0].left: '__import__(\"os\")' is not "
         "sampled in this space"),
    ],
)  # fmt: skip
def test_faults_are_told_at_their_line(tmp_path, rules, fault):
    found = faults(tmp_path, STUDY.format(rules=rules, more=""))
    assert len(found) == 1
    assert fault in found[0]
    assert found[0].startswith("study.yaml:13:")


def test_an_enqueued_configuration_that_breaks_a_rule_is_a_fault(tmp_path):
    more = "enqueue: [{distill.sape.enabled: true, distill.sape.projectors: 5}]"
    (fault,) = faults(tmp_path, STUDY.format(rules=f"[{SMALL}]", more=more))
    assert fault.endswith("search.enqueue[0]: breaks the constraint distill.sape.projectors <= 4")


SPACE = {
    "train.batch_size": {"type": "int", "low": 2, "high": 9, "log": False, "step": None, "when": {}},
    "train.learning_rate": {"type": "float", "low": 0.001, "high": 0.01, "log": True, "step": None, "when": {}},
}
FEW = (rule("train.batch_size", "<=", 4),)


def constrained(**changes: Any):
    return make_plan(search=learning_rates(**{"space": SPACE, "constraints": FEW, "trials": 6, **changes}))


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "gp", "nsga2"])
def test_no_proposal_that_breaks_a_rule_is_trained_nor_counts_for_the_budget(tmp_path: Path, sampler: str) -> None:
    conductor = open_conductor(constrained(sampler=sampler), tmp_path)
    begun = play(conductor, worse_each_time)
    assert len(begun) == 6
    assert all(trial.spec.overrides["train.batch_size"] <= 4 for trial in conductor.history.trials.values())
    rejected = [trial for trial in stored(tmp_path) if trial.state == TrialState.FAIL]
    assert rejected
    assert {trial.user_attrs["constraint"] for trial in rejected} == {"train.batch_size <= 4"}
    assert all(trial.params["train.batch_size"] > 4 for trial in rejected)
    assert not conductor.has_failures()


def test_rejected_proposals_are_in_the_ledger_and_rebuilt_from_it(tmp_path: Path) -> None:
    first = open_conductor(constrained(), tmp_path)
    play(first, worse_each_time, limit=3)
    before = stored(tmp_path)
    kill(first)
    (tmp_path / "tiny" / "optuna.db").unlink()
    second = open_conductor(constrained(), tmp_path)
    for old, new in zip(before, stored(tmp_path), strict=True):
        assert (old.state, old.params, old.user_attrs, old.values) == (
            new.state,
            new.params,
            new.user_attrs,
            new.values,
        )
    play(second, worse_each_time)
    undisturbed = open_conductor(constrained(), tmp_path / "undisturbed")
    play(undisturbed, worse_each_time)
    assert [t.params for t in stored(tmp_path)] == [t.params for t in stored(tmp_path / "undisturbed")]
    records = read_from(tmp_path / "tiny" / "ledger.jsonl")[0]
    kept = [record.data["search"] for record in records if "search" in record.data]
    numbers = [each["number"] for proposal in kept for each in (*proposal["rejected"], proposal)]
    assert numbers == list(range(len(stored(tmp_path))))


def test_an_unchanged_study_is_not_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_conductor(constrained(), tmp_path)
    play(first, worse_each_time, limit=3)
    kill(first)
    monkeypatch.setattr(optuna, "delete_study", None)
    play(open_conductor(constrained(), tmp_path), worse_each_time)


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_a_sampler_that_misses_no_point_tries_those_that_keep_the_rules(tmp_path: Path, sampler: str) -> None:
    space = {"train.batch_size": SPACE["train.batch_size"]}
    conductor = open_conductor(constrained(space=space, sampler=sampler, trials=3), tmp_path)
    play(conductor, worse_each_time)
    tried = sorted(trial.spec.overrides["train.batch_size"] for trial in conductor.history.trials.values())
    assert tried == [2, 3, 4]


def test_a_grid_ends_when_its_cells_that_keep_the_rules_are_done(tmp_path: Path) -> None:
    space = {"train.batch_size": SPACE["train.batch_size"]}
    conductor = open_conductor(constrained(space=space, sampler="grid", trials=50), tmp_path)
    assert len(play(conductor, worse_each_time)) == 3


def test_a_search_that_finds_nothing_ends_with_one_line(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.sampler.TRIES", 8)
    monkeypatch.setattr("orchestrator.sampler.SAMPLED", 4)
    conductor = open_conductor(constrained(constraints=(rule("train.batch_size", "<", 2),)), tmp_path)
    with caplog.at_level(logging.WARNING):
        assert conductor.next_trial() is None
    assert [record.getMessage() for record in caplog.records] == [
        "tiny: the search ends before its 6 trials: 8 proposals in a row break a constraint, "
        "the last train.batch_size < 2"
    ]


def test_a_configuration_to_be_tried_first_is_tried_whatever_else_is_drawn_with_it(tmp_path: Path) -> None:
    """It names the step size alone: where the batch size drawn beside it breaks the rule, another one is drawn."""
    plan = constrained(enqueue=({"train.learning_rate": 0.005},), seed=3)
    conductor = open_conductor(plan, tmp_path)
    play(conductor, worse_each_time, limit=2)
    rates = [trial.spec.overrides["train.learning_rate"] for trial in conductor.history.trials.values()]
    assert rates[0] == 0.005
    assert rates[1] != 0.005
    assert {trial.params["train.learning_rate"] for trial in stored(tmp_path)[:-1]} >= {0.005}
