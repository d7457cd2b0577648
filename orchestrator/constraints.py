"""Rules between the options of a search space: `{left: path, op: "<=", right: value or path, when: {path: value}}`.

A checked rule is plain data: `left`, `op`, `right`, `is_path` (whether `right` names an option) and `when` (path ->
allowed values). It is no expression and nothing of it is ever evaluated as code. A rule says nothing about a proposal
that does not sample one of its options, or whose values are not those of `when`.
"""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cdkd.options import describe, nearest
from orchestrator.errors import Problem
from orchestrator.sections import ConstraintSection, read_section
from orchestrator.space import Space, allowed_values, can_take, is_number, suggest
from orchestrator.yaml_reader import Node

Rule = Mapping[str, Any]

OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
DRAWS = 2000
"""How many configurations are drawn to find one that keeps all rules, before a study is refused."""


def broken(rules: Sequence[Rule], overrides: Mapping[str, Any]) -> str:
    """The first rule that a proposal breaks, as text; empty when it keeps all."""
    return next((text(rule) for rule in rules if not holds(rule, overrides)), "")


def holds(rule: Rule, overrides: Mapping[str, Any]) -> bool:
    """Whether a proposal keeps a rule."""
    wanted = [rule["left"], *rule["when"], *([rule["right"]] if rule["is_path"] else [])]
    if any(path not in overrides for path in wanted):
        return True
    if any(overrides[path] not in allowed for path, allowed in rule["when"].items()):
        return True
    right = overrides[rule["right"]] if rule["is_path"] else rule["right"]
    return OPERATORS[rule["op"]](overrides[rule["left"]], right)


def text(rule: Rule) -> str:
    """A rule in one line."""
    conditions = " and ".join(f"{path} is {' or '.join(map(str, values))}" for path, values in rule["when"].items())
    return f"{rule['left']} {rule['op']} {rule['right']}" + (f" when {conditions}" if conditions else "")


def read_constraints(node: Node | None, space: Space, problems: list[Problem]) -> tuple[dict[str, Any], ...]:
    """The rules of a search, checked against its space."""
    key = "search.constraints"
    if node is None:
        return ()
    if not isinstance(node.value, list):
        problems.append(Problem(node.place, key, f"must be a list of rules, got {describe(node.plain())}"))
        return ()
    before = len(problems)
    rules = [_rule(item, space, f"{key}[{index}]", problems) for index, item in enumerate(node.value)]
    found = tuple(rule for rule in rules if rule is not None)
    if len(problems) == before and found and not _is_satisfiable(found, space):
        message = f"none of {DRAWS} configurations drawn from the space keeps these rules"
        problems.append(Problem(node.place, key, message))
    return found


def check_enqueued(
    enqueued: Sequence[Mapping[str, Any]], rules: Sequence[Rule], node: Node | None, problems: list[Problem]
) -> None:
    """A configuration that is to be tried first may break no rule."""
    for index, overrides in enumerate(enqueued):
        fault = broken(rules, overrides)
        if fault and node is not None:
            place = node.value[index].place
            problems.append(Problem(place, f"search.enqueue[{index}]", f"breaks the constraint {fault}"))


def _rule(node: Node, space: Space, key: str, problems: list[Problem]) -> dict[str, Any] | None:
    section = read_section(ConstraintSection, node, key, problems)
    if section is None or section.left == "" or section.op == "":
        return None
    right = section.right.plain()
    rule = {
        "left": section.left,
        "op": section.op,
        "right": right,
        "is_path": isinstance(right, str) and right in space,
        "when": allowed_values(_plain(section.when)),
    }
    found = list(_rule_problems(rule, node, section, space, key))
    problems.extend(found)
    return None if found else rule


def _plain(node: Node | None) -> dict[str, Any]:
    return node.plain() if node is not None and isinstance(node.value, dict) else {}


def _rule_problems(rule: Rule, node: Node, section: ConstraintSection, space: Space, key: str) -> Iterator[Problem]:
    left, right = rule["left"], rule["right"]
    if left not in space:
        yield Problem(node.place_of(["left"]), f"{key}.left", _not_sampled(left, space))
    elif rule["op"] not in ("==", "!="):
        yield from _order_problems(rule, node, space, key)
    elif not rule["is_path"] and not can_take(space[left], right):
        yield Problem(section.right.place, f"{key}.right", f"{left} can never be {describe(right)} in this space")
    yield from _when_problems(rule, section.when, space, key)


def _order_problems(rule: Rule, node: Node, space: Space, key: str) -> Iterator[Problem]:
    """Only numbers are less than others."""
    left, right = rule["left"], rule["right"]
    if not _is_numeric(space[left]):
        yield Problem(node.place_of(["left"]), f"{key}.left", f"{left} is no number: {rule['op']} cannot compare it")
    if rule["is_path"]:
        if not _is_numeric(space[right]):
            yield Problem(node.place_of(["right"]), f"{key}.right", f"{right} is no number")
    elif isinstance(right, str):
        yield Problem(node.place_of(["right"]), f"{key}.right", _not_sampled(right, space))
    elif not is_number(right):
        message = f"must be a number or a searched option, got {describe(right)}"
        yield Problem(node.place_of(["right"]), f"{key}.right", message)


def _when_problems(rule: Rule, node: Node | None, space: Space, key: str) -> Iterator[Problem]:
    if node is None:
        return
    if not rule["when"]:
        yield Problem(node.place, f"{key}.when", f"must be a section {{path: value}}, got {describe(node.plain())}")
    for path, allowed in rule["when"].items():
        place = node.value[path].place
        if path not in space:
            yield Problem(place, f"{key}.when.{path}", _not_sampled(path, space))
            continue
        for value in allowed:
            if not can_take(space[path], value):
                yield Problem(place, f"{key}.when.{path}", f"can never be {describe(value)} in this space")


def _not_sampled(path: str, space: Space) -> str:
    return f"{path!r} is not sampled in this space{nearest(path, list(space))}"


def _is_numeric(declaration: Mapping[str, Any]) -> bool:
    return declaration["type"] != "categorical" or all(map(is_number, declaration["choices"]))


class _Draw:
    """Uniform draws, for `suggest`."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        if log:
            return math.exp(self._random.uniform(math.log(low), math.log(high)))
        if step:
            return low + step * self._random.randint(0, math.floor((high - low) / step + 1e-9))
        return self._random.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        if log:
            return round(math.exp(self._random.uniform(math.log(low), math.log(high))))
        return self._random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._random.choice(choices)


def _is_satisfiable(rules: Sequence[Rule], space: Space) -> bool:
    draw = _Draw()
    return any(not broken(rules, suggest(draw, space)) for _ in range(DRAWS))
