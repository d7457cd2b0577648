"""Builds studies in a real MLflow store, as orchestrator.tracking records them."""

from __future__ import annotations

import json
from pathlib import Path

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from analysis.store import Store, StudyRecord
from orchestrator import keys

PROTOCOL = {"data": "synthetic", "input_size": 64, "epochs": 3, "digest": "0123456789abcdef0123456789abcdef"}


class StudyBuilder:
    """Fills one experiment as orchestrator.tracking does."""

    def __init__(self, client: MlflowClient, study: str, artifacts: Path | None, specification: dict) -> None:
        self.client, self.study = client, study
        self.experiment = client.create_experiment(study, artifact_location=artifacts and artifacts.as_uri())
        parent = client.create_run(self.experiment, start_time=1, tags={keys.KIND: "study", keys.STUDY: study})
        self.parent = parent.info.run_id
        client.log_dict(self.parent, specification, keys.SPECIFICATION)
        self.started = 1
        self.names: dict[str, str] = {}

    def trial(self, arm: str, seed: int, summary: dict | None = None, *, epochs: dict | None = None, **tags) -> str:
        """One child run; epochs: metric -> values from epoch 1; returns its run id."""
        self.started += 1
        trial_id = tags.pop("trial_id", f"{arm}-seed{seed}-{self.started}")
        params = tags.pop("params", {})
        own = {
            "kind": "student",
            "state": keys.FINISHED,
            "protocol": PROTOCOL,
            "fingerprint": f"print-{trial_id}",
        } | tags
        named = {f"cdkd.{name}": json.dumps(value) if name == "protocol" else value for name, value in own.items()}
        named |= {keys.TRIAL: trial_id, keys.ARM: arm, keys.SEED: str(seed), keys.PARENT: self.parent}
        run_id = self.client.create_run(self.experiment, start_time=self.started).info.run_id
        points = [Metric(keys.mlflow_name(name), value, 1, 0) for name, value in (summary or {}).items()]
        for name, values in (epochs or {}).items():
            points += [Metric(keys.mlflow_name(name), value, 1, epoch) for epoch, value in enumerate(values, start=1)]
        self.client.log_batch(
            run_id,
            metrics=points,
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in named.items()],
        )
        self.names[run_id] = trial_id
        return run_id

    def anonymous(self, text: str) -> str:
        """The text with MLflow's random run ids replaced by `run:<trial id>`."""
        for run_id, trial_id in self.names.items():
            text = text.replace(run_id, f"run:{trial_id}")
        return text


class Workbench:
    """A results folder with a store in it, or elsewhere."""

    def __init__(self, results: Path, uri: str = "") -> None:
        self.results = results
        self.uri = uri or f"sqlite:///{results / 'mlflow.db'}"
        self.client = MlflowClient(self.uri)

    def study(self, study: str, specification: dict | None = None, **changes) -> StudyBuilder:
        content = (specification or specification_of(study)) | changes
        return StudyBuilder(self.client, study, self.results / "artifacts" / study, content)

    def read(self, study: str) -> StudyRecord:
        return Store(self.uri).read(study)


def specification_of(study: str, *, table: dict | None = None, **changes) -> dict:
    layout = {
        "columns": ["val/pckh@0.5", "params_m"],
        "baseline": "base",
        "arms": ["base", "full"],
        "components": [],
        "switches": {},
        "labels": {},
        "reference": {},
        "reference_name": "",
    }
    return {
        "study": study,
        "question": "Does it help?",
        "metric": {"name": "val/pckh@0.5", "mode": "max", "select": "best"},
        "table": layout | (table or {}),
        "seeds": [0, 1, 2],
        "search": None,
    } | changes


def best(pckh: float, **more: float) -> dict[str, float]:
    """A summary with the score of the selected epoch, and a different one of the last."""
    return {"best/val/pckh@0.5": pckh, "final/val/pckh@0.5": pckh - 0.01, "params_m": 28.5} | more


SEARCH = {"sampler": "tpe", "pruner": "asha", "trials": 6, "seed": 0, "training_seed": 0,
          "space": {"distill.alpha": {"type": "float"}, "distill.tau": {"type": "float"}}}  # fmt: skip


def modules_study(workbench: Workbench) -> StudyBuilder:
    """The full ablation of the golden files: components, paper's values, a diverged and a missing seed."""
    arms = ["plain", "projector", "ensemble", "full", "etht_only"]
    builder = workbench.study(
        "modules",
        specification_of(
            "modules",
            question="Which of SAPE & CCA matters at 64x64?",
            table={
                "columns": ["val/pckh@0.5", "test/pckh@0.5", "params_m", "train_seconds"],
                "baseline": "plain",
                "arms": arms,
                "components": ["projector", "cca"],
                "switches": {
                    "plain": {"projector": False, "cca": False},
                    "projector": {"projector": True, "cca": False},
                    "ensemble": {"projector": True, "cca": False},
                    "full": {"projector": True, "cca": True},
                    "etht_only": {"projector": False, "cca": True},
                },
                "labels": {"plain": "SimCC", "full": "CDKD_full"},
                "reference": {"plain": 78.37, "full": 79.24},
                "reference_name": "Table IV, mpii_mean",
            },
        ),
    )
    scores = {"plain": (0.70, 0.71, 0.69), "projector": (0.72, 0.725, 0.70), "full": (0.74, 0.76, 0.745)}
    for arm, values in scores.items():
        for seed, value in enumerate(values):
            more = {"best/test/pckh@0.5": value - 0.02, "train_seconds": 100.0 + 10 * seed}
            curve = [value - 0.1, value, value - 0.01]
            ratios = [0.1, 0.2 + 0.01 * seed, 0.3]
            builder.trial(
                arm,
                seed,
                best(value, **more),
                epochs={"val/pckh@0.5": curve, "diag/gradient_ratio_feature": ratios},
            )
    builder.trial("ensemble", 0, best(0.9, **{"best/test/pckh@0.5": 0.88, "train_seconds": 90.0}))
    builder.trial(
        "ensemble", 1, {}, state=keys.DIVERGED, reason="task loss is inf at epoch 2", epochs={"val/pckh@0.5": [0.2]}
    )
    builder.trial("etht_only", 0, {}, state=keys.RUNNING, epochs={"val/pckh@0.5": [0.3, 0.4]})
    builder.trial("teacher", 0, best(0.99), kind="teacher")
    return builder


def tuning_study(workbench: Workbench) -> StudyBuilder:
    """A search with finished, pruned and failed trials, and the base beside it."""
    layout = {"columns": ["val/pckh@0.5"], "baseline": "", "arms": ["base"]}
    builder = workbench.study("tuning", specification_of("tuning", table=layout, seeds=[7], search=SEARCH))
    builder.trial("base", 7, best(0.60), params={"distill.alpha": 1.0, "distill.tau": 2.0, "data.name": "x"})
    for number, (value, state) in enumerate(
        [(0.61, keys.FINISHED), (0.65, keys.FINISHED), (0.99, keys.PRUNED), (0.58, keys.FINISHED), (None, keys.FAILED)]
    ):
        builder.trial(
            "search",
            0,
            {} if value is None else best(value),
            state=state,
            trial_id=f"search-{number}",
            params={"distill.alpha": 0.1 * (number + 1), "distill.tau": 4.0, "data.name": "x"}
            | ({"distill.kernel": 3} if number == 1 else {}),
        )
    return builder


RESOLUTIONS = ("SimCC/32", "SAPE/32", "CDKD/32", "SimCC/64", "SAPE/64", "CDKD/64")


def resolutions_study(workbench: Workbench) -> StudyBuilder:
    """Two blocks of input sizes in the way of Table I: keypoint groups, kernels, learned scalars, eight seeds."""
    specification = specification_of(
        "resolutions",
        question="Does it help at both resolutions?",
        seeds=list(range(8)),
        table={
            "columns": ["val/pckh@0.5/head", "val/pckh@0.5", "params_m"],
            "baseline": "SimCC/64",
            "arms": list(RESOLUTIONS),
            "labels": {arm: arm.split("/")[0] for arm in RESOLUTIONS},
            "factors": {arm: _options(arm) for arm in RESOLUTIONS},
            "group_by": ["student.input_size"],
            "blocks": [
                {"arms": list(RESOLUTIONS[:3]), "baseline": "SimCC/32"},
                {"arms": list(RESOLUTIONS[3:]), "baseline": "SimCC/64"},
            ],
            "decimals": {"scores": 1, "params_m": 1},
            "reference": {"SimCC/32": 59.5, "CDKD/32": 64.0, "CDKD/64": 79.4},
            "reference_std": {"CDKD/64": 0.2},
            "reference_name": "Table I (MPII val), pckh05",
        },
    )
    builder = workbench.study("resolutions", specification)
    means = dict(zip(RESOLUTIONS, (0.595, 0.603, 0.613, 0.783, 0.785, 0.794)))
    for index, arm in enumerate(RESOLUTIONS):
        protocol = PROTOCOL | {"input_size": int(arm.split("/")[1])}
        for seed in range(8):
            value = means[arm] + 0.001 * ((seed * 3 + index) % 5 - 2)
            summary = best(value, **{"best/val/pckh@0.5/head": value + 0.1})
            builder.trial(arm, seed, summary, protocol=protocol)
    return builder


def _options(arm: str) -> dict:
    """What the configuration of an arm says: SAPE brings the kernels, CDKD what is learned."""
    name, size = arm.split("/")
    return {
        "student.input_size": int(size),
        "student.backbone": "hrnet_w32",
        "distill.sape.kernels": None if name == "SimCC" else [3, 5, 7, 7],
        "distill.etht.learn": {"SimCC": None, "SAPE": [], "CDKD": ["alpha", "tau"]}[name],
    }
