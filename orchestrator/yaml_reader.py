"""YAML text to a tree of nodes that know where they were written.

Nothing is constructed by PyYAML: its parser's events are turned into text, numbers, booleans, lists and
mappings here, by the rules of YAML 1.2 (`off`, `yes` and `no` are texts, `1e-3` is a number, `010` is ten).
Tags, duplicate keys, several documents, byte order marks, control characters, files over 256 kB,
deep nesting and alias bombs are refused, each with the place where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import Place, Problem, UserError

LARGEST_FILE = 256_000
MOST_NODES = 5_000
DEEPEST = 24
LONGEST_NUMBER = 100

_INTEGER = re.compile(r"[-+]?[0-9]+")
_PREFIXED_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_TAB_INDENT = re.compile(r"^ *\t[ \t]*[^\s#]", re.MULTILINE)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Node:
    """A value of a YAML file.

    Attributes:
        value: a scalar, a list of nodes, or a dict of nodes by key.
        place: where its key (or, for an item of a list, the item) is written.
        size: number of scalars, lists and mappings in it once aliases are expanded.
    """

    value: Any
    place: Place
    size: int = 1

    def plain(self) -> Any:
        """The value without its places: scalars, lists and dicts."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def place_of(self, path: Sequence[str | int]) -> Place:
        """The place of the node at a path below this one, or of the nearest one that encloses it."""
        node = self
        for step in path:
            try:
                node = node.value[step]
            except (KeyError, IndexError, TypeError):
                return node.place
        return node.place


def read_file(path: Path) -> Node:
    """Read one YAML file whose top level is a mapping.

    Raises:
        UserError: the file cannot be read, or is not YAML of the accepted kind.
    """
    node = read_text(_load(path), Place(str(path)))
    if not isinstance(node.value, dict):
        what = "is empty" if node.value is None else "must hold `key: value` lines at its top level"
        raise UserError.of([Problem(Place(str(path), 1, 1), "", what)])
    return node


def read_text(text: str, origin: Place) -> Node:
    """Read YAML text. An origin with a line number is the place of everything in it (`--set`).

    Raises:
        UserError: not YAML of the accepted kind.
    """
    builder = _Builder(text, origin)
    try:
        node = builder.document()
    except yaml.MarkedYAMLError as error:
        raise UserError.of([*builder.problems, _syntax_problem(error, builder)]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        builder.problems.append(Problem(builder.last, "", f"is not valid YAML: {error}"))
        raise UserError.of(builder.problems) from None
    if builder.problems:
        raise UserError.of(builder.problems)
    return node


def _load(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: is larger than {LARGEST_FILE:,} bytes, which no study is")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{path}: cannot be read: {reason}") from None
    if data.startswith(b"\xef\xbb\xbf"):
        raise UserError(f"{path}:1:1: begins with a byte order mark; save it as UTF-8 without one")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:
        raise UserError(f"{path}:1:1: is UTF-16 or UTF-32; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _place_at(data[: error.start].decode("utf-8"), error.start, Place(str(path)))
        raise UserError.of([Problem(place, "", "is not UTF-8 text")]) from None
    return text


def _check_characters(text: str, origin: Place) -> None:
    """Raises UserError at the first control character or line indented by a tab."""
    control = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if control:
        message = f"holds the control character U+{ord(control.group()):04X}"
        raise UserError.of([Problem(_place_at(text, control.start(), origin), "", message)])
    tab = _TAB_INDENT.search(text)
    if tab:
        message = "is indented by a tab; YAML wants spaces"
        raise UserError.of([Problem(_place_at(text, tab.start(), origin), "", message)])


def _place_at(text: str, index: int, origin: Place) -> Place:
    if origin.line:
        return origin
    before = text[:index]
    return Place(origin.file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _syntax_problem(error: yaml.MarkedYAMLError, builder: _Builder) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = builder.place(mark) if mark else builder.last
    context = f" ({error.context})" if error.context else ""
    return Problem(place, "", f"is not valid YAML: {error.problem or 'unreadable'}{context}")


class _Builder:
    """Builds the tree from the parser's events."""

    def __init__(self, text: str, origin: Place) -> None:
        _check_characters(text, origin)
        self.origin = origin
        self.last = origin if origin.line else Place(origin.file, 1, 1)
        self.problems: list[Problem] = []
        self._anchors: dict[str, Node] = {}
        self._nodes = 0
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)

    def place(self, mark: Any) -> Place:
        """A parser's mark as a place."""
        return self.origin if self.origin.line else Place(self.origin.file, mark.line + 1, mark.column + 1)

    def document(self) -> Node:
        """The single document of the text; a null node when there is none."""
        found = Node(None, self.last)
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise UserError.of([Problem(self.place(event.start_mark), "", "begins a second document (`---`)")])
            elif isinstance(event, yaml.NodeEvent):
                found = self._node(event, 0)
        return found

    def _node(self, event: yaml.NodeEvent, depth: int) -> Node:
        place = self.last = self.place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        self._check_tag(event, place)
        if depth > DEEPEST:
            raise UserError.of([Problem(place, "", f"is nested deeper than {DEEPEST} levels")])
        if isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(place, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(place, depth)
        else:
            node = Node(self._scalar(event, place), place)
        self._count(node, place)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _count(self, node: Node, place: Place) -> None:
        self._nodes += 1
        if max(self._nodes, node.size) > MOST_NODES:
            raise UserError.of([Problem(place, "", f"holds more than {MOST_NODES:,} values (aliases expanded)")])

    def _alias(self, event: yaml.AliasEvent, place: Place) -> Node:
        if event.anchor not in self._anchors:
            raise UserError.of([Problem(place, "", f"alias *{event.anchor} has no complete anchor before it")])
        target = self._anchors[event.anchor]
        return Node(target.value, place, target.size)

    def _check_tag(self, event: Any, place: Place) -> None:
        if event.tag is not None:
            self.problems.append(Problem(place, "", f"has the tag {event.tag!r}; tags are not accepted"))

    def _mapping(self, place: Place, depth: int) -> Node:
        children: dict[str, Node] = {}
        size = 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key, key_place = self._key(event, depth)
            child = self._node(self._next_node(), depth + 1)
            size += child.size
            if key in children:
                message = f"is written twice (first in line {children[key].place.line})"
                self.problems.append(Problem(key_place, key, message))
            children.setdefault(key, Node(child.value, key_place, child.size))
        return Node(children, place, size)

    def _next_node(self) -> yaml.NodeEvent:
        event = next(self._events)
        assert isinstance(event, yaml.NodeEvent)
        return event

    def _key(self, event: yaml.Event, depth: int) -> tuple[str, Place]:
        place = self.place(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            self._check_tag(event, place)
            return event.value, place
        if not isinstance(event, yaml.AliasEvent):
            self._node(event, depth + 1)  # type: ignore[arg-type]
        self.problems.append(Problem(place, "", "a key must be a plain text"))
        return "?", place

    def _sequence(self, place: Place, depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            assert isinstance(event, yaml.NodeEvent)
            items.append(self._node(event, depth + 1))
        return Node(items, place, 1 + sum(item.size for item in items))

    def _scalar(self, event: Any, place: Place) -> Any:
        if _SURROGATE.search(event.value):
            self.problems.append(Problem(place, "", "holds half of a surrogate pair, which is no character"))
        return plain_scalar(event.value) if event.style is None else event.value


def plain_scalar(text: str) -> Any:
    """The value of an unquoted YAML 1.2 scalar: nothing, a boolean, a number or a text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > LONGEST_NUMBER:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _PREFIXED_INTEGER.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text
