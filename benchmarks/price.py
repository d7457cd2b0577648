"""How well `cdkd plan` foretells what a study costs: the estimate against what happens, on a small study.

A study is priced by pilots and run; then it is given another seed, priced by what the store remembers, and run
again. Counted are the hours that trainings held their CPUs (what a budget counts) and the time on the clock.

    python -m benchmarks.price --study quickstart
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import environment, write
from orchestrator import keys
from orchestrator.changes import past_of, stand
from orchestrator.compiler import compile_study
from orchestrator.ledger import Record, read_from
from orchestrator.library import find_study
from orchestrator.paths import StudyPaths
from orchestrator.pilots import pilot_rates
from orchestrator.plan import Plan
from orchestrator.price import Price, Pricer, Span, remembered
from orchestrator.study import load_study
from orchestrator.verbs.pricing import jobs_left, kinds_of


def estimate(plan: Plan, paths: StudyPaths, *, by_pilot: bool) -> Price:
    """The price of what is left of a plan, by pilots or by the store's own history."""
    history = past_of(paths)
    certain, possible = jobs_left(plan, history, stand(plan, history, paths))
    kinds = kinds_of(plan)
    rates = remembered([paths.ledger, *paths.other_ledgers()])
    if by_pilot:
        rates = pilot_rates(
            Pricer({}, kinds).unknown([*certain, *possible]), kinds, lambda line: print(line, flush=True)
        )
    return Pricer(rates, kinds).price(certain, possible)


def run(study: str, changes: list[str], results: Path) -> None:
    """Run a study by the command."""
    words = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "orchestrator.cli", "run", study, *words, "--results", str(results)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measure(study: str, changes: list[str], results: Path, *, by_pilot: bool) -> dict[str, Any]:
    """Estimate, run, compare."""
    plan = compile_study(load_study(find_study(study), changes))
    paths = StudyPaths(results, plan.study)
    load_before = os.getloadavg()[0]
    price = estimate(plan, paths, by_pilot=by_pilot)
    spent = past_of(paths).hours["cpu_hours"]
    run(study, changes, results)
    seconds = _clock(read_from(paths.ledger)[0])
    hours = past_of(paths).hours["cpu_hours"] - spent
    return {
        "cpu_hours": _compared(price.cpu_hours, hours),
        "wall_s": _compared(price.wall_s, seconds),
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }


def _clock(records: list[Record]) -> float:
    """Seconds of the last run of a study, by its ledger."""
    invoked, stopped = (
        max(record.time for record in records if record.event == event) for event in (keys.INVOKED, keys.STOPPED)
    )
    return stopped - invoked


def _compared(span: Span, actual: float) -> dict[str, Any]:
    return {
        "estimate": span.middle,
        "low": span.low,
        "high": span.high,
        "actual": actual,
        "actual_to_estimate": actual / span.middle,
        "is_in_range": span.low <= actual <= span.high,
    }


def main() -> None:
    """Run from the root of the repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="quickstart")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cdkd-price-") as folder:
        found = {
            how: measure(args.study, [*args.changes, f"ablation.seeds={seeds}"], Path(folder), by_pilot=how == "pilot")
            for how, seeds in (("pilot", "[0]"), ("history", "[0, 1]"))
        }
    for how, parts in found.items():
        for part in ("cpu_hours", "wall_s"):
            each = parts[part]
            within = "inside" if each["is_in_range"] else "outside"
            print(
                f"{how:8} {part:9} estimate {each['estimate']:.4g} ({each['low']:.4g} to {each['high']:.4g}), "
                f"actual {each['actual']:.4g}: {each['actual_to_estimate']:.2f}, {within} the range"
            )
    report = {"name": "price", "study": args.study, **found, "environment": environment()}
    print(f"wrote {write(report)}")


if __name__ == "__main__":
    main()
