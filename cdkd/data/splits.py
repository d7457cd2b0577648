"""The training, validation and test persons of a data configuration."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cdkd.config import DataConfig, SourceConfig
from cdkd.data.coco_layout import read_coco_layout
from cdkd.data.drawing_version import DRAWING_VERSION
from cdkd.data.errors import DataError
from cdkd.data.paths import data_root, locate, synthetic_root
from cdkd.data.synthetic import write_synthetic
from cdkd.instances import PersonInstance
from cdkd.keypoints import KEYPOINT_SETS, KeypointSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """Who is trained, validated and tested on; `test` may be empty."""

    train: list[PersonInstance]
    val: list[PersonInstance]
    test: list[PersonInstance]
    keypoint_set: KeypointSet


def load_splits(config: DataConfig) -> Splits:
    """Read (or draw, then read) the persons of every split.

    Raises:
        DataError: a file is missing or broken, or the training or validation split is empty.
    """
    keypoint_set = KEYPOINT_SETS[config.keypoint_set]
    if config.kind == "synthetic":
        return _synthetic(config, keypoint_set)
    train = _read(config.train, config, keypoint_set)
    val = _read(config.val, config, keypoint_set)
    test = _read(config.test, config, keypoint_set)
    if not config.val:
        train, val = hold_out(train, config.holdout)
    for name, instances in (("training", train), ("validation", val)):
        if not instances:
            raise DataError(f"the {name} split is empty: check data.train, data.val and data.holdout")
    return Splits(train, val, test, keypoint_set)


def hold_out(instances: Sequence[PersonInstance], part: float) -> tuple[list[PersonInstance], list[PersonInstance]]:
    """Split off all persons of a part of the images.

    Which images depends on nothing but their file names, so every seed and every study on these files
    validates on the same persons, and no image is on both sides.

    Args:
        instances: the persons.
        part: how much of the images, rounded, and at least one image when above zero.

    Returns:
        The remaining persons and those held out, each in their order.
    """
    names = sorted({instance.image.name for instance in instances}, key=_name_hash)
    held = set(names[: max(1, round(part * len(names)))]) if part > 0 else set()
    remaining = [instance for instance in instances if instance.image.name not in held]
    return remaining, [instance for instance in instances if instance.image.name in held]


def _name_hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16, person=b"cdkd hold out").digest()


def _read(sources: Sequence[SourceConfig], config: DataConfig, keypoint_set: KeypointSet) -> list[PersonInstance]:
    instances: list[PersonInstance] = []
    for source in sources:
        annotations, images = locate(data_root(config), source)
        instances += read_coco_layout(annotations, images, keypoint_set, config.on_bad_record)
    return instances


def _synthetic(config: DataConfig, keypoint_set: KeypointSet) -> Splits:
    folder = draw_once(config)
    train, val = (
        read_coco_layout(folder / f"{split}.json", folder / split, keypoint_set, config.on_bad_record)
        for split in ("train", "val")
    )
    return Splits(train, val, [], keypoint_set)


def draw_once(config: DataConfig) -> Path:
    """The folder of the drawn set, drawn first if it is not there.

    It is drawn beside its place and renamed, so a folder that is there is complete, and of two processes
    that draw at once one wins and the other uses the winner's.
    """
    parameters = json.dumps({**asdict(config.synthetic), "keypoint_set": config.keypoint_set}, sort_keys=True)
    digest = hashlib.blake2b(parameters.encode(), digest_size=6).hexdigest()
    folder = synthetic_root(config) / f"synthetic-v{DRAWING_VERSION}-{digest}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise DataError(f"{folder.parent}: the synthetic set cannot be written here: {error.strerror}") from None
    try:
        logger.info("drawing the synthetic set in %s", folder)
        write_synthetic(draft, config.synthetic, KEYPOINT_SETS[config.keypoint_set])
        _publish(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _publish(draft: Path, folder: Path) -> None:
    draft.chmod(0o755)
    # Renaming onto a folder with files in it fails: another process has drawn the same set meanwhile.
    with contextlib.suppress(OSError):
        os.rename(draft, folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: the synthetic set cannot be moved here")
