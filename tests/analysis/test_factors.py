"""Options as columns: kernel counts of Table VI, check marks of Table VII, plain values."""

from __future__ import annotations

import pytest

from analysis.factors import factor_columns, plain


def printed(factors: dict) -> list[list[str]]:
    columns = factor_columns(factors)
    body = [[each.text(options[each.path]) for each in columns] for options in factors.values()]
    return [[each.title for each in columns], *body]


def test_kernel_sizes_are_counted() -> None:
    path = "distill.sape.kernels"
    assert printed({"a": {path: [3, 5, 7, 7]}, "b": {path: [3, 5, 7, 9]}, "c": {path: []}}) == [
        ["Kernels: 3×3", "Kernels: 5×5", "Kernels: 7×7", "Kernels: 9×9"],
        ["1", "1", "2", "0"],
        ["1", "1", "1", "1"],
        ["0", "0", "0", "0"],
    ]


def test_learned_scalars_are_ticked_in_the_order_of_the_paper() -> None:
    path = "distill.etht.learn"
    assert printed({"a": {path: ["beta", "tau"]}, "b": {path: []}, "c": {path: ["alpha"]}}) == [
        ["Learned: τ", "Learned: α", "Learned: β"],
        ["✓", "", "✓"],
        ["", "", ""],
        ["", "✓", ""],
    ]


@pytest.mark.parametrize(
    ("path", "value", "heading", "text"),
    [
        ("student.backbone", "hrnet_w32", "Backbone", "HRNet-W32"),
        ("student.backbone", "resnet50", "Backbone", "ResNet-50"),
        ("student.input_size", 64, "Input size", "64"),
        ("distill.alpha", 0.1 + 0.2, "α", "0.3"),
        ("distill.sape.sau", True, "Sau", "✓"),
        ("distill.sape.sau", False, "Sau", ""),
        ("distill.sape.hidden_relu", "x", "Hidden relu", "x"),
    ],
)
def test_a_single_value_is_printed_as_the_paper_writes_it(path: str, value: object, heading: str, text: str) -> None:
    assert printed({"a": {path: value}}) == [[heading], [text]]


def test_milestones_are_written_out() -> None:
    path = "train.milestones"
    assert printed({"a": {path: [170 / 210, 0.95]}, "b": {path: [0.5]}}) == [
        ["Milestones"],
        ["0.809524, 0.95"],
        ["0.5"],
    ]


def test_an_option_that_an_arm_makes_no_use_of_is_no_value() -> None:
    counts, marks = "distill.sape.kernels", "distill.etht.learn"
    used = {counts: [3], marks: ["tau"], "distill.alpha": 1.0}
    assert printed({"plain": dict.fromkeys(used), "full": used})[1:] == [["—", "", "—"], ["1", "✓", "1"]]
    assert plain(None) == ""


def test_the_options_of_all_arms_have_columns_in_the_order_of_the_first() -> None:
    columns = factor_columns({"a": {"x.one": 1, "x.two": 2}, "b": {"x.two": 3}})
    assert [each.path for each in columns] == ["x.one", "x.two"]


def test_a_list_nobody_fills_has_no_column() -> None:
    assert factor_columns({"a": {"distill.etht.learn": []}}) == ()


def test_machines_read_the_value_itself() -> None:
    assert [plain(value) for value in ("x", [3, 5], True, 0.5)] == ["x", "[3, 5]", "true", "0.5"]
