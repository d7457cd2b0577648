"""What a frozen teacher said of a batch, kept for every other training that shows it the same pixels.

All arms of a seed see the same views in the same order, and their teacher is the same: where its forward pass is most
of a step, every arm but the first can do without it. An entry's name is a digest of the teacher and of the batch's
pixels, and of all else that its bits depend on, so that no arm can read what was said of anything else; training goes
on bit by bit as if the teacher had been asked.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cdkd.distill.distiller import Teaching
from cdkd.heads.simcc import SimCCLogits

logger = logging.getLogger(__name__)

FORMAT = 1
SUFFIX = ".teaching"
CHECKSUM_BYTES = 4


class TeacherCache:
    """Entries of one teacher in a folder that all trainings of a machine share.

    A folder that has reached its limit takes no more: epochs come round again, so that making room would throw out
    what is wanted next.

    Args:
        folder: of the entries of all teachers.
        limit_bytes: how large the folder may grow; trainings that write at the same time may overrun it by an entry
            each.
        identity: what the teacher's bits depend on besides the pixels: its weights, the arithmetic.
    """

    def __init__(self, folder: Path, limit_bytes: int, identity: dict[str, str | int]) -> None:
        name = hashlib.blake2b(json.dumps([FORMAT, identity], sort_keys=True).encode(), digest_size=8).hexdigest()
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self._room = min(limit_bytes - _size(folder), shutil.disk_usage(folder).free)
        self._has_warned = False
        self._asked = self._recalled = 0

    def recall(self, images: Tensor, ask: Callable[[], Teaching], device: torch.device) -> Teaching:
        """What the teacher says of a batch.

        Args:
            images: uint8 (B, 3, T, T), the batch's pixels.
            ask: runs the teacher on them.
            device: where the answer is wanted.
        """
        self._asked += 1
        file = self.folder / (_digest(images) + SUFFIX)
        teaching = _read(file, device)
        if teaching is not None:
            self._recalled += 1
            return teaching
        teaching = ask()
        self._keep(file, teaching)
        return teaching

    def take_share(self) -> float:
        """The part of the batches since the last call that the teacher was not asked for."""
        share = self._recalled / self._asked if self._asked else 0.0
        self._asked = self._recalled = 0
        return share

    def _keep(self, file: Path, teaching: Teaching) -> None:
        content = _packed(teaching)
        if len(content) > self._room:
            self._warn("the teacher cache is full: later batches ask the teacher (runtime.teacher_cache_gb)")
            return
        draft = file.with_suffix(f".{os.getpid()}.draft")
        try:
            draft.write_bytes(content)
            os.replace(draft, file)
        except OSError as error:
            draft.unlink(missing_ok=True)
            self._warn(f"what the teacher said cannot be kept: {error.strerror or error}")
            self._room = 0
            return
        self._room -= len(content)

    def _warn(self, message: str) -> None:
        if not self._has_warned:
            logger.warning("%s: %s", self.folder.parent, message)
        self._has_warned = True


def _size(folder: Path) -> int:
    """Bytes of the entries in all folders of a cache; those that go meanwhile count nothing."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _digest(images: Tensor) -> str:
    rows = images.permute(0, 2, 3, 1).contiguous()  # as they lie in memory
    digest = hashlib.blake2b(json.dumps(list(rows.shape)).encode(), digest_size=16)
    digest.update(rows.numpy().data)
    return digest.hexdigest()


def _packed(teaching: Teaching) -> bytes:
    logits = teaching.logits
    content = io.BytesIO()
    torch.save(
        {
            "feature": None if teaching.feature is None else teaching.feature.cpu(),
            "logits": None if logits is None else (logits.x.cpu(), logits.y.cpu()),
        },
        content,
    )
    packed = content.getvalue()
    return zlib.crc32(packed).to_bytes(CHECKSUM_BYTES, "little") + packed


def _read(file: Path, device: torch.device) -> Teaching | None:
    """An entry; None where there is none, or a damaged one, as a crash of the machine may leave."""
    try:
        content = memoryview(file.read_bytes())
    except FileNotFoundError:
        return None
    checksum, packed = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
    if zlib.crc32(packed).to_bytes(CHECKSUM_BYTES, "little") != checksum:
        logger.warning("%s is damaged; it will be written again", file)
        return None
    found = torch.load(io.BytesIO(packed), map_location=device, weights_only=True)
    logits = found["logits"]
    return Teaching(found["feature"], None if logits is None else SimCCLogits(*logits))
