"""Which protocol stands behind a set of trials, and the refusal to mix two."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pandas as pd

from analysis.errors import MixedProtocols

ABSENT = "absent"
# Options that are one field of the protocol: where a table's blocks differ in them, every row says which it has.
_FIELDS = {
    "student.input_size": "input_size",
    "train.epochs": "epochs",
    "evaluation.flip_test": "flip_test",
    "data.keypoint_set": "keypoints",
}


def flatten(protocol: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested protocol to text by dotted field name."""
    fields: dict[str, str] = {}
    for name, value in protocol.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            fields |= flatten(value, f"{path}.")
        else:
            fields[path] = value if isinstance(value, str) else json.dumps(value)
    return fields


def differing(trials: pd.DataFrame) -> dict[str, dict[str, list[str]]]:
    """Fields that are not the same in all trials: field -> value -> arms (in row order)."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for arm, fields in _distinct(trials):
        for field, value in fields.items():
            found.setdefault(field, {}).setdefault(value, {})[arm] = None
    for arm, fields in _distinct(trials):
        for field in found.keys() - fields.keys():
            found[field].setdefault(ABSENT, {})[arm] = None
    return {
        field: {value: list(arms) for value, arms in values.items()}
        for field, values in found.items()
        if len(values) > 1
    }


def _distinct(trials: pd.DataFrame) -> list[tuple[str, dict[str, str]]]:
    """Each arm with each of its protocols, once."""
    pairs: dict[tuple[str, int], dict[str, Any]] = {}
    for arm, protocol in zip(trials["arm"], trials["protocol"]):
        pairs.setdefault((arm, id(protocol)), protocol)  # trials of equal tags share one object
    flat = {id(protocol): flatten(protocol) for protocol in pairs.values()}
    return [(arm, flat[key]) for arm, key in pairs]


def stated(options: Iterable[str]) -> list[str]:
    """The protocol fields that these options are, and that rows which show the options therefore state."""
    return [_FIELDS[option] for option in options if option in _FIELDS]


def allowed(layout: Mapping[str, Any], allow: Iterable[str] = ()) -> tuple[str, ...]:
    """The fields that may differ in a study's table: those its layout names and those its reader does."""
    return tuple(dict.fromkeys((*(layout.get("allow") or ()), *allow)))


def check(trials: pd.DataFrame, allow: Collection[str] = (), stated: Collection[str] = ()) -> list[str]:
    """Refuses trials of different protocols.

    Args:
        trials: those whose scores would stand in one table.
        allow: dotted field names that may differ; a parent's name allows its children.
        stated: fields that differ between the blocks of the table, in which every row states its own.

    Returns:
        One footnote for each field that differs and is allowed to.

    Raises:
        MixedProtocols: naming the first other field, its values and the arms they belong to.
    """
    notes = []
    for field, values in differing(trials).items():
        if field in stated:
            continue
        detail = "; ".join(f"{value} ({', '.join(arms)})" for value, arms in values.items())
        if not any(field == name or field.startswith(f"{name}.") for name in allow):
            raise MixedProtocols(field, tuple(values), detail)
        notes.append(f"Protocols differ in {field}, as allowed: {detail}.")
    return notes


def brief(trials: pd.DataFrame) -> str:
    """The protocol all trials share in one line, digests shortened; empty without trials."""
    varying = differing(trials)
    shared = flatten(trials["protocol"].iloc[0]) if len(trials) else {}
    return ", ".join(f"{name} {_short(value)}" for name, value in shared.items() if name not in varying)


def _short(value: str) -> str:
    is_digest = len(value) >= 16 and all(letter in "0123456789abcdef" for letter in value)
    return value[:8] if is_digest else value
