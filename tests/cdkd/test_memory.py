from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cdkd.memory import STATUS, forget_peak, give_back, peak_mb

STATM = Path("/proc/self/statm")
CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="this system has no /proc")


def test_the_peak_is_seen_after_the_memory_was_given_back() -> None:
    forget_peak(CPU)
    before = peak_mb(CPU)
    held = np.ones(40_000_000)  # 320 MB
    del held
    assert 300 < peak_mb(CPU) - before < 400


def test_it_is_forgotten_when_another_training_begins() -> None:
    held = np.ones(40_000_000)
    high = peak_mb(CPU)
    del held
    forget_peak(CPU)
    assert high - peak_mb(CPU) > 200


def test_what_the_threads_of_earlier_trials_freed_goes_back_to_the_system() -> None:
    def trial() -> None:
        images = [np.ones(100_000, np.uint8) for _ in range(1000)]  # 100 MB
        pins.append(images.pop())  # something small stays of each, as of a real trial

    def resident_mb() -> float:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    pins: list[np.ndarray[Any, Any]] = []
    before = resident_mb()
    for _ in range(3):
        thread = threading.Thread(target=trial)
        thread.start()
        thread.join()
    assert resident_mb() - before > 90, "the system's allocator returns memory by itself: give_back is not needed"
    give_back()
    assert resident_mb() - before < 30


def test_a_system_that_does_not_say_gives_no_number(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("cdkd.memory.STATUS", tmp_path / "none")
    assert np.isnan(peak_mb(CPU))
