"""Checkpoints that survive a kill at any moment: written beside, fsynced, renamed, verified on load.

A training's folder holds `epoch-NNNN.pt` files (the newest two), `checkpoint.json` with their SHA-256
digests, and the exported networks `best.pt` and `last.pt`. Files are loaded with `weights_only=True`:
nothing in them can run code.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

MANIFEST = "checkpoint.json"
KEPT = 2


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the reason in one line."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or the machine after a crash, sees the old or the new content whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(beside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    _fsync_folder(path.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any) -> None:
    """Write plain data as JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as an npz file, atomically."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_tensors(path: Path, state: Mapping[str, Any]) -> str:
    """Write a nested mapping of tensors and plain data atomically; returns its SHA-256."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a file of `save_tensors` onto the CPU.

    Raises:
        CheckpointError: the file is missing, torn, or holds anything but tensors and plain data.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:  # torch raises a different type for each way a file can be broken
        raise CheckpointError(f"{path}: not a readable checkpoint ({type(error).__name__})") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds {type(state).__name__}, not a mapping")
    return state


def _whole(path: Path, digest: str) -> bytes | None:
    """A file's content if it has this SHA-256, else None."""
    content = path.read_bytes() if path.is_file() else b""
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _present(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


class CheckpointFolder:
    """The resumable state of one training, the newest two epochs of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: Mapping[str, Any], epoch: int) -> None:
        """Store the state after `epoch`; older states but the one before are removed once it is safe."""
        name = f"epoch-{epoch:04d}.pt"
        digest = save_tensors(self.folder / name, state)
        entries: list[dict[str, Any]] = [{"file": name, "epoch": epoch, "sha256": digest}]
        entries += [entry for entry in self._entries() if entry["file"] != name]
        write_json(self.folder / MANIFEST, {"checkpoints": entries[:KEPT]})
        self._keep({entry["file"] for entry in entries[:KEPT]})

    def load(self) -> dict[str, Any] | None:
        """The newest state whose digest is right, or None when there is none; a broken one is logged."""
        for entry in self._entries():
            path = self.folder / entry["file"]
            if path.is_file() and digest_of(path) == entry["sha256"]:
                return load_tensors(path)
            logger.warning("%s: missing or damaged, going back to the checkpoint before it", path)
        return None

    def adopt(self, donor: Path, epoch: int, *files: str) -> str:
        """Replace what is here by another training's state after `epoch` and by its `files` beside it.

        The donor must not be training. Killed on its way, it is called again and does the rest. The manifest
        is written last, and what it names has been compared with the donor's digest.

        Returns:
            The SHA-256 of the state.

        Raises:
            CheckpointError: the donor has no whole state of that epoch, or lacks one of the files; nothing was
                changed then.
        """
        entry = next((one for one in CheckpointFolder(donor)._entries() if one["epoch"] == epoch), None)
        content = _whole(donor / entry["file"], entry["sha256"]) if entry is not None else None
        if entry is None or content is None:
            raise CheckpointError(f"{donor}: holds no whole checkpoint of epoch {epoch}")
        others = {name: _present(donor / name) for name in files}
        for name, other in (others | {entry["file"]: content}).items():
            write_atomically(self.folder / name, other)
        write_json(self.folder / MANIFEST, {"checkpoints": [entry]})
        self._keep({entry["file"]})
        return str(entry["sha256"])

    def _keep(self, names: Collection[str]) -> None:
        for path in self.folder.glob("epoch-*.pt"):
            if path.name not in names:
                path.unlink(missing_ok=True)

    def _entries(self) -> list[dict[str, Any]]:
        path = self.folder / MANIFEST
        try:
            listed = json.loads(path.read_text())["checkpoints"]
            return [
                {"file": Path(str(entry["file"])).name, "epoch": int(entry["epoch"]), "sha256": str(entry["sha256"])}
                for entry in listed
            ]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: not readable, starting without it", path)
            return []
