"""A training configuration in a YAML file: read with every mistake's line, as a study is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cdkd.config import TrainingConfig
from cdkd.options import ConfigError
from orchestrator.errors import Problem, UserError
from orchestrator.overrides import Layers, read_layer
from orchestrator.settings import command_line
from orchestrator.yaml_reader import read_file


def read_training_file(path: Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """The configuration that a file and `key=value` texts make together.

    Raises:
        UserError: with one line for each thing that is wrong, in the file or in a text.
    """
    problems: list[Problem] = []
    node = read_file(path)
    layer = read_layer(node, "", problems)
    changes = command_line(overrides, problems)
    problems.extend(
        Problem(found.place, ".".join(key), "is a key of a study, not a training option")
        for key, found in changes.study.items()
    )
    if problems:
        raise UserError.of(problems)
    layers = Layers((layer, changes.training), node.place)
    try:
        return layers.resolve()
    except ConfigError as error:
        raise UserError.of(
            Problem(layers.place(found.path), found.path, found.message) for found in error.problems
        ) from None
