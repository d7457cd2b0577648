"""The affine map of a crop, against the golden values of the method's section 11."""

import pickle

import cv2
import numpy as np
import pytest

from cdkd.data.crops import (
    EXPANDED_PER_CROPPED,
    Cropper,
    affine,
    center_scale,
    crop,
    invert_affine,
    touched,
    warp_points,
)

GOLDEN = ((100.0, 120.0), 1.5, 30.0)


def test_golden_matrix():
    expected = [[0.184752, 0.106667, 0.724791], [-0.106667, 0.184752, 20.496416]]
    assert affine(*GOLDEN, 64) == pytest.approx(np.array(expected), abs=1e-6)


def test_golden_points():
    assert warp_points([130, 90], affine(*GOLDEN, 64)) == pytest.approx([34.342563, 23.257437], abs=1e-6)
    assert warp_points([130, 90], affine(*GOLDEN, 256)) == pytest.approx([137.370251, 93.029750], abs=1e-6)


@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_map_to_a_larger_crop_is_a_multiple(factor: int, is_flipped: bool):
    small = affine(*GOLDEN, 32, is_flipped)
    assert affine(*GOLDEN, 32 * factor, is_flipped) == pytest.approx(factor * small, rel=1e-12)


@pytest.mark.parametrize("is_flipped", [False, True])
def test_the_inverse_leads_back(is_flipped: bool):
    points = np.array([[[3.0, 4.0], [-20.0, 300.5]]])
    matrix = affine((31, 57), 0.7, -41, 64, is_flipped)
    assert warp_points(warp_points(points, matrix), invert_affine(matrix)) == pytest.approx(points)
    assert warp_points([[31, 57]], matrix) == pytest.approx(np.array([[32, 32]]))


def test_without_rotation_the_crop_is_the_square():
    center, scale = center_scale((10, 20, 30, 80), 1.25)
    assert center == (25, 60)
    assert scale == pytest.approx(80 * 1.25 / 200)
    corners = warp_points([[25 - 50, 60 - 50], [25 + 50, 60 + 50]], affine(center, scale, 0, 64))
    assert corners == pytest.approx(np.array([[0, 0], [64, 64]]))


def test_a_wide_box_gives_a_square_of_its_width():
    assert center_scale((0, 0, 80, 30), 1.0) == ((40, 15), 0.4)


def test_pixels_go_where_points_go():
    """A bright dot lands on the pixel its coordinates map to: points and pixels use one map and one convention."""
    image = np.zeros((90, 120, 3), np.uint8)
    image[40, 70] = 255
    matrix = affine((60, 45), 0.25, 20, 100)
    row, column = np.unravel_index(crop(image, matrix, 100)[..., 0].argmax(), (100, 100))
    assert np.hypot(*(warp_points([70, 40], matrix) - (column, row))) < 0.75


@pytest.mark.parametrize("rotation", [0.0, 25.0])
def test_flipping_the_map_equals_flipping_the_image(make_image, rotation: float):
    image, width = make_image(), 120
    center = (53.0, 41.0)
    by_map = crop(image, affine(center, 0.4, rotation, 64, is_flipped=True), 64)
    mirrored_center = (width - 1 - center[0], center[1])
    by_image = crop(np.ascontiguousarray(image[:, ::-1]), affine(mirrored_center, 0.4, rotation, 64), 64)
    difference = np.abs(by_map.astype(int) - by_image)
    assert difference.max() <= 6
    assert difference.mean() < 0.5


def test_outside_the_image_is_black_and_interpolation_is_bilinear():
    image = np.full((20, 20, 3), 200, np.uint8)
    image[:, 10:] = 100
    matrix = affine((9.75, 10), 40 / 200, 0, 40)
    cut = crop(image, matrix, 40)
    assert cut[0, 0].tolist() == [0, 0, 0]
    # column 20 of the crop is x = 9.75, three quarters of the way from 200 to 100
    assert cut[20, 20, 0] == pytest.approx(125, abs=2)


def test_a_crop_is_sampled_without_smoothing():
    """Stripes one pixel wide survive a reduction to a quarter: the low-resolution domain is an aliased one."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::4] = 255
    cut = crop(image, affine((32, 32), 64 / 200, 0, 16), 16)
    assert cut[4:12, 4:12].mean() > 250
    assert cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA).mean() < 70


def random_map(rng: np.random.Generator, width: int, height: int, size: int) -> np.ndarray:
    """Inside, across and outside the borders, of very different scales."""
    center = rng.uniform(-0.2, 1.2, 2) * (width, height)
    side = np.exp(rng.uniform(np.log(4), np.log(6 * width)))
    return affine(center, side / 200, rng.uniform(-180, 180), size, bool(rng.integers(2)))


def area(rectangle: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = rectangle
    return (right - left) * (bottom - top)


@pytest.mark.parametrize("sizes", [(64, 256), (32, 128), (32, 64), (32,), (96, 256)])
def test_the_cropper_gives_the_pixels_of_the_plain_way(sizes: tuple[int, ...]):
    """Whatever lay on its canvas before, and on both sides of the limit up to which it uses one."""
    rng = np.random.default_rng(sum(sizes))
    cropper = Cropper()
    limit = EXPANDED_PER_CROPPED * sum(size**2 for size in sizes)
    areas = []
    for _ in range(150):
        height, width = rng.integers(1, 6 * sizes[-1], 2)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        matrix = random_map(rng, width, height, sizes[0])
        outputs = [np.full((size, size, 3), 77, np.uint8) for size in sizes]
        cropper.cut(image, matrix, outputs)
        for size, output in zip(sizes, outputs, strict=True):
            assert np.array_equal(output, crop(image, matrix * (size / sizes[0]), size))
        areas.append(area(touched(matrix, sizes[0], width, height)))
    assert min(areas) == 0
    assert sum(0 < found <= limit for found in areas) > 30
    assert max(areas) > limit


def test_a_crop_reads_nothing_outside_the_rectangle_that_it_touches():
    rng = np.random.default_rng(0)
    parts = []
    for _ in range(300):
        height, width = rng.integers(20, 120, 2)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        matrix = random_map(rng, width, height, 32)
        left, top, right, bottom = touched(matrix, 32, width, height)
        other = 255 - image
        other[top:bottom, left:right] = image[top:bottom, left:right]
        assert np.array_equal(crop(image, matrix, 32), crop(other, matrix, 32))
        parts.append((image != other).mean())
    assert 0.2 < np.mean(parts) < 0.8


def test_the_touched_rectangle_is_not_much_larger_than_the_view():
    matrix = affine((60.5, 45.5), 40 / 200, 0, 64)
    left, top, right, bottom = touched(matrix, 64, 120, 90)
    assert (left, top) == (60 - 20 - 2, 45 - 20 - 2)
    assert (right, bottom) == (60 + 20 + 4, 45 + 20 + 4)
    assert touched(matrix, 64, 70, 50)[2:] == (70, 50)
    assert touched(matrix, 64, 30, 90) == (30, 23, 30, 69)


def test_a_cropper_is_sent_to_another_process_without_its_memory(make_image):
    cropper, output = Cropper(), np.empty((32, 32, 3), np.uint8)
    cropper.cut(make_image(), affine((60, 45), 0.2, 0, 32), [output])
    sent = pickle.dumps(cropper)
    assert len(sent) < 200
    again = np.empty_like(output)
    pickle.loads(sent).cut(make_image(), affine((60, 45), 0.2, 0, 32), [again])
    assert np.array_equal(again, output)
