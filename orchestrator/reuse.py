"""What other studies have trained, or train now, that a study need not train again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator import keys
from orchestrator.history import History, TrialHistory
from orchestrator.ledger import LedgerError, holder, read_from
from orchestrator.plan import TEACHER

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Students:
    """The students of one study that trained all their epochs themselves, by fingerprint.

    Attributes:
        finished: where each stands (`study/trial`), and its result.
        running: where each stands; of no meaning once the study's driver is gone.
    """

    finished: Mapping[str, tuple[str, TrialHistory]]
    running: Mapping[str, str]


def students(ledger: Path, since: float) -> Students:
    """The students of a study, those that were finished before `since` left out."""
    try:
        history = History.replay(read_from(ledger)[0])
    except LedgerError as error:
        logger.warning("%s: nothing is taken over from it: %s", ledger, error)
        return Students({}, {})
    own = [trial for trial in history.trials.values() if trial.spec.kind != TEACHER and not trial.lineage]
    places = {trial.spec.trial_id: f"{ledger.parent.name}/{trial.spec.trial_id}" for trial in own}
    return Students(
        {
            trial.spec.fingerprint: (trial.reused_from or places[trial.spec.trial_id], trial)
            for trial in own
            if trial.state == keys.FINISHED and _is_of(trial, since)
        },
        {trial.spec.fingerprint: places[trial.spec.trial_id] for trial in own if trial.state == keys.RUNNING},
    )


class OtherStudies:
    """The students of the other studies of a results folder, which may run at the same time.

    Args:
        ledgers: tells where they are.
        since: as `students`.
    """

    def __init__(self, ledgers: Callable[[], Iterable[Path]], since: float) -> None:
        self._ledgers = ledgers
        self._since = since
        self._versions: dict[Path, tuple[int, int]] = {}
        self._students: dict[Path, Students] = {}

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
            before, now = self._students.get(ledger, Students({}, {})), students(ledger, self._since)
            has_news |= before.finished.keys() != now.finished.keys()
            self._students[ledger] = now
        return has_news

    def finished(self, fingerprint: str) -> tuple[str, TrialHistory] | None:
        """Where the same training is finished, and its result; None where no study has it."""
        found = (each.finished[fingerprint] for each in self._students.values() if fingerprint in each.finished)
        return next(found, None)

    def running(self, fingerprint: str) -> str:
        """Where a living driver trains the same now; empty where none does."""
        found = (
            (ledger, each.running[fingerprint])
            for ledger, each in self._students.items()
            if fingerprint in each.running
        )
        return next((place for ledger, place in found if holder(ledger) is not None), "")


def _is_of(trial: TrialHistory, since: float) -> bool:
    """Whether a result was had after `since`; when one that was taken over was trained is not known here."""
    return not since or (not trial.reused_from and (trial.ended or 0.0) >= since)
