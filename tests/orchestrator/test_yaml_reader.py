"""YAML text to nodes with places: what is read, what is refused, and where the refusal points."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from orchestrator.errors import Place, UserError
from orchestrator.yaml_reader import MOST_NODES, read_file, read_text

ORIGIN = Place("x.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E+3", 1000.0),
        ("-.5", -0.5),
        ("2.", 2.0),
        ("010", 10),
        ("0x10", 16),
        ("-7", -7),
        ("true", True),
        ("off", "off"),
        ("yes", "yes"),
        ("null", None),
        ("~", None),
        ("'1e-3'", "1e-3"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("[3, 5, 7]", [3, 5, 7]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_yaml_1_2(text, value):
    read = read_text(text, ORIGIN).plain()
    assert read == value
    assert type(read) is type(value)


def test_keys_stay_texts_so_that_off_is_a_key():
    assert read_text("off: {1: x}", ORIGIN).plain() == {"off": {"1": "x"}}


def test_every_value_knows_where_its_key_is():
    node = read_text("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n", ORIGIN)
    assert node.place_of(["a", "b"]) == Place("x.yaml", 2, 3)
    assert node.place_of(["a", "c", 1, "d"]) == Place("x.yaml", 5, 8)
    assert node.place_of(["a", "c", 1, "missing"]) == Place("x.yaml", 5, 7)
    assert node.place_of(["a", "nowhere", "deeper"]) == Place("x.yaml", 1, 1)


def test_an_alias_is_the_anchored_value_at_its_own_place():
    node = read_text("a: &x {k: 1}\nb: *x\n", ORIGIN)
    assert node.plain() == {"a": {"k": 1}, "b": {"k": 1}}
    assert node.place_of(["b"]).line == 2


def test_text_of_the_command_line_lies_where_the_option_is():
    assert read_text("[1, 2]", Place("--set", 3)).value[1].place == Place("--set", 3)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)

REFUSED = {
    "a: 1\na: 2\n": "x.yaml:2:1: a: is written twice (first in line 1)",
    "a: !!python/object:os.system {}\n": "x.yaml:1:4: has the tag 'tag:yaml.org,2002:python/object:os.system'",
    "a: !!str 1\n": "x.yaml:1:4: has the tag",
    "!x a: 1\n": "x.yaml:1:1: has the tag",
    "a: [1\n": "x.yaml:2:1: is not valid YAML",
    "a: b: c\n": "x.yaml:1:5: is not valid YAML",
    "a:\n\tb: 1\n": "x.yaml:2:1: is indented by a tab",
    "a: \x07\n": "x.yaml:1:4: holds the control character U+0007",
    "a: &x [*x]\n": "x.yaml:1:8: alias *x has no complete anchor before it",
    "a: *nowhere\n": "x.yaml:1:4: alias *nowhere",
    "a: 1\n---\nb: 2\n": "x.yaml:2:1: begins a second document",
    "? [a, b]\n: 1\n": "x.yaml:1:3: a key must be a plain text",
    "a: " + "[" * 3000: "is nested deeper than",
    'a: "\\ud800"': "x.yaml:1:4: holds half of a surrogate pair",
    'a: "\\U00110000"': "x.yaml:1:1: is not valid YAML",
    BOMB: "values (aliases expanded)",
    "a: [" + "1," * (MOST_NODES + 1) + "]": "values (aliases expanded)",
    "%YAML 9.9\n---\na: 1": "x.yaml:1:1: is not valid YAML",
}


@pytest.mark.parametrize(("text", "reason"), REFUSED.items(), ids=[str(index) for index in range(len(REFUSED))])
def test_refusals_are_one_line_with_the_place(text, reason):
    with pytest.raises(UserError) as caught:
        read_text(text, ORIGIN)
    assert len(caught.value.lines) == 1
    assert reason in caught.value.lines[0]


def test_several_doubles_and_tags_are_told_at_once():
    with pytest.raises(UserError) as caught:
        read_text("a: 1\na: 2\nb: !x 1\nb: 3\n", ORIGIN)
    assert [line.split(": ")[0] for line in caught.value.lines] == ["x.yaml:2:1", "x.yaml:3:4", "x.yaml:4:1"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xef\xbb\xbfa: 1", "byte order mark"),
        ("a: 1".encode("utf-16"), "UTF-16"),
        (b"a: \xff\n", ":1:4: is not UTF-8"),
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n", "must hold `key: value` lines"),
        (b"a: 1\n" * 300_000, "is larger than"),
    ],
)
def test_files_of_a_wrong_kind_are_refused(tmp_path: Path, content, reason):
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_file(file)
    assert len(caught.value.lines) == 1
    assert reason in caught.value.lines[0]
    assert caught.value.lines[0].startswith(str(file))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read"):
        read_file(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read"):
        read_file(tmp_path)
