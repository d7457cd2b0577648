"""Results of other studies that a study may take over instead of training again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from orchestrator import keys
from orchestrator.history import History, TrialHistory
from orchestrator.ledger import LedgerError, read_from
from orchestrator.plan import TEACHER

logger = logging.getLogger(__name__)


def finished_students(ledger: Path, since: float) -> dict[str, tuple[str, TrialHistory]]:
    """Finished students of a ledger that were trained after `since`, by fingerprint."""
    try:
        history = History.replay(read_from(ledger)[0])
    except LedgerError as error:
        logger.warning("%s: nothing is taken over from it: %s", ledger, error)
        return {}
    return {
        trial.spec.fingerprint: (trial.reused_from or f"{ledger.parent.name}/{name}", trial)
        for name, trial in history.trials.items()
        if trial.state == keys.FINISHED and trial.spec.kind != TEACHER and not trial.lineage and _is_of(trial, since)
    }


class OtherStudies:
    """The finished students of the other studies of a results folder, which may run at the same time.

    Args:
        ledgers: tells where they are.
        since: as `finished_students`.
    """

    def __init__(self, ledgers: Callable[[], Iterable[Path]], since: float) -> None:
        self._ledgers = ledgers
        self._since = since
        self._versions: dict[Path, tuple[int, int]] = {}
        self._students: dict[Path, dict[str, tuple[str, TrialHistory]]] = {}

    def look(self) -> bool:
        """Read the ledgers that have changed since the last look; whether one of them has finished students."""
        has_news = False
        for ledger in self._ledgers():
            try:
                status = ledger.stat()
            except FileNotFoundError:
                continue
            version = (status.st_size, status.st_mtime_ns)
            if self._versions.get(ledger) == version:
                continue
            self._versions[ledger] = version
            before, now = self._students.get(ledger, {}), finished_students(ledger, self._since)
            has_news |= before.keys() != now.keys()
            self._students[ledger] = now
        return has_news

    def find(self, fingerprint: str) -> tuple[str, TrialHistory] | None:
        """Where the same training is finished, and its result; None where no study has it."""
        found = (students[fingerprint] for students in self._students.values() if fingerprint in students)
        return next(found, None)


def _is_of(trial: TrialHistory, since: float) -> bool:
    """Whether a result was had after `since`; when one that was taken over was trained is not known here."""
    return not since or (not trial.reused_from and (trial.ended or 0.0) >= since)
