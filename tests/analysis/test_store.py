"""A real MLflow store read into tidy frames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analysis import store as store_module
from analysis.errors import StoreError
from analysis.store import Store
from tests.analysis.recorded import PROTOCOL, StudyBuilder, Workbench, best


def test_a_trial_is_one_row_with_its_tags_params_and_metrics(workbench: Workbench) -> None:
    builder = workbench.study("one-row")
    run_id = builder.trial("full", 3, best(0.8), params={"distill.alpha": 0.5}, reused_from="other/x", teacher="abc")
    (row,) = workbench.read("one-row").trials.to_dict("records")
    assert (row["run_id"], row["arm"], row["seed"], row["state"]) == (run_id, "full", 3, "finished")
    assert (row["reused_from"], row["teacher"], row["protocol"]) == ("other/x", "abc", PROTOCOL)
    assert row["params.distill.alpha"] == "0.5"
    assert row["metrics.best/val/pckh@0.5"] == 0.8


def test_no_run_is_lost_between_pages(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = workbench.study("paged")
    for seed in range(7):
        builder.trial("base", seed, best(0.5))
    monkeypatch.setattr(store_module, "PAGE", 2)
    assert list(workbench.read("paged").trials["seed"]) == list(range(7))
    assert "paged" in Store(workbench.uri).studies()


def test_a_study_without_trials_is_an_empty_frame(workbench: Workbench) -> None:
    workbench.study("nothing-yet")
    trials = workbench.read("nothing-yet").trials
    assert trials.empty
    assert {"arm", "seed", "state", "protocol"} <= set(trials.columns)


def test_epochs_are_one_row_each_in_order(workbench: Workbench, modules: StudyBuilder) -> None:
    store = Store(workbench.uri)
    trials = store.read("modules").trials
    found = store.epochs(trials[(trials["arm"] == "full") & (trials["seed"] == 0)], ["val/pckh@0.5", "val/absent"])
    assert list(found["epoch"]) == [1, 2, 3]
    assert list(found["value"]) == pytest.approx([0.64, 0.74, 0.73])
    assert set(found["metric"]) == {"val/pckh@0.5"}


def test_an_unknown_study_names_those_there_are(workbench: Workbench, modules: StudyBuilder) -> None:
    with pytest.raises(StoreError, match=r"no study 'nope'.*modules"):
        workbench.read("nope")


def test_an_absent_store_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with pytest.raises(StoreError, match="nothing has been recorded"):
        Store(f"sqlite:///{path}")
    assert not path.exists()


def test_an_unreadable_tag_names_the_run(workbench: Workbench) -> None:
    builder = workbench.study("broken-tag")
    run_id = builder.trial("base", 0, best(0.5))
    workbench.client.set_tag(run_id, "cdkd.protocol", "{not json")
    with pytest.raises(StoreError, match=run_id):
        workbench.read("broken-tag")


def test_reading_needs_neither_torch_nor_ray() -> None:
    program = (
        "import analysis.tables, analysis.figure, sys; sys.exit(bool({'torch', 'ray', 'cdkd'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
