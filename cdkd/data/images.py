"""Image files as arrays.

OpenCV reads a JPEG cut off in the middle as a picture with a grey lower part and says nothing. So a file's
structure is checked for completeness before its pixels are trusted.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from cdkd.data.errors import DataError
from cdkd.data.image_header import HeaderError, ends_properly, require_whole, size_in_header

Image = npt.NDArray[np.uint8]

DEFAULT_CAPACITY_BYTES = 4 * 2**30


class ImageSource(Protocol):
    """Where the pixels of image files come from."""

    def load(self, path: Path) -> Image:
        """The image as (H, W, 3) RGB uint8, not to be written to.

        Raises:
            DataError: it cannot be had; the message names the file.
        """


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

    Annotations are in the coordinates of the stored pixels. Grey, palette, 16-bit and CMYK images and those with
    transparency are read as OpenCV converts them, which is what the released code trains on. Damage inside the
    compressed data is noticed in a PNG, by its checksums; JPEG and WebP have none.

    Raises:
        DataError: the file is missing, incomplete, too large or no image; the message names it.
    """
    with _named(path):
        data = path.read_bytes()
        require_whole(data)
        size_in_header(io.BytesIO(data))
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise HeaderError("cannot be decoded; the file is damaged")
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of the image that `read_image` would return, from the file's first bytes.

    Raises:
        DataError: the file is missing, too large or no image; the message names it.
    """
    with _named(path), path.open("rb") as file:
        return size_in_header(file)


def check_image_file(path: Path) -> None:
    """Check that an image file is there and complete, without decoding it and mostly without reading it.

    Raises:
        DataError: as `read_image`, except for damage inside the compressed data.
    """
    with _named(path):
        with path.open("rb") as file:
            size_in_header(file)
            file.seek(0)
            if ends_properly(file):
                return
        require_whole(path.read_bytes())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file it was, in one line."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: image file is missing") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except HeaderError as fault:
        raise DataError(f"{path}: {fault}") from None
