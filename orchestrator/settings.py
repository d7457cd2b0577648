"""Changes to a study from outside its sections: `--set key=value` and profiles.

A key names a training option by its dotted path (`train.epochs`, `data.root`) or a key of the study
(`ablation.seeds`, `search.trials`, `resources.cpus_per_worker`, `study`); the two sets of names do not meet.
The order is base, the study's `set`, the profile for any study, the study's own profile of that name, the command
line; the later one holds. Arms stand above them all, so a profile that makes a study small also says what takes
the place of a value wherever it is written: `replace: {student.backbone: {hrnet_w32: hrnet_w16}}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from cdkd.config import TrainingConfig
from cdkd.options import describe, nearest, type_hints
from orchestrator.errors import Place, Problem, UserError
from orchestrator.overrides import COMMAND_LINE, Layer, check_value, element_type, leaf_paths, read_layer, unknown_path
from orchestrator.sections import StudySection, without_none
from orchestrator.yaml_reader import Node, read_text

TRAINING_SECTIONS = tuple(item.name for item in fields(TrainingConfig))
NOT_CHANGED = ("profiles", "set")


@dataclass
class Changes:
    """What a profile or the command line changes.

    Attributes:
        training: training options by dotted path.
        study: keys of the study, at most two names deep.
        replacements: path of a training option -> (value, what takes its place) pairs.
    """

    training: dict[str, Node] = field(default_factory=dict)
    study: dict[tuple[str, ...], Node] = field(default_factory=dict)
    replacements: dict[str, list[tuple[Any, Node]]] = field(default_factory=dict)

    def over(self, other: Changes) -> Changes:
        """These changes on top of others."""
        pairs = {path: [*found, *other.replacements.get(path, ())] for path, found in self.replacements.items()}
        return Changes(
            {**other.training, **self.training}, {**other.study, **self.study}, {**other.replacements, **pairs}
        )

    def replaced(self, layer: Layer) -> Layer:
        """A layer of training options with the values that stand for its own."""
        return {path: self._replaced(path, node) for path, node in layer.items()}

    def _replaced(self, path: str, node: Node) -> Node:
        plain = node.plain()
        new = next((new for old, new in self.replacements.get(path, ()) if old == plain), None)
        return Node(new.value, node.place) if new is not None else node


def study_keys() -> list[str]:
    """Every key of a study that can be changed, by dotted path."""
    found: list[str] = []
    for item in fields(StudySection):
        annotation = without_none(type_hints(StudySection)[item.name])
        if is_dataclass(annotation):
            names = [part.name for part in fields(annotation)] + list(getattr(annotation, "ALIASES", {}))
            found += [f"{item.name}.{name}" for name in names]
        elif item.name not in NOT_CHANGED:
            found.append(item.name)
    return found


def command_line(arguments: Sequence[str], problems: list[Problem]) -> Changes:
    """The changes of the arguments of `--set`, each `key=value` with a YAML value."""
    changes = Changes()
    for index, argument in enumerate(arguments, start=1):
        place = Place(COMMAND_LINE, index)
        key, separator, text = argument.partition("=")
        key = key.strip()
        if not separator:
            problems.append(Problem(place, key, "must be written key=value"))
            continue
        node = _value(text, place, problems)
        if node is not None:
            _sort_in(key, node, changes, problems)
    return changes


def _value(text: str, place: Place, problems: list[Problem]) -> Node | None:
    try:
        return read_text(text, place) if text.strip() else Node("", place)
    except UserError as error:
        problems.extend(error.problems)
        return None


def _sort_in(key: str, node: Node, changes: Changes, problems: list[Problem]) -> None:
    """Put one change where it belongs, checked as far as it can be by itself."""
    placed = Node({key: node}, node.place)
    if key.split(".")[0] in TRAINING_SECTIONS:
        changes.training |= read_layer(placed, "", problems)
    elif key in study_keys():
        changes.study[tuple(key.split("."))] = node
    else:
        known = [*study_keys(), *leaf_paths()]
        problems.append(Problem(node.place, key, f"no such key of the training or the study{nearest(key, known)}"))


def profile(name: str, node: Node, problems: list[Problem]) -> Changes:
    """The changes of one profile: `set` and `replace` for training options, else keys of the study.

    Args:
        name: in the study's `profiles`; empty for a file of its own.
        node: what it holds.
        problems: added to.
    """
    changes = Changes()
    key = f"profiles.{name}." if name else ""
    if not isinstance(node.value, dict):
        problems.append(Problem(node.place, key, f"must be a section of keys, got {describe(node.plain())}"))
        return changes
    for written, child in node.value.items():
        if written == "set":
            changes.training |= read_layer(child, f"{key}set", problems)
        elif written == "replace":
            changes.replacements |= _replacements(child, f"{key}replace", problems)
        elif written in study_keys():
            changes.study[tuple(written.split("."))] = child
        elif isinstance(child.value, dict) and any(known.startswith(f"{written}.") for known in study_keys()):
            changes.study |= _section_changes(written, child, key, problems)
        else:
            hint = nearest(written, ["set", *study_keys()])
            problems.append(
                Problem(child.place, f"{key}{written}", f"unknown key{hint}; training options go under set")
            )
    return changes


def _replacements(node: Node, key: str, problems: list[Problem]) -> dict[str, list[tuple[Any, Node]]]:
    """The section `replace`: path -> {value: what takes its place}, both values that the option can have."""
    if not isinstance(node.value, dict):
        problems.append(Problem(node.place, key, f"must be a section of keys, got {describe(node.plain())}"))
        return {}
    found: dict[str, list[tuple[Any, Node]]] = {}
    for path, pairs in node.value.items():
        if path not in leaf_paths():
            problems.append(Problem(pairs.place, f"{key}.{path}", unknown_path(path)))
        elif not isinstance(pairs.value, dict):
            message = f"must be a section {{value: value}}, got {describe(pairs.plain())}"
            problems.append(Problem(pairs.place, f"{key}.{path}", message))
        else:
            found[path] = [pair for old, new in pairs.value.items() for pair in _replacement(path, old, new, problems)]
    return found


def _replacement(path: str, written: str, new: Node, problems: list[Problem]) -> Iterator[tuple[Any, Node]]:
    """A value, written as a key and so a text, and what takes its place; nothing where one of them is faulty."""
    old = read_text(written, new.place) if element_type(path) in (int, float) else Node(written, new.place)
    faults = [*check_value(path, old), *check_value(path, new)]
    problems.extend(faults)
    if not faults:
        yield old.plain(), new


def _section_changes(section: str, node: Node, key: str, problems: list[Problem]) -> dict[tuple[str, ...], Node]:
    found: dict[tuple[str, ...], Node] = {}
    for name, child in node.value.items():
        if f"{section}.{name}" in study_keys():
            found[section, name] = child
        else:
            hint = nearest(f"{section}.{name}", study_keys())
            problems.append(Problem(child.place, f"{key}{section}.{name}", f"unknown key{hint}"))
    return found


def changed(root: Node, changes: Changes) -> Node:
    """The study's tree with its changed keys; a section that was absent is made."""
    for path, node in changes.study.items():
        root = _with_entry(root, path, node)
    return root


def _with_entry(root: Node, path: Sequence[str], new: Node) -> Node:
    if len(path) == 1:
        return Node({**root.value, path[0]: new}, root.place, root.size)
    section, name = path
    old = root.value.get(section, Node({}, new.place))
    annotation = without_none(type_hints(StudySection)[section])
    aliases: Mapping[str, str] = getattr(annotation, "ALIASES", {})
    said = aliases.get(name, name)
    children = old.value if isinstance(old.value, dict) else {}
    kept = {key: child for key, child in children.items() if aliases.get(key, key) != said}
    if (section, name) == ("ablation", "seeds"):
        kept.pop("repeats", None)  # seeds that are named from outside take the place of a rule for them
    return Node({**root.value, section: Node({**kept, name: new}, old.place, old.size)}, root.place, root.size)
