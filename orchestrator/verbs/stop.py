"""`cdkd stop STUDY`: stop a running study cleanly, from any terminal that sees its results folder."""

from __future__ import annotations

import argparse
import sys
import time

from orchestrator.errors import Refused, UserError
from orchestrator.ledger import holder
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.verbs.stored import study_name

LOOK_EVERY_S = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = "Stop a running study: its trials are interrupted and go on with the next `cdkd run`."
    parser.epilog = "Example: cdkd stop studies/quickstart.yaml"
    parser.add_argument("study", metavar="STUDY", help="a study file, or the name of a study in the results folder")
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=120.0, help="how long to wait (%(default)g)"
    )


def run(args: argparse.Namespace) -> int:
    """Asks the study's driver to stop, and waits until it has.

    Raises:
        UserError: there is no such study in the results folder.
        Refused: the driver did not stop in time.
    """
    name = study_name(args.study)
    paths = StudyPaths(results_folder(args.results), name)
    if not paths.ledger.exists():
        raise UserError(f"{paths.ledger}: this study has not been run yet")
    owner = holder(paths.ledger)
    if owner is None:
        sys.stdout.write(f"{name} is not running\n")
        return 0
    paths.stop_file.touch()
    deadline = time.monotonic() + args.timeout
    while holder(paths.ledger) is not None:
        if time.monotonic() > deadline:
            raise Refused(f"{name}: {owner} was asked to stop and still runs after {args.timeout:g} s")
        time.sleep(LOOK_EVERY_S)
    sys.stdout.write(f"{name} has stopped; `cdkd run` goes on from here\n")
    return 0
