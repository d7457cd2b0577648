"""Trained teachers, shared by all studies of a results folder: one folder for each fingerprint.

A teacher is complete when its training has written `summary.json` and the exported file has the digest
recorded there. While a driver trains one it holds a lock beside the folder, so that two studies that
need the same teacher train it once; the system frees the lock when the driver dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from orchestrator.paths import StudyPaths

EXPORT = "best.pt"  # cdkd.training.BEST, repeated because that module imports torch
SUMMARY = "summary.json"
MANIFEST = "checkpoint.json"


class TeacherStore:
    """The teachers below one results folder."""

    def __init__(self, paths: StudyPaths) -> None:
        self._paths = paths
        self._verified: set[str] = set()
        self._claims: dict[str, int] = {}

    def file(self, fingerprint: str) -> Path:
        """The exported weights of a teacher, whether or not they are there yet."""
        return self._paths.teacher(fingerprint) / EXPORT

    def is_complete(self, fingerprint: str) -> bool:
        """Whether the teacher is trained and its file undamaged (hashed once, then remembered)."""
        if fingerprint not in self._verified and self._verify(fingerprint):
            self._verified.add(fingerprint)
        return fingerprint in self._verified

    def summary(self, fingerprint: str) -> dict[str, float]:
        """The summary of a complete teacher's training."""
        return dict(_read(self._paths.teacher(fingerprint) / SUMMARY).get("summary", {}))

    def fingerprints(self) -> list[str]:
        """Every teacher that was begun here."""
        folder = self._paths.teacher("x").parent
        return sorted(path.name for path in folder.glob("*") if path.is_dir())

    def config(self, fingerprint: str) -> dict[str, Any]:
        """The configuration a finished training recorded; empty before."""
        return dict(_read(self._paths.teacher(fingerprint) / SUMMARY).get("config", {}))

    def has_summary(self, fingerprint: str) -> bool:
        """Whether its training was finished once."""
        return (self._paths.teacher(fingerprint) / SUMMARY).is_file()

    def bytes_of(self, fingerprint: str) -> int:
        """Size of all its files."""
        return sum(file.stat().st_size for file in self._paths.teacher(fingerprint).rglob("*") if file.is_file())

    def is_claimed(self, fingerprint: str) -> bool:
        """Whether some driver trains it now."""
        if fingerprint in self._claims:
            return True
        try:
            lock = os.open(self._lock(fingerprint), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def claim(self, fingerprint: str) -> bool:
        """Take the right to train a teacher; False while another driver has it."""
        if fingerprint in self._claims:
            return True
        folder = self._paths.teacher(fingerprint)
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._lock(fingerprint), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._claims[fingerprint] = lock
        return True

    def release(self, fingerprint: str) -> None:
        """Give the right back; nothing happens when it is not held."""
        lock = self._claims.pop(fingerprint, None)
        if lock is not None:
            os.close(lock)

    def discard(self, fingerprint: str) -> None:
        """Drop what is left of a training whose exported file is damaged, so that it begins anew."""
        folder = self._paths.teacher(fingerprint)
        if (folder / SUMMARY).exists():
            (folder / MANIFEST).unlink(missing_ok=True)
            (folder / SUMMARY).unlink()

    def _lock(self, fingerprint: str) -> Path:
        return self._paths.teacher(fingerprint).with_name(f"{fingerprint}.lock")

    def _verify(self, fingerprint: str) -> bool:
        recorded = _read(self._paths.teacher(fingerprint) / SUMMARY).get("sha256", {}).get(EXPORT)
        file = self.file(fingerprint)
        if recorded is None or not file.is_file():
            return False
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest() == str(recorded)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
