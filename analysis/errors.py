"""What can be wrong when a study is read from its store.

AnalysisError(ValueError)
    StoreError: the store, the study in it or one of its records is absent or unreadable (exit code 2).
    UnknownCell: the study's table has no such row or column (exit code 2).
    MixedProtocols: results obtained under different protocols would stand in one table (exit code 3).
    NotDrawable: what is recorded of the study does not make a figure of this kind (exit code 2 when asked for).
"""

from __future__ import annotations


class AnalysisError(ValueError):
    """Base of this package's errors; the message is one line meant for the user."""


class StoreError(AnalysisError):
    """The store, the study in it or one of its records is absent or unreadable."""


class NotDrawable(AnalysisError):
    """What is recorded of the study does not make a figure of this kind."""


class UnknownCell(AnalysisError):
    """The study's table has no such row or column."""


class MixedProtocols(AnalysisError):
    """Results obtained under different protocols would stand in one table.

    Attributes:
        field: dotted name of the first protocol field that differs.
        values: the differing values as text, in order of appearance.
    """

    def __init__(self, field: str, values: tuple[str, ...], detail: str) -> None:
        super().__init__(
            f"protocols differ in {field}: {detail}; results of different protocols are not comparable "
            f"(--allow {field} prints them with a footnote)"
        )
        self.field = field
        self.values = values
