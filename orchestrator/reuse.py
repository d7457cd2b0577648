"""Results of other studies that a study may take over instead of training again."""

from __future__ import annotations

import logging
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


def _is_of(trial: TrialHistory, since: float) -> bool:
    """Whether a result was had after `since`; when one that was taken over was trained is not known here."""
    return not since or (not trial.reused_from and (trial.ended or 0.0) >= since)
