"""Notes on how far a study went: repeats added by a rule, and what tuning cost."""

from __future__ import annotations

from analysis.ablation import ablation_table
from analysis.ablation_sheet import ablation_sheet
from orchestrator import keys
from tests.analysis.recorded import SEARCH, Workbench, best, specification_of

RULE = {"minimum": 2, "statistic": "mean", "width": 0.05}


def repeated(workbench: Workbench, study: str, rule: dict, seeds: dict[str, list[int]]) -> str:
    layout = {"columns": ["val/pckh@0.5"], "baseline": "plain", "arms": ["plain", "loud", "open"]}
    specification = specification_of(study, table=layout, seeds=[0, 1, 2, 3], repeats=rule, arm_seeds=seeds)
    builder = workbench.study(study, specification)
    for arm, values in {"plain": (0.70, 0.701), "loud": (0.2, 0.9, 0.4, 0.7), "open": (0.3, 0.8)}.items():
        for seed, value in enumerate(values):
            builder.trial(arm, seed, best(value))
    table = ablation_table(workbench.read(study))
    assert [row.absences for row in table.rows] == [(), (), ()]  # nobody misses a seed that was not asked for
    return "\n".join(ablation_sheet(table).remarks)


SEEDS = {"plain": [0, 1], "loud": [0, 1, 2, 3], "open": [0, 1]}


def test_every_arm_says_which_rule_ended_its_repeats(workbench: Workbench) -> None:
    remarks = repeated(workbench, "repeats-mean", RULE, SEEDS)
    assert "Repeats: 2 to 4, added while half the 95 % interval of an arm's mean is above 5" in remarks
    assert "plain 2, reached (0.64)" in remarks
    assert "loud 4, the most there may be (49.47)" in remarks
    assert "open 2, still open (317.66)" in remarks


def test_the_interval_of_a_difference_is_of_the_pairs(workbench: Workbench) -> None:
    remarks = repeated(workbench, "repeats-difference", RULE | {"statistic": "difference"}, SEEDS)
    assert "interval of its difference to the baseline" in remarks
    assert "plain 2, as the arms compared with it; loud 4" in remarks
    assert "open 2, still open (317.02)" in remarks  # 49.9 points between the two differences


def test_a_seed_that_was_asked_for_and_is_not_there_is_marked(workbench: Workbench) -> None:
    layout = {"columns": ["val/pckh@0.5"], "baseline": "", "arms": ["plain"]}
    specification = specification_of(
        "repeats-missing", table=layout, seeds=[0, 1, 2, 3], repeats=RULE, arm_seeds={"plain": [0, 1, 2]}
    )
    builder = workbench.study("repeats-missing", specification)
    builder.trial("plain", 0, best(0.5))
    builder.trial("plain", 1, best(0.6))
    (row,) = ablation_table(workbench.read("repeats-missing")).rows
    assert [(absence.seed, absence.state) for absence in row.absences] == [(2, "missing")]


def test_a_refit_says_what_tuning_cost(workbench: Workbench) -> None:
    layout = {"columns": ["val/pckh@0.5"], "baseline": "base", "arms": ["base", "best-1"]}
    search = SEARCH | {"refit": {"top": 1, "seeds": [7]}}
    specification = specification_of("refit-cost", table=layout, seeds=[7], search=search)
    builder = workbench.study("refit-cost", specification)
    builder.trial("base", 7, best(0.5, train_seconds=9000.0))
    builder.trial("best-1", 7, best(0.6, train_seconds=9000.0))
    builder.trial("search", 0, best(0.5, train_seconds=3600.0))
    builder.trial("search", 0, {"train_seconds": 1800.0}, state=keys.PRUNED)
    builder.trial("search", 0, best(0.6, train_seconds=7200.0), reused_from="other/search-0001")
    remarks = "\n".join(ablation_sheet(ablation_table(workbench.read("refit-cost"))).remarks)
    assert "Tuning: best-1 was chosen among 3 trials of the search (2 finished, 1 pruned) on seed 0" in remarks
    assert "took 1.50 hours of training" in remarks  # what was taken over cost nothing
