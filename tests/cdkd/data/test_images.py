"""Image files: decoded exactly, or refused by name."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cdkd.data.errors import DataError
from cdkd.data.image_header import LARGEST_IMAGE
from cdkd.data.images import ImageCache, check_image_file, image_size, read_image

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


@pytest.mark.parametrize("part", [0.002, 0.02, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.99])
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
        (bytes(range(200)), "not a JPEG, PNG or WebP image"),
        (b"\xff\xd8\xff\xe0\x00\x02\xff\xda\x00\x02 garbage \xff\xd9", "JPEG without a frame header"),
        (b"\xff\xd8\xff garbage \xff\xda \xff\xd9", "JPEG without a frame header|truncated"),
        (b"\x89PNG\r\n\x1a\n" + 40 * b"x", "PNG without a header|truncated"),
        (b"RIFF\x20\0\0\0WEBPVP8?" + 40 * b"x", "WebP without an image"),
    ],
)
def test_what_is_no_image_is_refused(save, data: bytes, message: str):
    path = save(data, ".jpg")
    for reader in (read_image, check_image_file, image_size):
        with pytest.raises(DataError, match=message) as caught:
            reader(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_sound_header_before_garbage_is_no_image(save, make_image):
    whole = encoded(make_image(), ".jpg")
    frame = whole.index(b"\xff\xc0")
    path = save(whole[: frame + 19] + b"\xff\xda\x00\x02 garbage \xff\xd9", ".jpg")
    assert image_size(path) == (120, 90)
    with pytest.raises(DataError, match=r"image\.jpg: cannot be decoded"):
        read_image(path)


def test_a_missing_image_is_named(tmp_path: Path):
    for reader in (read_image, check_image_file, image_size):
        with pytest.raises(DataError, match=r"nowhere\.jpg: image file is missing$"):
            reader(tmp_path / "nowhere.jpg")
        with pytest.raises(DataError, match=r": cannot be read: Is a directory$"):
            reader(tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("width", "height"), [(120, 90), (1, 3), (701, 2)])
def test_the_size_is_that_of_the_decoded_image(save, make_image, suffix: str, width: int, height: int):
    path = save(encoded(make_image(height, width), suffix), suffix)
    assert image_size(path) == (width, height)
    assert read_image(path).shape == (height, width, 3)


def test_every_kind_of_webp_and_jpeg_tells_its_size(save, make_image):
    image = make_image(33, 47)
    transparent = np.dstack([image, image[..., 0]])
    for suffix, stored, parameters, mark in (
        (".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 80], b"VP8 "),
        (".webp", image, [cv2.IMWRITE_WEBP_QUALITY, 101], b"VP8L"),
        (".webp", transparent, [cv2.IMWRITE_WEBP_QUALITY, 80], b"VP8X"),
        (".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], b"\xff\xc2"),
        (".jpg", image[..., 0], [], b"\xff\xc0"),
    ):
        _, data = cv2.imencode(suffix, stored, parameters)
        assert mark in data.tobytes()
        assert image_size(save(data.tobytes(), suffix)) == (47, 33)


def test_the_size_is_found_behind_other_segments_and_fill_bytes(save, make_image):
    whole = encoded(make_image(), ".jpg")
    table = whole.index(b"\xff\xc4")
    length = 2 + int.from_bytes(whole[table + 2 : table + 4], "big")
    path = save(whole[:2] + whole[table : table + length] + b"\xff\xff" + whole[2:], ".jpg")
    assert image_size(path) == (120, 90)
    assert read_image(path).shape == (90, 120, 3)


def test_the_scaling_hint_of_a_webp_is_no_part_of_its_size(save, make_image):
    data = bytearray(encoded(make_image(), ".webp"))
    assert data[12:16] == b"VP8 "
    data[27] |= 0x40
    assert image_size(save(bytes(data), ".webp")) == (120, 90)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes with any size in its header."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (LARGEST_IMAGE + 1, 1), (0, 5)])
def test_an_image_that_claims_too_much_is_refused_before_it_is_decoded(save, width: int, height: int):
    path = save(png_claiming(width, height), ".png")
    for reader in (read_image, check_image_file, image_size):
        with pytest.raises(DataError, match=rf"header claims {width} x {height} pixels; between 1 and 134,217,728"):
            reader(path)


def test_the_largest_image_is_not_refused_for_its_size(save):
    """OpenCV has a limit of its own, on the sides."""
    path = save(png_claiming(LARGEST_IMAGE, 1), ".png")
    assert image_size(path) == (LARGEST_IMAGE, 1)
    with pytest.raises(DataError, match=r"image\.png: cannot be decoded"):
        read_image(path)


@pytest.mark.parametrize("position", [60, 200, -40])
def test_damage_inside_a_png_is_noticed(save, make_image, position: int):
    data = bytearray(encoded(make_image(), ".png"))
    data[position] ^= 4
    with pytest.raises(DataError, match=r"image\.png: cannot be decoded"):
        read_image(save(bytes(data), ".png"))


def test_a_cmyk_jpeg_becomes_rgb(save, make_image):
    """As Adobe stores them, inverted: OpenCV and Pillow agree."""
    pillow = pytest.importorskip("PIL.Image")
    data = io.BytesIO()
    pillow.fromarray(make_image()).convert("CMYK").save(data, "JPEG", quality=95)
    loaded = read_image(save(data.getvalue(), ".jpg"))
    assert image_size(save(data.getvalue(), ".jpg")) == (120, 90)
    assert np.abs(loaded.astype(int) - make_image()).mean() < 3


def test_exif_orientation_is_not_applied(save, make_image):
    image = make_image(60, 100)
    turned = save(with_exif(encoded(image, ".jpg"), orientation(6)), ".jpg")
    # proof that the file says so: OpenCV turns it unless told not to
    assert cv2.imread(str(turned)).shape == (100, 60, 3)
    assert read_image(turned).shape == (60, 100, 3)
    assert image_size(turned) == (100, 60)


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
    with pytest.raises(DataError, match="is missing"):
        cache.load(paths[2])


@pytest.mark.parametrize("pattern", ["lsp/images/*.webp", "coco/val2017/*.jpg", "official_format/*/*.jpg"])
def test_real_images_pass_both_checks(shared_data: Path, pattern: str):
    paths = sorted(shared_data.glob(pattern))[:60]
    assert paths
    for path in paths:
        check_image_file(path)
        width, height = image_size(path)
        assert read_image(path).shape == (height, width, 3)
