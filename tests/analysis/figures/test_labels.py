"""Texts beside points cover nothing."""

from __future__ import annotations

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from analysis.figures.labels import Label, place
from analysis.figures.style import Page, new_figure, styled


@styled()
def panel() -> Axes:
    axes = new_figure(Page.of("single"), 60).add_subplot()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    return axes


def text_box(written: Annotation) -> Bbox:
    """What a text covers, without its line."""
    written.get_window_extent()  # which moves it to its place
    return Text.get_window_extent(written)


def test_a_lone_text_stands_right_of_its_point() -> None:
    axes = panel()
    (written,) = place(axes, [Label(5, 5, "text")])
    box, point = written.get_window_extent(), axes.transData.transform((5, 5))
    assert box.x0 > point[0]
    assert abs((box.y0 + box.y1) / 2 - point[1]) < 3
    assert written.arrow_patch is None


def test_texts_of_close_points_cover_neither_each_other_nor_a_point() -> None:
    axes = panel()
    labels = [Label(5, 5 + 0.2 * index, f"method {index}", radius=5) for index in range(9)]
    written = place(axes, labels)
    boxes = [text_box(text) for text in written]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    points = [axes.transData.transform((label.x, label.y)) for label in labels]
    assert not any(box.contains(*point) for box in boxes for point in points)
    assert any(text.arrow_patch is not None for text in written)


def test_a_text_stays_inside_the_axes() -> None:
    axes = panel()
    for written in place(axes, [Label(9.8, 9.8, "at the corner"), Label(0.1, 0.1, "at the other")]):
        box = written.get_window_extent()
        assert axes.bbox.x0 <= box.x0 <= box.x1 <= axes.bbox.x1


def test_without_any_room_every_text_is_still_written() -> None:
    labels = [Label(5, 5, "the same place", radius=40) for _ in range(12)]
    assert len(place(panel(), labels)) == 12
