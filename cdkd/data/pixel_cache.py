"""Every image decoded once, for all trainings of a machine.

Decoding a photograph takes far longer than cutting crops out of it, and every epoch of every trial would decode the
same ones. Here each is decoded once and kept as it is: whole, at its own resolution, three bytes a pixel. So a crop is
the same to the last bit wherever its image comes from, whatever box, padding or augmentation asks for it, and one file
serves all arms of a study. What no view touches costs disk space, but no memory.

A file's name is a digest of the images it holds, so changed images get a new file, and one that bears its name is
complete: it is written under another name, locked by its builder, and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2

from cdkd.data.errors import DataError
from cdkd.data.images import image_size, read_image
from cdkd.data.pixel_file import FORMAT, Entry, PixelFile, end_of, placed, write_index, write_pixels

logger = logging.getLogger(__name__)

SUFFIX, DRAFT_SUFFIX = ".pixels", ".building"

Progress = Callable[[int, int, int], None]
"""Told of images done, of how many, and of bytes written."""


def open_or_build(
    folder: Path,
    images: Iterable[Path],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
) -> PixelFile:
    """The file of these images, built first if it is not there.

    When two processes want to build it one does and the other waits.

    Args:
        folder: where such files are kept.
        images: image files; one may come several times.
        workers: threads that decode; None: one for each core.
        progress: called in this thread after each image while the file is built.
        free_bytes: how much room a folder has.

    Raises:
        DataError: an image cannot be read, or there is no room.
    """
    entries = _described(images)
    file = folder / _file_name(entries)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = _usable(file)
        if found is not None:
            return found
        with _draft_of(file) as draft:
            found = _usable(file)  # now it may be there, of the process that was waited for
            if found is None:
                _build(draft, file, entries, workers or len(os.sched_getaffinity(0)), progress, free_bytes)
    except OSError as error:
        raise DataError(f"{folder}: decoded images cannot be kept here: {error.strerror or error}") from None
    return found or PixelFile(file)


def remove_stale(folder: Path) -> list[Path]:
    """Remove what no training will read: files of images that have changed or gone, damaged and unfinished ones.

    Returns:
        The removed files. A training that has one open is not disturbed; the space is free when it ends.
    """
    stale = [file for file in sorted(folder.glob("*" + SUFFIX)) if not _is_current(file)]
    for file in stale:
        file.unlink(missing_ok=True)
    return stale + [draft for draft in sorted(folder.glob("*" + DRAFT_SUFFIX)) if _remove_if_abandoned(draft)]


def _usable(file: Path) -> PixelFile | None:
    """The file, opened; None where there is none or it is damaged."""
    if not file.exists():
        return None
    try:
        return PixelFile(file)
    except DataError as fault:
        logger.warning("%s; it will be built again", fault)
        return None


def _is_current(file: Path) -> bool:
    try:
        return file.name == _file_name(_described(map(Path, PixelFile(file).entries)))
    except DataError:
        return False


def _described(images: Iterable[Path]) -> list[Entry]:
    """Which version of each image lies there now, in the order of their paths."""
    entries = []
    for path in sorted({os.path.abspath(image) for image in images}):
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise DataError(f"{path}: image file is missing") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from None
        entries.append(Entry(path, status.st_size, status.st_mtime_ns))
    return entries


def _file_name(entries: Iterable[Entry]) -> str:
    """OpenCV's version is part of it, because another may decode to other pixels."""
    identity = json.dumps([FORMAT, cv2.__version__, [entry.version for entry in entries]])
    return hashlib.blake2b(identity.encode(), digest_size=12).hexdigest() + SUFFIX


@contextmanager
def _draft_of(file: Path) -> Iterator[int]:
    """The draft of a file, open and held by this process alone; a process that is killed lets go of it."""
    draft = file.with_suffix(DRAFT_SUFFIX)
    while True:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _lock(descriptor, draft)
            if not _is_at(descriptor, draft):  # its holder has renamed or removed it meanwhile
                continue
            try:
                yield descriptor
            finally:
                if _is_at(descriptor, draft):
                    draft.unlink()
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, draft: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.info("waiting for another process that decodes the same images into %s", draft)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove_if_abandoned(draft: Path) -> bool:
    """Remove a draft that no process holds."""
    try:
        descriptor = os.open(draft, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_abandoned = _is_at(descriptor, draft)
        if is_abandoned:
            draft.unlink()
        return is_abandoned
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _build(
    draft: int,
    file: Path,
    entries: Sequence[Entry],
    workers: int,
    progress: Progress | None,
    free_bytes: Callable[[Path], int],
) -> None:
    started = time.monotonic()
    os.ftruncate(draft, 0)  # what a killed builder has left
    pool = ThreadPoolExecutor(workers)
    try:
        wanted = placed(list(pool.map(_measured, entries)))
        _require_room(file.parent, end_of(wanted), free_bytes)
        logger.info("decoding %d images into %s (%.0f MB)", len(wanted), file, end_of(wanted) / 1e6)
        write_index(draft, _decoded(pool, draft, wanted, progress))
    finally:
        pool.shutdown(cancel_futures=True)  # or an interrupted build would go on to its last image
    os.rename(file.with_suffix(DRAFT_SUFFIX), file)
    logger.info("decoded %d images in %.0f s", len(wanted), time.monotonic() - started)


def _measured(entry: Entry) -> Entry:
    width, height = image_size(Path(entry.path))
    return replace(entry, width=width, height=height)


def _require_room(folder: Path, wanted: int, free_bytes: Callable[[Path], int]) -> None:
    free = free_bytes(folder)
    if free < wanted:
        raise DataError(f"{folder}: decoded images need {wanted:,} bytes here, {free:,} are free")


def _decoded(pool: ThreadPoolExecutor, draft: int, wanted: Sequence[Entry], progress: Progress | None) -> list[Entry]:
    """Decode every image into its place.

    Raises:
        DataError: some cannot be read; the log names every one.
    """
    futures = [pool.submit(_decode, draft, entry) for entry in wanted]
    faults: list[str] = []
    written = 0
    for done, future in enumerate(as_completed(futures), start=1):
        try:
            written += future.result().pixel_bytes
        except DataError as fault:
            logger.error("%s", fault)
            faults.append(str(fault))
        if progress is not None:
            progress(done, len(futures), written)
    if faults:
        others = f" (and {len(faults) - 1} other images, named in the log)" if len(faults) > 1 else ""
        raise DataError(min(faults) + others)
    return [future.result() for future in futures]


def _decode(draft: int, entry: Entry) -> Entry:
    path = Path(entry.path)
    pixels = read_image(path)
    if pixels.shape != (entry.height, entry.width, 3) or _described([path])[0].version != entry.version:
        raise DataError(f"{path}: image was changed while it was read")
    return write_pixels(draft, entry, pixels)
