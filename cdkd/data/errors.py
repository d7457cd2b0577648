"""The error of this package. Standard library only."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be used: a missing, broken or contradictory file or record.

    The message is one line; it names the file, the record where there is one, and the rule it breaks.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
