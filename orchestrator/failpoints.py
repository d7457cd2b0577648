"""Named points at which a crash test kills this process: `CDKD_CRASH_AT=after_append`.

`CDKD_CRASH_AT=after_append:3` lets the point pass twice and dies at the third time. Without the variable a
failpoint does nothing.
"""

from __future__ import annotations

import os
from collections import Counter

VARIABLE = "CDKD_CRASH_AT"
EXIT_CODE = 137  # what a shell reports for SIGKILL
_passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Leave the process at once, without any clean-up, when the environment names this point."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    target, _, times = wanted.partition(":")
    if target != name:
        return
    _passed[name] += 1
    if _passed[name] >= int(times or 1):
        os._exit(EXIT_CODE)
