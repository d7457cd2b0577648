"""Paired timings of two or more ways to do one thing: interleaved, as ratios with their uncertainty.

The seconds of a shared machine drift by more than the differences worth knowing; the ratio of two calls made one
after the other does not. So every round calls each arm once, in the order given, and what counts is the median over
the rounds of (baseline's seconds / arm's seconds). A benchmark asserts that its arms give equal results first.
Run them from the root of the repository: `python -m benchmarks.evaluation`.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).parent / "out"
RESAMPLES = 10_000
CONFIDENCE = 0.95


def compare(
    arms: Mapping[str, Callable[[], object]],
    baseline: str,
    *,
    name: str,
    pairs: int = 7,
    warmups: int = 2,
    units: float = 1.0,
    unit: str = "call",
    seed: int = 0,
) -> dict[str, Any]:
    """Time every arm `pairs` times, in turn.

    Args:
        arms: what to call, by name; each call does the whole work once.
        baseline: the arm that the others are compared with.
        name: the benchmark's name, also of its file.
        pairs: counted rounds.
        warmups: rounds before them that do not count.
        units: how many `unit` one call handles, for rates.
        unit: what is counted, in the singular.
        seed: of the bootstrap's resampling.

    Returns:
        Plain data: of each arm its `seconds`, their median and least, units per second at the median, and (but for
        the baseline) `times_as_fast`: `ratio`, `low`, `high`; and the environment.

    Raises:
        ValueError: no such baseline, or no round to count.
    """
    if baseline not in arms or pairs < 1:
        raise ValueError(f"needs a baseline among {sorted(arms)} and at least one pair, got {baseline!r}, {pairs}")
    rounds = [{arm: _seconds(call) for arm, call in arms.items()} for _ in range(warmups + pairs)][warmups:]
    seconds = {arm: [timed[arm] for timed in rounds] for arm in arms}
    rng = np.random.default_rng(seed)
    described = {
        arm: _described(times, units)
        | ({} if arm == baseline else {"times_as_fast": ratio(seconds[baseline], times, rng)})
        for arm, times in seconds.items()
    }
    settings = {"pairs": pairs, "warmups": warmups, "units": units, "unit": unit, "seed": seed}
    return {"name": name, "baseline": baseline, **settings, "arms": described, "environment": environment()}


def ratio(baseline: Sequence[float], arm: Sequence[float], rng: np.random.Generator) -> dict[str, float]:
    """Median of the paired ratios baseline / arm and its 95 % bootstrap interval, pairs being resampled."""
    paired = np.asarray(baseline, dtype=np.float64) / np.asarray(arm, dtype=np.float64)
    medians = np.median(rng.choice(paired, (RESAMPLES, len(paired))), axis=1)
    low, high = np.quantile(medians, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"ratio": float(np.median(paired)), "low": float(low), "high": float(high)}


def environment() -> dict[str, Any]:
    """What the seconds depend on: machine, load, versions and the revision of this repository."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processors": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "versions": {package: _version(package) for package in ("numpy", "torch", "opencv-python-headless")},
        "revision": _revision(),
    }


def lines(report: Mapping[str, Any]) -> str:
    """The report for people, one line an arm."""
    return "\n".join(
        f"{report['name']}: {arm}: {values['units_per_s']:.4g} {report['unit']}s/s, median {values['median_s']:.4g} s"
        + (_ratio_text(values["times_as_fast"], report["baseline"]) if "times_as_fast" in values else "")
        for arm, values in report["arms"].items()
    )


def write(report: Mapping[str, Any], folder: Path = OUT) -> Path:
    """Write the report as `<name>.json`, beside and then renamed; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{report['name']}.json"
    beside = file.with_suffix(".part")
    beside.write_text(json.dumps(report, indent=1) + "\n")
    beside.replace(file)
    return file


def _seconds(call: Callable[[], object]) -> float:
    gc.collect()  # so that no arm pays for another's garbage
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _described(seconds: Sequence[float], units: float) -> dict[str, Any]:
    median = float(np.median(seconds))
    return {"seconds": list(seconds), "median_s": median, "least_s": min(seconds), "units_per_s": units / median}


def _ratio_text(values: Mapping[str, float], baseline: str) -> str:
    return f", {values['ratio']:.2f} times as fast as {baseline} (95 % CI {values['low']:.2f} to {values['high']:.2f})"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=OUT.parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
