"""What a plan and a validation say about a search."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from orchestrator.cli import main
from orchestrator.history import History, TrialHistory
from orchestrator.library import STUDIES
from orchestrator.plan import Metric, RefitSpec
from orchestrator.search_notes import doubts, drop_notes, full_trials, search_notes, warnings
from orchestrator.search_options import FULL_TRIALS
from tests.orchestrator.plans import METRIC, learning_rates, make_plan, open_conductor, play, search_trials
from tests.orchestrator.test_sampler import worse_each_time
from tests.orchestrator.test_study import faults, read

STUDY = """\
study: s
base: tiny
metric: {{name: val/pckh@0.5}}
set: {{train.epochs: 52, train.milestones: {milestones}}}
search:
  trials: 40
  pruner: {pruner}
  space: {{distill.alpha: {{low: 0.1, high: 10}}{more}}}
"""


DEFAULT = """\
study: s
base: tiny
metric: {name: val/pckh@0.5}
set: {train.epochs: 52, train.milestones: [0.8]}
search:
  trials: 40
  space: {distill.alpha: {low: 1, high: 10}}
"""


def study(tmp_path, pruner="asha", milestones="[0.8]", more=""):
    return read(tmp_path, STUDY.format(pruner=pruner, milestones=milestones, more=more))


def test_the_pruners_defaults_are_said(tmp_path):
    found = study(tmp_path).search
    assert found is not None
    assert search_notes(found)[0] == (
        "search: 40 trials by tpe, pruner asha (min_resource 5, reduction_factor 3; compares from epoch 5 on), over:"
    )
    assert search_notes(learning_rates())[0] == "search: 6 trials by tpe, pruner none, over:"


def test_objectives_rules_and_limits_are_said():
    rule = {"left": "a", "op": "<=", "right": 4, "is_path": False, "when": {"b": [True]}}
    both = (Metric("val/ap", "max", "best"), Metric("gmacs", "min", "best"))
    limits = {"params_m": {"min": 1.0, "max": 30.0}}
    notes = search_notes(learning_rates(objectives=both, constraints=(rule,), limits=limits))
    assert notes[2:] == [
        "objectives: val/ap (max), gmacs (min); the result is the front of trials that no other beats in all of them",
        "constraint: a <= 4 when b is True",
        "limit: params_m at least 1 and at most 30",
    ]


@pytest.mark.parametrize(
    ("milestones", "more", "named"),
    [
        ("[40, 52, 200]", "", "52, 200 come too late for a training of 52 epochs; write parts"),
        ("[0.8]", ", train.milestones: {choices: [[0.5], [60]]}", "60 come too late"),
        ("[0.5, 30]", ", train.epochs: {type: int, low: 20, high: 52}", "30 are epochs, and stay where they are while"),
    ],
)
@pytest.mark.parametrize("pruner", ["none", "median"])
def test_milestones_that_do_not_move_with_the_length_are_a_warning(tmp_path, pruner, milestones, more, named):
    (line,) = warnings(study(tmp_path, pruner, milestones, more))
    assert named in line
    assert line.startswith(f"{tmp_path}/study.yaml:4:")


@pytest.mark.parametrize(
    ("milestones", "more"),
    [
        ("[40, 48]", ""),
        ("[0.8, 0.9]", ", train.epochs: {type: int, low: 20, high: 52}"),
        ("[60], train.decay: linear", ""),
    ],
)
def test_milestones_within_the_training_or_in_parts_are_no_warning(tmp_path, milestones, more):
    assert warnings(study(tmp_path, "asha", milestones, more)) == []


def test_an_arm_whose_milestones_come_too_late_is_a_warning_in_its_line(tmp_path):
    arms = "ablation: {seeds: [0], arms: {\n  whole: {},\n  short: {train.epochs: 30}}}\n"
    text = STUDY[: STUDY.index("search:")].format(milestones="[40]") + arms
    (line,) = warnings(read(tmp_path, text))
    assert line.startswith(f"{tmp_path}/study.yaml:7:")
    assert "40 come too late for a training of 30 epochs" in line


def test_rungs_before_the_first_drop_are_told(tmp_path):
    (line,) = drop_notes(study(tmp_path, "asha", "[0.8]"))
    assert line.startswith(
        "pruner asha compares trials before the first drop of the step size, in epoch 43: "
        "at 2 of 3 rungs (epochs 5, 15, 45)"
    )
    (line,) = drop_notes(study(tmp_path, "asha", "[46]"))
    assert "at 3 of 3 rungs" in line


@pytest.mark.parametrize(
    ("pruner", "milestones", "more"),
    [
        ("none", "[0.8]", ""),
        ("asha", "[4]", ""),
        ("asha", "[]", ""),
        ("asha", "[0.8], train.decay: cosine", ""),
        ("asha", "[0.8]", ", train.decay: {choices: [step, cosine]}"),
    ],
)
def test_without_rungs_before_a_drop_there_is_nothing_to_tell(tmp_path, pruner, milestones, more):
    assert drop_notes(study(tmp_path, pruner, milestones, more)) == []


def trials_of(early, final):
    """Finished trials with these values after epoch 5 and as results."""
    plan = make_plan(search=learning_rates())
    specs = [
        search_trials(plan, number, {"train.learning_rate": 1e-3 + number * 1e-5})[0] for number in range(len(final))
    ]
    return [
        TrialHistory(spec, "finished", 1, 0.0, {5: {METRIC.name: a}}, summary={f"best/{METRIC.name}": b})
        for spec, a, b in zip(specs, early, final, strict=True)
    ]


ASHA = learning_rates(pruner="asha", rungs=(5, 15, 45))
RISING = [number / 100 for number in range(FULL_TRIALS)]
# Spearman's coefficients with RISING, by scipy.stats.spearmanr: 0.4586 and 0.5143
BELOW = [*RISING[2:], *RISING[:2]]
ABOVE = [*RISING[2:19], *RISING[:2], RISING[19]]


def test_a_pruner_without_evidence_is_told():
    full = trials_of(RISING, RISING)
    assert doubts(ASHA, METRIC, full) == doubts(learning_rates(), METRIC, []) == []
    (line,) = doubts(ASHA, METRIC, full[1:])
    assert line.startswith("pruner asha: nothing shows yet that early epochs rank trials as the last does (19 trials")


def outlook(**changes):
    (line,) = doubts(dataclasses.replace(ASHA, **changes), METRIC, [])
    return line.partition("20 needed); ")[2]


def test_a_search_too_small_for_evidence_is_told_what_gives_it():
    """Optuna leaves 5.0 of 40 (`tests.orchestrator.test_pruning`)."""
    assert outlook(trials=40).startswith(
        "40 trials are too few, about 5 of them should be: train 20 first with pruner: none (search.trials: 20), "
        "or ask for about 470 trials"
    )
    assert "(search.trials: 20 and no refit)" in outlook(trials=40, refit=RefitSpec(1, (1,)))
    assert outlook(trials=500).startswith("of 500 about 2")
    assert outlook(trials=500, pruner="median").startswith("to be sure of them train 20 first with pruner: none")


def test_a_pruner_against_the_evidence_is_a_warning():
    assert doubts(ASHA, METRIC, trials_of(ABOVE, RISING)) == []
    (line,) = doubts(ASHA, METRIC, trials_of(BELOW, RISING))
    assert line.startswith(
        "warning: pruner asha is not to be trusted here: after epoch 5, where it first compares trials, their rank "
        "correlation with the result is 0.46 (below 0.5, over the 20 trials it let through)"
    )


def test_ties_count_at_their_mean_rank():
    """0.4381 by scipy.stats.spearmanr."""
    tied = [*[0.05] * 6, *RISING[8:], *RISING[:2]]
    (line,) = doubts(ASHA, METRIC, trials_of(tied, RISING))
    assert "result is 0.44 (below" in line


def test_a_rung_that_says_nothing_is_no_evidence():
    assert doubts(ASHA, METRIC, trials_of([0.1] * FULL_TRIALS, RISING)) == []
    unreported = trials_of(RISING[::-1], RISING)
    unreported[0].epochs.pop(5)
    assert doubts(ASHA, METRIC, unreported) == []


def test_full_trials_are_counted_once_a_training():
    trials = trials_of(RISING, RISING)
    trials[1].spec = dataclasses.replace(trials[1].spec, fingerprint=trials[0].spec.fingerprint)
    trials[2].state = "pruned"
    trials[3].spec = dataclasses.replace(trials[3].spec, generation=1)
    trials[4].spec = dataclasses.replace(trials[4].spec, number=-1)
    history = History()
    history.trials = {trial.spec.trial_id: trial for trial in trials}
    assert len(full_trials(history, 0)) == FULL_TRIALS - 4


@pytest.mark.parametrize(
    ("more", "changed", "pruner", "reason"),
    [
        ("", [], "asha", "one objective, sampler tpe, 52 epochs"),
        ("  pruner: Auto\n", ["train.epochs=10"], "asha", "one objective, sampler tpe, 10 epochs"),
        ("", ["train.epochs=9"], "none", "train.epochs is 9, less than 10"),
        ("  sampler: gp\n", [], "none", "gp makes no use of trials that were stopped"),
        ("  sampler: random\n", [], "asha", "one objective, sampler random, 52 epochs"),
        ("  limits: {params_m: {max: 30}}\n", [], "none", "a pruner knows no limits"),
        (
            "  objectives: [{name: val/pckh@0.5, mode: max}, {name: gmacs, mode: min}]\n",
            [],
            "none",
            "a pruner compares one value",
        ),
        ("  objectives: [{name: val/pckh@0.5, mode: max}]\n", [], "asha", "one objective"),
    ],
)
def test_without_a_pruner_named_one_is_chosen_and_said(tmp_path, capsys, more, changed, pruner, reason):
    read(tmp_path, DEFAULT + more, *changed)
    arguments = [argument for change in changed for argument in ("--set", change)]
    assert main(["validate", str(tmp_path / "study.yaml"), *arguments]) == 0
    assert f"pruner auto is {pruner} here ({reason}" in capsys.readouterr().out
    found = read(tmp_path, DEFAULT + more, *changed).search
    assert found is not None
    assert found.pruner == pruner
    assert any(line.startswith(f"pruner: auto is {pruner} here ({reason}") for line in search_notes(found))


def test_a_searched_length_is_not_pruned_by_itself(tmp_path):
    found = read(tmp_path, DEFAULT.replace("distill.alpha: {", "train.epochs: {")).search
    assert found is not None
    assert (found.pruner, found.pruner_reason[:12]) == ("none", "train.epochs")


def test_a_pruner_that_is_named_stays(tmp_path):
    found = study(tmp_path, "none").search
    assert found is not None
    assert (found.pruner, found.pruner_reason) == ("none", "")


def test_the_chosen_pruner_has_its_defaults_and_rungs(tmp_path):
    found, named = read(tmp_path, DEFAULT).search, study(tmp_path, "asha").search
    assert found is not None
    assert dataclasses.replace(found, pruner_reason="", trials=40, space={}) == dataclasses.replace(named, space={})


def test_options_need_a_named_pruner(tmp_path):
    (line,) = faults(tmp_path, DEFAULT + "  pruner_options: {reduction_factor: 4}\n")
    assert line.startswith("study.yaml:8:")
    assert "search.pruner_options: needs the pruner whose options these are, such as pruner: asha" in line


def test_validate_and_plan_print_the_warning_and_plan_the_evidence(tmp_path, capsys):
    for name in ("quickstart_search.yaml", "study.schema.json", "bases"):
        source = STUDIES / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    file = str(tmp_path / "quickstart_search.yaml")
    changed = ["--set", "train.milestones=[400]"]
    assert main(["validate", file, *changed]) == 0
    assert "warning: --set:1" in capsys.readouterr().out
    conductor = open_conductor(
        make_plan(search=learning_rates(trials=3), study="quickstart-search"), tmp_path / "results"
    )
    play(conductor, worse_each_time)
    assert main(["plan", file, *changed, "--results", str(tmp_path / "results")]) == 0
    printed = capsys.readouterr().out
    assert "train.milestones: 400 come too late" in printed
    assert "(0 trials of full length, 20 needed)" in printed, "those of another configuration do not count"
