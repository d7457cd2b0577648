"""What a results folder holds of a plan, and why a result of the last run does not fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cdkd import METHOD_VERSION
from orchestrator.changes import change_lines, past_of, stand
from orchestrator.compiler import begun_afresh, compile_study, search_trial
from orchestrator.conductor import Conductor
from orchestrator.execution import Job
from orchestrator.ledger import Ledger
from orchestrator.paths import StudyPaths
from orchestrator.plan import Plan
from orchestrator.specification import specification
from orchestrator.study import load_study
from orchestrator.verbs.pricing import jobs_left
from tests.orchestrator.plans import kill, play

BASE = """\
data: {synthetic: {train_images: 24, val_images: 8, image_size: 64}}
student: {input_size: 32, backbone: hrnet_w16}
teacher: {input_size: 64, backbone: hrnet_w16, epochs: 1, batch_size: 8}
simcc: {split_ratio: 2.0}
train: {epochs: 2, batch_size: 8}
"""
STUDY = """\
study: changing
base: tiny
metric: {name: val/pckh@0.5}
ablation:
  arms:
    plain: {distill.sape.enabled: false, distill.cca.enabled: false}
    slow: {distill.sape.enabled: false, distill.cca.enabled: false, train.learning_rate: 0.0001}
  seeds: [0, 1]
"""


def planned(folder: Path, text: str = STUDY, *overrides: str) -> Plan:
    (folder / "bases").mkdir(exist_ok=True)
    (folder / "bases" / "tiny.yaml").write_text(BASE)
    (folder / "study.yaml").write_text(text)
    return compile_study(load_study(folder / "study.yaml", overrides))


def flat(job: Job, epoch: int) -> float:
    return 0.5


def run(plan: Plan, results: Path, limit: int = 100) -> None:
    """Play a plan as `cdkd run` would."""
    paths = StudyPaths(results, plan.study)
    conductor = Conductor(plan, Ledger.open(paths.ledger, writer=True), paths, search_trials=search_trial)
    conductor.begin(specification(plan))
    play(conductor, flat, limit=limit)
    kill(conductor)


def lines(plan: Plan, results: Path) -> list[str]:
    paths = StudyPaths(results, plan.study)
    return change_lines(stand(plan, past_of(paths), paths), plan)


def test_before_the_first_run_nothing_has_changed(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    paths = StudyPaths(tmp_path / "r", plan.study)
    assert lines(plan, tmp_path / "r") == []
    assert stand(plan, past_of(paths), paths).sources == {}


def test_an_unchanged_study_is_reused_whole(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    run(plan, tmp_path / "r")
    assert lines(plan, tmp_path / "r") == ["since the last run: 4 of 4 trials reused"]


def test_new_arms_gone_arms_and_changed_arms_are_told_apart(tmp_path: Path) -> None:
    run(planned(tmp_path), tmp_path / "r")
    edited = STUDY.replace("    slow:", "    fast:").replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    assert lines(planned(tmp_path, edited), tmp_path / "r") == [
        "since the last run: +1 arm (fast), -1 arm (slow), 4 of 6 trials reused"  # fast is slow by another name
    ]
    longer = planned(tmp_path, STUDY, "simcc.label_smoothing=0.2", "simcc.loss=nmt")
    assert lines(longer, tmp_path / "r") == [
        "since the last run: 0 of 4 trials reused, 4 invalid",
        "  4 trials (plain, slow; seeds 0, 1) invalid because simcc.label_smoothing 0.1 to 0.2, simcc.loss "
        '"mean_visible" to "nmt" changed',
    ]


def test_only_what_changed_is_invalid(tmp_path: Path) -> None:
    run(planned(tmp_path), tmp_path / "r")
    edited = planned(tmp_path, STUDY.replace("0.0001", "0.0002"))
    assert lines(edited, tmp_path / "r") == [
        "since the last run: 2 of 4 trials reused, 2 invalid",
        "  2 trials (slow; seeds 0, 1) invalid because train.learning_rate 0.0001 to 0.0002 changed",
    ]


@pytest.mark.parametrize("version", [None, 1])
def test_another_version_of_the_code_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int | None
) -> None:

    plan = planned(tmp_path)
    old = tuple(
        dataclasses.replace(spec, fingerprint="0" * 15 + str(number)) for number, spec in enumerate(plan.trials)
    )
    paths = StudyPaths(tmp_path / "r", plan.study)
    conductor = Conductor(dataclasses.replace(plan, trials=old), Ledger.open(paths.ledger, writer=True), paths)
    said = {**specification(plan), "method_version": version}
    conductor.begin(said if version else {name: value for name, value in said.items() if name != "method_version"})
    play(conductor, flat)
    kill(conductor)
    later = Conductor(plan, Ledger.open(paths.ledger, writer=True), paths)
    later.begin(specification(plan))  # a run of the present version, stopped before its first trial
    kill(later)
    named = f" (version 1 to {METHOD_VERSION})" if version else ""
    assert lines(plan, tmp_path / "r")[1].endswith(f"invalid because the method's code changed{named}")


def test_changed_data_are_named(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    run(plan, tmp_path / "r")
    other = tuple(
        dataclasses.replace(spec, fingerprint=f"{number:016x}", protocol={**spec.protocol, "data": "f" * 16})
        for number, spec in enumerate(plan.trials)
    )
    assert lines(dataclasses.replace(plan, trials=other), tmp_path / "r")[1].endswith(
        "invalid because what the data files hold changed"
    )


def test_results_of_other_studies_are_counted_and_named(tmp_path: Path) -> None:
    run(planned(tmp_path), tmp_path / "r")
    plan = planned(tmp_path, STUDY.replace("study: changing", "study: second"))
    paths = StudyPaths(tmp_path / "r", plan.study)
    found = stand(plan, past_of(paths), paths)
    assert set(found.sources.values()) == {f"changing/{spec.trial_id}" for spec in plan.trials}
    assert found.is_first


def test_a_study_begun_afresh_reuses_nothing_from_before(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    run(plan, tmp_path / "r")
    fresh = begun_afresh(plan, 1, 1e12)
    run(fresh, tmp_path / "r", limit=1)
    paths = StudyPaths(tmp_path / "r", plan.study)
    assert list(stand(fresh, past_of(paths), paths).sources) == [fresh.trials[0].trial_id]


def test_interrupted_trainings_keep_their_epochs(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    paths = StudyPaths(tmp_path / "r", plan.study)
    conductor = Conductor(plan, Ledger.open(paths.ledger, writer=True), paths)
    conductor.begin(specification(plan))
    job = conductor.on_started(plan.trials[0])
    conductor.on_epoch(job.trial_id, job.attempt, 1, {})
    kill(conductor)
    assert stand(plan, past_of(paths), paths).epochs_done == {plan.trials[0].trial_id: 1}


SEARCH = """\
study: searching
base: tiny
metric: {name: val/pckh@0.5}
set: {distill.sape.enabled: false, distill.cca.enabled: false}
search: {space: {train.learning_rate: {low: 0.0001, high: 0.01, log: true}}, trials: 3}
"""
EPOCHS = "train.epochs=3"


def test_trials_of_a_search_are_counted(tmp_path: Path) -> None:
    plan = planned(tmp_path, SEARCH)
    run(plan, tmp_path / "r", limit=2)
    assert lines(plan, tmp_path / "r") == ["since the last run: 2 of 3 trials reused"]
    assert priced(plan, tmp_path / "r") == [2]


def test_trials_of_a_search_with_another_configuration_are_invalid(tmp_path: Path) -> None:
    run(planned(tmp_path, SEARCH), tmp_path / "r")
    longer = planned(tmp_path, SEARCH, EPOCHS)
    assert lines(longer, tmp_path / "r") == [
        "since the last run: 0 of 3 trials reused, 3 invalid",
        "  3 trials (search; seed 0) invalid because train.epochs 2 to 3 changed",
    ]
    assert priced(longer, tmp_path / "r") == [3, 3, 3]
    run(longer, tmp_path / "r", limit=1)
    assert lines(longer, tmp_path / "r") == ["since the last run: 1 of 3 trials reused"]
    elsewhere = SEARCH.replace(
        "train.learning_rate: {low: 0.0001, high: 0.01, log: true}", "simcc.label_smoothing: {low: 0.1, high: 0.3}"
    )
    assert "  1 trial (search; seed 0) invalid because train.learning_rate is searched no more" in lines(
        planned(tmp_path, elsewhere, EPOCHS), tmp_path / "r"
    )


def test_a_population_that_the_run_would_refuse_is_said_to_be(tmp_path: Path) -> None:
    text = SEARCH.replace("trials: 3", "trials: 3, pbt: {interval: 1}")
    run(planned(tmp_path, text), tmp_path / "r", limit=1)
    assert lines(planned(tmp_path, text, EPOCHS), tmp_path / "r")[-1].startswith(
        "  cdkd run refuses this: searching: the search holds"
    )


def priced(plan: Plan, results: Path) -> list[int]:
    """The epochs of every training that is left."""
    paths = StudyPaths(results, plan.study)
    history = past_of(paths)
    return [epochs for _, epochs in jobs_left(plan, history, stand(plan, history, paths))[0]]
