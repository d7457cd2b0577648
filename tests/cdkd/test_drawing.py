"""Skeleton pictures and contact sheets."""

import numpy as np
import pytest

from cdkd.drawing import (
    LEFT_COLOUR,
    MIDDLE_COLOUR,
    RIGHT_COLOUR,
    attention_marks,
    box_marks,
    contact_sheet,
    draw_box,
    draw_cross,
    draw_skeleton,
    draw_square,
    draw_truth,
    pose_marks,
    side_colour,
)
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
    drawn = draw_skeleton(image, points, LSP)
    assert (image == 128).all()
    for index, name in enumerate(LSP.names):
        x, y = points[index].astype(int)
        assert drawn[y, x].tolist() == list(side_colour(name))


def test_a_limb_joins_its_two_keypoints():
    drawn = draw_skeleton(GREY, shin(), LSP, line_width=3)
    assert drawn[20, 50].tolist() == list(LEFT_COLOUR)
    assert (drawn[40:] == 128).all()


def test_a_keypoint_that_is_not_finite_is_not_drawn_nor_are_its_limbs():
    assert (draw_skeleton(GREY, np.full((14, 2), np.nan), LSP) == 128).all()
    points = np.full((14, 2), np.nan)
    points[3] = (60.0, 40.0)  # left hip, without knee and right hip
    for drawn in (draw_skeleton(GREY, points, LSP), draw_truth(GREY, points, LSP)):
        changed = np.argwhere((drawn != 128).any(axis=-1))
        assert len(changed) > 0
        assert np.abs(changed - (40, 60)).max() < 4


def shin() -> np.ndarray:
    """A left knee and ankle, 60 pixels apart on row 20, and nothing else."""
    points = np.full((14, 2), np.nan)
    points[4], points[5] = (20.0, 20.0), (80.0, 20.0)
    return points


def test_truth_is_dashed_and_a_prediction_solid_in_grey_too():
    large, points = np.full((400, 400, 3), 128, dtype=np.uint8), 4 * shin()
    predicted, truth = (draw(large, points, LSP)[80, 100:300] for draw in (draw_skeleton, draw_truth))
    assert (predicted == LEFT_COLOUR).all()
    is_white = (truth > 250).all(axis=-1)
    assert np.abs(np.diff(is_white.astype(int))).sum() > 20
    assert 0.2 < is_white.mean() < 0.8
    assert (truth == 128).all(axis=-1).any()


def test_a_labelled_keypoint_is_a_square_of_its_sides_colour_with_a_white_rim():
    points = np.full((14, 2), np.nan)
    points[4] = (200.0, 200.0)
    drawn = draw_truth(np.full((400, 400, 3), 128, dtype=np.uint8), points, LSP)
    assert drawn[200, 200].tolist() == list(LEFT_COLOUR)
    is_white = (drawn == 255).all(axis=-1)
    rows, columns = np.nonzero(is_white)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    assert bottom - top == right - left
    assert is_white[[top, top, bottom, bottom], [left, right, left, right]].all()


def test_a_box_is_drawn_along_its_edges_solid_or_dashed():
    large, corners = np.full((400, 400, 3), 128, dtype=np.uint8), [(40, 40), (360, 40), (360, 320), (40, 320)]
    solid, dashed = draw_box(large, corners, 4.0), draw_box(large, corners, 4.0, is_dashed=True)
    assert (solid[40, 50:350] == 255).all()
    assert (solid[50:310, 40] == 255).all()
    is_white = (dashed[320, 50:350] == 255).all(axis=-1)
    assert 0.2 < is_white.mean() < 0.8
    assert (solid[60:300, 60:340] == 128).all()


def test_a_cross_leaves_its_middle_open_and_a_square_fills_it():
    cross, square = draw_cross(GREY, (50, 40)), draw_square(GREY, (50, 40))
    assert (cross[40, 50] == 128).all()
    assert all((cross[y, x] > 200).all() for x, y in ((53, 40), (47, 40), (50, 43), (50, 37)))
    assert (square[40, 50] > 200).all()
    assert (GREY == 128).all()


def test_legends_name_truth_only_where_it_is_drawn():
    assert [text for _mark, text in pose_marks(has_truth=False)] == [
        "predicted, the person's left",
        "predicted, right",
        "predicted, middle",
    ]
    assert pose_marks(has_truth=True)[-1][1].startswith("ground truth")
    assert len(attention_marks(has_truth=True)) == len(attention_marks(has_truth=False)) + 1
    marks = [mark for mark, _text in (*pose_marks(has_truth=True), *box_marks(), *attention_marks(has_truth=True))]
    assert len({mark.shape for mark in marks}) == 1
    assert len({mark.tobytes() for mark in marks}) == len(marks)


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
    small = (draw_skeleton(GREY, points, LSP)[:, 50] != 128).any(axis=-1).sum()
    large_image = np.full((800, 800, 3), 128, dtype=np.uint8)
    large = (draw_skeleton(large_image, points * 8, LSP)[:, 400] != 128).any(axis=-1).sum()
    assert large >= 3 * small


def test_a_keypoint_far_outside_the_image_does_no_harm():
    points = spread_keypoints()
    points[4] = (1e9, -1e9)
    assert draw_skeleton(GREY, points, LSP).shape == GREY.shape
    assert draw_truth(GREY, points, LSP).shape == GREY.shape


@pytest.mark.parametrize("draw", [draw_skeleton, draw_truth])
@pytest.mark.parametrize(
    ("image", "points", "message"),
    [
        (GREY[..., 0], np.zeros((14, 2)), "uint8"),
        (GREY.astype(float), np.zeros((14, 2)), "uint8"),
        (GREY, np.zeros((16, 2)), "14 keypoints"),
    ],
)
def test_wrong_input_is_refused(draw, image, points, message):
    with pytest.raises(ValueError, match=message):
        draw(image, points, LSP)


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


def test_columns_and_rows_of_a_sheet_are_as_large_as_their_largest_image():
    images = [np.full((height, width, 3), 9, dtype=np.uint8) for height, width in ((4, 3), (4, 20), (10, 2))]
    sheet = contact_sheet(images, 2, gap=1)
    assert sheet.shape == (15, 24, 3)
    assert (sheet[:4, 4:24] == 9).all()
    assert (sheet[5:15, :2] == 9).all()


def test_a_sheet_is_no_wider_than_its_images():
    assert contact_sheet([GREY], 5).shape == GREY.shape


@pytest.mark.parametrize(("images", "columns"), [([], 2), ([GREY], 0)])
def test_a_sheet_of_nothing_is_refused(images, columns):
    with pytest.raises(ValueError, match="at least one column"):
        contact_sheet(images, columns)
