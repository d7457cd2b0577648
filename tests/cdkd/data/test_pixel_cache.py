"""Decoding once for all: who builds, who waits, what is built again, what is left behind."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from cdkd.data import pixel_cache
from cdkd.data.errors import DataError
from cdkd.data.images import read_image
from cdkd.data.pixel_cache import open_or_build, remove_stale
from cdkd.data.pixel_file import PixelFile

COUNT = 6
# Builds in a process of its own: tells of every image, then waits until the file `go` is there.
BUILDER = """
import logging, sys, time, zlib
from pathlib import Path
from cdkd.data.pixel_cache import open_or_build

folder, go, *images = map(Path, sys.argv[1:])
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")

def progress(done, total, written):
    print("decoded", done, flush=True)
    while not go.exists():
        time.sleep(0.01)

cache = open_or_build(folder, images, workers=1, progress=progress)
print("pixels", zlib.crc32(b"".join(cache.load(image).tobytes() for image in images)), flush=True)
"""


@pytest.fixture
def images(tmp_path: Path, make_image) -> list[Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(COUNT)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), make_image(40, 50 + number, seed=number))
    return paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def start(tmp_path: Path, folder: Path, images: list[Path]) -> Iterator[Callable[[], subprocess.Popen]]:
    """Starts builders; none outlives the test."""
    started: list[subprocess.Popen] = []

    def run() -> subprocess.Popen:
        arguments = [sys.executable, "-c", BUILDER, folder, tmp_path / "go", *images]
        started.append(subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def read_until(process: subprocess.Popen, word: str) -> list[str]:
    """Lines of a process up to the first with a word."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError(f"no {word!r} in {lines}")


def names(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


def test_it_is_built_once_and_then_found(folder: Path, images: list[Path]):
    told: list[tuple[int, int, int]] = []
    built = open_or_build(folder, [*images, images[0]], progress=lambda *numbers: told.append(numbers))
    sizes = [read_image(path).nbytes for path in images]
    assert [done for done, _, _ in told] == list(range(1, COUNT + 1))
    assert told[-1] == (COUNT, COUNT, sum(sizes))
    assert set(built.entries) == set(map(str, images))
    found = open_or_build(folder, reversed(images), progress=lambda *numbers: pytest.fail("built again"))
    assert found.file == built.file
    assert names(folder) == [".pixels"]


def test_each_image_begins_on_a_page_of_its_own(folder: Path, images: list[Path]):
    entries = open_or_build(folder, images).entries.values()
    assert all(entry.offset % 4096 == 0 for entry in entries)
    ends = [(entry.offset, entry.offset + entry.pixel_bytes) for entry in entries]
    assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))


def rewrite(path: Path) -> None:
    """Other pixels in as many bytes: only the time of change tells."""
    before = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def grow(path: Path) -> None:
    """More bytes at the same time of change."""
    before = path.stat()
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [rewrite, grow])
def test_a_changed_image_gets_a_new_file_and_the_old_one_is_stale(folder: Path, images: list[Path], change: Callable):
    old = open_or_build(folder, images)
    assert remove_stale(folder) == []
    change(images[2])
    new = open_or_build(folder, images)
    assert new.file != old.file
    assert remove_stale(folder) == [old.file]
    assert new.file.exists()
    assert np.array_equal(old.load(images[0]), read_image(images[0])), "an open file stays readable"


def test_other_images_and_another_decoder_get_another_file(folder: Path, images: list[Path], monkeypatch):
    files = {open_or_build(folder, images).file, open_or_build(folder, images[1:]).file}
    monkeypatch.setattr(pixel_cache.cv2, "__version__", "0.0")
    files.add(open_or_build(folder, images).file)
    assert len(files) == 3


def test_a_missing_image_makes_its_file_stale(folder: Path, images: list[Path]):
    file = open_or_build(folder, images).file
    images[3].unlink()
    assert remove_stale(folder) == [file]
    with pytest.raises(DataError, match=r"3\.png: image file is missing"):
        open_or_build(folder, images)


def test_a_damaged_file_is_built_again(folder: Path, images: list[Path], caplog):
    file = open_or_build(folder, images).file
    file.write_bytes(file.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        again = open_or_build(folder, images)
    assert "cut off; it will be built again" in caplog.text
    assert again.damaged_images() == []
    assert again.file == file
    file.write_bytes(b"")
    assert remove_stale(folder) == [file]


def test_broken_images_are_named_and_nothing_is_left(folder: Path, images: list[Path], caplog):
    for path in images[1:3]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"1\.png: cannot be decoded.* \(and 1 other images, named in the log\)$"):
        open_or_build(folder, images)
    assert "1.png: cannot be decoded" in caplog.text
    assert "2.png: cannot be decoded" in caplog.text
    images[4].write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"4\.png: not a JPEG, PNG or WebP image$"):
        open_or_build(folder, images)
    assert names(folder) == []


@pytest.mark.parametrize(("height", "keeps_time"), [(40, False), (30, True)])
def test_an_image_that_changes_meanwhile_is_refused(
    folder: Path, images: list[Path], make_image, monkeypatch, height: int, keeps_time: bool
):
    """Also one of another height that has neither its bytes nor its time changed: it would not fit its place."""
    last, before = images[-1], images[-1].stat()

    def change_then_read(path: Path) -> np.ndarray:
        if path == last:
            cv2.imwrite(str(last), make_image(height, 55, seed=5))
            last.write_bytes(last.read_bytes().ljust(before.st_size, b"\0"))
            if keeps_time:
                os.utime(last, ns=(before.st_atime_ns, before.st_mtime_ns))
        return read_image(path)

    monkeypatch.setattr(pixel_cache, "read_image", change_then_read)
    with pytest.raises(DataError, match=r"5\.png: image was changed while it was read"):
        open_or_build(folder, images)
    assert last.stat().st_size == before.st_size
    assert names(folder) == []


def test_an_interrupted_build_stops_at_once_and_leaves_nothing(folder: Path, images: list[Path], monkeypatch):
    read = []

    def read_slowly(path: Path) -> np.ndarray:
        read.append(path)
        time.sleep(0.1)
        return read_image(path)

    def interrupt(*numbers: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pixel_cache, "read_image", read_slowly)
    with pytest.raises(KeyboardInterrupt):
        open_or_build(folder, images, workers=1, progress=interrupt)
    assert 1 <= len(read) < COUNT
    assert names(folder) == []


def test_without_room_nothing_is_built(folder: Path, images: list[Path]):
    needed = 4096 * (1 + sum(-(-read_image(path).nbytes // 4096) for path in images))
    with pytest.raises(DataError, match=rf"decoded images need {needed:,} bytes here, 9,000 are free"):
        open_or_build(folder, images, free_bytes=lambda folder: 9000)
    assert names(folder) == []
    assert open_or_build(folder, images, free_bytes=lambda folder: needed)


def test_a_disk_that_fills_up_meanwhile_is_one_line_and_leaves_nothing(folder: Path, images: list[Path]):
    """A limit on the size of files stands for the full disk."""
    program = (
        "import resource, sys; from pathlib import Path; from cdkd.data.pixel_cache import open_or_build\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try: open_or_build(Path(sys.argv[1]), map(Path, sys.argv[2:]))\n"
        "except ValueError as error: print(type(error).__name__, error)"
    )
    run = subprocess.run([sys.executable, "-c", program, folder, *images], capture_output=True, text=True, check=True)
    assert run.stdout == f"DataError {folder}: decoded images cannot be kept here: File too large\n"
    assert names(folder) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, images: list[Path]):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/cache: decoded images cannot be kept here: Not a directory"):
        open_or_build(tmp_path / "file" / "cache", images)


def test_of_two_processes_one_builds_and_the_other_waits(tmp_path: Path, folder: Path, images: list[Path], start):
    builder = start()
    read_until(builder, "decoded 1")
    waiter = start()
    read_until(waiter, "waiting for another process")
    assert remove_stale(folder) == [], "what is being built is not stale"
    (tmp_path / "go").touch()
    built, waited = builder.communicate()[0], waiter.communicate()[0]
    assert f"decoded {COUNT}\n" in built
    assert "decoded" not in waited
    assert waited.startswith("pixels ")
    assert built.endswith(waited)
    assert names(folder) == [".pixels"]


def test_when_the_builder_is_killed_the_one_that_waits_builds(tmp_path: Path, folder: Path, start):
    builder = start()
    read_until(builder, "decoded 1")
    waiter = start()
    read_until(waiter, "waiting for another process")
    builder.kill()
    (tmp_path / "go").touch()
    assert f"decoded {COUNT}\n" in waiter.communicate()[0]
    assert waiter.returncode == 0
    assert names(folder) == [".pixels"]


def test_what_a_killed_builder_leaves_stops_nobody_and_can_be_removed(folder: Path, images: list[Path], start):
    builder = start()
    read_until(builder, "decoded 1")
    builder.kill()
    builder.wait()
    (draft,) = folder.iterdir()
    assert draft.stat().st_size > 0
    assert remove_stale(folder) == [draft]
    assert names(folder) == []
    draft.write_bytes(b"x" * 10**6)
    built = open_or_build(folder, images)
    assert built.damaged_images() == []
    assert isinstance(built, PixelFile)
    assert built.file.stat().st_size < 10**6
    assert names(folder) == [".pixels"]
