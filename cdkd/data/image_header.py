"""What the bytes of a JPEG, PNG or WebP file say of themselves: pixels of the image, and whether the file is whole.

Nothing is decoded here. Standard library only.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

LARGEST_IMAGE = 2**27
"""Pixels (11,585 squared). No photograph of a data set comes near; decoded, an image is three times as many bytes,
and a file of a few kilobytes can claim any number of them."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xaeB`\x82"
# Start of frame 0 to 15, without the three codes of that range that mean something else.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_START_OF_SCAN, _JPEG_END_OF_IMAGE = 0xDA, 0xD9
_NO_IMAGE = "not a JPEG, PNG or WebP image"
_SHORT = "image file is truncated (it ends inside its header)"


class HeaderError(ValueError):
    """What is wrong with an image file, without its name."""


def size_in_header(file: BinaryIO) -> tuple[int, int]:
    """Width and height of the stored pixels (before any EXIF rotation).

    Args:
        file: the file, at its start.

    Raises:
        HeaderError: no image, a header cut off or without a size, or a size beyond `LARGEST_IMAGE`.
    """
    head = file.read(30)
    if not head:
        raise HeaderError("image file is empty")
    try:
        if head.startswith(_JPEG):
            width, height = _jpeg_size(file)
        elif head.startswith(_PNG):
            width, height = _png_size(head)
        elif _is_webp(head):
            width, height = _webp_image_size(head)
        else:
            raise HeaderError(_NO_IMAGE)
    except struct.error:
        raise HeaderError(_SHORT) from None
    if not 0 < width * height <= LARGEST_IMAGE:
        raise HeaderError(f"image header claims {width} x {height} pixels; between 1 and {LARGEST_IMAGE:,} are read")
    return width, height


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    """Walk the segments to the frame header; what lies in an embedded thumbnail is passed over."""
    file.seek(2)
    while True:
        fill, marker = struct.unpack("BB", file.read(2))
        while marker == 0xFF:
            (marker,) = struct.unpack("B", file.read(1))
        if fill != 0xFF or marker in (_JPEG_START_OF_SCAN, _JPEG_END_OF_IMAGE):
            raise HeaderError("JPEG without a frame header; the file is damaged")
        (length,) = struct.unpack(">H", file.read(2))
        if marker in _JPEG_FRAMES:
            _, height, width = struct.unpack(">BHH", file.read(5))
            return width, height
        file.seek(length - 2, 1)


def _png_size(head: bytes) -> tuple[int, int]:
    chunk, width, height = struct.unpack_from(">4sII", head, 12)
    if chunk != b"IHDR":
        raise HeaderError("PNG without a header; the file is damaged")
    return width, height


def _webp_image_size(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        width, width_high, height, height_high = struct.unpack_from("<HBHB", head, 24)
        return (width_high << 16 | width) + 1, (height_high << 16 | height) + 1
    raise HeaderError("WebP without an image; the file is damaged" if len(head) >= 16 else _SHORT)


def require_whole(data: bytes) -> None:
    """Check that an image file does not end before its image does.

    Raises:
        HeaderError: no image, or truncated.
    """
    if not data:
        raise HeaderError("image file is empty")
    if data.startswith(_JPEG):
        is_whole = _is_whole_jpeg(data)
    elif data.startswith(_PNG):
        is_whole = _is_whole_png(data)
    elif _is_webp(data):
        is_whole = _webp_file_size(data) <= len(data)
    else:
        raise HeaderError(_NO_IMAGE)
    if not is_whole:
        raise HeaderError(f"image file is truncated (its {len(data)} bytes end before the image does)")


def ends_properly(file: BinaryIO) -> bool:
    """True when first and last bytes are those of a whole file; False says only: look closer (`require_whole`)."""
    head = file.read(12)
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    tail = file.read()
    if head.startswith(_JPEG):
        return tail.endswith(_JPEG_END)
    if head.startswith(_PNG):
        return tail == _PNG_END
    return _is_webp(head) and _webp_file_size(head) <= size


def _is_whole_jpeg(data: bytes) -> bool:
    """Look for the end-of-image marker behind the first start of scan.

    One inside an embedded thumbnail lies before it; in compressed data an FF is never followed by D9.
    """
    position = 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker == _JPEG_START_OF_SCAN:
            return data.rfind(_JPEG_END, position) >= 0
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _is_whole_png(data: bytes) -> bool:
    """Walk the chunks (length, type, content, checksum) to IEND."""
    position = len(_PNG)
    while position + 12 <= len(data):
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return False


def _is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _webp_file_size(data: bytes) -> int:
    """The file size a RIFF header promises."""
    return 8 + int.from_bytes(data[4:8], "little")
