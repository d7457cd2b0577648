"""What figures are made from."""

from __future__ import annotations

import pytest

from analysis.errors import MixedProtocols, NotDrawable, StoreError
from analysis.figures.source import Source, arms_of
from orchestrator import keys
from tests.analysis.figures.studies import source
from tests.analysis.recorded import PROTOCOL, StudyBuilder, Workbench, best, specification_of


def test_arms_keep_the_studys_order_and_labels(modules_source: Source) -> None:
    assert list(modules_source.arms) == ["plain", "projector", "ensemble", "full", "etht_only"]
    assert modules_source.arms["full"].label == "CDKD_full"


def test_an_arm_of_several_studies_has_one_look(workbench: Workbench, modules: StudyBuilder, sizes: Source) -> None:
    records = [workbench.read("modules"), workbench.read("sizes")]
    alone, together = arms_of(records[:1], "plain"), arms_of(records, "plain")
    assert [together[name] for name in alone] == list(alone.values())
    assert list(together)[-3:] == ["SimCC", "CDKD", "CDKD-48"]


@pytest.mark.parametrize("metric", ["best/val/ap", "final/val/ap", "ap"])
def test_a_metric_of_the_summary_is_no_score(workbench: Workbench, modules: StudyBuilder, metric: str) -> None:
    with pytest.raises(StoreError, match=f"got '{metric}'"):
        source(workbench, "modules", metric=metric)


def test_the_score_is_the_studys_unless_another_is_named(workbench: Workbench, modules_source: Source) -> None:
    assert modules_source.score.stored == "best/val/pckh@0.5"
    assert source(workbench, "modules", metric="test/pckh@0.5").score.stored == "best/test/pckh@0.5"


def test_seeds_that_are_in_no_mean_are_told(modules_source: Source) -> None:
    (sentence,) = modules_source.absences
    assert sentence == (
        "In no mean: ensemble seed 1 (diverged); ensemble seed 2 (missing); etht_only seed 0 (running); "
        "etht_only seeds 1, 2 (missing)."
    )


def test_trials_of_other_seeds_and_arms_are_left_out(workbench: Workbench) -> None:
    builder = workbench.study("drawn-edited", specification_of("drawn-edited", seeds=[0]))
    for arm, seed in (("base", 0), ("base", 1), ("gone", 0)):
        builder.trial(arm, seed, best(0.5))
    assert list(source(workbench, "drawn-edited").trials["trial_id"]) == ["base-seed0-2"]


def test_results_of_different_protocols_are_refused_unless_allowed(workbench: Workbench) -> None:
    builder = workbench.study("two-protocols", specification_of("two-protocols"))
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.6), protocol=PROTOCOL | {"epochs": 9})
    builder.trial("full", 1, best(0.6), protocol=PROTOCOL | {"digest": "other"}, state=keys.RUNNING)
    with pytest.raises(MixedProtocols, match="epochs"):
        assert source(workbench, "two-protocols").trials is None
    builder = workbench.study("drawn-allowed", specification_of("drawn-allowed", table={"allow": ["epochs"]}))
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.6), protocol=PROTOCOL | {"epochs": 9})
    assert len(source(workbench, "drawn-allowed").finished) == 2
    allowed = source(workbench, "two-protocols", allow=["epochs"])
    assert len(allowed.finished) == 2
    assert allowed.remarks[0] == "Protocols differ in epochs, as allowed: 3 (base); 9 (full)."


def test_blocks_of_a_table_may_differ_in_what_divides_them_and_have_a_baseline_each(workbench: Workbench) -> None:
    sizes = {"a32": 32, "b32": 32, "a64": 64, "b64": 64}
    blocks = [{"arms": ["a32", "b32"], "baseline": "a32"}, {"arms": ["a64", "b64"], "baseline": "a64"}]
    layout = {"arms": list(sizes), "baseline": "", "group_by": ["student.input_size"], "blocks": blocks}
    builder = workbench.study("blocks", specification_of("blocks", table=layout))
    for arm, size in sizes.items():
        builder.trial(arm, 0, best(0.5), protocol=PROTOCOL | {"input_size": size})
    found = source(workbench, "blocks")
    assert len(found.finished) == 4
    assert found.baselines == {"b32": "a32", "b64": "a64"}
    assert found.baseline == "a32"


def test_a_study_without_a_search_has_no_trials_of_one(modules_source: Source) -> None:
    with pytest.raises(NotDrawable, match="no search"):
        assert modules_source.searched is None
