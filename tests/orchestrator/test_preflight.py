"""What would fail a study's first trial is told before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from cdkd.options import to_mapping
from orchestrator.compiler import compile_study
from orchestrator.errors import UserError
from orchestrator.preflight import preflight
from orchestrator.study import load_study
from tests.cdkd.networks import simcc_net

QUICKSTART = Path(__file__).parents[2] / "studies" / "quickstart.yaml"


@pytest.fixture
def teacher_file(tmp_path: Path) -> Path:
    """Untrained weights of the quickstart's teacher."""
    teacher = load_study(QUICKSTART).config.for_teacher()
    net = simcc_net("hrnet_w16", 64, 2.0, 16, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "teacher.pt"
    torch.save({"state_dict": net.state_dict(), "config": json.dumps(to_mapping(teacher))}, path)
    return path


def run_preflight(*overrides: str) -> None:
    study = load_study(QUICKSTART, overrides)
    preflight(compile_study(study), study.layers.place)


def test_a_fitting_teacher_passes(teacher_file: Path) -> None:
    run_preflight(f"teacher.checkpoint={teacher_file}")


def test_a_teacher_of_another_architecture_is_one_line_with_its_place(teacher_file: Path) -> None:
    """The first arm needs no teacher; the others' must be looked at all the same."""
    with pytest.raises(UserError) as caught:
        run_preflight(f"teacher.checkpoint={teacher_file}", "teacher.backbone=resnet18")
    (line,) = caught.value.lines
    assert line.startswith("--set:1: teacher.checkpoint: ")
    assert "looks like hrnet_w16, the network is resnet18" in line


def test_pretrained_weights_of_another_architecture_are_told(teacher_file: Path) -> None:
    with pytest.raises(UserError) as caught:
        run_preflight(f"student.pretrained={teacher_file}", "student.backbone=resnet18")
    assert caught.value.lines[0].startswith("--set:1: student.pretrained: ")


def test_a_batch_that_does_not_divide_among_the_workers_is_told() -> None:
    with pytest.raises(UserError, match=r"train\.batch_size: must be a multiple of the 3 workers, got 16"):
        run_preflight("resources.num_workers=3")
