"""Search spaces: dotted paths of the training configuration to sample, checked before anything starts.

A declaration is `{type, low, high, log, step}` or `{type: categorical, choices}`, with `when: {path: value}`
for an option that is sampled only where an earlier one took that value. W&B's spellings (`distribution`,
`min`, `max`, `values`, `q`) are read as well. A checked space holds our spelling only, so that it can be
stored as JSON; a list among the choices (a SAU kernel layout) is a text such as `3-5-7-7` for Optuna.
Optuna itself is imported nowhere in this file.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from cdkd.options import describe, nearest
from orchestrator.errors import Problem
from orchestrator.overrides import check_value, element_type, leaf_paths, unknown_path
from orchestrator.yaml_reader import Node

Space = Mapping[str, Mapping[str, Any]]
"""Dotted path -> checked declaration, parents before the options that depend on them."""

KEYS = ("type", "low", "high", "log", "step", "choices", "when")
ALIASES = {"distribution": "type", "min": "low", "max": "high", "values": "choices", "q": "step"}
TYPES = ("float", "int", "categorical")
DISTRIBUTIONS: Mapping[str, Mapping[str, Any]] = {
    "uniform": {"type": "float"},
    "log_uniform_values": {"type": "float", "log": True},
    "loguniform": {"type": "float", "log": True},
    "q_uniform": {"type": "float"},
    "int_uniform": {"type": "int"},
    "randint": {"type": "int"},
    "choice": {"type": "categorical"},
}
NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}


class Suggester(Protocol):
    """The part of `optuna.Trial` that sampling needs."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number in [low, high]."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices."""


def suggest(trial: Suggester, space: Space) -> dict[str, Any]:
    """Sample a space: overrides of the training configuration by dotted path."""
    overrides: dict[str, Any] = {}
    for path, declaration in space.items():
        if is_active(declaration, overrides):
            overrides[path] = _suggest_one(trial, path, declaration)
    return overrides


def _suggest_one(trial: Suggester, path: str, declaration: Mapping[str, Any]) -> Any:
    kind = declaration["type"]
    if kind == "categorical":
        codes = {code(choice): choice for choice in declaration["choices"]}
        return codes[trial.suggest_categorical(path, list(codes))]
    low, high, log, step = (declaration[key] for key in ("low", "high", "log", "step"))
    if kind == "int":
        return trial.suggest_int(path, low, high, step=step or 1, log=log)
    return trial.suggest_float(path, low, high, step=step, log=log)


def is_active(declaration: Mapping[str, Any], overrides: Mapping[str, Any]) -> bool:
    """True when every condition of a declaration holds for what was sampled so far."""
    return all(path in overrides and overrides[path] in allowed for path, allowed in declaration["when"].items())


def code(choice: Any) -> Any:
    """A choice as Optuna stores it: lists as texts (`[3, 5, 7, 7]` as `3-5-7-7`, `[]` as `none`)."""
    return ("-".join(map(str, choice)) or "none") if isinstance(choice, (list, tuple)) else choice


def encode(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides as Optuna's parameters, for `enqueue_trial` and for replaying finished trials."""
    return {path: code(value) for path, value in overrides.items()}


def grid(space: Space) -> dict[str, list[Any]]:
    """Every value of every option, as `optuna.samplers.GridSampler` wants them (see `is_finite`)."""
    return {path: [code(value) for value in values_of(declaration)] for path, declaration in space.items()}


def is_finite(declaration: Mapping[str, Any]) -> bool:
    """True when a declaration has a countable set of values."""
    return declaration["type"] != "float" or declaration["step"] is not None


def values_of(declaration: Mapping[str, Any]) -> list[Any]:
    """The values of a finite declaration in order."""
    if declaration["type"] == "categorical":
        return list(declaration["choices"])
    low, step = declaration["low"], declaration["step"] or 1
    count = math.floor((declaration["high"] - low) / step + 1e-9) + 1
    return [low + index * step for index in range(count)]


def extremes(declaration: Mapping[str, Any]) -> list[Any]:
    """The values at which a rule between options can break first: all choices, or both bounds."""
    return (
        list(declaration["choices"])
        if declaration["type"] == "categorical"
        else [declaration["low"], declaration["high"]]
    )


def conditions(path: str, space: Space) -> dict[str, Any]:
    """One set of parents' values under which an option is sampled."""
    wanted: dict[str, Any] = {}
    for parent, allowed in space[path]["when"].items():
        wanted |= {**conditions(parent, space), parent: allowed[0]}
    return wanted


# ------------------------------------------------------------------------------------------- checks


def read_space(node: Node, key: str, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """A space from its section of the study file, checked; faulty declarations are told and left out."""
    if not isinstance(node.value, dict) or not node.value:
        problems.append(
            Problem(node.place, key, f"must name at least one option to sample, got {describe(node.plain())}")
        )
        return {}
    space: dict[str, dict[str, Any]] = {}
    for path, child in node.value.items():
        found = list(_declaration_problems(path, child, key))
        if not found:
            declaration = _normalised(path, child)
            found = list(_bound_problems(path, declaration, child)) or list(
                _condition_problems(path, declaration, space, list(node.value), child)
            )
        problems.extend(found)
        if not found:
            space[path] = declaration
    return space


def _declaration_problems(path: str, node: Node, key: str) -> Iterator[Problem]:
    """Faults of form: the path, the keys of the declaration and their types."""
    if path == "seed" or path.endswith(".seed"):
        message = "a seed is never searched; repeats belong to ablation.seeds"
        yield Problem(node.place, f"{key}.{path}", message)
        return
    if path not in leaf_paths():
        yield Problem(node.place, f"{key}.{path}", unknown_path(path))
        return
    if not isinstance(node.value, dict):
        message = f"must be a declaration such as {{type: float, low: 0.1, high: 10}}, got {describe(node.plain())}"
        yield Problem(node.place, path, message)
        return
    for name, child in node.value.items():
        if name not in (*KEYS, *ALIASES):
            yield Problem(child.place, f"{path}.{name}", f"unknown key{nearest(name, [*KEYS, *ALIASES])}")
        elif name in ALIASES and ALIASES[name] in node.value:
            yield Problem(child.place, f"{path}.{name}", f"says the same as {ALIASES[name]!r}; keep one of them")
        else:
            yield from _key_problems(f"{path}.{name}", str(ALIASES.get(name, name)), child)


def _key_problems(key: str, name: str, node: Node) -> Iterator[Problem]:
    value = node.plain()
    known = [*TYPES, *DISTRIBUTIONS]
    if name == "type" and (not isinstance(value, str) or value not in known):
        yield Problem(
            node.place, key, f"must be one of {', '.join(known)}, got {describe(value)}{nearest(str(value), known)}"
        )
    if name in ("low", "high", "step") and not is_number(value):
        yield Problem(node.place, key, f"must be a finite number, got {describe(value)}")
    if name == "log" and not isinstance(value, bool):
        yield Problem(node.place, key, f"must be true or false, got {describe(value)}")
    if name == "choices" and (not isinstance(value, list) or not value):
        yield Problem(node.place, key, f"must be a list of at least one choice, got {describe(value)}")
    if name == "when" and (not isinstance(value, dict) or not value):
        yield Problem(node.place, key, f"must be a section {{path: value}}, got {describe(value)}")


def is_number(value: Any) -> bool:
    """A finite number, which a truth value is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _normalised(path: str, node: Node) -> dict[str, Any]:
    """The declaration in our spelling, with defaults; its type is the option's where none is written."""
    given = {ALIASES.get(name, name): child.plain() for name, child in node.value.items()}
    given |= DISTRIBUTIONS.get(given.get("type", ""), {})
    annotation = element_type(path)
    by_field = {float: "float", int: "int"}.get(annotation, "categorical")
    kind = given.get("type", "categorical" if "choices" in given else by_field)
    is_list = typing.get_origin(annotation) is tuple
    when = allowed_values(given.get("when", {}))
    if kind == "categorical":
        cast = float if annotation is float else (lambda value: value)
        choices = given.get("choices", [True, False] if annotation is bool else [])
        return {
            "type": kind,
            "choices": choices if is_list else [cast(c) if is_number(c) else c for c in choices],
            "when": when,
        }
    number = float if kind == "float" else (lambda value: value)
    bounds = {name: number(given[name]) if name in given else None for name in ("low", "high", "step")}
    return {"type": kind, **bounds, "log": given.get("log", False), "when": when}


def allowed_values(when: Mapping[str, Any]) -> dict[str, list[Any]]:
    """A condition as written, with a list of values for each path."""
    return {
        path: list(value)
        if isinstance(value, list) and typing.get_origin(_type_or_none(path)) is not tuple
        else [value]
        for path, value in when.items()
    }


def _type_or_none(path: str) -> Any:
    return element_type(path) if path in leaf_paths() else None


def _bound_problems(path: str, declaration: Mapping[str, Any], node: Node) -> Iterator[Problem]:
    """Faults of content: bounds and choices against each other and against the option's own declaration."""
    kind, annotation = declaration["type"], element_type(path)
    written = {ALIASES.get(name, name): child for name, child in node.value.items()}
    if kind == "categorical":
        yield from _choice_problems(path, declaration, written, node)
        return
    wanted = {"float": (float,), "int": (int, float)}[kind]
    if annotation not in wanted:
        fitting = {float: "float", int: "int"}.get(annotation, "categorical")
        yield Problem(
            node.place,
            path,
            f"is {NAMES.get(annotation, 'a list')}, which type: {kind} cannot sample; use type: {fitting}",
        )
        return
    missing = [name for name in ("low", "high") if declaration[name] is None]
    if missing or "choices" in written:
        yield Problem(node.place, path, f"type: {kind} needs low and high" + ("" if missing else ", not choices"))
        return
    yield from _range_problems(path, declaration, written)


def _range_problems(path: str, declaration: Mapping[str, Any], written: Mapping[str, Node]) -> Iterator[Problem]:
    low, high, step, log = (declaration[name] for name in ("low", "high", "step", "log"))
    bounds = {name: written[name] for name in ("low", "high")}
    if declaration["type"] == "int":
        fractions = [name for name in ("low", "high", "step") if not isinstance(declaration[name], (int, type(None)))]
        for name in fractions:
            message = f"type: int needs a whole number, got {declaration[name]!r}"
            yield Problem(written[name].place, f"{path}.{name}", message)
        if fractions:
            return
    if low > high:
        yield Problem(bounds["low"].place, f"{path}.low", f"cannot be sampled: low {low!r} is above high {high!r}")
    elif log and low <= 0:
        yield Problem(bounds["low"].place, f"{path}.low", f"cannot be sampled: log needs low above 0, got {low!r}")
    if step is not None and (step <= 0 or log):
        message = "log and step exclude each other" if log else f"must be greater than 0, got {step!r}"
        yield Problem(written["step"].place, f"{path}.step", f"cannot be sampled: {message}")
    for name, bound in bounds.items():
        yield from (Problem(bound.place, f"{path}.{name}", problem.message) for problem in check_value(path, bound))


def _choice_problems(
    path: str, declaration: Mapping[str, Any], written: Mapping[str, Node], node: Node
) -> Iterator[Problem]:
    surplus = [name for name in ("low", "high", "step", "log") if name in written]
    for name in surplus:
        yield Problem(written[name].place, f"{path}.{name}", "does not go with type: categorical")
    if not declaration["choices"]:
        yield Problem(node.place, path, "cannot be sampled: type: categorical needs choices")
    if "choices" not in written:
        return
    items = written["choices"].value
    for item in items:
        yield from check_value(path, item)
    codes = [code(item.plain()) for item in items]
    for index, item in enumerate(items):
        if codes[index] in codes[:index]:
            yield Problem(item.place, f"{path}.choices[{index}]", f"{describe(item.plain())} is in the list twice")


def _condition_problems(
    path: str, declaration: Mapping[str, Any], space: Space, every: list[str], node: Node
) -> Iterator[Problem]:
    """Faults of `when`: the parent must be declared earlier and be able to take the value."""
    if not declaration["when"]:
        return
    written = node.value["when"].value
    for parent, allowed in declaration["when"].items():
        place, key = written[parent].place, f"{path}.when.{parent}"
        if parent not in space:
            later = parent in every and every.index(parent) >= every.index(path)
            known = (
                "is declared later; declare it before"
                if later
                else f"is not sampled in this space{nearest(parent, list(space))}"
            )
            if parent in every and not later:
                known = "has a faulty declaration"
            yield Problem(place, key, known)
            continue
        for value in allowed:
            if not can_take(space[parent], value):
                yield Problem(place, key, f"can never be {describe(value)} in this space")


def can_take(declaration: Mapping[str, Any], value: Any) -> bool:
    """Whether a declaration has this very value among a countable set of values."""
    if declaration["type"] == "float":
        return is_number(value) and declaration["low"] <= value <= declaration["high"] and is_finite(declaration)
    if declaration["type"] == "int" and (not isinstance(value, int) or isinstance(value, bool)):
        return False
    values = declaration["choices"] if declaration["type"] == "categorical" else values_of_int(declaration)
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values)


def values_of_int(declaration: Mapping[str, Any]) -> range:
    """The values of an `int` declaration, however many."""
    return range(declaration["low"], declaration["high"] + 1, declaration["step"] or 1)


def read_enqueued(node: Node | None, space: Space, key: str, problems: list[Problem]) -> tuple[dict[str, Any], ...]:
    """Configurations to try first, each within the space."""
    if node is None:
        return ()
    if not isinstance(node.value, list):
        problems.append(Problem(node.place, key, f"must be a list of sections, got {describe(node.plain())}"))
        return ()
    found = [
        problem
        for index, item in enumerate(node.value)
        for problem in _enqueued_problems(item, space, f"{key}[{index}]")
    ]
    problems.extend(found)
    return () if found else tuple(item.plain() for item in node.value)


def _enqueued_problems(item: Node, space: Space, key: str) -> Iterator[Problem]:
    if not isinstance(item.value, dict):
        yield Problem(item.place, key, f"must be a section {{path: value}}, got {describe(item.plain())}")
        return
    for path, child in item.value.items():
        if path not in space:
            yield Problem(child.place, f"{key}.{path}", f"is not sampled in this space{nearest(path, list(space))}")
        elif not _is_within(space[path], child.plain()):
            yield Problem(child.place, f"{key}.{path}", f"{describe(child.plain())} is outside the space")


def _is_within(declaration: Mapping[str, Any], value: Any) -> bool:
    if declaration["type"] == "float":
        return is_number(value) and declaration["low"] <= value <= declaration["high"]
    return can_take(declaration, value)
