"""Image files as arrays.

OpenCV reads a JPEG cut off in the middle as a picture with a grey lower part and says nothing. So a file's
structure is checked for completeness before its pixels are trusted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cdkd.data.errors import DataError

Image = npt.NDArray[np.uint8]

DEFAULT_CAPACITY_BYTES = 4 * 2**30

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
# In the compressed data of a JPEG an FF is followed by 00 (a plain FF), by a restart marker or by fill FFs.
_JPEG_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_JPEG_START_OF_SCAN, _JPEG_END_OF_IMAGE = 0xDA, 0xD9


class ImageCache:
    """Reads images, and keeps the decoded ones in memory.

    Args:
        is_kept: False: every load reads the file.
        capacity_bytes: memory for decoded images; once it is full, further images are read each time.
    """

    def __init__(self, is_kept: bool = True, *, capacity_bytes: int = DEFAULT_CAPACITY_BYTES) -> None:
        self._free = capacity_bytes if is_kept else 0
        self._images: dict[Path, Image] = {}

    def load(self, path: Path) -> Image:
        """The image as (H, W, 3) RGB uint8, not to be written to.

        Raises:
            DataError: the file is missing, incomplete or no image; the message names it.
        """
        image = self._images.get(path)
        if image is None:
            image = read_image(path)
            self._keep(path, image)
        return image

    def preload(self, paths: Iterable[Path]) -> None:
        """Read images until the memory is full; loader processes forked afterwards share them.

        Raises:
            DataError: as `load`.
        """
        for path in paths:
            if self._free <= 0:
                return
            self.load(path)

    def _keep(self, path: Path, image: Image) -> None:
        if image.nbytes > self._free:
            self._free = 0
            return
        image.setflags(write=False)
        self._images[path] = image
        self._free -= image.nbytes


def read_image(path: Path) -> Image:
    """Decode a JPEG, PNG or WebP file to (H, W, 3) RGB uint8, as stored: EXIF orientation is not applied.

    Annotations are in the coordinates of the stored pixels.

    Raises:
        DataError: the file is missing, incomplete or no image; the message names it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    fault = _fault(data)
    if fault:
        raise DataError(f"{path}: {fault}")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise DataError(f"{path}: cannot be decoded: {error.err or error}") from None
    if image is None:
        raise DataError(f"{path}: cannot be decoded; the file is damaged")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def check_image_file(path: Path) -> None:
    """Check that an image file is there and complete, without decoding it and mostly without reading it.

    Raises:
        DataError: as `read_image`, except for damage inside the compressed data.
    """
    try:
        if _ends_properly(path):
            return
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: image file is missing") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    fault = _fault(data)
    if fault:
        raise DataError(f"{path}: {fault}")


def _ends_properly(path: Path) -> bool:
    """True when the first and last bytes are those of a complete file; False says only: look closer."""
    with path.open("rb") as file:
        head = file.read(12)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        tail = file.read()
    if head.startswith(_JPEG):
        return tail.endswith(_JPEG_END)
    if head.startswith(_PNG):
        return tail == _PNG_END
    return _is_webp(head) and _webp_size(head) <= size


def _fault(data: bytes) -> str:
    """What is wrong with an image file's structure; empty when nothing is."""
    if not data:
        return "image file is empty"
    if data.startswith(_JPEG):
        is_complete = _is_complete_jpeg(data)
    elif data.startswith(_PNG):
        is_complete = _is_complete_png(data)
    elif _is_webp(data):
        is_complete = _webp_size(data) <= len(data)
    else:
        return "not a JPEG, PNG or WebP image"
    return "" if is_complete else f"image file is truncated (its {len(data)} bytes end before the image does)"


def _is_complete_jpeg(data: bytes) -> bool:
    """Walk the segments to the end-of-image marker; one inside an embedded thumbnail does not count."""
    position = 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker != _JPEG_START_OF_SCAN:
            continue
        found = _JPEG_MARKER_AFTER_SCAN.search(data, position)
        if found is None:
            return False
        position = found.start()
        if data[position + 1] == _JPEG_END_OF_IMAGE:
            return True
    return False


def _is_complete_png(data: bytes) -> bool:
    """Walk the chunks (length, type, content, checksum) to IEND."""
    position = len(_PNG)
    while position + 12 <= len(data):
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return False


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _webp_size(data: bytes) -> int:
    """The file size a RIFF header promises."""
    return 8 + int.from_bytes(data[4:8], "little")
