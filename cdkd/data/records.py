"""Reading annotation files record by record: what a sound value is, and what becomes of a broken record."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cdkd.data.errors import DataError
from cdkd.data.images import check_image_file, image_size
from cdkd.data.paths import inside

logger = logging.getLogger(__name__)

T = TypeVar("T")

LARGEST = 1e9
"""No coordinate or area, in pixels, comes near this."""

POLICIES = ("stop", "skip")


class BadRecord(Exception):
    """A record that breaks a rule; carries what is wrong, without the file's name."""


class LeftOut(Exception):
    """A sound record that is no example; carries why."""


class Tally:
    """What becomes of broken records, and the count of everything that was left out.

    Args:
        on_bad_record: `stop` raises at the first broken record; `skip` counts them.
        warns: log each broken record that is skipped, for whoever does not look at `broken`.

    Attributes:
        left_out: how many records were left out, by reason.
        broken: one line for each broken record, naming file and record.

    Raises:
        ValueError: no such `on_bad_record`.
    """

    def __init__(self, on_bad_record: str, *, warns: bool = True) -> None:
        if on_bad_record not in POLICIES:
            raise ValueError(f"on_bad_record must be stop or skip, got {on_bad_record!r}")
        self.on_bad_record = on_bad_record
        self.warns = warns
        self.left_out: Counter[str] = Counter()
        self.broken: list[str] = []

    def read(self, file: Path, what: str, records: Iterable[Any], parse: Callable[[int, Any], T]) -> Iterator[T]:
        """What `parse(position, record)` makes of each usable record of a file; `what` names one in a message.

        Raises:
            DataError: a record is broken, and broken ones stop the reading.
        """
        for position, record in enumerate(records):
            try:
                yield parse(position, record)
            except LeftOut as reason:
                self.left_out[str(reason)] += 1
            except BadRecord as fault:
                self._broken(f"{file}: {_name(what, record, position)}: {fault}")

    def _broken(self, message: str) -> None:
        if self.on_bad_record == "stop":
            raise DataError(message) from None
        if self.warns:
            logger.warning("skipped: %s", message)
        self.left_out["broken"] += 1
        self.broken.append(message)

    def reason(self) -> str:
        """`summary`, with the first broken record."""
        first = f"; first {self.broken[0]}" if self.broken else ""
        return self.summary() + first

    def summary(self) -> str:
        """What was left out, with counts."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))


def _name(what: str, record: Any, position: int) -> str:
    if isinstance(record, Mapping) and "id" in record:
        return f"{what} {str(record['id'])[:40]}"
    return f"{what} at position {position}"


class ImageFiles:
    """The image files of a folder; each is looked at once, however many persons it shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._found: dict[str, Path | str] = {}

    def path(self, name: Any, size: tuple[Any, Any] = (None, None)) -> Path:
        """The checked file of this name.

        Args:
            name: below the folder.
            size: (width, height) that the annotation file gives it; None where it gives none.

        Raises:
            BadRecord: no such file, or damaged, or of another size.
        """
        if not isinstance(name, str):
            raise BadRecord(f"its image has the file name {str(name)[:40]!r}, not a text")
        if name not in self._found:
            self._found[name] = self._check(name, size)
        found = self._found[name]
        if isinstance(found, str):
            raise BadRecord(found)
        return found

    def _check(self, name: str, size: tuple[Any, Any]) -> Path | str:
        """The path of an image, or what is wrong with it."""
        try:
            path = inside(self.folder, name)
            check_image_file(path)
            found = image_size(path)
        except ValueError as error:
            return str(error)
        if any(said is not None and said != is_ for said, is_ in zip(size, found)):
            return f"{path}: is {found[0]} x {found[1]} pixels, the annotation file says {size[0]} x {size[1]}"
        return path


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it cannot be read, with the line where there is one.
    """
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:
        raise DataError(f"{file}: not an annotation file: {error}") from None
    except RecursionError:
        raise DataError(f"{file}: not an annotation file: nested too deeply") from None


def section(record: Any) -> Mapping[str, Any]:
    """The record itself, which must have keys."""
    if not isinstance(record, Mapping):
        raise BadRecord("is not an object")
    return record


def integer(record: Mapping[str, Any], key: str) -> int:
    """A whole number."""
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRecord(f"{key} must be a whole number, got {str(value)[:40]}")
    return value


def number(record: Mapping[str, Any], key: str) -> float:
    """A finite number."""
    return float(numbers({key: [record.get(key)]}, key, 1)[0])


def numbers(record: Mapping[str, Any], key: str, count: int) -> list[float]:
    """A list of finite numbers of the right length."""
    values = record.get(key)
    if not isinstance(values, list) or len(values) != count:
        length = len(values) if isinstance(values, list) else "none"
        raise BadRecord(f"{key} must hold {count} numbers, got {length}")
    if not set(map(type, values)) <= {int, float} or not all(abs(value) < LARGEST for value in values):
        strange = next(value for value in values if not is_number(value))
        raise BadRecord(f"{key} holds {str(strange)[:40]}, not a finite number below {LARGEST:g}")
    return values


def is_number(value: Any) -> bool:
    """Finite and of a size pixels can have (comparisons with NaN are false)."""
    return type(value) in (int, float) and abs(value) < LARGEST


def box(record: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """`bbox`: left, top, width, height, with an area."""
    left, top, width, height = map(float, numbers(record, "bbox", 4))
    if width <= 0 or height <= 0:
        raise BadRecord(f"bbox has no area: {width:g} x {height:g}")
    return left, top, width, height
