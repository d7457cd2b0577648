"""How long Ray takes on this machine: to start, to bring up a worker that could train, and to stop.

`python -m orchestrator.ray_probe CPUS` prints the seconds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from orchestrator.paths import StudyPaths
from orchestrator.ray_session import ray_session
from orchestrator.resources import Machine


def probe(cpus: float) -> float:
    """Seconds of a cluster with one worker that does nothing but import what trains."""
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="cdkd-probe-") as folder,
        ray_session(StudyPaths(Path(folder), "probe"), Machine(cpus, 0)),
    ):
        import ray

        ray.get(ray.remote(_become_ready).remote())
    return time.perf_counter() - began


def _become_ready() -> None:
    import cdkd.training  # noqa: F401


if __name__ == "__main__":
    sys.stdout.write(f"{probe(float(sys.argv[1]))}\n")
