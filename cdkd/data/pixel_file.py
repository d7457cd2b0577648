"""A file of decoded images, read through a memory map.

header      magic, then place, length and digest of the index
pixels      of each image its (H, W, 3) RGB bytes, beginning on a page of their own
index       JSON: of each image its path, bytes and time of change, width, height, offset and checksum
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np

from cdkd.data.errors import DataError
from cdkd.data.images import Image

FORMAT = 1
"""Raise it when the layout of the file changes."""

_MAGIC = b"cdkdpix" + bytes([FORMAT])
_HEADER = struct.Struct("<8sQQ16s")
_PAGE = 4096


@dataclass(frozen=True)
class Entry:
    """An image and its place in the file.

    Attributes:
        path: of the image file, absolute.
        file_bytes: of the image file.
        changed_ns: when the image file was last written.
        width: pixels.
        height: pixels.
        offset: where its pixels begin.
        checksum: CRC-32 of its pixels.
    """

    path: str
    file_bytes: int
    changed_ns: int
    width: int = 0
    height: int = 0
    offset: int = 0
    checksum: int = 0

    @property
    def version(self) -> tuple[str, int, int]:
        """Which image, as which it was last written."""
        return self.path, self.file_bytes, self.changed_ns

    @property
    def pixel_bytes(self) -> int:
        """Length of its pixels."""
        return self.width * self.height * 3


class PixelFile:
    """The images of a file; processes that fork, or are sent this object, read the same memory.

    Raises:
        DataError: the file is missing, cut off or damaged; damage of pixels only `damaged_images` finds.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            with file.open("rb") as opened:
                self.entries = {entry.path: entry for entry in _read_index(opened.fileno())}
                self._memory = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: unusable file of decoded images: {error}") from None

    def __reduce__(self) -> tuple[type[PixelFile], tuple[Path]]:
        """Map the file again in the other process."""
        return PixelFile, (self.file,)

    def load(self, path: Path) -> Image:
        """The image as (H, W, 3) RGB uint8, not to be written to.

        Raises:
            DataError: the file was written without this image.
        """
        entry = self.entries.get(os.path.abspath(path))
        if entry is None:
            raise DataError(f"{path}: image is not in {self.file}")
        return np.ndarray((entry.height, entry.width, 3), np.uint8, self._memory, entry.offset)

    def damaged_images(self) -> list[str]:
        """Paths of images whose pixels are not those that were written; reads the whole file."""
        return [path for path, entry in self.entries.items() if checksum(self.load(Path(path))) != entry.checksum]


def checksum(pixels: Image) -> int:
    """CRC-32 of an image's bytes."""
    return zlib.crc32(pixels.reshape(-1).data)


def placed(entries: Sequence[Entry]) -> list[Entry]:
    """The entries one behind the other, each with its offset."""
    result: list[Entry] = []
    for entry in entries:
        result.append(replace(entry, offset=end_of(result)))
    return result


def end_of(entries: Sequence[Entry]) -> int:
    """The first page behind the last of placed entries."""
    end = entries[-1].offset + entries[-1].pixel_bytes if entries else _HEADER.size
    return -(-end // _PAGE) * _PAGE


def write_pixels(descriptor: int, entry: Entry, pixels: Image) -> Entry:
    """Put an image into its place; returns the entry with its checksum."""
    _write_at(descriptor, pixels.reshape(-1).data, entry.offset)
    return replace(entry, checksum=checksum(pixels))


def write_index(descriptor: int, entries: Sequence[Entry]) -> None:
    """Complete a file whose pixels are all written, and have it all on the disk."""
    index = json.dumps([astuple(entry) for entry in entries]).encode()
    offset = end_of(entries)
    _write_at(descriptor, memoryview(index), offset)
    _write_at(descriptor, memoryview(_HEADER.pack(_MAGIC, offset, len(index), _digest(index))), 0)
    os.fsync(descriptor)


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count


def _read_index(descriptor: int) -> list[Entry]:
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise ValueError("not of this version")
    _, offset, size, digest = _HEADER.unpack(header)
    if offset + size != os.fstat(descriptor).st_size:
        raise ValueError("cut off")
    index = os.pread(descriptor, size, offset)
    if _digest(index) != digest:
        raise ValueError("its index is damaged")
    return [Entry(*values) for values in json.loads(index)]


def _digest(index: bytes) -> bytes:
    return hashlib.blake2b(index, digest_size=16).digest()
