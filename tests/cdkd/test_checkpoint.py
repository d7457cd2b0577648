"""Checkpoints: atomic, verified, and falling back to the one before a damaged one."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import pytest
import torch

from cdkd.checkpoint import (
    MANIFEST,
    CheckpointError,
    CheckpointFolder,
    digest_of,
    load_tensors,
    save_tensors,
    write_atomically,
)


def state_of(epoch: int) -> dict[str, object]:
    return {"weights": torch.full((64,), float(epoch)), "epoch": epoch}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    checkpoints = CheckpointFolder(tmp_path)
    for epoch in (1, 2, 3):
        checkpoints.save(state_of(epoch), epoch)
    return checkpoints


def test_the_newest_state_is_loaded_and_two_are_kept(folder: CheckpointFolder) -> None:
    loaded = folder.load()
    assert loaded is not None
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["weights"], torch.full((64,), 3.0))
    assert sorted(path.name for path in folder.folder.glob("*")) == [MANIFEST, "epoch-0002.pt", "epoch-0003.pt"]


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path).load() is None


@pytest.mark.parametrize("cut", [0, 1, 100, 500])
def test_a_truncated_checkpoint_falls_back_to_the_one_before(
    folder: CheckpointFolder, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    newest = folder.folder / "epoch-0003.pt"
    newest.write_bytes(newest.read_bytes()[:cut])
    with caplog.at_level(logging.WARNING):
        loaded = folder.load()
    assert loaded is not None
    assert loaded["epoch"] == 2
    assert "epoch-0003.pt: missing or damaged" in caplog.text


@pytest.mark.parametrize("position", [10, -200, -30])
def test_one_flipped_bit_is_noticed(folder: CheckpointFolder, position: int) -> None:
    newest = folder.folder / "epoch-0003.pt"
    content = bytearray(newest.read_bytes())
    content[position] ^= 1
    newest.write_bytes(bytes(content))
    loaded = folder.load()
    assert loaded is not None
    assert loaded["epoch"] == 2


def test_a_missing_file_falls_back(folder: CheckpointFolder) -> None:
    (folder.folder / "epoch-0003.pt").unlink()
    loaded = folder.load()
    assert loaded is not None
    assert loaded["epoch"] == 2


def test_a_manifest_cannot_point_outside_its_folder(folder: CheckpointFolder, tmp_path: Path) -> None:
    outside = tmp_path.parent / "outside.pt"
    digest = save_tensors(outside, state_of(9))
    entry = {"file": "../outside.pt", "epoch": 9, "sha256": digest}
    (folder.folder / MANIFEST).write_text(json.dumps({"checkpoints": [entry]}))
    assert folder.load() is None


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Malicious:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (canary,)  # type: ignore[return-value]

    path = tmp_path / "evil.pt"
    torch.save({"weights": Malicious()}, path)
    with pytest.raises(CheckpointError, match=r"evil\.pt: not a readable checkpoint"):
        load_tensors(path)
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError):
        load_tensors(path)
    assert not canary.exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_tensors(tmp_path / "absent.pt")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_the_digest_is_that_of_the_written_bytes(tmp_path: Path) -> None:
    assert save_tensors(tmp_path / "a.pt", state_of(1)) == digest_of(tmp_path / "a.pt")


def test_another_trainings_state_is_adopted_whole(folder: CheckpointFolder, tmp_path: Path) -> None:
    """The follower has the donor's bytes, no state of its own, and the donor loses nothing."""
    (folder.folder / "best.pt").write_bytes(b"the best epoch")
    follower = CheckpointFolder(tmp_path / "follower")
    follower.save(state_of(7), 2)
    follower.save(state_of(8), 3)
    digest = follower.adopt(folder.folder, 3, "best.pt")
    assert digest == digest_of(folder.folder / "epoch-0003.pt") == digest_of(follower.folder / "epoch-0003.pt")
    assert sorted(path.name for path in follower.folder.iterdir()) == ["best.pt", MANIFEST, "epoch-0003.pt"]
    assert (follower.folder / "best.pt").read_bytes() == b"the best epoch"
    adopted = follower.load()
    assert adopted is not None
    assert adopted["epoch"] == 3
    assert follower.adopt(folder.folder, 3, "best.pt") == digest  # once more changes nothing
    assert len(list(folder.folder.glob("epoch-*.pt"))) == 2


@pytest.mark.parametrize("fault", ["no such epoch", "damaged", "no best"])
def test_a_donor_without_a_whole_state_is_refused_and_changes_nothing(
    folder: CheckpointFolder, tmp_path: Path, fault: str
) -> None:
    if fault != "no best":
        (folder.folder / "best.pt").write_bytes(b"")
    if fault == "damaged":
        (folder.folder / "epoch-0003.pt").write_bytes(b"torn")
    follower = CheckpointFolder(tmp_path / "follower")
    follower.save(state_of(7), 3)
    with pytest.raises(CheckpointError, match=r"no whole checkpoint of epoch|best\.pt: cannot be read"):
        follower.adopt(folder.folder, 9 if fault == "no such epoch" else 3, "best.pt")
    kept = follower.load()
    assert kept is not None
    assert torch.equal(kept["weights"], torch.full((64,), 7.0))
