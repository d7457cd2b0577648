"""Mean keypoint errors by hand, their order, and the table of them."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cdkd.evaluation.scores import Predictions
from cdkd.failures import rank_failures, write_failures
from cdkd.instances import PersonInstance
from cdkd.keypoints import KEYPOINT_SETS

LSP = KEYPOINT_SETS["lsp14"]


def person(annotation_id: int, area: float = 100.0, **changes) -> PersonInstance:
    """A person with every keypoint labelled at (50, 50)."""
    return replace(
        PersonInstance(
            image=Path(f"image{annotation_id}.jpg"),
            image_id=annotation_id,
            annotation_id=annotation_id,
            box=(0, 0, 100, 100),
            area=area,
            keypoints_image=np.full((LSP.count, 2), 50, np.float32),
            visibility=np.full(LSP.count, 2, np.int64),
        ),
        **changes,
    )


def predicted(people: list[PersonInstance], offsets: dict[tuple[int, int], tuple[float, float]]) -> Predictions:
    """The truth, with some keypoints (person, keypoint) moved by (x, y)."""
    points = np.array([person.keypoints_image for person in people], dtype=np.float64)
    for place, offset in offsets.items():
        points[place] += offset
    return Predictions(points, np.ones(points.shape[:2]))


def test_errors_are_means_over_labelled_keypoints_in_roots_of_the_area():
    people = [person(1), person(2, area=400.0)]
    people[1].visibility[3] = 0
    found = predicted(people, {(0, 4): (3, 4), (0, 5): (0, 9), (1, 3): (500, 0), (1, 0): (26, 0)})
    ranking = rank_failures(found, people)
    assert [failure.index for failure in ranking.failures] == [1, 0]
    assert [failure.error for failure in ranking.failures] == pytest.approx([26 / 20 / 13, (5 + 9) / 10 / 14])
    assert [failure.worst_keypoint for failure in ranking.failures] == [0, 5]
    assert [failure.worst_error for failure in ranking.failures] == pytest.approx([1.3, 0.9])
    assert ranking.unit == "square roots of the person's area"


def test_an_annotated_head_size_is_the_unit_where_every_person_has_one():
    people = [person(1, head_size=5.0), person(2, head_size=50.0)]
    found = predicted(people, {(0, 0): (14, 0), (1, 0): (14, 0)})
    ranking = rank_failures(found, people)
    assert [failure.error for failure in ranking.failures] == pytest.approx([0.2, 0.02])
    assert ranking.unit == "head sizes"
    mixed = rank_failures(found, [people[0], person(2)])
    assert [failure.error for failure in mixed.failures] == pytest.approx([0.1, 0.1])


def test_equal_errors_keep_the_persons_order():
    people = [person(number) for number in range(5)]
    found = predicted(people, {(3, 0): (1, 0)})
    assert [failure.index for failure in rank_failures(found, people).failures] == [3, 0, 1, 2, 4]


def test_the_table_has_a_row_a_person_in_order(tmp_path: Path):
    people = [person(7), person(8)]
    ranking = rank_failures(predicted(people, {(1, 4): (0, 28)}), people)
    write_failures(tmp_path / "failures.csv", ranking.failures, people, LSP.names)
    with (tmp_path / "failures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "annotation_id": "8",
        "image": "image8.jpg",
        "error": "0.2000",
        "worst_keypoint": "left_knee",
        "worst_error": "2.8000",
    }
    assert [row["annotation_id"] for row in rows] == ["8", "7"]
