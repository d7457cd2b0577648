"""Page, looks, legends and files of figures."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.style import (
    MM,
    Page,
    columns_of,
    every,
    label_below,
    legend_below,
    looks,
    new_figure,
    panels,
    save,
    styled,
    wrapped,
)


@styled()
def small(labels: tuple[str, ...] = ("a", "b")) -> Figure:
    figure = new_figure(Page.of("single"), 50)
    axes = figure.add_subplot()
    axes.plot([1, 2], [3, 4])
    axes.set_xlabel("epoch")
    legend_below(figure, {label: Line2D([], []) for label in labels}, "title")
    return figure


def test_nothing_global_changes(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    save(small(), tmp_path / "figure", ["pdf"])
    assert dict(matplotlib.rcParams) == before


def test_a_users_settings_do_not_reach_a_figure() -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        axes = small().axes[0]
    assert axes.xaxis.label.get_size() == 8
    assert axes.get_facecolor() == (1, 1, 1, 1)


def test_looks_differ_also_in_grey() -> None:
    found = list(looks([str(index) for index in range(40)]).values())
    assert len({(look.colour, look.marker, str(look.dash)) for look in found}) == 40
    assert len({str(look.dash) for look in found[:5]}) == 5
    assert len({look.marker for look in found[:8]}) == 8


def test_the_baseline_is_black_wherever_it_stands() -> None:
    found = looks(["a", "plain", "b"], "plain")
    assert (found["plain"].colour, found["plain"].dash) == ("#000000", "-")
    assert found["a"] == looks(["plain", "a"], "plain")["a"]


def test_a_pdf_holds_its_text_as_truetype(tmp_path: Path) -> None:
    (path,) = save(small(), tmp_path / "figure", ["pdf"])
    content = path.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert f"/MediaBox [ 0 0 {88 * MM * 72:.4f}".encode() in content


def test_an_svg_holds_its_text_as_text(tmp_path: Path) -> None:
    (path,) = save(small(), tmp_path / "figure", ["svg"])
    assert ">epoch</text>" in path.read_text()


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    for extension in ("pdf", "svg", "png"):
        (first,), (second,) = (save(small(), tmp_path / name, [extension]) for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes(), extension


def test_only_finished_files_have_their_name(tmp_path: Path) -> None:
    save(small(), tmp_path / "deep" / "figure", ["png", "svg"])
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["figure.png", "figure.svg"]


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"format must be one of pdf, svg, png, got gif"):
        save(small(), tmp_path / "figure", ["png", "gif"])
    assert list(tmp_path.iterdir()) == []


def test_a_legend_stays_on_the_page_and_the_figure_grows_by_it() -> None:
    few, many = small(), small(tuple(f"an arm with quite a long name {index}" for index in range(7)))
    assert few.legends[0]._ncols == 2
    assert many.legends[0].get_window_extent().width <= many.bbox.width
    assert many.get_figheight() > few.get_figheight() > 50 * MM
    assert many.get_figwidth() == pytest.approx(88 * MM)


def test_a_long_label_is_broken() -> None:
    figure = small(("word " * 30,))
    assert figure.legends[0].get_texts()[0].get_text().count("\n") >= 2


def test_an_arms_name_is_broken_between_its_components() -> None:
    assert wrapped("+projector+ensemble+sau", 12) == "+projector\n+ensemble\n+sau"
    assert wrapped("CDKD (SAPE+CCA+ETHT) at 64", 14) == "CDKD (SAPE+CCA\n+ETHT) at 64"
    assert wrapped("a" * 30, 14).count("\n") == 2
    assert wrapped("SAU + FC after pooling", 40) == "SAU + FC after pooling"


def test_every_point_of_a_short_line_is_marked_and_few_of_a_long_one() -> None:
    assert every(6, 1, 3)[1] == 1
    start, step = every(200, 1, 5)
    assert (start, step) == (5, 25)


def test_rows_of_panels_are_equally_full() -> None:
    assert [columns_of(count, 4) for count in (1, 3, 4, 5, 8, 9)] == [1, 3, 4, 3, 4, 3]


@styled()
def test_the_lowest_panel_of_each_column_has_the_title() -> None:
    drawn = panels(new_figure(Page.of("double"), 80), 4, 3, sharex=True)
    label_below(drawn, 3, "epoch")
    assert [axes.get_xlabel() for axes in drawn] == ["", "epoch", "epoch", "epoch"]
    assert len(drawn[0].figure.axes) == 4
