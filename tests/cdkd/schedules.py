"""Trainings whose options change between two epochs."""

from __future__ import annotations

from cdkd.config import TrainingConfig, resolve

ALPHA, BETA, TAU = "distill.alpha", "distill.beta", "distill.etht.init_tau"


def scheduled(*steps: tuple[int, str, float], **layer: object) -> TrainingConfig:
    """A training of ten epochs with a schedule."""
    listed = [{"epoch": epoch, "option": option, "value": value} for epoch, option, value in steps]
    return resolve({"train.epochs": 10, "schedule": listed}, {path.replace("__", "."): v for path, v in layer.items()})
