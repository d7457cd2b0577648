"""The published JSON Schema: current, and in agreement with the reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.library import STUDIES
from orchestrator.overrides import leaf_paths
from orchestrator.schema import schema_text, study_schema
from orchestrator.yaml_reader import read_file
from tests.cdkd.method_options import SECTION_12

PUBLISHED = STUDIES / "study.schema.json"
FILES = sorted(STUDIES.glob("*.yaml"))
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> list[str]:
    """The part of JSON Schema that ours uses, checked."""
    if "$ref" in schema:
        return faults(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, path)
    found = [f"{path}: not {schema['enum']}"] if "enum" in schema and value not in schema["enum"] else []
    if "anyOf" in schema and all(faults(value, option, root, path) for option in schema["anyOf"]):
        found.append(f"{path}: none of the alternatives")
    for option in schema.get("allOf", []):
        found += faults(value, option, root, path)
    names = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if names and not any(is_of(value, name) for name in names):
        return [*found, f"{path}: not {names}"]
    if isinstance(value, dict):
        found += section_faults(value, schema, root, path)
    if isinstance(value, list) and "items" in schema:
        found += [
            f for index, item in enumerate(value) for f in faults(item, schema["items"], root, f"{path}[{index}]")
        ]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        is_low = value < schema.get("minimum", value) or value <= schema.get("exclusiveMinimum", value - 1)
        found += [f"{path}: out of bounds"] if is_low or value > schema.get("maximum", value) else []
    return found


def is_of(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def section_faults(value: dict, schema: dict[str, Any], root: dict[str, Any], path: str) -> list[str]:
    found = [f"{path}.{key}: missing" for key in schema.get("required", []) if key not in value]
    others = schema.get("additionalProperties", True)
    for key, child in value.items():
        if key in schema.get("properties", {}):
            found += faults(child, schema["properties"][key], root, f"{path}.{key}")
        elif others is False:
            found.append(f"{path}.{key}: unknown")
        elif isinstance(others, dict):
            found += faults(child, others, root, f"{path}.{key}")
    return found


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return study_schema()


def test_the_published_file_is_current():
    assert PUBLISHED.read_text() == schema_text(), "run: python -m orchestrator.schema > studies/study.schema.json"


def test_every_reference_leads_somewhere(schema):
    text = json.dumps(schema)
    named = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert named <= set(schema["$defs"])
    assert len(named) > 10


def test_every_option_of_the_training_is_completed_by_an_editor(schema):
    assert set(leaf_paths()) <= set(schema["$defs"]["overrides"]["properties"])
    alpha = schema["$defs"]["overrides"]["properties"]["distill.alpha"]
    assert alpha == {"type": "number", "minimum": 0, "description": "weight of the feature loss"}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_shipped_study_fits(file: Path, schema):
    assert faults(read_file(file).plain(), schema, schema) == []


GOOD: dict[str, Any] = {
    "study": "s",
    "base": "b",
    "metric": {"name": "val/ap"},
    "set": {"distill": {"alpha": 1, "sape.sau": True}, "train.epochs": 3},
    "ablation": {"design": ["full", {"ladder": ["a"]}, {"factorial": {"distill.alpha": [1]}}, {"arms": {"x": None}}]},
    "search": {
        "num_samples": 3,
        "space": {"distill.alpha": {"min": 1, "max": 2, "distribution": "uniform"}},
        "objectives": [{"name": "val/ap", "mode": "maximize"}, {"name": "gmacs", "goal": "min"}],
        "constraints": [{"left": "distill.alpha", "op": "<=", "right": 4, "when": {"distill.sape.enabled": True}}],
        "limits": {"params_m": {"max": 30}},
    },
    "resources": {"max_concurrent_trials": "auto"},
}


def test_every_spelling_that_the_reader_knows_fits(schema):
    assert faults(GOOD, schema, schema) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["studdy"], "x"),
        (["metric", "mode"], "highest"),
        (["set", "train.epoch"], 3),
        (["set", "train.epochs"], 0),
        (["set", "train.epochs"], "3"),
        (["set", "distill"], {"alpah": 1}),
        (["resources", "max_concurrent_trials"], "all"),
        (["ablation", "design"], ["fulll"]),
        (["search", "space"], {"seed": {"low": 0, "high": 1}}),
        (["search", "space"], {"distill.alpha": {"lo": 0}}),
        (["search", "num_samples"], 0),
        (["search", "trials"], "many"),
        (["search", "objectives"], [{"name": "val/ap"}]),
        (["search", "objectives"], [{"name": "val/ap", "mode": "highest"}]),
        (["search", "constraints"], [{"left": "distill.alpha", "op": "~", "right": 4}]),
        (["search", "constraints"], [{"left": "distill.alpha", "op": "<"}]),
        (["search", "constraints"], [{"left": "distill.alpha", "op": "<", "right": [1]}]),
        (["search", "limits"], {"params_m": {"most": 3}}),
    ],
)
def test_what_the_reader_refuses_does_not_fit(schema, path, value):
    study = json.loads(json.dumps(GOOD))
    section = study
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    assert faults(study, schema, schema) != []


@pytest.mark.parametrize("key", ["study", "base", "metric"])
def test_required_keys_are_required(schema, key):
    assert faults({name: value for name, value in GOOD.items() if name != key}, schema, schema) != []


@pytest.mark.parametrize(("path", "values"), SECTION_12.values(), ids=SECTION_12)
def test_every_option_of_the_methods_notes_is_in_the_published_schema(path: str, values: tuple[Any, ...]) -> None:
    root = json.loads(PUBLISHED.read_text())
    training = root["$defs"]["overrides"]
    assert path in training["properties"]
    for value in values:
        assert faults({path: list(value) if isinstance(value, tuple) else value}, training, root) == []
