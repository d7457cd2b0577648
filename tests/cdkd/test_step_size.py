"""How the step size falls."""

from __future__ import annotations

import math

import pytest

from cdkd.config import TrainConfig, TrainingConfig, resolve
from cdkd.step_size import first_drop, learning_rate_factor


def test_step_size_falls_at_the_milestones() -> None:
    schedule = TrainConfig(epochs=210)
    factors = [learning_rate_factor(schedule, epoch) for epoch in (1, 170, 171, 200, 201, 210)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert learning_rate_factor(TrainConfig(epochs=10, milestones=(4.0,)), 5) == pytest.approx(0.1)


def test_a_continuous_decay_falls_in_every_epoch_towards_zero_at_the_end() -> None:
    for decay, expected in (
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ):
        train = TrainConfig(epochs=4, decay=decay, milestones=(2.0,))
        assert [learning_rate_factor(train, epoch) for epoch in (1, 2, 3, 4)] == pytest.approx(expected)
        assert learning_rate_factor(TrainConfig(epochs=1, decay=decay), 1) == 1


@pytest.mark.parametrize(
    ("layer", "epoch"),
    [
        ({}, 171),
        ({"train.epochs": 20}, 17),
        ({"train.milestones": [300]}, None),
        ({"train.decay": "cosine"}, 2),
        ({"schedule": [{"epoch": 9, "option": "train.learning_rate", "value": 1e-4}]}, 9),
        ({"schedule": [{"epoch": 9, "option": "train.learning_rate", "value": 1e-2}], "train.milestones": []}, None),
    ],
)
def test_the_first_drop_is_found(layer: dict[str, object], epoch: int | None) -> None:
    config: TrainingConfig = resolve(layer)
    assert first_drop(config) == epoch
