"""What arms share, and in what they differ."""

from __future__ import annotations

import pytest

from analysis.report.configuration import Configuration, configuration, differing_grid, in_print, shared_grid
from tests.analysis.recorded import StudyBuilder, Workbench
from tests.analysis.report.studies import texts, trials


def test_arms_are_told_apart_by_what_differs(workbench: Workbench, reported: StudyBuilder) -> None:
    found = configuration(trials(workbench, "reported"))
    assert found.differing == ("distill.alpha",)
    assert {label: options["distill.alpha"] for label, options in found.arms.items()} == {
        "base": "0.0",
        "CDKD <full>": "1.0",
        "crash": "2.0",
    }
    assert found.shared == {"train.milestones": "0.809524, 5", "student.pretrained": "—"}


def test_seed_and_machine_are_no_part_of_it(workbench: Workbench, reported: StudyBuilder) -> None:
    everything = configuration(trials(workbench, "reported"), without=())
    assert {"data.root", "runtime.threads"} <= everything.shared.keys()
    assert "seed" not in {*everything.shared, *everything.differing}


def test_a_pure_search_shows_one_of_its_trials(workbench: Workbench, tuning: StudyBuilder) -> None:
    found = trials(workbench, "tuning")
    only = configuration(found[found["role"] == "search"])
    assert only.shared["distill.tau"] == "4.0"
    assert not only.differing


def test_few_arms_stand_beside_each_other_and_many_below(workbench: Workbench) -> None:
    few = Configuration({}, {f"a{index}": {"x.y": str(index)} for index in range(6)})
    assert texts(differing_grid(few).sheet) == [["x.y", "0", "1", "2", "3", "4", "5"]]
    many = Configuration({}, {f"a{index}": {"x.y": str(index)} for index in range(7)})
    assert texts(differing_grid(many).sheet)[6] == ["a6", "6"]


def test_shared_options_are_read_down_one_column_then_the_other() -> None:
    found = shared_grid(Configuration({"a": "1", "b": "2", "c": "3"}, {}))
    assert texts(found.sheet) == [["a", "1", "c", "3"], ["b", "2", "", ""]]


@pytest.mark.parametrize(
    ("stored", "printed"),
    [
        ("", "—"),
        ("[]", "—"),
        ("none", "none"),
        ("true", "true"),
        ("0.8095238095238095", "0.809524"),
        ("1e-08", "1e-08"),
        ("[3, 5]", "3, 5"),
        ('[{"annotations": "a.json", "images": "b", "detections": ""}]', "a.json with b"),
    ],
)
def test_values_are_printed_as_people_write_them(stored: str, printed: str) -> None:
    assert in_print(stored) == printed
