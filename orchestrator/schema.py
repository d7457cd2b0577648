"""The JSON Schema of a study file, made from the same declarations that the reader checks.

`python -m orchestrator.schema` prints it; `studies/study.schema.json` is that text, and editors that know
JSON Schema complete study files by it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import typing
from collections.abc import Mapping
from typing import Any

from cdkd.config import TrainingConfig
from cdkd.options import declared_fields, type_hints
from orchestrator.design import DESIGNS
from orchestrator.overrides import leaf_paths
from orchestrator.search_options import AUTO, PRUNERS, SAMPLERS
from orchestrator.sections import ConstraintSection, LimitSection, ObjectiveSection, StudySection, without_none
from orchestrator.settings import study_keys
from orchestrator.space import ALIASES, DISTRIBUTIONS, TYPES
from orchestrator.yaml_reader import Node

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMES: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
ANY_SCALAR: Schema = {"type": ["string", "integer", "number", "boolean"]}


def study_schema() -> Schema:
    """The schema as plain data."""
    definitions = {**_training_definitions(), **_free_definitions()}
    return {"$schema": DIALECT, "title": "cdkd study", **_section(StudySection), "$defs": definitions}


def schema_text() -> str:
    """The text of `studies/study.schema.json`."""
    return json.dumps(study_schema(), indent=1, sort_keys=True) + "\n"


def _reference(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


# ------------------------------------------------------------------------------ sections of a study


def _section(cls: type) -> Schema:
    """One section: its keys, also under their other spellings."""
    own = {item.name: _entry(cls, item) for item in dataclasses.fields(cls)}
    aliases: Mapping[str, str] = getattr(cls, "ALIASES", {})
    required = [item.name for item in dataclasses.fields(cls) if item.default is dataclasses.MISSING]
    schema: Schema = {
        "type": "object",
        "description": (cls.__doc__ or "").strip(),
        "properties": own | {spelling: own[name] for spelling, name in aliases.items()},
        "additionalProperties": False,
    }
    spelt = {
        name: [name, *(spelling for spelling, own_name in aliases.items() if own_name == name)] for name in required
    }
    plain = [name for name, spellings in spelt.items() if len(spellings) == 1]
    several = [
        {"anyOf": [{"required": [one]} for one in spellings]} for spellings in spelt.values() if len(spellings) > 1
    ]
    return schema | ({"required": plain} if plain else {}) | ({"allOf": several} if several else {})


def _entry(cls: type, item: dataclasses.Field[Any]) -> Schema:
    annotation = without_none(type_hints(cls)[item.name])
    if annotation is Node:
        return {**_reference(item.metadata["holds"]), "description": item.metadata["help"]}
    if dataclasses.is_dataclass(annotation):
        return _section(typing.cast(type, annotation))
    named = {"sampler": sorted(SAMPLERS), "pruner": sorted([AUTO, *PRUNERS])}.get(item.name)
    schema = _value(annotation, item.metadata)
    if named:
        schema["examples"] = named
    words = list(item.metadata["words"])
    return {"anyOf": [schema, {"enum": words}], "description": schema["description"]} if words else schema


def _value(annotation: Any, rules: Mapping[str, Any]) -> Schema:
    """A scalar, or a list of scalars or of sections, with its rules."""
    if typing.get_origin(annotation) is tuple:
        element = typing.get_args(annotation)[0]
        items = (
            _reference(element.__name__)
            if isinstance(element, type) and dataclasses.is_dataclass(element)
            else _bounds(element, rules)
        )
        return {"type": "array", "items": items, "description": rules["help"]}
    return {**_bounds(annotation, rules), "description": rules["help"]}


def _bounds(annotation: Any, rules: Mapping[str, Any]) -> Schema:
    names = {"minimum": "minimum", "maximum": "maximum", "exclusive_minimum": "exclusiveMinimum"}
    bounds = {name: rules[rule] for rule, name in names.items() if rules.get(rule) is not None}
    choices = {"enum": list(rules["choices"])} if rules.get("choices") else {}
    return {"type": NAMES[annotation], **choices, **bounds}


# ------------------------------------------------------------------------------- training options


def _training_definitions() -> dict[str, Schema]:
    """One definition for each section of the training configuration; `overrides` is the whole."""
    definitions: dict[str, Schema] = {}
    _define(TrainingConfig, definitions)
    definitions["overrides"] = definitions.pop(TrainingConfig.__name__)
    return definitions


def _define(cls: type, definitions: dict[str, Schema]) -> None:
    """A section with everything below it by relative dotted path, so that nested and dotted spellings both fit."""
    properties = {path: _option(cls, path, item) for path, item in declared_fields(cls).items()}
    definitions[cls.__name__] = {"type": "object", "properties": properties, "additionalProperties": False}
    for annotation in type_hints(cls).values():
        parts: list[Any] = [annotation, *typing.get_args(annotation)]
        for part in parts:
            is_section = isinstance(part, type) and dataclasses.is_dataclass(part)
            if is_section and part.__name__ not in definitions:
                _define(part, definitions)


def _option(cls: type, path: str, item: dataclasses.Field[Any]) -> Schema:
    annotation: Any = functools.reduce(lambda owner, name: type_hints(owner)[name], path.split("."), cls)
    if dataclasses.is_dataclass(annotation):
        return {**_reference(typing.cast(type, annotation).__name__), "description": item.metadata["help"]}
    return _value(annotation, item.metadata)


# ---------------------------------------------------------- parts that are read by their own modules


def _free_definitions() -> dict[str, Schema]:
    component = {
        "type": "object",
        "properties": {"off": _reference("overrides"), "needs": {"type": "array", "items": {"type": "string"}}},
        "required": ["off"],
        "additionalProperties": False,
    }
    return {
        "components": {"type": "object", "additionalProperties": component},
        "arms": {"type": "object", "additionalProperties": {"anyOf": [_reference("overrides"), {"type": "null"}]}},
        "design": {"type": "array", "items": _design()},
        "factors": _by_leaf({"type": "array"}),
        "declaration": _declaration(),
        "space": _by_leaf(_reference("declaration")),
        "enqueue": {"type": "array", "items": _by_leaf({})},
        "objectives": {"type": "array", "items": _section(ObjectiveSection)},
        "constraints": {"type": "array", "items": _section(ConstraintSection)},
        "condition": _by_leaf({}),
        "scalar": ANY_SCALAR,
        "limits": {"type": "object", "additionalProperties": _section(LimitSection)},
        "options": {"type": "object", "additionalProperties": ANY_SCALAR},
        "rows": {"anyOf": [{"enum": ["arm"]}, {"type": "array", "items": {"type": "string"}}]},
        "baseline": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        "reference": {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}]},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "decimals": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
        "profiles": {"type": "object", "additionalProperties": _profile()},
    }


def _by_leaf(schema: Schema) -> Schema:
    properties = {path: schema for path in leaf_paths() if not path.endswith("seed")}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _design() -> Schema:
    components: Schema = {"type": "array", "items": {"type": "string"}}
    either: Schema = {"anyOf": [components, _reference("factors")]}
    contents = {
        "ladder": components,
        "one_factor": _reference("factors"),
        "factorial": either,
        "pairwise": either,
        "leave_one_out": components,
        "arms": _reference("arms"),
    }
    words = [name for name in DESIGNS if name not in ("ladder", "one_factor", "arms")]
    section = {"type": "object", "properties": contents, "additionalProperties": False}
    return {"anyOf": [{"enum": words}, section]}


def _declaration() -> Schema:
    number: Schema = {"type": "number"}
    own: dict[str, Schema] = {
        "type": {"enum": [*TYPES, *DISTRIBUTIONS]},
        "low": number,
        "high": number,
        "step": number,
        "log": {"type": "boolean"},
        "choices": {"type": "array"},
        "when": {"type": "object"},
    }
    properties = own | {spelling: own[name] for spelling, name in ALIASES.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _profile() -> Schema:
    sections = {key.split(".")[0]: {"type": "object"} for key in study_keys() if "." in key}
    replace: Schema = {"type": "object", "properties": {path: {"type": "object"} for path in leaf_paths()}}
    training: dict[str, Schema] = {
        "set": _reference("overrides"),
        "replace": {**replace, "additionalProperties": False},
    }
    properties: dict[str, Schema] = {**{key: {} for key in study_keys()}, **sections, **training}
    return {"type": "object", "properties": properties, "additionalProperties": False}


if __name__ == "__main__":
    sys.stdout.write(schema_text())
