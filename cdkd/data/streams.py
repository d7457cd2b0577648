"""Random streams keyed by purpose.

Every random number of a training comes from a stream named by what it is for. Two purposes never share
a stream, so switching one part off (SAPE, say) leaves the numbers of all others as they were, and an
example's augmentation depends on its epoch and index alone, not on the worker that computes it.
"""

from __future__ import annotations

import hashlib
import json
import operator

import numpy as np
import torch


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A fresh NumPy generator for one purpose, e.g. `generator(seed, "augmentation", epoch, index)`."""
    return np.random.Generator(np.random.Philox(key=_key(seed, purpose, digest_size=16)))


def torch_generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU torch generator for one purpose; the global generator is left alone."""
    fresh = torch.Generator()
    fresh.manual_seed(_key(seed, purpose, digest_size=8))
    return fresh


def _key(seed: int, purpose: tuple[str | int, ...], digest_size: int) -> int:
    """Hash a seed and its purpose; JSON keeps `("1",)` and `(1,)`, `("a", "b")` and `("ab",)` apart."""
    parts = [part if isinstance(part, str) else operator.index(part) for part in (seed, *purpose)]
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=digest_size).digest()
    return int.from_bytes(digest, "little")
