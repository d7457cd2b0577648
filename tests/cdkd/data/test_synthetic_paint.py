"""Painting on the canvas."""

import colorsys

import numpy as np
import pytest

from cdkd.data.synthetic_paint import PATTERNS, Canvas, Fabric, Light, Shape, capsule, colour_from_hsv, disc


def grey_canvas(size: int = 64) -> Canvas:
    pixels = np.full((3, size, size), 100, np.float32)
    return Canvas(pixels, np.zeros((size, size), np.uint8), Light((-0.6, -0.8), 1.0, 0.6))


def flat(outlines, colour=(200.0, 50.0, 0.0)) -> Shape:
    return Shape("thing", outlines, 0.0, Fabric(colour, relief=0.0))


def test_a_disc_covers_its_area_and_nothing_else():
    canvas = grey_canvas()
    canvas.paint(flat([disc(np.array([30.0, 34.0]), 12.0)]), 7)
    # A 12-gon has 95.5 % of its circle; OpenCV's filling takes half a pixel more on each side.
    assert (canvas.owner == 7).sum() == pytest.approx(np.pi * 12.5**2 * 0.955, rel=0.06)
    y, x = np.mgrid[:64, :64]
    far = np.hypot(x - 30, y - 34) > 14
    assert (canvas.pixels[:, far] == 100).all()
    assert canvas.pixels[:, 34, 30].tolist() == [200, 50, 0]


def test_edges_are_smooth_at_sub_pixel_positions():
    totals = []
    for offset in (0.0, 0.25, 0.5):
        canvas = grey_canvas()
        canvas.paint(flat([disc(np.array([30.0 + offset, 34.0]), 6.0)], (200.0, 200.0, 200.0)), 1)
        weights = canvas.pixels[0] - 100
        totals.append((weights * np.arange(64)).sum() / weights.sum())
    assert np.diff(totals) == pytest.approx([0.25, 0.25], abs=0.06)


def test_shapes_are_brighter_towards_the_light():
    canvas = grey_canvas()
    ball = Shape("ball", [disc(np.array([32.0, 32.0]), 15.0)], 0.0, Fabric((120.0, 120.0, 120.0)))
    canvas.paint(ball, 1)
    assert canvas.pixels[0, 24, 25] > canvas.pixels[0, 40, 39] + 10


def test_a_shape_darkens_what_is_behind_its_edge():
    canvas = grey_canvas()
    canvas.paint(Shape("ball", [disc(np.array([32.0, 32.0]), 12.0)], 0.0, Fabric((250.0, 250.0, 250.0))), 1)
    assert canvas.pixels[0, 32, 46] < 99
    assert canvas.pixels[0, 2, 2] == 100


@pytest.mark.parametrize("centre", [(-100.0, 10.0), (10.0, 500.0)])
def test_a_shape_outside_the_image_changes_nothing(centre):
    canvas = grey_canvas()
    canvas.paint(flat([disc(np.array(centre), 8.0)]), 1)
    assert (canvas.pixels == 100).all()
    assert not canvas.owner.any()


def test_a_shape_across_the_border_is_cut():
    canvas = grey_canvas()
    canvas.paint(flat([disc(np.array([0.0, 32.0]), 8.0)]), 1)
    assert canvas.owner[32, 0] == 1
    assert canvas.owner.sum() == pytest.approx(np.pi * 8.5**2 / 2 * 0.955, rel=0.15)


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_a_pattern_shows_both_colours_and_follows_the_axis(pattern):
    outline = np.array([[0, 0], [63, 0], [63, 63], [0, 63]], dtype=np.float32)
    images = []
    for end in ((0, 1), (1, 1)):
        canvas = grey_canvas()
        fabric = Fabric((0.0, 0.0, 0.0), (200.0, 200.0, 200.0), pattern, 9.0, relief=0.0)
        canvas.paint(Shape("wall", [outline], 0.0, fabric, np.array([[0, 0], end], dtype=np.float32)), 1)
        images.append(canvas.pixels[0])
    assert images[0].min() < 60
    assert images[0].max() > 99
    assert np.abs(images[0] - images[1]).mean() > 5


def test_a_capsule_holds_both_circles():
    outline = capsule(np.array([10.0, 10.0]), np.array([40.0, 20.0]), 3.0, 6.0)
    low, high = outline.min(axis=0), outline.max(axis=0)
    assert low.tolist() == pytest.approx([7, 7], abs=0.01)
    assert high.tolist() == pytest.approx([46, 26], abs=0.01)


def test_colours_agree_with_colorsys():
    for hue, saturation, value in np.random.default_rng(0).random((50, 3)):
        expected = [255 * part for part in colorsys.hsv_to_rgb(hue, saturation, value)]
        assert colour_from_hsv(hue, saturation, value) == pytest.approx(expected, abs=1e-6)
