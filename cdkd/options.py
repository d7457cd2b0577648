"""Options: fields of frozen dataclasses that are declared once, and the one reader that builds these from plain data.

Standard library only. Every field is declared by `option(...)`, which carries its default, its choices or bounds, its
help text and whether it is *semantic* (changes the result of a training, part of a trial's fingerprint) or
*operational* (where and how fast it runs).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class ConfigProblem:
    """One thing wrong with a configuration: the dotted path it is at, and what is wrong there."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(ValueError):
    """A configuration that cannot be used. `problems` lists every fault found, not only the first."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[ConfigProblem, ...]]]:
        """Rebuild from the problems, not from the message, when the error crosses to another process."""
        return type(self), (self.problems,)


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    choices: Sequence[Any] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive_minimum: float | None = None,
    operational: bool = False,
    schedulable: bool = False,
) -> Any:
    """Declare a configuration field.

    Args:
        default: value when the field is absent; a callable makes a fresh nested dataclass.
        help: one line for people and for the JSON Schema.
        choices: the allowed values (of each element, for a tuple field).
        minimum: smallest allowed number (of each element, for a tuple field).
        maximum: largest allowed number, likewise.
        exclusive_minimum: numbers must be greater than this.
        operational: True when the field does not change what a training computes.
        schedulable: True when the value (a number) may change between two epochs of a training.
    """
    metadata = {
        "help": help,
        "choices": tuple(choices) if choices is not None else None,
        "minimum": minimum,
        "maximum": maximum,
        "exclusive_minimum": exclusive_minimum,
        "operational": operational,
        "schedulable": schedulable,
    }
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    if default is dataclasses.MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def nearest(word: str, known: Sequence[str]) -> str:
    """`' (did you mean X?)'` for the closest known word, or an empty string when none is close."""
    close = difflib.get_close_matches(str(word), [str(item) for item in known], n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


@functools.cache
def declared_fields(cls: type) -> dict[str, dataclasses.Field[Any]]:
    """Every field of a configuration class and its nested classes by dotted path, sections included."""
    found: dict[str, dataclasses.Field[Any]] = {}
    for item in fields(cls):
        found[item.name] = item
        annotation = type_hints(cls)[item.name]
        if is_dataclass(annotation):
            nested = declared_fields(typing.cast(type, annotation))
            found.update({f"{item.name}.{path}": below for path, below in nested.items()})
    return found


@functools.cache
def type_hints(cls: type) -> dict[str, Any]:
    """The resolved annotations of a dataclass."""
    return typing.get_type_hints(cls)


def flatten_keys(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping by dotted path; lists and scalars are leaves."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten_keys(value, path + "."))
        else:
            flat[path] = value
    return flat


def from_mapping(cls: type[T], mapping: Any, path: str = "") -> T:
    """Build a configuration dataclass from plain data, strictly.

    Raises:
        ConfigError: with every unknown key, missing key, wrong type and value out of range.
    """
    problems: list[ConfigProblem] = []
    value = _read_section(cls, mapping, path, problems)
    if problems:
        raise ConfigError(problems)
    return typing.cast(T, value)


def _read_section(cls: type, mapping: Any, path: str, problems: list[ConfigProblem]) -> Any:
    if not isinstance(mapping, Mapping):
        problems.append(ConfigProblem(path, f"must be a section of keys, got {describe(mapping)}"))
        return None
    declared = {item.name: item for item in fields(cls)}
    hints = type_hints(cls)
    prefix = f"{path}." if path else ""
    before = len(problems)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in declared:
            problems.append(ConfigProblem(f"{prefix}{key}", f"unknown key{nearest(str(key), list(declared))}"))
            continue
        values[key] = _read_value(hints[key], declared[key], value, f"{prefix}{key}", problems)
    for name, item in declared.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and name not in values and name not in mapping:
            problems.append(ConfigProblem(f"{prefix}{name}", f"is missing ({item.metadata['help']})"))
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except ConfigError as error:
        problems.extend(error.problems)
        return None


def _read_value(
    annotation: Any, item: dataclasses.Field[Any], value: Any, path: str, problems: list[ConfigProblem]
) -> Any:
    if is_dataclass(annotation):
        return _read_section(typing.cast(type, annotation), value, path, problems)
    if typing.get_origin(annotation) is tuple:
        element = typing.get_args(annotation)[0]
        if not isinstance(value, (list, tuple)):
            problems.append(ConfigProblem(path, f"must be a list, got {describe(value)}"))
            return ()
        return tuple(_read_value(element, item, part, f"{path}[{index}]", problems) for index, part in enumerate(value))
    try:
        return check_scalar(annotation, item.metadata, value)
    except ValueError as error:
        problems.append(ConfigProblem(path, str(error)))
        return value


def value_problems(annotation: Any, item: dataclasses.Field[Any], value: Any, path: str) -> list[ConfigProblem]:
    """What is wrong with a field's value, by itself (rules between fields are not looked at)."""
    problems: list[ConfigProblem] = []
    _read_value(annotation, item, value, path, problems)
    return problems


def check_scalar(annotation: Any, rules: Mapping[str, Any] | types.MappingProxyType[Any, Any], value: Any) -> Any:
    """Check one number, string or boolean against its declared type and rules, and return it in that type.

    Raises:
        ValueError: with the rule and the value received.
    """
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    if not isinstance(value, annotation) or (annotation is not bool and isinstance(value, bool)):
        hint = ""
        if annotation is float and isinstance(value, str) and _is_number(value):
            hint = f" (YAML reads {value} as a text; write {float(value)!r})"
        raise ValueError(f"must be {names[annotation]}, got {describe(value)}{hint}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a finite number, got {value}")
    choices = rules.get("choices")
    if choices is not None and value not in choices:
        hint = nearest(str(value), [str(choice) for choice in choices])
        raise ValueError(f"must be one of {', '.join(map(str, choices))}, got {value!r}{hint}")
    if rules.get("minimum") is not None and value < rules["minimum"]:
        raise ValueError(f"must be at least {rules['minimum']:g}, got {value!r}")
    if rules.get("exclusive_minimum") is not None and value <= rules["exclusive_minimum"]:
        raise ValueError(f"must be greater than {rules['exclusive_minimum']:g}, got {value!r}")
    if rules.get("maximum") is not None and value > rules["maximum"]:
        raise ValueError(f"must be at most {rules['maximum']:g}, got {value!r}")
    return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def describe(value: Any) -> str:
    """A value as a person would name it in an error message, at most about 60 characters long."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a section of keys"
    text = json.dumps(value) if isinstance(value, (bool, int, float, str)) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def to_mapping(config: Any) -> dict[str, Any]:
    """A configuration as nested plain data (lists for tuples), the inverse of `from_mapping`."""
    return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(config))))
