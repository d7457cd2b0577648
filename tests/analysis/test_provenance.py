"""Every printed number can be traced to its runs."""

from __future__ import annotations

from analysis.ablation import Choices, ablation_table
from analysis.explanation import explain
from analysis.provenance import origins, provenance, records
from tests.analysis.recorded import StudyBuilder, Workbench, best, specification_of


def test_every_cell_can_be_traced_to_its_runs(workbench: Workbench, modules: StudyBuilder) -> None:
    found = provenance(ablation_table(workbench.read("modules")))
    cells = {(cell["arm"], cell["column"]): cell["values"] for cell in found["cells"]}
    assert len(cells) == 5 * 4
    values = cells["full", "val/pckh@0.5"]
    assert list(values.values()) == [0.74, 0.76, 0.745]
    runs = [found["runs"][run_id] for run_id in values]
    assert [run["seed"] for run in runs] == [0, 1, 2]
    assert [run["trial_id"] for run in runs] == [modules.names[run_id] for run_id in values]
    assert {(absence["arm"], absence["seed"], absence["state"]) for absence in found["absent"]} >= {
        ("ensemble", 1, "diverged"),
        ("etht_only", 0, "running"),
    }


def test_only_the_studys_metric_is_judged(workbench: Workbench, resolutions: StudyBuilder) -> None:
    found = {(line["arm"], line["metric"]): line for line in records(ablation_table(workbench.read("resolutions")))}
    judged = found["CDKD/64", "best/val/pckh@0.5"]
    assert (judged["baseline"], judged["pairs"], judged["reproduced"], judged["paper_std"]) == ("SimCC/64", 8, 1, 0.2)
    assert judged["p_holm"] == 4 * judged["p"]
    assert judged["distill.sape.kernels"] == "[3, 5, 7, 7]"
    assert found["CDKD/64", "best/val/pckh@0.5/head"]["baseline"] is None
    assert found["SAPE/64", "best/val/pckh@0.5"]["paper"] is None
    assert len({tuple(line) for line in found.values()}) == 1, "every line has the same fields"


def test_the_papers_value_of_another_column_is_in_its_line(workbench: Workbench) -> None:
    printed = {"params_m": {"title": "Table X, params_m", "values": {"full": 63.5}, "deviations": {}}}
    builder = workbench.study("costs-in-lines", specification_of("costs-in-lines", table={"references": printed}))
    builder.trial("full", 0, best(0.5))
    record = workbench.read("costs-in-lines")
    found = {(line["arm"], line["metric"]): line for line in records(ablation_table(record))}
    assert (found["full", "params_m"]["paper"], found["full", "params_m"]["diff_to_paper"]) == (63.5, -35.0)
    assert found["base", "params_m"]["paper"] is None
    assert found["full", "best/val/pckh@0.5"]["paper"] is None
    (judged,) = explain(record, "full", "params_m", Choices()).judgement
    assert judged == "paper 63.5 (Table X, params_m): no interval to judge by"


def test_metrics_of_the_same_runs_share_a_line(workbench: Workbench, modules: StudyBuilder) -> None:
    lines = origins(ablation_table(workbench.read("modules")))
    assert len(lines) == 5
    assert lines[4] == "etht_only: best/val/pckh@0.5 best/test/pckh@0.5 params_m train_seconds: no run"
    assert lines[2].startswith("ensemble: best/val/pckh@0.5 best/test/pckh@0.5 params_m train_seconds: seed 0 = ")
