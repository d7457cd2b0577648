"""Learning curves as frames: mean and band over the seeds of each arm, and the seeds that are in no mean."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.ablation import current_trials, student_trials
from analysis.columns import SPLITS
from analysis.errors import StoreError
from analysis.store import Store, StudyRecord
from orchestrator import keys

RATIOS = ("diag/gradient_ratio_feature", "diag/gradient_ratio_logit")


@dataclass(frozen=True)
class Curves:
    """What a figure of a study shows.

    Attributes:
        study: name.
        metric: the score per epoch, as reported.
        arms: arm -> label, in the study's order.
        bands: arm, metric, epoch, mean, std (ddof = 1; NaN for one seed), n: over finished seeds, stored units.
        singles: arm, seed, state, metric, epoch, value: trials in no mean (running, failed, diverged, ...).
    """

    study: str
    metric: str
    arms: dict[str, str]
    bands: pd.DataFrame
    singles: pd.DataFrame


def curves(store: Store, record: StudyRecord, metric: str = "") -> Curves:
    """Reads the epochs of a study's arms.

    Args:
        store: where the record came from.
        record: the study.
        metric: score per epoch; empty: the study's metric.

    Raises:
        StoreError: if the metric is not one that is reported every epoch.
    """
    metric = metric or record.specification["metric"]["name"]
    if "/" not in metric or metric.split("/")[0] in ("best", "final", *SPLITS[1:]):
        raise StoreError(f"a figure shows metrics reported every epoch such as val/pckh@0.5, got {metric!r}")
    trials = current_trials(student_trials(record))
    seeds = record.specification.get("seeds")
    trials = trials[trials["seed"].isin(seeds)] if seeds else trials
    epochs = store.epochs(trials, (metric, *RATIOS))
    layout = record.specification["table"]
    arms = layout.get("arms") or list(trials["arm"].drop_duplicates())
    labels = layout.get("labels") or {}
    return Curves(
        record.study, metric, {arm: str(labels.get(arm, arm)) for arm in arms}, bands(epochs), singles(epochs)
    )


def bands(epochs: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and n per arm, metric and epoch over finished trials only.

    Trials that ended early would change the composition of the mean from one epoch to the next.
    """
    finished = epochs[epochs["state"] == keys.FINISHED]
    groups = finished.groupby(["arm", "metric", "epoch"], sort=True)["value"]
    return groups.agg(mean="mean", std="std", n="count").reset_index()


def singles(epochs: pd.DataFrame) -> pd.DataFrame:
    """The epochs of trials that are in no mean."""
    others = epochs[epochs["state"] != keys.FINISHED]
    return others[["arm", "seed", "state", "metric", "epoch", "value"]].reset_index(drop=True)
