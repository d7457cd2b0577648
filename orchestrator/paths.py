"""Where a study keeps its files: the one owner of every path below the results folder. Standard library only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

RESULTS_VARIABLE = "CDKD_RESULTS"


def results_folder(flag: str | None = None) -> Path:
    """The results folder, absolute: the flag, else $CDKD_RESULTS, else `./results`."""
    return Path(flag or os.environ.get(RESULTS_VARIABLE) or "results").expanduser().resolve()


@dataclass(frozen=True)
class StudyPaths:
    """The files of one study.

    Attributes:
        results: absolute results folder, shared by all studies (and by all workers of a cluster).
        study: the study's name, fit for a folder name.
    """

    results: Path
    study: str

    @property
    def folder(self) -> Path:
        """Everything that belongs to this study alone."""
        return self.results / self.study

    @property
    def ledger(self) -> Path:
        """What happened (orchestrator.ledger)."""
        return self.folder / "ledger.jsonl"

    @property
    def sampler(self) -> Path:
        """Optuna's study, a projection of the ledger."""
        return self.folder / "optuna.db"

    @property
    def stop_file(self) -> Path:
        """Present while somebody asks the running driver to stop."""
        return self.folder / "stop"

    @property
    def ray(self) -> Path:
        """Ray's own files; nothing is ever read back from them."""
        return self.folder / "ray"

    def trial(self, trial_id: str) -> Path:
        """A trial's checkpoints and results."""
        return self.folder / "trials" / trial_id

    def teacher(self, fingerprint: str) -> Path:
        """A teacher's checkpoints and results, shared by all studies."""
        return self.results / "teachers" / fingerprint

    def other_ledgers(self) -> list[Path]:
        """The ledgers of the other studies in this results folder, in the order of their names."""
        return sorted(path for path in self.results.glob("*/ledger.jsonl") if path != self.ledger)
