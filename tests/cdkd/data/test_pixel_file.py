"""The file of decoded images: what it gives back, and which damage it notices."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from cdkd.data.errors import DataError
from cdkd.data.images import read_image
from cdkd.data.pixel_cache import open_or_build
from cdkd.data.pixel_file import PixelFile

HEADER_BYTES = 40


@pytest.fixture
def images(tmp_path: Path, make_image) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), make_image(40 + number, 50, seed=number))
    return paths


@pytest.fixture
def written(tmp_path: Path, images: list[Path]) -> PixelFile:
    return open_or_build(tmp_path / "cache", images)


def flip_bit(file: Path, position: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


def test_it_gives_every_image_as_reading_it_does(written: PixelFile, images: list[Path]):
    for path in images:
        assert np.array_equal(written.load(path), read_image(path))


def test_an_image_goes_by_its_place_however_written(written: PixelFile, images: list[Path], monkeypatch):
    monkeypatch.chdir(images[1].parent)
    assert np.array_equal(written.load(Path("cache/../1.png")), read_image(images[1]))


def test_pixels_are_not_to_be_written_to(written: PixelFile, images: list[Path]):
    with pytest.raises(ValueError, match="read-only"):
        written.load(images[0])[0, 0] = 0


def test_an_image_it_was_written_without_is_named(written: PixelFile, tmp_path: Path):
    with pytest.raises(DataError, match=r"other\.png: image is not in .*\.pixels"):
        written.load(tmp_path / "other.png")


def test_it_opens_again_in_another_process(written: PixelFile, images: list[Path]):
    sent = pickle.dumps(written)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent).load(images[2]), read_image(images[2]))


@pytest.mark.parametrize("position", range(HEADER_BYTES))
def test_a_flipped_bit_of_the_header_is_noticed(written: PixelFile, position: int):
    flip_bit(written.file, position, bit=position % 8)
    with pytest.raises(DataError, match=r"\.pixels: unusable file of decoded images") as caught:
        PixelFile(written.file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("from_end", [1, 20, 60])
def test_a_flipped_bit_of_the_index_is_noticed(written: PixelFile, from_end: int):
    flip_bit(written.file, written.file.stat().st_size - from_end)
    with pytest.raises(DataError, match="its index is damaged"):
        PixelFile(written.file)


@pytest.mark.parametrize("length", [0, 1, HEADER_BYTES - 1, HEADER_BYTES, 5000, -1])
def test_a_cut_off_file_is_noticed(written: PixelFile, length: int):
    content = written.file.read_bytes()
    written.file.write_bytes(content[:length])
    with pytest.raises(DataError, match=r"cut off|not of this version"):
        PixelFile(written.file)


def test_a_missing_file_is_noticed(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere\.pixels: unusable file of decoded images: .*No such file"):
        PixelFile(tmp_path / "nowhere.pixels")


def test_damaged_pixels_are_found_with_their_image(written: PixelFile, images: list[Path]):
    assert written.damaged_images() == []
    entry = written.entries[str(images[1])]
    for position in (entry.offset, entry.offset + entry.pixel_bytes - 1):
        flip_bit(written.file, position)
        assert PixelFile(written.file).damaged_images() == [str(images[1])]
        flip_bit(written.file, position)
    assert PixelFile(written.file).damaged_images() == []
