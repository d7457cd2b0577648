"""Enlarged inputs, heat maps, captions and legends."""

import cv2
import numpy as np
import pytest

from cdkd.panels import (
    LINE_HEIGHT,
    MARGIN,
    captioned,
    enlarged,
    heat_mark,
    legend,
    panel_side,
    resized,
    resized_points,
    text_strip,
    with_heat,
)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(int)


@pytest.mark.parametrize(
    ("sizes", "side"), [([32], 256), ([64, 32], 256), ([256, 64], 256), ([96], 288), ([64, 96], 192), ([96, 256], 256)]
)
def test_a_panel_is_large_enough_for_every_input_size(sizes, side):
    assert panel_side(sizes) == side


def test_every_pixel_of_an_enlarged_input_is_a_block():
    image = noise(32, 32)
    large = enlarged(image, 256)
    assert np.array_equal(large.reshape(32, 8, 32, 8, 3), np.broadcast_to(image[:, None, :, None], (32, 8, 32, 8, 3)))


def test_a_point_at_a_pixels_middle_stays_at_the_middle_of_its_block():
    image = noise(32, 32)
    large = enlarged(image, 256)
    assert resized_points([(3, 5), (0, 31)], image, large).tolist() == [[27.5, 43.5], [3.5, 251.5]]
    assert np.array_equal(large[43, 27], image[5, 3])


def test_a_point_of_an_oblong_image_moves_with_it():
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[10, 60] = 255
    large = resized(image, 120)
    assert large.shape == (120, 240, 3)
    (x, y) = resized_points((60, 10), image, large)
    assert np.array_equal(np.argwhere(large[..., 0] == 255).mean(axis=0), (y, x))


def test_a_heat_map_is_brighter_where_it_is_larger_whatever_the_colour_printed():
    image = np.full((64, 64, 3), 90, dtype=np.uint8)
    shown = grey(with_heat(image, np.linspace(0, 1, 8)[None].repeat(8, axis=0)))[32]
    assert (np.diff(shown) >= 0).all()
    assert shown[-1] - shown[0] > 100


def test_a_heat_map_lies_over_the_cells_it_came_from():
    heat = np.zeros((8, 8))
    heat[2, 5] = 1
    shown = grey(with_heat(np.zeros((64, 64, 3), dtype=np.uint8), heat))
    rows, columns = np.nonzero(shown == shown.max())
    assert (rows.mean(), columns.mean()) == (2.5 * 8 - 0.5, 5.5 * 8 - 0.5)


def test_the_image_is_seen_below_a_heat_map():
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    image[:, 8:] = 255
    for heat in (np.zeros((4, 4)), np.ones((4, 4))):
        shown = grey(with_heat(image, heat))
        assert (shown[:, 8:] - shown[:, :8] > 50).all()


@pytest.mark.parametrize("value", [1.01, -0.01, np.nan])
def test_a_heat_map_outside_its_range_is_refused(value):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        with_heat(noise(8, 8), np.full((2, 2), value))


def test_the_legend_of_a_heat_map_shows_its_whole_range():
    brightness = grey(heat_mark())[0]
    assert (np.diff(brightness) >= 0).all()
    assert brightness[-1] - brightness[0] > 100


def lines_of(strip: np.ndarray) -> int:
    return (strip.shape[0] - MARGIN) // LINE_HEIGHT


def test_text_is_wrapped_to_the_width_and_stays_inside():
    text = "a dozen short words that do not have room on one line of this width"
    assert lines_of(text_strip(text, 600)) == 1
    narrow = text_strip(text, 150)
    assert narrow.shape[1] == 150
    assert lines_of(narrow) > 2
    assert (narrow[:, -2:] == 255).all()
    for line in range(lines_of(narrow)):
        assert (narrow[line * LINE_HEIGHT : (line + 1) * LINE_HEIGHT] < 128).any()


def test_of_a_word_that_is_too_long_the_end_is_kept():
    names = [f"{'x' * 60}-{number}.jpg" for number in (1, 2)]
    strips = [text_strip(name, 120) for name in names]
    assert [lines_of(strip) for strip in strips] == [1, 1]
    assert (strips[0][:, -2:] == 255).all()
    assert not np.array_equal(*strips)


def test_text_outside_ascii_is_written_with_question_marks():
    assert np.array_equal(text_strip("größe", 100), text_strip("gr??e", 100))


def test_a_caption_is_below_the_image():
    image = noise(20, 90)
    shown = captioned(image, "text")
    assert np.array_equal(shown[:20], image)
    assert np.array_equal(shown[20:], text_strip("text", 90))


def test_a_legend_starts_a_new_row_where_the_width_ends():
    mark = np.full((20, 40, 3), 7, dtype=np.uint8)
    wide, narrow = (legend([(mark, "one"), (mark, "two"), (mark, "three")], width) for width in (600, 180))
    assert wide.shape[1] <= 600
    assert narrow.shape[1] <= 180
    assert narrow.shape[0] > wide.shape[0]
    for sheet in (wide, narrow):
        assert (sheet == 7).all(axis=-1).sum() == 3 * 20 * 40
