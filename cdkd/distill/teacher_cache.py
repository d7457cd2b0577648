"""What a frozen teacher said of a batch, kept for every other training that shows it the same pixels.

All arms of a seed see the same views in the same order, and their teacher is the same: where its forward pass is most
of a step, every arm but the first can do without it. An entry's name is a digest of the teacher and of the batch's
pixels, and of all else that its bits depend on, so that no arm can read what was said of anything else; training goes
on bit by bit as if the teacher had been asked. A fault of the disk costs time, never a training.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from cdkd import METHOD_VERSION
from cdkd.config import TrainingConfig
from cdkd.distill.distiller import Teaching
from cdkd.heads.simcc import SimCCLogits

logger = logging.getLogger(__name__)

FORMAT = 1
"""Of the entries; raise it too where a teacher's bits change and METHOD_VERSION does not."""
SUFFIX = ".teaching"
CHECKSUM_BYTES = 4
MEASURED_EVERY = 64
"""Entries written between two looks at how large the folder is: other trainings write too."""
RESERVE_BYTES = 10**9
"""Stays free on the disk, for checkpoints and ledgers."""
KEPT_DAYS = 7
"""The entries of a teacher that nobody has opened for so long are removed."""

Identity = Mapping[str, str | int]


def identity_of(config: TrainingConfig, teacher_digest: str, device: torch.device) -> Identity:
    """What the bits that a teacher says depend on besides the pixels.

    Args:
        config: of the training.
        teacher_digest: SHA-256 of the teacher's file.
        device: where it runs.
    """
    is_cuda = device.type == "cuda"
    return {
        "teacher": teacher_digest,
        "feature": config.distill.sape.feature,
        "precision": config.train.precision,
        "device": torch.cuda.get_device_name(device) if is_cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "method": METHOD_VERSION,
    }


class TeacherCache:
    """Entries of one teacher in a folder that all trainings of a machine share.

    A folder that has reached its limit takes no more: a seed's epochs come round again with every arm, so that making
    room would throw out what is wanted next.

    Args:
        folder: of the entries of all teachers.
        limit_bytes: how large the folder may grow; overrun by MEASURED_EVERY entries a training at most.
        identity: `identity_of`.
        free_bytes: how much room a folder has.
    """

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        identity: Identity,
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        name = hashlib.blake2b(json.dumps([FORMAT, identity], sort_keys=True).encode(), digest_size=8).hexdigest()
        self.entries = folder / name
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._free_bytes = free_bytes
        self._room = 0
        self._until_measured = 0
        self._has_warned = False
        self._asked = self._recalled = 0

    def recall(self, images: Tensor, ask: Callable[[], Teaching], device: torch.device) -> Teaching:
        """What the teacher says of a batch; it is asked, and its answer kept, where that is not known.

        Args:
            images: uint8 (B, 3, T, T), the batch's pixels.
            ask: runs the teacher on them.
            device: where the answer is wanted.
        """
        self._asked += 1
        file = self.entries / (_digest(images) + SUFFIX)
        teaching = self._read(file, device)
        if teaching is not None:
            self._recalled += 1
            return teaching
        teaching = ask()
        self._keep(file, _packed(teaching))
        return teaching

    def take_share(self) -> float:
        """The part of the batches since the last call that the teacher was not asked for."""
        share = self._recalled / self._asked if self._asked else 0.0
        self._asked = self._recalled = 0
        return share

    def _read(self, file: Path, device: torch.device) -> Teaching | None:
        """An entry; None where there is none, or a damaged one, as a crash of the machine may leave."""
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"cannot be read: {error.strerror or error}")
            return None
        teaching = _unpacked(content, device)
        if teaching is None:
            logger.warning("%s is damaged; the teacher is asked again", file)
        return teaching

    def _keep(self, file: Path, content: bytes) -> None:
        draft = file.with_suffix(f".{socket.gethostname()}-{os.getpid()}.draft")
        try:
            if not self._has_room(len(content)):
                self._warn("is full, the teacher is asked again and again (runtime.teacher_cache_gb)")
                return
            draft.write_bytes(content)
            os.replace(draft, file)
        except OSError as error:
            self._warn(f"cannot be written: {error.strerror or error}")
            with suppress(OSError):
                draft.unlink()

    def _has_room(self, wanted: int) -> bool:
        if not self._until_measured:
            self.entries.mkdir(parents=True, exist_ok=True)
            os.utime(self.entries)
            _remove_unused(self._folder)
            free = self._free_bytes(self._folder) - RESERVE_BYTES
            self._room = min(self._limit_bytes - _size(self._folder), free)
            self._until_measured = MEASURED_EVERY
        self._until_measured -= 1
        self._room -= wanted
        return self._room >= 0

    def _warn(self, message: str) -> None:
        if not self._has_warned:
            logger.warning("the teacher cache %s %s", self._folder, message)
        self._has_warned = True


def _remove_unused(folder: Path) -> None:
    """Remove the entries of teachers that no training has written any of for KEPT_DAYS."""
    for entries in folder.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - entries.stat().st_mtime > KEPT_DAYS * 86400:
                logger.info("removing what a teacher said long ago: %s", entries)
                shutil.rmtree(entries, ignore_errors=True)


def _size(folder: Path) -> int:
    """Bytes of the entries in all folders of a cache; those that go meanwhile count nothing."""
    total = 0
    for file in folder.glob("*/*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
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


def _unpacked(content: bytes, device: torch.device) -> Teaching | None:
    checksum, packed = content[:CHECKSUM_BYTES], memoryview(content)[CHECKSUM_BYTES:]
    if not packed or zlib.crc32(packed).to_bytes(CHECKSUM_BYTES, "little") != checksum:
        return None
    found = torch.load(io.BytesIO(packed), map_location=device, weights_only=True)
    logits = found["logits"]
    return Teaching(found["feature"], None if logits is None else SimCCLogits(*logits))
