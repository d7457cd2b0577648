"""Designs of an ablation: components and factors to arms.

ladder: [a, b]           all off, +a, +a+b            (components not named stay off)
leave_one_out            everything but one component, and but those that need it
full, baseline           everything on; everything off
factorial, pairwise      of components ([a, b]; all when none are named) or of values ({path: [values]}):
                         every combination, or few arms in which every pair of values occurs
one_factor: {path: [..]} the base with one option changed at a time
arms: {name: {...}}      written out
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cdkd.options import describe, nearest
from orchestrator.errors import Place, Problem
from orchestrator.overrides import Layer, check_value, leaf_paths, read_layer, unknown_path
from orchestrator.yaml_reader import Node

MOST_ARMS = 2000
BASELINE = "baseline"
BASE_ARM = "base"
"""The arm that a refit is compared with: the study's configuration without the search."""
FULL = "full"
DESIGNS = ("ladder", "leave_one_out", FULL, BASELINE, "one_factor", "factorial", "pairwise", "arms")


@dataclass(frozen=True)
class Component:
    """A part of the method that an ablation switches. On is the base; off these overrides."""

    name: str
    off: Layer
    needs: tuple[str, ...]
    place: Place


def refit_arms(top: int) -> tuple[str, ...]:
    """Names of the arms that train the best configurations of a search again, best first."""
    return tuple(f"best-{rank}" for rank in range(1, top + 1))


@dataclass(frozen=True)
class Arm:
    """One setting of an ablation before it is resolved.

    Attributes:
        name: name in the tables, such as `+projector+ensemble` or `without_etht`.
        overrides: what it changes in the base.
        switches: component -> on; empty for arms that are not made of components.
        place: the line of the study file that asks for it.
    """

    name: str
    overrides: Layer
    place: Place
    switches: Mapping[str, bool] = field(default_factory=dict)


class Designer:
    """Turns the section `ablation` into arms, collecting problems."""

    def __init__(self, components: Mapping[str, Component], problems: list[Problem]) -> None:
        self.components = components
        self.problems = problems
        self.expand: Mapping[str, Callable[[Node | None, Place, str], Iterable[Arm]]] = {
            "ladder": self.ladder,
            "leave_one_out": self.leave_one_out,
            FULL: lambda _, place, key: self._of_components(FULL, list(components), place, key),
            BASELINE: lambda _, place, key: self._of_components(BASELINE, [], place, key),
            "one_factor": self.one_factor,
            "factorial": self.factorial,
            "pairwise": self.pairwise,
            "arms": self.explicit,
        }

    def arms(self, design: Node | None) -> list[Arm]:
        """The arms of a design in the order they are asked for, doubles included."""
        if design is None:
            return []
        key = "ablation.design"
        if not isinstance(design.value, list):
            self._tell(design.place, key, f"must be a list of designs, got {describe(design.plain())}")
            return []
        return [arm for index, item in enumerate(design.value) for arm in self._design(item, f"{key}[{index}]")]

    def _design(self, item: Node, key: str) -> list[Arm]:
        is_section = isinstance(item.value, dict) and len(item.value) == 1
        name, content = next(iter(item.value.items())) if is_section else (item.value, None)
        if not isinstance(name, str) or name not in self.expand:
            got = describe(item.plain()) if not isinstance(name, str) else f"{name!r}{nearest(name, DESIGNS)}"
            self._tell(item.place, key, f"must be one of {', '.join(DESIGNS)}, got {got}")
            return []
        place = content.place if content is not None else item.place
        arms = list(itertools.islice(self.expand[name](content, place, f"{key}.{name}"), MOST_ARMS + 1))
        if len(arms) > MOST_ARMS:
            self._tell(place, key, f"makes more than {MOST_ARMS} arms")
            return []
        return arms

    # ------------------------------------------------------------------------ designs of components

    def ladder(self, content: Node | None, place: Place, key: str) -> Iterator[Arm]:
        """Everything off, then one component after another switched on."""
        names = self._named(content, place, key, is_required=True)
        for count in range(len(names) + 1):
            on = names[:count]
            lacking = [need for name in on[-1:] for need in self.components[name].needs if need not in on]
            if lacking:
                self._tell(place, key, f"{on[-1]!r} needs {lacking[0]!r}, which is not before it in the ladder")
                return
            yield from self._of_components("".join(f"+{name}" for name in on) or BASELINE, on, place, key)

    def leave_one_out(self, content: Node | None, place: Place, key: str) -> Iterator[Arm]:
        """Everything on but one component, and but those that need it."""
        for name in self._named(content, place, key):
            on = [other for other in self.components if other != name and name not in self._all_needs(other)]
            yield from self._of_components(f"without_{name}", on, place, key)

    def _component_sets(self, names: Sequence[str]) -> Iterator[dict[str, bool]]:
        """Every way of switching the named components in which each has what it needs."""
        for states in itertools.product((False, True), repeat=len(names)):
            switched = dict(zip(names, states, strict=True))
            on = {name for name, is_on in switched.items() if is_on}
            if all(set(self.components[name].needs) <= on for name in on):
                yield switched

    def _of_switches(self, switched: Mapping[str, bool], place: Place, key: str) -> Iterator[Arm]:
        on = [name for name, is_on in switched.items() if is_on]
        yield from self._of_components("".join(f"+{name}" for name in on) or BASELINE, on, place, key)

    def _of_components(self, name: str, on: Sequence[str], place: Place, key: str) -> Iterator[Arm]:
        if not self.components:
            self._tell(place, key, "needs ablation.components")
            return
        off = [component for component in self.components.values() if component.name not in on]
        overrides = {path: node for component in off for path, node in component.off.items()}
        yield Arm(name, overrides, place, {component: component in on for component in self.components})

    def _all_needs(self, name: str) -> set[str]:
        found: set[str] = set()
        waiting = list(self.components[name].needs)
        while waiting:
            need = waiting.pop()
            if need not in found and need in self.components:
                found.add(need)
                waiting.extend(self.components[need].needs)
        return found

    def _named(self, content: Node | None, place: Place, key: str, *, is_required: bool = False) -> list[str]:
        """The components a design names; all of them when it names none and need not."""
        if content is None and not is_required:
            if not self.components:
                self._tell(place, key, "needs ablation.components")
            return list(self.components)
        if content is None or not isinstance(content.value, list) or not content.value:
            got = describe(content.plain()) if content is not None else "nothing"
            self._tell(place, key, f"must be a list of components, got {got}")
            return []
        names = [item.plain() for item in content.value]
        faulty = [(i, name) for i, name in enumerate(names) if not isinstance(name, str) or name not in self.components]
        for index, name in faulty:
            hint = nearest(str(name), list(self.components))
            self._tell(content.value[index].place, f"{key}[{index}]", f"{describe(name)} is no component{hint}")
        if not faulty and len(set(names)) < len(names):
            self._tell(place, key, "names a component twice")
        return [] if faulty else list(dict.fromkeys(names))

    def _complete(self, content: Node | None, place: Place, key: str) -> list[str]:
        """The components a design combines; none, with problems, where one needs another that is not among them."""
        names = self._named(content, place, key)
        lacking = [(name, need) for name in names for need in self.components[name].needs if need not in names]
        for name, need in lacking:
            self._tell(place, key, f"{name!r} needs {need!r}, which is not among the components named")
        return [] if lacking else names

    # ---------------------------------------------------------------------------- designs of values

    def one_factor(self, content: Node | None, place: Place, key: str) -> Iterator[Arm]:
        """The base with one option changed, for every value of every option."""
        for path, values in self._factors(content, place, key).items():
            yield from (_arm_of_values({path: value}, place) for value in values)

    def factorial(self, content: Node | None, place: Place, key: str) -> Iterator[Arm]:
        """Every combination of components, or of values."""
        if content is not None and isinstance(content.value, dict):
            for combination in _combinations(self._factors(content, place, key)):
                yield _arm_of_values(combination, place)
            return
        for switched in self._component_sets(self._complete(content, place, key)):
            yield from self._of_switches(switched, place, key)

    def pairwise(self, content: Node | None, place: Place, key: str) -> Iterator[Arm]:
        """Few arms in which every possible pair of states, or of values, occurs."""
        if content is not None and isinstance(content.value, dict):
            factors = self._factors(content, place, key)
            if math.prod(map(len, factors.values())) > MOST_ARMS * 5:
                self._tell(place, key, f"chooses among more than {MOST_ARMS * 5} combinations")
                return
            indices = {path: range(len(values)) for path, values in factors.items()}
            for chosen in covering(list(_combinations(indices))):
                yield _arm_of_values({path: factors[path][index] for path, index in chosen.items()}, place)
            return
        names = self._complete(content, place, key)
        if len(names) > 12:
            self._tell(place, key, "takes at most 12 components")
            return
        for switched in covering(list(self._component_sets(names))):
            yield from self._of_switches(switched, place, key)

    def _factors(self, content: Node | None, place: Place, key: str) -> dict[str, list[Node]]:
        if content is None or not isinstance(content.value, dict) or not content.value:
            self._tell(place, key, "must be a section {path: [values]}")
            return {}
        found: dict[str, list[Node]] = {}
        for path, child in content.value.items():
            problems = list(_factor_problems(path, child, key))
            self.problems.extend(problems)
            if not problems:
                found[path] = child.value
        return found

    # -------------------------------------------------------------------------------- explicit arms

    def explicit(self, content: Node | None, place: Place, key: str) -> Iterator[Arm]:
        """Arms written out by name."""
        if content is None or not isinstance(content.value, dict) or not content.value:
            self._tell(place, key, "must be a section {name: {path: value}}")
            return
        for name, child in content.value.items():
            if not name.strip() or len(name) > 80:
                self._tell(child.place, f"{key}.{name}", "an arm's name has 1 to 80 characters")
                continue
            empty = Node({}, child.place) if child.value is None else child
            layer = read_layer(empty, f"{key}.{name}", self.problems)
            self.problems.extend(seed_problems(layer))
            yield Arm(name, layer, child.place)

    def _tell(self, place: Place, key: str, message: str) -> None:
        self.problems.append(Problem(place, key, message))


def seed_problems(layer: Layer) -> list[Problem]:
    """An arm may not set the seed: every arm is repeated with the same ones."""
    message = "an arm does not set the seed; repeats belong to ablation.seeds"
    return [Problem(layer["seed"].place, "seed", message)] if "seed" in layer else []


def _factor_problems(path: str, node: Node, key: str) -> Iterator[Problem]:
    if path == "seed":
        yield Problem(node.place, f"{key}.seed", "a seed is no factor; repeats belong to ablation.seeds")
    elif path not in leaf_paths():
        yield Problem(node.place, f"{key}.{path}", unknown_path(path))
    elif not isinstance(node.value, list) or not node.value:
        yield Problem(node.place, f"{key}.{path}", f"must be a list of values, got {describe(node.plain())}")
    else:
        for item in node.value:
            yield from check_value(path, item)


def _combinations(factors: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*factors.values()) if factors else ():
        yield dict(zip(factors, values, strict=True))


def _arm_of_values(values: Mapping[str, Node], place: Place) -> Arm:
    name = ",".join(f"{path.rsplit('.', 1)[-1]}={_short(node.plain())}" for path, node in values.items())
    return Arm(name, dict(values), place)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def covering(candidates: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """A small choice of the candidates in which every pair of values that occurs at all occurs (greedy)."""
    pairs: list[set[Any]] = [
        set(itertools.combinations(candidate.items(), 2)) or set(candidate.items()) for candidate in candidates
    ]
    open_pairs = set().union(*pairs) if pairs else set()
    chosen: list[Mapping[str, Any]] = []
    while open_pairs:
        best = max(range(len(pairs)), key=lambda index: len(pairs[index] & open_pairs))
        open_pairs -= pairs[best]
        chosen.append(candidates[best])
    return chosen


def read_components(node: Node | None, problems: list[Problem]) -> dict[str, Component]:
    """The section `ablation.components`, checked; an empty dict when it is absent or faulty."""
    if node is None:
        return {}
    key = "ablation.components"
    if not isinstance(node.value, dict) or not node.value:
        problems.append(Problem(node.place, key, f"must be a section of components, got {describe(node.plain())}"))
        return {}
    before = len(problems)
    found = {
        name: _component(name, child, list(node.value), f"{key}.{name}", problems) for name, child in node.value.items()
    }
    problems.extend(_contradictions(found, key))
    problems.extend(_circles(found, key))
    return found if len(problems) == before else {}


def _component(name: str, node: Node, names: list[str], key: str, problems: list[Problem]) -> Component:
    content = node.value if isinstance(node.value, dict) else {}
    if "off" not in content:
        problems.append(Problem(node.place, key, "needs `off: {path: value}`"))
    if not name.strip() or "+" in name or len(name) > 40:
        problems.append(Problem(node.place, key, "a component's name has 1 to 40 characters and no `+`"))
    for written, child in content.items():
        if written not in ("off", "needs"):
            hint = nearest(written, ["off", "needs"])
            problems.append(Problem(child.place, f"{key}.{written}", f"unknown key{hint}"))
    off = read_layer(content["off"], f"{key}.off", problems) if "off" in content else {}
    problems.extend(seed_problems(off))
    needs = _needs(content.get("needs"), [other for other in names if other != name], f"{key}.needs", problems)
    return Component(name, off, needs, node.place)


def _needs(node: Node | None, names: list[str], key: str, problems: list[Problem]) -> tuple[str, ...]:
    if node is None:
        return ()
    if not isinstance(node.value, list):
        problems.append(Problem(node.place, key, f"must be a list of components, got {describe(node.plain())}"))
        return ()
    for item in node.value:
        name = item.plain()
        if name not in names:
            problems.append(
                Problem(item.place, key, f"{describe(name)} is no other component{nearest(str(name), names)}")
            )
    return tuple(str(item.plain()) for item in node.value)


def _contradictions(components: Mapping[str, Component], key: str) -> Iterator[Problem]:
    """Two components that would set one option differently when both are off."""
    for first, second in itertools.combinations(components.values(), 2):
        for path in first.off.keys() & second.off.keys():
            if first.off[path].plain() != second.off[path].plain():
                message = f"{second.name!r} and {first.name!r} set {path} to different values when off"
                yield Problem(second.off[path].place, f"{key}.{second.name}.off", message)


def _circles(components: Mapping[str, Component], key: str) -> Iterator[Problem]:
    designer = Designer(components, [])
    for name, component in components.items():
        if name in designer._all_needs(name):
            yield Problem(component.place, f"{key}.{name}.needs", "needs itself, by way of what it needs")
