"""How the step size falls during a training (method 6.2), without torch."""

from __future__ import annotations

import math

from cdkd.config import TrainConfig, TrainingConfig


def learning_rate_factor(train: TrainConfig, epoch: int) -> float:
    """Factor on every base step size in `epoch` (from 1).

    `step`: `gamma` per milestone passed (method 6.2). `cosine`, `linear`: 1 in the first epoch, falling in every
    epoch towards 0, which the end of the last one would reach.
    """
    if train.decay == "step":
        ends = [milestone * train.epochs if milestone < 1 else milestone for milestone in train.milestones]
        return float(train.gamma ** sum(epoch > round(end) for end in ends))
    passed = (epoch - 1) / train.epochs
    return 1 - passed if train.decay == "linear" else (1 + math.cos(math.pi * passed)) / 2


def first_drop(config: TrainingConfig) -> int | None:
    """The first epoch (from 1) whose step size is below that of the first one; None where it never falls."""
    rates = (_rate(config, epoch) for epoch in range(1, config.train.epochs + 1))
    first = _rate(config, 1)
    return next((epoch for epoch, rate in enumerate(rates, start=1) if rate < first), None)


def _rate(config: TrainingConfig, epoch: int) -> float:
    train = config.at_epoch(epoch).train if config.schedule else config.train
    return train.learning_rate * learning_rate_factor(train, epoch)
