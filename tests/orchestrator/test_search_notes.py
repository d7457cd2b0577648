"""What a plan and a validation say about a search."""

from __future__ import annotations

import shutil

import pytest

from orchestrator.cli import main
from orchestrator.library import STUDIES
from orchestrator.plan import Metric
from orchestrator.search_notes import search_notes, unproven, warnings
from orchestrator.search_options import FULL_TRIALS
from tests.orchestrator.plans import learning_rates, make_plan, open_conductor, play
from tests.orchestrator.test_sampler import worse_each_time
from tests.orchestrator.test_study import read

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
    ("pruner", "milestones", "more", "named"),
    [
        ("asha", "[40, 48]", "", "40, 48 are epochs"),
        ("median", "[0.5, 48]", "", "48 are epochs"),
        ("asha", "[0.8]", ", train.milestones: {choices: [[0.5], [30]]}", "30 are epochs"),
    ],
)
def test_milestones_that_do_not_follow_the_budget_are_a_warning(tmp_path, pruner, milestones, more, named):
    (line,) = warnings(study(tmp_path, pruner, milestones, more))
    assert named in line
    assert line.startswith(f"{tmp_path}/study.yaml:4:")


@pytest.mark.parametrize(("pruner", "milestones"), [("none", "[40]"), ("asha", "[0.8, 0.9]")])
def test_without_a_pruner_or_with_parts_there_is_no_warning(tmp_path, pruner, milestones):
    assert warnings(study(tmp_path, pruner, milestones)) == []


def test_a_pruner_without_evidence_is_told():
    asha = learning_rates(pruner="asha")
    assert unproven(asha, FULL_TRIALS) == unproven(learning_rates(), 0) == []
    (line,) = unproven(asha, FULL_TRIALS - 1)
    assert line.startswith("pruner asha: nothing shows yet that early epochs rank trials as the last does (19 trials")


def test_validate_and_plan_print_the_warning_and_plan_counts_the_evidence(tmp_path, capsys):
    for name in ("quickstart_search.yaml", "study.schema.json", "bases"):
        source = STUDIES / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    file = str(tmp_path / "quickstart_search.yaml")
    changed = ["--set", "train.milestones=[4]"]
    assert main(["validate", file, *changed]) == 0
    assert "warning: --set:1" in capsys.readouterr().out
    conductor = open_conductor(
        make_plan(search=learning_rates(trials=3), study="quickstart-search"), tmp_path / "results"
    )
    play(conductor, worse_each_time)
    assert main(["plan", file, *changed, "--results", str(tmp_path / "results")]) == 0
    printed = capsys.readouterr().out
    assert "train.milestones: 4 are epochs" in printed
    assert "(3 trials of full length, 20 needed)" in printed
