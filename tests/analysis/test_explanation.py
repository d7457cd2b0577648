"""Where a cell comes from."""

from __future__ import annotations

import io
import json
import shlex
from dataclasses import asdict

import numpy as np
import pytest

from analysis.ablation import Choices
from analysis.errors import MixedProtocols, UnknownCell
from analysis.evaluation_noise import Instances, InstancesError, PairedImages, read_instances
from analysis.explanation import Explanation, as_json, as_text, explain, with_noise
from orchestrator import keys
from tests.analysis.recorded import PROTOCOL, SEARCH, StudyBuilder, Workbench, best, specification_of


def explained(workbench: Workbench, study: str, row: str, column: str = "val/pckh@0.5", **choices) -> Explanation:
    return explain(workbench.read(study), row, column, Choices(**choices))


def test_every_run_is_named_with_its_value(workbench: Workbench, modules: StudyBuilder) -> None:
    found = explained(workbench, "modules", "full")
    assert (found.label, found.column, found.text) == ("CDKD_full", "PCKh@0.5 val (%)", "74.83 ± 1.04 (3)")
    assert [(run.source.seed, run.value, run.text) for run in found.runs] == [
        (0, 0.74, "74.00"),
        (1, 0.76, "76.00"),
        (2, 0.745, "74.50"),
    ]
    assert [modules.names[run.source.run_id] for run in found.runs] == [run.source.trial_id for run in found.runs]
    assert (found.select, found.protocol["epochs"]) == ("best epoch on val", "3")


def test_each_command_repeats_its_own_run(workbench: Workbench, modules: StudyBuilder) -> None:
    for run in explained(workbench, "modules", "full").runs:
        words, folder = shlex.split(run.command), f"repeat/{run.source.run_id}"
        assert words[:5] == ["cdkd", "repro", run.source.run_id, "--tracking-uri", workbench.uri]
        assert words[5:] == ["--output", folder, "&&", "sh", f"{folder}/command.sh"]


@pytest.mark.parametrize("row", ["full", "CDKD_full"])
@pytest.mark.parametrize(
    "column", ["val/pckh@0.5", "best/val/pckh@0.5", "PCKh@0.5 val (%)", "PCKh@0.5 val"], ids=lambda text: text
)
def test_a_cell_goes_by_names_and_by_what_is_printed(
    workbench: Workbench, modules: StudyBuilder, row: str, column: str
) -> None:
    found = explained(workbench, "modules", row, column)
    assert (found.arm, found.metric) == ("full", "best/val/pckh@0.5")


def test_the_studys_epoch_is_meant_unless_the_other_is_named(workbench: Workbench, modules: StudyBuilder) -> None:
    assert explained(workbench, "modules", "full", side_by_side=True).metric == "best/val/pckh@0.5"
    last = explained(workbench, "modules", "full", "PCKh@0.5 val (%), last epoch", side_by_side=True)
    assert (last.metric, last.select, last.judgement) == ("final/val/pckh@0.5", "last epoch", ())


@pytest.mark.parametrize(
    ("row", "column", "message"),
    [
        ("ful", "val/pckh@0.5", r"^the table has no row 'ful' \(did you mean 'full'\?\)$"),
        ("full", "val/pckh", r"^the table has no column 'val/pckh' \(did you mean 'val/pckh@0\.5'\?\)$"),
        (
            "zzz",
            "params_m",
            r"no row 'zzz' \(there are plain, projector, ensemble, full, etht_only, SimCC, CDKD_full\)$",
        ),
    ],
)
def test_the_nearest_name_is_offered(
    workbench: Workbench, modules: StudyBuilder, row: str, column: str, message: str
) -> None:
    with pytest.raises(UnknownCell, match=message):
        explained(workbench, "modules", row, column)


def test_a_label_of_several_rows_is_refused(workbench: Workbench, resolutions: StudyBuilder) -> None:
    with pytest.raises(UnknownCell, match="2 rows are labelled 'CDKD': name the arm, CDKD/32, CDKD/64"):
        explained(workbench, "resolutions", "CDKD")


def test_difference_and_paper_are_told_of_the_studys_metric(workbench: Workbench, resolutions: StudyBuilder) -> None:
    difference, paper = explained(workbench, "resolutions", "CDKD/64").judgement
    assert difference.startswith(
        "difference +1.0 [+0.8, +1.3] (8) to SimCC/64, paired by seed, 95 % interval by Student's"
    )
    assert difference.endswith("exact sign-flip test p = 0.00781, 0.0312 by Holm")
    assert paper == "paper 79.4 (Table I (MPII val), pckh05): reproduced (79.1 to 79.7)"
    assert explained(workbench, "resolutions", "CDKD/64", "params_m").judgement == ()


def test_seeds_that_are_not_in_the_cell_are_told(workbench: Workbench, modules: StudyBuilder) -> None:
    found = explained(workbench, "modules", "ensemble")
    assert [(absence.seed, absence.state) for absence in found.absences] == [(1, "diverged"), (2, "missing")]
    assert "not in it    seed 1: diverged (task loss is inf at epoch 2)" in as_text(found)


def test_an_objective_of_a_search_alone_is_a_column_of_its_trials(workbench: Workbench) -> None:
    search = SEARCH | {"objectives": [{"name": "val/pckh@0.5", "mode": "max"}, {"name": "gmacs", "mode": "min"}]}
    builder = workbench.study("explained-front", specification_of("explained-front", search=search))
    builder.trial("search", 0, best(0.6) | {"gmacs": 2.5}, trial_id="search-0")
    found = explain(workbench.read("explained-front"), "search-0", "gmacs", Choices())
    assert (found.text, found.metric) == ("2.500", "gmacs")


def test_a_trial_of_a_search_is_a_row(workbench: Workbench, tuning: StudyBuilder) -> None:
    found = explained(workbench, "tuning", "search-1")
    assert (found.text, [run.value for run in found.runs]) == ("65.00", [0.65])
    pruned = explained(workbench, "tuning", "search-2")
    assert (pruned.text, pruned.runs, pruned.absences[0].state) == ("pruned", (), keys.PRUNED)


def test_there_is_no_cell_where_there_can_be_no_table(workbench: Workbench) -> None:
    builder = workbench.study("mixed-cell", seeds=[0])
    builder.trial("base", 0, best(0.5))
    builder.trial("full", 0, best(0.6), protocol=PROTOCOL | {"epochs": 4})
    with pytest.raises(MixedProtocols):
        explained(workbench, "mixed-cell", "base")
    assert explained(workbench, "mixed-cell", "full", allow=("epochs",)).protocol["epochs"] == "4"


def test_revision_teacher_origin_and_versions_are_told(workbench: Workbench) -> None:
    specification = specification_of("told", seeds=[0], versions={"torch": "2.9", "numpy": "2.1"})
    builder = workbench.study("told", specification)
    builder.trial("base", 0, best(0.5), revision="abc123", teacher="t1", reused_from="other/x")
    text = as_text(explained(workbench, "told", "base"))
    for part in ("revision     abc123", "versions     torch 2.9, numpy 2.1", "teacher t1, taken over from other/x"):
        assert part in text


def test_machines_get_all_of_it(workbench: Workbench, modules: StudyBuilder) -> None:
    found = explained(workbench, "modules", "full")
    assert json.loads(as_json(found)) == json.loads(json.dumps(asdict(found)))


def persons(correct: int, name: str = "correct@0.5") -> Instances:
    count = np.arange(4)
    arrays = {
        "image_id": count // 2,
        "annotation_id": count,
        "score": count,
        "oks": count / 4,
        "counted": count * 0 + 4,
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, **{name: count * 0 + correct})
    buffer.seek(0)
    return read_instances(buffer, "instances_val.npz")


def test_evaluation_noise_is_told_by_seed_and_never_as_training_noise(
    workbench: Workbench, modules: StudyBuilder
) -> None:
    ours, theirs = explained(workbench, "modules", "full"), explained(workbench, "modules", "plain")
    better = {run.source.run_id for run in ours.runs}
    found = with_noise(ours, theirs, lambda run_id, split: persons(3 if run_id in better else 2))
    assert [each.seed for each in found.noise] == [0, 1, 2]
    assert found.noise[0].noise == PairedImages()(persons(3), persons(2), "pckh@0.5")
    text = as_text(found)
    assert "noise        evaluation noise of the difference to plain" in text
    assert "training noise is not in it" in text
    assert "seed 2: +25.00 [+25.00, +25.00] %" in text


def test_a_cost_has_no_evaluation_noise(workbench: Workbench, modules: StudyBuilder) -> None:
    ours = explained(workbench, "modules", "full", "params_m")
    with pytest.raises(InstancesError, match="not of params_m"):
        with_noise(ours, ours, lambda run_id, split: persons(1))
