"""Overrides of the training configuration by dotted path: read from nodes, checked, and traced to their lines."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdkd.config import TrainingConfig, annotation_at, problems_at, resolve
from cdkd.options import ConfigError, ConfigProblem, declared_fields, describe, nearest
from orchestrator.errors import Place, Problem
from orchestrator.fingerprint import FILE_FIELDS as FILE_FIELDS
from orchestrator.yaml_reader import Node

COMMAND_LINE = "--set"
PATH_FIELDS = ("data.root", *FILE_FIELDS)

MUST_FIT: Mapping[str, tuple[str, ...]] = {
    "distill.cca.merge": ("student.input_size", "teacher.input_size", "simcc.split_ratio", "teacher.split_ratio"),
    "distill.cca.enabled": ("head.kind",),
    "data.warp": ("distill.cca.enabled",),
    "student.backbone": ("head.kind",),
    "teacher.backbone": ("head.kind",),
    "distill.sape.feature": ("head.kind", "distill.sape.enabled"),
    "distill.logit_alignment": ("student.input_size", "teacher.input_size", "simcc.split_ratio", "teacher.split_ratio"),
    "distill.feature_alignment": ("student.input_size", "teacher.input_size"),
    "distill.etht.init_tau": ("distill.etht.tau_min", "distill.etht.tau_range"),
    "data.train": ("data.kind",),
}
"""Option at which a rule between options is told -> the other options of that rule."""

Layer = Mapping[str, Node]
"""Training options by dotted path, each with the place where it is written."""


def read_layer(node: Node, key: str, problems: list[Problem]) -> dict[str, Node]:
    """A mapping of training options, nested or by dotted path, as one layer of checked values.

    Faulty options are left out and told in `problems`; an option written twice (nested and dotted) is one.
    """
    if not isinstance(node.value, dict):
        problems.append(Problem(node.place, key, f"must be a section of keys, got {describe(node.plain())}"))
        return {}
    layer: dict[str, Node] = {}
    first: dict[str, Place] = {}
    for path, child in _leaves(node, ""):
        found = [
            Problem(place_in(child, path, problem.path), problem.path, problem.message)
            for problem in problems_at(path, child.plain())
        ]
        if first.setdefault(path, child.place) != child.place:
            found.append(Problem(child.place, path, f"is written twice (first in line {first[path].line})"))
        problems.extend(found)
        if not found:
            layer[path] = _with_absolute_path(path, child)
    return layer


def _leaves(node: Node, prefix: str) -> Iterable[tuple[str, Node]]:
    """Every option below a node; a section that is declared as one is entered, anything else is a leaf."""
    for key, child in node.value.items():
        path = f"{prefix}{key}"
        is_unknown = path not in declared_fields(TrainingConfig)
        if isinstance(child.value, dict) and not (is_unknown or _is_leaf(path)):
            yield from _leaves(child, f"{path}.")
        else:
            yield path, child


def _is_leaf(path: str) -> bool:
    return path in leaf_paths()


@functools.cache
def leaf_paths() -> tuple[str, ...]:
    """Every option of the training configuration that is no section."""
    declared = declared_fields(TrainingConfig)
    sections = {path.rpartition(".")[0] for path in declared}
    return tuple(path for path in declared if path not in sections)


def place_in(node: Node, path: str, problem_path: str) -> Place:
    """The place of a problem inside a list-valued option (`data.train[1].images`)."""
    rest = problem_path[len(path) :].replace("[", ".").replace("]", "").strip(".")
    steps: list[str | int] = [int(step) if step.isdigit() else step for step in rest.split(".") if step]
    return node.place_of(steps)


def _with_absolute_path(path: str, node: Node) -> Node:
    """Paths of files start at the folder of the file that says them; those of the command line at the current one."""
    if path not in PATH_FIELDS or not node.value:
        return node
    folder = Path.cwd() if node.place.file == COMMAND_LINE else Path(node.place.file).parent
    return Node(os.path.abspath(folder / Path(node.value).expanduser()), node.place)


def plain_layer(layer: Layer) -> dict[str, Any]:
    """The values of a layer without their places."""
    return {path: node.plain() for path, node in layer.items()}


@dataclass(frozen=True)
class Layers:
    """Layers of training options, later over earlier, on top of a place to point at when nothing else fits."""

    layers: tuple[Layer, ...]
    fallback: Place

    def resolve(self, kind: type[TrainingConfig] = TrainingConfig) -> TrainingConfig:
        """The configuration they make.

        Args:
            kind: UncheckedConfig where rules between fields may be broken.

        Raises:
            ConfigError: a rule between fields is broken.
        """
        return resolve(*(plain_layer(layer) for layer in self.layers), kind=kind)

    def sets(self, path: str) -> bool:
        """True when some layer says this option."""
        return any(path in layer for layer in self.layers)

    def place(self, path: str) -> Place:
        """Where an option, or one it must fit, was last set; else the nearest option around it; else the fallback."""
        together = (path.split("[")[0], *MUST_FIT.get(path, ()))
        for layer in reversed(self.layers):
            written = [layer[key].place for key in together if key in layer]
            if written:
                return written[0]
        return self._near(path)

    def _near(self, path: str) -> Place:
        parts = path.split("[")[0].split(".")
        for count in range(len(parts), 0, -1):
            stem = ".".join(parts[:count])
            for layer in reversed(self.layers):
                near = [node.place for key, node in layer.items() if key == stem or key.startswith(f"{stem}.")]
                if near:
                    return near[0]
        return self.fallback

    def problems(self, error: ConfigError) -> list[Problem]:
        """A configuration's problems at the lines that caused them."""
        return [Problem(self.place(problem.path), problem.path, problem.message) for problem in error.problems]


def unknown_path(path: str, known: Sequence[str] | None = None) -> str:
    """The sentence for a dotted path that does not exist."""
    return f"no such configuration key{nearest(path, list(known if known is not None else leaf_paths()))}"


def check_value(path: str, node: Node) -> list[Problem]:
    """What is wrong with one value for an option, at its place."""
    found: list[ConfigProblem] = problems_at(path, node.plain())
    return [Problem(place_in(node, path, problem.path), problem.path, problem.message) for problem in found]


def element_type(path: str) -> Any:
    """The declared type of an option (a `tuple[...]` for lists)."""
    return annotation_at(path)
