"""What is recorded of the machine a study is run from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator import machine


def test_gpus_are_asked_for_only_where_trials_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_names", lambda: ["one"])
    assert machine.machine(wants_gpus=True)["gpus"] == ["one"]
    assert machine.machine(wants_gpus=False)["gpus"] == []


def test_the_cpus_are_those_this_process_may_use() -> None:
    assert machine.machine(wants_gpus=False)["cpus"] == len(os.sched_getaffinity(0))


def test_the_processor_is_named_by_the_system_else_by_its_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: A Processor\nprocessor\t: 1\nmodel name\t: A Processor\n")
    monkeypatch.setattr(machine, "CPU_INFO", file)
    assert machine.cpu_name() == "A Processor"
    monkeypatch.setattr(machine, "CPU_INFO", tmp_path / "none")
    assert machine.cpu_name() == machine.platform.machine()


@pytest.mark.parametrize(("script", "names"), [("echo 'GPU A'; echo 'GPU A'", ["GPU A"] * 2), ("exit 9", [])])
def test_gpus_are_named_by_nvidias_tool_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, names: list[str]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpu_names() == names


def test_without_the_tool_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpu_names() == []
