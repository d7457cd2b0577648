"""The most memory a training held at one time (of its GPU, or on a CPU of its process), and giving it back."""

from __future__ import annotations

import ctypes
import gc
import re
from contextlib import suppress
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
CLEAR_PEAK = "5"  # proc(5): the peak resident set becomes the present one


def forget_peak(device: torch.device) -> None:
    """Measure from now on: a worker trains one trial after another in one process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # where the system has no such file the peak is that of the process's whole life
        CLEAR.write_text(CLEAR_PEAK)


def peak_mb(device: torch.device) -> float:
    """Peak in MB (1e6 bytes): tensors on a GPU, else the process's resident set; NaN where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) / 1e6)
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return float(found.group(1)) * 1024 / 1e6 if found else float("nan")


def give_back() -> None:
    """Return what a training held to the system before the next one in this process begins.

    A worker trains each trial in a thread of its own, and glibc keeps what a thread has freed for that thread: without
    this the images of every trial stay, freed and out of reach.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library has nothing of the kind
        ctypes.CDLL(None).malloc_trim(0)
