"""`cdkd teachers`: the trained teachers that studies share, and whether their files are whole."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestrator import keys
from orchestrator.history import History, TrialHistory
from orchestrator.ledger import LedgerError, read_from
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.plan import TEACHER
from orchestrator.teachers import TeacherStore
from orchestrator.verbs.printing import print_table

HEADINGS = ("teacher", "network", "data", "epochs", "score", "state", "MB", "used by")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "List the teachers of a results folder. A teacher is trained once for each fingerprint and shared by all\n"
        "studies; its file is checked against the digest that was recorded when it was trained. A damaged or\n"
        "half-trained one is trained, or goes on, with the next study that needs it."
    )
    parser.epilog = "Example: cdkd teachers --results results"
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")


def run(args: argparse.Namespace) -> int:
    """Prints the teachers; hashes every file."""
    results = results_folder(args.results)
    store = TeacherStore(StudyPaths(results, ""))
    histories = _histories(results)
    trials, users = _trials(histories), _users(histories)
    found = sorted({*store.fingerprints(), *trials})
    if not found:
        sys.stdout.write(f"no teachers in {results}\n")
        return 0
    print_table(HEADINGS, [_row(name, store, trials.get(name), users) for name in found])
    return 0


def _row(name: str, store: TeacherStore, trial: TrialHistory | None, users: Mapping[str, list[str]]) -> tuple[str, ...]:
    config = trial.spec.config if trial else store.config(name)
    student, data = config.get("student", {}), config.get("data", {})
    epochs = int(config.get("train", {}).get("epochs", 0))
    network = f"{student['backbone']} at {student['input_size']}" if student else "?"
    what = f"{data['kind']}, {data['keypoint_set']}" if data else "?"
    return (
        name,
        network,
        what,
        str(epochs or "?"),
        _score(store.summary(name), trial),
        _state(name, store, trial, epochs),
        f"{store.bytes_of(name) / 2**20:.1f}",
        ", ".join(users.get(name, [])) or "-",
    )


def _state(name: str, store: TeacherStore, trial: TrialHistory | None, epochs: int) -> str:
    if store.is_complete(name):
        return "complete, digest verified"
    if store.is_claimed(name):
        return "being trained"
    if store.has_summary(name):
        return "damaged: the file is not the one that was trained"
    if trial is not None and trial.state in (keys.FAILED, keys.DIVERGED):
        return f"{trial.state}: {trial.reason}"
    return f"stopped after epoch {trial.last_epoch} of {epochs}" if trial is not None else "incomplete"


def _score(summary: Mapping[str, float], trial: TrialHistory | None) -> str:
    """The score that chose the teacher's best epoch."""
    if not summary:
        return "-"
    selected = trial.spec.config["evaluation"]["select"] if trial else ""
    name = f"best/val/{selected}"
    return f"{selected} {100 * summary[name]:.2f}" if name in summary else "-"


def _trials(histories: Mapping[str, History]) -> dict[str, TrialHistory]:
    """The latest record of each teacher's training in any study; a training counts before a result taken over."""
    found: dict[str, TrialHistory] = {}
    for trial in (trial for history in histories.values() for trial in history.trials.values()):
        if trial.spec.kind != TEACHER:
            continue
        known = found.get(trial.spec.fingerprint)
        if known is None or (trial.attempt > 0, trial.started) > (known.attempt > 0, known.started):
            found[trial.spec.fingerprint] = trial
    return found


def _users(histories: Mapping[str, History]) -> dict[str, list[str]]:
    """Studies whose students were taught by each teacher."""
    found: dict[str, dict[str, None]] = {}
    for study, history in histories.items():
        for trial in history.trials.values():
            if trial.spec.teacher:
                found.setdefault(trial.spec.teacher, {})[study] = None
    return {name: list(studies) for name, studies in found.items()}


def _histories(results: Path) -> dict[str, History]:
    found = {}
    for ledger in sorted(results.glob("*/ledger.jsonl")):
        try:
            found[ledger.parent.name] = History.replay(read_from(ledger)[0])
        except LedgerError as error:
            sys.stderr.write(f"{ledger}: left out: {error}\n")
    return found
