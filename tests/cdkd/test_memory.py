from __future__ import annotations

import numpy as np
import pytest
import torch

from cdkd.memory import STATUS, forget_peak, peak_mb

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


def test_a_system_that_does_not_say_gives_no_number(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("cdkd.memory.STATUS", tmp_path / "none")
    assert np.isnan(peak_mb(CPU))
