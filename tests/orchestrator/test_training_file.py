"""Training configurations in YAML: read strictly, every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.training_file import read_training_file

GOOD = """\
student: {backbone: hrnet_w16, input_size: 32}
teacher:
  backbone: hrnet_w16
  input_size: 128
train: {epochs: 3, learning_rate: 1e-3}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def lines(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        read_training_file(write(folder, text), overrides)
    return [line.replace(f"{folder}/", "") for line in caught.value.lines]


def test_a_file_and_the_command_line_make_one_configuration(tmp_path: Path) -> None:
    config = read_training_file(write(tmp_path, GOOD), ["train.epochs=5", "distill.sape.kernels=[3, 5]"])
    assert (config.student.input_size, config.train.epochs, config.train.learning_rate) == (32, 5, 0.001)
    assert config.distill.sape.kernels == (3, 5)


def test_every_mistake_is_told_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    text = GOOD.replace("backbone: hrnet_w16\n  input_size", "backbon: hrnet_w16\n  input_size").replace(
        "epochs: 3", "epochs: no"
    )
    assert lines(tmp_path, text, "train.epoch=4") == [
        "--set:1: train.epoch: no such configuration key (did you mean 'train.epochs'?)",
        "config.yaml:3:3: teacher.backbon: no such configuration key (did you mean 'teacher.backbone'?)",
        'config.yaml:5:9: train.epochs: must be a whole number, got "no"',
    ]


def test_a_rule_between_options_is_told_at_one_of_them(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, GOOD + "simcc: {split_ratio: 3.0}\n", "teacher.split_ratio=2.5")
    assert "do not divide into" in line


def test_a_key_of_a_study_is_no_training_option(tmp_path: Path) -> None:
    assert lines(tmp_path, GOOD, "ablation.seeds=[1]") == [
        "--set:1: ablation.seeds: is a key of a study, not a training option"
    ]
