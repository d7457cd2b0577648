"""Image files: decoded exactly, or refused by name."""

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cdkd.data.errors import DataError
from cdkd.data.images import ImageCache, check_image_file, read_image

SUFFIXES = [".jpg", ".png", ".webp"]


def encoded(image: np.ndarray, suffix: str) -> bytes:
    parameters = {".webp": [cv2.IMWRITE_WEBP_QUALITY, 80], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 90]}.get(suffix, [])
    is_done, data = cv2.imencode(suffix, image[..., ::-1], parameters)
    assert is_done
    return data.tobytes()


def with_exif(jpeg: bytes, content: bytes) -> bytes:
    """A JPEG with one APP1 segment put in behind its start."""
    payload = b"Exif\0\0" + content
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def orientation(value: int) -> bytes:
    """A TIFF header with one entry: tag 0x112, type SHORT, one value."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x112, 3, 1, value, 0, 0)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes, str], Path]:
    def write(data: bytes, suffix: str) -> Path:
        path = tmp_path / f"image{suffix}"
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_image_is_read_as_rgb(save, make_image, suffix: str):
    image = make_image()
    image[:30, :30] = (250, 10, 60)
    loaded = read_image(save(encoded(image, suffix), suffix))
    assert loaded.dtype == np.uint8
    assert np.abs(loaded.astype(int) - image).mean() < (6 if suffix != ".png" else 1e-9)


@pytest.mark.parametrize("part", [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_image_is_refused(save, make_image, suffix: str, part: float):
    whole = encoded(make_image(), suffix)
    path = save(whole[: int(len(whole) * part)], suffix)
    for reader in (read_image, check_image_file):
        with pytest.raises(DataError, match=r"truncated|not a JPEG") as caught:
            reader(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_lost_byte_is_noticed(save, make_image, suffix: str):
    path = save(encoded(make_image(), suffix)[:-1], suffix)
    with pytest.raises(DataError, match="truncated"):
        read_image(path)
    with pytest.raises(DataError, match="truncated"):
        check_image_file(path)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(save, make_image):
    thumbnail = encoded(make_image(12, 16), ".jpg")
    whole = with_exif(encoded(make_image(), ".jpg"), thumbnail)
    assert read_image(save(whole, ".jpg")).shape == (90, 120, 3)
    with pytest.raises(DataError, match="truncated"):
        read_image(save(whole[: len(whole) // 2], ".jpg"))
    cut_behind_thumbnail = whole[: whole.index(thumbnail) + len(thumbnail)]
    with pytest.raises(DataError, match="truncated"):
        read_image(save(cut_behind_thumbnail, ".jpg"))


def test_a_progressive_jpeg_is_read_and_its_missing_scans_are_noticed(save, make_image):
    is_done, data = cv2.imencode(".jpg", make_image(), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert is_done
    whole = data.tobytes()
    assert whole.count(b"\xff\xda") > 1
    assert read_image(save(whole, ".jpg")).shape == (90, 120, 3)
    with pytest.raises(DataError, match="truncated"):
        read_image(save(whole[: whole.rindex(b"\xff\xda")], ".jpg"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_behind_the_end_do_no_harm(save, make_image, suffix: str):
    path = save(encoded(make_image(), suffix) + b"\0" * 40, suffix)
    check_image_file(path)
    assert read_image(path).shape == (90, 120, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "image file is empty"),
        (b"<html><body>404 Not Found</body></html>", "not a JPEG, PNG or WebP image"),
        (b"\xff\xd8\xff\xe0\x00\x02\xff\xda\x00\x02 garbage \xff\xd9", "cannot be decoded"),
    ],
)
def test_what_is_no_image_is_refused(save, data: bytes, message: str):
    path = save(data, ".jpg")
    with pytest.raises(DataError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_a_missing_image_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere\.jpg: cannot be read"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match=r"nowhere\.jpg: image file is missing"):
        check_image_file(tmp_path / "nowhere.jpg")


def test_exif_orientation_is_not_applied(save, make_image):
    image = make_image(60, 100)
    turned = save(with_exif(encoded(image, ".jpg"), orientation(6)), ".jpg")
    # proof that the file says so: OpenCV turns it unless told not to
    assert cv2.imread(str(turned)).shape == (100, 60, 3)
    assert read_image(turned).shape == (60, 100, 3)


def test_grey_and_deep_and_transparent_images_become_rgb(save):
    ramp = np.arange(0, 200, 2, dtype=np.uint8)[None].repeat(50, 0)
    for stored in (ramp, ramp.astype(np.uint16) * 257, np.dstack([ramp] * 4)):
        _, data = cv2.imencode(".png", stored)
        loaded = read_image(save(data.tobytes(), ".png"))
        assert loaded.shape == (50, 100, 3)
        assert np.array_equal(loaded[..., 1], ramp)


def test_the_cache_reads_a_file_once(save, make_image):
    path = save(encoded(make_image(), ".png"), ".png")
    cache = ImageCache()
    first = cache.load(path)
    path.unlink()
    assert cache.load(path) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 0


def test_without_keeping_every_load_reads_the_file(save, make_image):
    path = save(encoded(make_image(seed=1), ".png"), ".png")
    cache = ImageCache(False)
    first = cache.load(path)
    save(encoded(make_image(seed=2), ".png"), ".png")
    assert not np.array_equal(cache.load(path), first)


def test_a_full_cache_keeps_what_it_has_and_still_reads(tmp_path: Path, make_image):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(make_image(seed=number), ".png"))
    cache = ImageCache(capacity_bytes=2 * 90 * 120 * 3)
    cache.preload(paths)
    for path in paths[:2]:
        path.unlink()
        assert cache.load(path).shape == (90, 120, 3)
    assert np.array_equal(cache.load(paths[2]), make_image(seed=2))
    paths[2].unlink()
    with pytest.raises(DataError, match="cannot be read"):
        cache.load(paths[2])


@pytest.mark.parametrize("pattern", ["lsp/images/*.webp", "coco/val2017/*.jpg", "official_format/*/*.jpg"])
def test_real_images_pass_both_checks(shared_data: Path, pattern: str):
    paths = sorted(shared_data.glob(pattern))[:60]
    assert paths
    for path in paths:
        check_image_file(path)
        assert read_image(path).ndim == 3
