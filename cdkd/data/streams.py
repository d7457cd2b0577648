"""Random streams keyed by purpose.

Every random number of a training comes from a stream named by what it is for. Two purposes never share
a stream, so switching one part off (SAPE, say) leaves the numbers of all others as they were, and an
example's augmentation depends on its epoch and index alone, not on the worker that computes it.
"""

from __future__ import annotations

import hashlib
import json
import operator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.random.bit_generator import ISeedSequence


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A fresh NumPy generator for one purpose, e.g. `generator(seed, "augmentation", epoch, index)`."""
    return np.random.Generator(np.random.Philox(_Key(_digest(seed, purpose, size=16))))  # type: ignore[arg-type]


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU torch generator for one purpose; the global generator is left alone."""
    fresh = torch.Generator()
    fresh.manual_seed(int.from_bytes(_digest(seed, purpose, size=8), "little"))
    return fresh


class _Key(ISeedSequence):
    """A Philox key. Given as `Philox(key=...)` the same stream takes six times as long: it asks for entropy first."""

    def __init__(self, digest: bytes) -> None:
        self._words = np.frombuffer(digest, "<u8").astype(np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> npt.NDArray[Any]:
        """The key's two words, which is all that Philox asks for."""
        return self._words


def _digest(seed: int, purpose: tuple[str | int, ...], size: int) -> bytes:
    """Hash a seed and its purpose; JSON keeps `("1",)` and `(1,)`, `("a", "b")` and `("ab",)` apart."""
    parts = [part if isinstance(part, str) else operator.index(part) for part in (seed, *purpose)]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=size).digest()
