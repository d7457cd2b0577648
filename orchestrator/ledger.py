"""The study's ledger: an append-only file of what happened, on disk before anybody is told.

One line is one record: the CRC-32 of the rest of the line in eight hex digits, a space, and a JSON object
`{"seq", "time", "event", "data"}`. Numbers that JSON lacks are written as Python's `NaN`, `Infinity` and
`-Infinity`, so that every float reads back as it was. `seq` counts lines from 0 and orders events; clocks do not.

A writer holds an exclusive `flock` on the file beside it (`ledger.jsonl.lock`), which the system frees when the
holder dies however it dies. Readers take no lock and write nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import threading
import time
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from orchestrator.errors import Refused, UserError
from orchestrator.failpoints import failpoint

logger = logging.getLogger(__name__)

LOCK_PATIENCE_S = 0.5  # longer than `holder` looks at a lock, far shorter than a person waits


class LedgerError(UserError):
    """A ledger that cannot be read: the file, the line and what is wrong with it."""


@dataclass(frozen=True)
class Record:
    """One event of a study.

    Attributes:
        seq: position in the ledger, from 0.
        time: when it was written, seconds since 1970.
        event: one of the events of `orchestrator.keys`.
        data: plain data as JSON reads it back (tuples have become lists).
    """

    seq: int
    time: float
    event: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Holder:
    """The process that holds a study."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}" if self.host else "a process that has not told its pid"


class Ledger:
    """A study's ledger, opened by `Ledger.open`.

    Attributes:
        path: the file.
        dropped_bytes: length of the torn tail that opening for writing cut off, normally 0.
    """

    def __init__(self, path: Path, lock: int | None) -> None:
        self.path = path
        self.dropped_bytes = 0
        self._lock = lock
        self._file: int | None = None
        self._size = 0
        self._seq = 0
        self._mutex = threading.Lock()

    @classmethod
    def open(cls, path: Path, *, writer: bool) -> Ledger:
        """Open the ledger at `path`; a writer creates it, locks it and repairs a torn tail.

        Raises:
            Refused: another process writes it (writer only); the message names its pid and host.
            LedgerError: a record before the last one is damaged.
        """
        if not writer:
            return cls(path, lock=None)
        path.parent.mkdir(parents=True, exist_ok=True)
        ledger = cls(path, _acquire(path))
        try:
            ledger._repair()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def append(self, event: str, data: dict[str, Any]) -> Record:
        """Write one record and return when it is on disk.

        Raises:
            TypeError: `data` is not plain data.
            ValueError: the ledger is not open for writing.
            OSError: the disk refused; the file is as before.
        """
        with self._mutex:
            if self._file is None:
                raise ValueError(f"{self.path} is not open for writing")
            line = _encode(self._seq, time.time(), event, data)
            failpoint("before_append")
            self._write(line)
            failpoint("after_append")
            self._size += len(line)
            self._seq += 1
            return _decode(line)

    def records(self) -> list[Record]:
        """Every whole record, oldest first; empty when there is no file yet."""
        return read_from(self.path)[0]

    def close(self) -> None:
        """Release the file and the lock."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _repair(self) -> None:
        records, size = _read_whole(self.path)
        is_new = not self.path.exists()
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        _close_in_forks(self)
        self._seq, self._size = len(records), size
        self.dropped_bytes = os.fstat(self._file).st_size - size
        if self.dropped_bytes:
            logger.warning("%s: cut off a torn last record (%d bytes)", self.path, self.dropped_bytes)
            os.ftruncate(self._file, size)
            os.fsync(self._file)
        if is_new:
            _sync_folder(self.path.parent)

    def _write(self, line: bytes) -> None:
        if self._file is None:
            raise ValueError(f"{self.path} is not open for writing")
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(f"{self.path}: wrote {written} of {len(line)} bytes")
            failpoint("after_write")
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise


def read_from(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """The whole records from byte `offset` on, and the offset to read on from. Safe while a writer appends.

    A last line that is not whole yet, or torn, is left for the next call.

    Raises:
        LedgerError: a line that others follow is damaged, or records are missing.
    """
    if offset == 0:
        return _read_whole(path)
    content = _content(path, offset)
    try:
        records, length = _parse(path, content, first_line=None)
    except LedgerError:
        _read_whole(path)  # raises the same with the line's number
        raise
    return records, offset + length


def holder(path: Path) -> Holder | None:
    """Who writes the ledger at `path` now; None when nobody does. Nothing is created."""
    try:
        lock = os.open(_lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(lock)
    finally:
        os.close(lock)
    return None


def _read_whole(path: Path) -> tuple[list[Record], int]:
    return _parse(path, _content(path, 0), first_line=1)


def _content(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        return b""


def _parse(path: Path, content: bytes, first_line: int | None) -> tuple[list[Record], int]:
    """Records of the whole lines of `content`, and their length in bytes."""
    records: list[Record] = []
    length = 0
    for line in _whole_lines(content):
        try:
            record = _decode(line)
        except ValueError as error:
            if length + len(line) == len(content):
                break  # pages of an unacknowledged last write may reach the disk in any order
            raise _damaged(path, records, first_line, str(error)) from None
        expected = _expected_seq(records, first_line)
        if expected is not None and record.seq != expected:
            raise _damaged(path, records, first_line, f"record {record.seq} where {expected} should be")
        records.append(record)
        length += len(line)
    return records, length


def _whole_lines(content: bytes) -> Iterator[bytes]:
    start = 0
    while (end := content.find(b"\n", start)) >= 0:
        yield content[start : end + 1]
        start = end + 1


def _expected_seq(records: list[Record], first_line: int | None) -> int | None:
    if records:
        return records[-1].seq + 1
    return None if first_line is None else first_line - 1


def _damaged(path: Path, records: list[Record], first_line: int | None, reason: str) -> LedgerError:
    line = records[-1].seq + 2 if records else first_line
    place = f"{path}:{line}" if line is not None else str(path)
    return LedgerError([f"{place}: damaged record: {reason}"])


def _encode(seq: int, now: float, event: str, data: dict[str, Any]) -> bytes:
    text = json.dumps({"seq": seq, "time": now, "event": event, "data": data}, separators=(",", ":"))
    body = text.encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _decode(line: bytes) -> Record:
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        raise ValueError("the checksum does not match")
    fields = json.loads(body)
    return Record(fields["seq"], fields["time"], fields["event"], fields["data"])


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _acquire(path: Path) -> int:
    lock = os.open(_lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock_patiently(lock)
    except BlockingIOError:
        owner = _read_holder(lock)
        os.close(lock)
        raise Refused(f"{path.parent.name}: this study is being run by {owner} ({path})") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {socket.gethostname()}\n".encode(), 0)
    return lock


def _lock_patiently(lock: int) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read_holder(lock: int) -> Holder:
    pid, _, host = os.pread(lock, 512, 0).decode(errors="replace").strip().partition(" ")
    return Holder(int(pid) if pid.isdigit() else 0, host)


def _close_in_forks(ledger: Ledger) -> None:
    """A forked child shares the lock: without this a DataLoader worker would hold it after its driver's death."""
    reference = weakref.ref(ledger)

    def close() -> None:
        inherited = reference()
        if inherited is not None:
            inherited.close()

    os.register_at_fork(after_in_child=close)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
