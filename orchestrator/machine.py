"""The machine that a study is run from, in words for a report. Standard library only."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")
QUERY = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")


def machine(*, wants_gpus: bool) -> dict[str, Any]:
    """Processor, how many CPUs this process may use, and the names of the GPUs where trials use some."""
    return {
        "cpu": cpu_name(),
        "cpus": len(os.sched_getaffinity(0)),
        "gpus": gpu_names() if wants_gpus else [],
    }


def cpu_name() -> str:
    """The processor's name; its architecture where the system does not tell one."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", CPU_INFO.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()


def gpu_names() -> list[str]:
    """The GPUs as NVIDIA's tool names them; none without it."""
    if shutil.which(QUERY[0]) is None:
        return []
    try:
        done = subprocess.run(QUERY, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names if visible is None else names[: len([one for one in visible.split(",") if one.strip()])]
