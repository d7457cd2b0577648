"""How a study is stopped: a signal, or a file that `cdkd stop` leaves. The first one is polite, the second is not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

POLL_S = 0.5
GRACE_S = 5.0
"""How long running trials may take to reach the end of an epoch before they are cut off."""


@contextmanager
def stop_on_signals(request_stop: Callable[[str], None]) -> Iterator[list[int]]:
    """Turn the first SIGINT or SIGTERM into a request, and the second into the end of the process.

    Yields:
        The signals that came, in order.
    """
    came: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if came:
            os._exit(128 + number)
        came.append(number)
        request_stop("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopFile:
    """Looks now and then whether the stop file is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0
        path.unlink(missing_ok=True)

    def is_there(self) -> bool:
        """Whether somebody asked, as of the last half second."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + POLL_S
        return self._path.exists()
