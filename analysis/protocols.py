"""Which protocol stands behind a set of trials, and the refusal to mix two."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pandas as pd

from analysis.errors import MixedProtocols

ABSENT = "absent"


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
    flat = [(arm, flatten(protocol)) for arm, protocol in zip(trials["arm"], trials["protocol"])]
    found: dict[str, dict[str, list[str]]] = {}
    for field in dict.fromkeys(name for _, fields in flat for name in fields):
        values: dict[str, list[str]] = {}
        for arm, fields in flat:
            arms = values.setdefault(fields.get(field, ABSENT), [])
            arms.extend([arm] if arm not in arms else [])
        if len(values) > 1:
            found[field] = values
    return found


def check(trials: pd.DataFrame, allow: Collection[str] = ()) -> list[str]:
    """Refuses trials of different protocols.

    Args:
        trials: those whose scores would stand in one table.
        allow: dotted field names that may differ; a parent's name allows its children.

    Returns:
        One footnote for each field that differs and is allowed to.

    Raises:
        MixedProtocols: naming the first other field, its values and the arms they belong to.
    """
    notes = []
    for field, values in differing(trials).items():
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
