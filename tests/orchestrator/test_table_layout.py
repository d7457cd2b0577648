"""Options in columns of their own, and blocks of rows."""

from __future__ import annotations

from pathlib import Path

from orchestrator.plan import Block
from orchestrator.study import load_study
from tests.orchestrator.test_study import read

STUDY = """\
study: s
base: tiny
metric: {name: val/pckh@0.5}
ablation:
  arms:
    plain-64: {student.input_size: 64, distill.sape.enabled: false, distill.cca.enabled: false}
    full-32: {}
    full-64: {student.input_size: 64}
    plain-32: {distill.sape.enabled: false, distill.cca.enabled: false}
    other-64: {student.input_size: 64, distill.alpha: 0.5}
table:
  baseline: plain-32
"""


def table(tmp_path: Path, extra: str):
    return read(tmp_path, STUDY + extra).table


def test_without_options_all_rows_are_one_block(tmp_path):
    found = table(tmp_path, "")
    assert found.blocks == (Block(("plain-64", "full-32", "full-64", "plain-32", "other-64"), "plain-32"),)
    assert (found.factors, found.group_by, found.decimals, found.side_by_side) == ({}, (), {}, False)


def test_rows_of_one_value_stand_together_in_the_order_of_their_first(tmp_path):
    found = table(tmp_path, "  group_by: [student.input_size]\n")
    assert found.blocks == (
        Block(("plain-64", "full-64", "other-64"), "plain-64"),
        Block(("full-32", "plain-32"), "plain-32"),
    )
    assert found.arms == ("plain-64", "full-64", "other-64", "full-32", "plain-32")


def test_a_blocks_baseline_differs_from_the_given_one_in_the_block_alone(tmp_path):
    """An arm of the block that is not a row will do; one that differs in more will not."""
    found = table(tmp_path, "  group_by: [student.input_size]\n  rows: [full-32, full-64, other-64]\n")
    assert [block.baseline for block in found.blocks] == ["plain-32", "plain-64"]
    without = STUDY.replace(
        "    plain-64: {student.input_size: 64, distill.sape.enabled: false, distill.cca.enabled: false}\n", ""
    )
    blocks = read(tmp_path, without + "  group_by: [student.input_size]\n").table.blocks
    assert [block.baseline for block in blocks] == ["plain-32", ""]


def test_every_block_may_name_its_own_baseline(tmp_path):
    """One that is named goes before one that differs in the block alone; a block of none has none."""
    named = STUDY.replace("  baseline: plain-32\n", "  baseline: [other-64, full-32]\n")
    found = read(tmp_path, named + "  group_by: [student.input_size]\n").table
    assert [block.baseline for block in found.blocks] == ["other-64", "full-32"]
    assert found.baseline == "other-64"
    one = STUDY.replace("  baseline: plain-32\n", "  baseline: [other-64]\n")
    blocks = read(tmp_path, one + "  group_by: [student.input_size]\n").table.blocks
    assert [block.baseline for block in blocks] == ["other-64", ""]


def test_fields_of_the_protocol_that_may_differ_are_taken_as_written(tmp_path):
    assert table(tmp_path, "  allow: [epochs, decoding]\n").allow == ("epochs", "decoding")
    assert table(tmp_path, "").allow == ()


def test_a_table_without_a_baseline_has_none_in_any_block(tmp_path):
    without = STUDY.replace("    full-32: {}\n", "").replace("table:\n  baseline: plain-32\n", "table:\n")
    blocks = read(tmp_path, without + "  group_by: [student.input_size]\n").table.blocks
    assert [block.baseline for block in blocks] == ["", ""]


def test_what_makes_a_block_is_shown_in_front(tmp_path):
    found = table(tmp_path, "  group_by: [student.input_size]\n  factors: [distill.alpha, student.input_size]\n")
    assert list(found.factors["full-64"]) == ["student.input_size", "distill.alpha"]
    assert found.factors["full-64"] == {"student.input_size": 64, "distill.alpha": 1.0}


def test_an_option_that_an_arm_makes_no_use_of_has_no_value(tmp_path):
    found = table(tmp_path, "  factors: [distill.sape.kernels, distill.etht.learn]\n")
    assert found.factors["full-32"] == {"distill.sape.kernels": [3, 5, 7, 7], "distill.etht.learn": ["tau"]}
    assert found.factors["plain-32"] == {"distill.sape.kernels": None, "distill.etht.learn": []}


def test_digits_and_epochs_are_taken_as_written(tmp_path):
    found = table(
        tmp_path, "  columns: [params_m]\n  decimals: {scores: 1, params_m: 0, val/pckh@0.5: 3}\n  side_by_side: true\n"
    )
    assert found.decimals == {"scores": 1, "params_m": 0, "val/pckh@0.5": 3}
    assert found.side_by_side is True


def test_the_specification_is_what_the_tables_read(tmp_path):
    """From the study file to the stored layout and back, through JSON."""
    import json

    from analysis.ablation import Choices, chosen_layout
    from analysis.columns import table_columns
    from orchestrator.compiler import compile_study
    from orchestrator.specification import specification

    text = STUDY + "  group_by: [student.input_size]\n  decimals: {scores: 1}\n  side_by_side: true\n"
    path = tmp_path / "study.yaml"
    read(tmp_path, text)
    stored = json.loads(json.dumps(specification(compile_study(load_study(path)))))
    columns = table_columns(chosen_layout(stored, Choices()), stored["metric"])
    assert [(column.epoch, column.decimals) for column in columns] == [("best epoch", 1), ("last epoch", 1)]
    assert stored["table"]["blocks"][0] == {"arms": ["plain-64", "full-64", "other-64"], "baseline": "plain-64"}
    assert stored["versions"]["numpy"]
