"""The strict reader from plain data to dataclasses, and what it complains of."""

from __future__ import annotations

import pickle

import pytest

from cdkd.config import TrainingConfig, resolve
from cdkd.options import ConfigError, from_mapping, to_mapping


def test_a_resolved_configuration_survives_a_round_trip() -> None:
    config = resolve({"distill.sape.kernels": [3, 5], "student": {"input_size": 32}, "preset": "fixed"})
    assert from_mapping(TrainingConfig, to_mapping(config)) == config


def test_every_problem_is_reported_with_its_path_and_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"student": {"input_sizes": 32}, "distill.cca.merge": "center", "train": {"epochs": "ten"}})
    assert [str(problem) for problem in caught.value.problems] == [
        "distill.cca.merge: must be one of floor, centred, split, matrix, got 'center' (did you mean 'centred'?)",
        "student.input_sizes: unknown key (did you mean 'input_size'?)",
        'train.epochs: must be a whole number, got "ten"',
    ]


def test_an_error_keeps_its_problems_on_the_way_to_another_process() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve({"train.epochs": 0, "seed": -1})
    received = pickle.loads(pickle.dumps(caught.value))
    assert str(received) == str(caught.value)
    assert received.problems == caught.value.problems
