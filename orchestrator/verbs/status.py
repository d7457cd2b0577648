"""`cdkd status STUDY`: where a running or past study stands, from any terminal."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.history import History
from orchestrator.ledger import Holder, holder, read_from
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.progress import Standing, drawing, lines, standing
from orchestrator.verbs.stored import study_name

EVERY_S = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = "Show where a study stands: trials done, running and failed, the best so far, the time left."
    parser.epilog = "Example: cdkd status studies/quickstart.yaml --watch"
    parser.add_argument("study", metavar="STUDY", help="a study file, or the name of a study in the results folder")
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")
    parser.add_argument("--watch", action="store_true", help="keep looking until the study stops (on a terminal)")


def run(args: argparse.Namespace) -> int:
    """Prints where the study stands. Takes no lock and writes nothing.

    Raises:
        UserError: there is no such study in the results folder, or its ledger is damaged.
    """
    name = study_name(args.study)
    ledger = StudyPaths(results_folder(args.results), name).ledger
    now, driver = look(ledger)
    if args.watch and sys.stdout.isatty():
        _watch(ledger)
        return 0
    print_standing(now, driver)
    return 0


def look(ledger: Path) -> tuple[Standing, Holder | None]:
    """Where the study of a ledger stands, and who runs it."""
    driver = holder(ledger)
    records = read_from(ledger)[0]
    history = History.replay(records, is_running=driver is not None)
    if not history.specification:
        raise UserError(f"{ledger}: this study has not been run yet")
    invoked = max(record.time for record in records if record.event == "invoked")
    until = time.time() if driver is not None else records[-1].time
    return standing(history, until, invoked), driver


def print_standing(now: Standing, driver: Holder | None) -> None:
    """The study as plain lines on standard output."""
    state = f"run by {driver}" if driver is not None else "not running"
    sys.stdout.write("\n".join([f"{now.study}: {state}", *lines(now)]) + "\n")


def _watch(ledger: Path) -> None:
    from rich.live import Live

    driver: Holder | None
    with Live(refresh_per_second=2) as live:
        while True:
            now, driver = look(ledger)
            live.update(drawing(now))
            if driver is None:
                return
            time.sleep(EVERY_S)
