"""Skeleton pictures and contact sheets."""

import numpy as np
import pytest

from cdkd.drawing import LEFT_COLOUR, MIDDLE_COLOUR, RIGHT_COLOUR, contact_sheet, draw_skeleton, side_colour
from cdkd.keypoints import KEYPOINT_SETS

LSP = KEYPOINT_SETS["lsp14"]
GREY = np.full((100, 100, 3), 128, dtype=np.uint8)


def spread_keypoints() -> np.ndarray:
    """(14, 2) keypoints on a grid, 20 pixels apart."""
    return np.array([[15.0 + 20 * (index % 4), 15.0 + 20 * (index // 4)] for index in range(14)])


def luminance(colour: tuple[int, int, int]) -> float:
    return float(np.dot(colour, (0.299, 0.587, 0.114)))


def test_keypoints_are_drawn_in_their_sides_colour_on_a_copy():
    image, points = GREY.copy(), spread_keypoints()
    drawn = draw_skeleton(image, points, None, LSP)
    assert (image == 128).all()
    for index, name in enumerate(LSP.names):
        x, y = points[index].astype(int)
        assert drawn[y, x].tolist() == list(side_colour(name))


def test_a_limb_joins_its_two_keypoints():
    points = np.full((14, 2), np.nan)
    points[4], points[5] = (20.0, 20.0), (80.0, 20.0)  # left knee and ankle
    drawn = draw_skeleton(GREY, points, None, LSP, line_width=3)
    assert drawn[20, 50].tolist() == list(LEFT_COLOUR)
    assert (drawn[40:] == 128).all()


def test_keypoints_scored_below_the_threshold_or_not_finite_are_not_drawn():
    points, scores = spread_keypoints(), np.full(14, 0.1)
    assert (draw_skeleton(GREY, points, scores, LSP, score_threshold=0.2) == 128).all()
    assert (draw_skeleton(GREY, np.full((14, 2), np.nan), None, LSP) == 128).all()
    scores[3] = 0.2
    drawn = draw_skeleton(GREY, points, scores, LSP, score_threshold=0.2)
    changed = np.argwhere((drawn != 128).any(axis=-1))
    assert np.abs(changed - points[3][::-1]).max() < 4
    assert len(changed) > 0


def test_sides_differ_in_grey_too():
    brightness = sorted(luminance(colour) for colour in (LEFT_COLOUR, RIGHT_COLOUR, MIDDLE_COLOUR))
    assert brightness[1] - brightness[0] > 50
    assert brightness[2] - brightness[1] > 50


def test_a_limb_between_the_sides_is_of_neither():
    assert side_colour("left_hip", "right_hip") == MIDDLE_COLOUR
    assert side_colour("neck", "right_shoulder") == RIGHT_COLOUR
    assert side_colour("neck", "head_top") == MIDDLE_COLOUR


def test_lines_grow_with_the_image():
    points = np.full((14, 2), np.nan)
    points[4], points[5] = (10.0, 50.0), (90.0, 50.0)
    small = (draw_skeleton(GREY, points, None, LSP)[:, 50] != 128).any(axis=-1).sum()
    large_image = np.full((800, 800, 3), 128, dtype=np.uint8)
    large = (draw_skeleton(large_image, points * 8, None, LSP)[:, 400] != 128).any(axis=-1).sum()
    assert large >= 3 * small


def test_a_keypoint_far_outside_the_image_does_no_harm():
    points = spread_keypoints()
    points[4] = (1e9, -1e9)
    assert draw_skeleton(GREY, points, None, LSP).shape == GREY.shape


@pytest.mark.parametrize(
    ("image", "points", "scores", "message"),
    [
        (GREY[..., 0], np.zeros((14, 2)), None, "uint8"),
        (GREY.astype(float), np.zeros((14, 2)), None, "uint8"),
        (GREY, np.zeros((16, 2)), None, "14 keypoints"),
        (GREY, np.zeros((14, 2)), np.zeros(3), "14 scores"),
    ],
)
def test_wrong_input_is_refused(image, points, scores, message):
    with pytest.raises(ValueError, match=message):
        draw_skeleton(image, points, scores, LSP)


def test_a_contact_sheet_puts_images_row_by_row():
    images = [np.full((10, 8, 3), 10 * number, dtype=np.uint8) for number in range(1, 4)]
    images[1] = images[1][:5]
    sheet = contact_sheet(images, 2, gap=2, background=255)
    assert sheet.shape == (22, 18, 3)
    assert (sheet[:10, :8] == 10).all()
    assert (sheet[:5, 10:] == 20).all()
    assert (sheet[12:, :8] == 30).all()
    assert (sheet[5:12][:, 10:] == 255).all()
    assert (sheet[:, 8:10] == 255).all()


def test_a_sheet_is_no_wider_than_its_images():
    assert contact_sheet([GREY], 5).shape == GREY.shape


@pytest.mark.parametrize(("images", "columns"), [([], 2), ([GREY], 0)])
def test_a_sheet_of_nothing_is_refused(images, columns):
    with pytest.raises(ValueError, match="at least one column"):
        contact_sheet(images, columns)
