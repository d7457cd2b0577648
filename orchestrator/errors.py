"""The two ways in which a command ends early: a mistake in what it was given, and a guard that refused.

UserError   bad input: one line each, exit code 2, nothing started
Refused     a guard said no (another process holds the study, say): exit code 3
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff]")
LONGEST_KEY = 120


@dataclass(frozen=True, order=True)
class Place:
    """Where something was written: a file (or `--set`), its line and column from 1; 0 when there is none."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join([self.file, *(str(number) for number in (self.line, self.column) if number)])


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a file: where, at which key, and why."""

    place: Place
    key: str
    message: str

    def __str__(self) -> str:
        key = self.key if len(self.key) <= LONGEST_KEY else self.key[:LONGEST_KEY] + "..."
        return one_line(": ".join(part for part in (str(self.place), key, self.message) if part))


class UserError(Exception):
    """What the user gave cannot be used. `lines` holds every fault found, one line each.

    `problems` holds the same faults with their places, where the error was made by `of`.
    """

    exit_code = 2
    problems: tuple[Problem, ...] = ()

    def __init__(self, lines: Sequence[str] | str) -> None:
        self.lines = [one_line(line) for line in ([lines] if isinstance(lines, str) else lines)]
        super().__init__("\n".join(self.lines))

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> UserError:
        """The problems as lines in the order of the files, each said once."""
        ordered = sorted(problems, key=lambda problem: problem.place)
        error = cls(list(dict.fromkeys(str(problem) for problem in ordered)))
        error.problems = tuple(ordered)
        return error


class Refused(Exception):
    """A guard refused to go on; the message says why and what to do."""

    exit_code = 3


def one_line(text: str) -> str:
    """A text with every control character and line break written as an escape."""
    return _UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)
