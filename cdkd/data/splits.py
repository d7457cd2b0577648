"""The training, validation and test persons of a data configuration."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cdkd.config import DataConfig, SourceConfig
from cdkd.data.coco_layout import read_coco_layout
from cdkd.data.drawing_version import DRAWING_VERSION
from cdkd.data.errors import DataError
from cdkd.data.mpii import read_mpii
from cdkd.data.paths import data_root, locate, locate_file, synthetic_root
from cdkd.data.records import Tally
from cdkd.data.synthetic import write_synthetic
from cdkd.instances import ImageKey, Split
from cdkd.keypoints import KEYPOINT_SETS, KeypointSet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Splits:
    """Who is trained, validated and tested on; `test` may hold nobody."""

    train: Split
    val: Split
    test: Split
    keypoint_set: KeypointSet


def load_splits(config: DataConfig) -> Splits:
    """Read (or draw, then read) the persons of every split.

    Raises:
        DataError: a file is missing or broken, or the training or validation split is empty.
    """
    keypoint_set = KEYPOINT_SETS[config.keypoint_set]
    if config.kind == "synthetic":
        return _synthetic(config, keypoint_set)
    train, val, test = (read_sources(sources, config) for sources in (config.train, config.val, config.test))
    if not config.val:
        train, val = hold_out(train, config.holdout)
    for name, split in (("training", train), ("validation", val)):
        if not split.instances:
            raise DataError(f"the {name} split is empty: check data.train, data.val and data.holdout")
    return Splits(train, val, test, keypoint_set)


def load_split(config: DataConfig, name: str) -> Split:
    """One split, `train`, `val` or `test`; the files of the others are read only where images are held out of them.

    Raises:
        DataError: as `load_splits`.
    """
    sources: tuple[SourceConfig, ...] = getattr(config, name)
    is_divided = name in ("train", "val") and not config.val
    if config.kind == "synthetic" or is_divided:
        chosen: Split = getattr(load_splits(config), name)
        return chosen
    return read_sources(sources, config)


def read_sources(sources: Sequence[SourceConfig], config: DataConfig, tally: Tally | None = None) -> Split:
    """The persons of several annotation files as one split.

    Args:
        sources: the files; of none the split is empty.
        config: data root, kind of files, keypoint set, and what to do with broken records.
        tally: counts what is left out, and says what to do with broken records instead of the configuration.

    Raises:
        DataError: a file is missing or broken.
    """
    parts = [_read(source, position, config, tally) for position, source in enumerate(sources)]
    return Split(
        [person for part in parts for person in part.instances],
        {key: record for part in parts for key, record in part.images.items()},
        [region for part in parts for region in part.ignored],
        [person for part in parts for person in part.detected],
    )


def _read(source: SourceConfig, position: int, config: DataConfig, tally: Tally | None) -> Split:
    root = data_root(config)
    annotations, images = locate(root, source)
    tally = tally or Tally(config.on_bad_record)
    if config.kind == "mpii":
        head_boxes = locate_file(root, source.head_boxes) if source.head_boxes else None
        return read_mpii(annotations, images, tally, head_boxes=head_boxes, source=position)
    detections = locate_file(root, source.detections) if source.detections else None
    keypoint_set = KEYPOINT_SETS[config.keypoint_set]
    return read_coco_layout(annotations, images, keypoint_set, tally, detections=detections, source=position)


def hold_out(split: Split, part: float) -> tuple[Split, Split]:
    """Split off a part of the images that show labelled persons, with all their persons.

    Which images depends on nothing but their file names, so every seed and every study on these files
    validates on the same persons, and no image is on both sides.

    Args:
        split: whom to divide.
        part: how much of the images, rounded, and at least one image when above zero.

    Returns:
        The remaining images and those held out, each in their order.
    """
    names = sorted({person.image.name for person in split.instances}, key=_name_hash)
    held = set(names[: max(1, round(part * len(names)))]) if part > 0 else set()
    keys = {key for key, record in split.images.items() if record.path.name in held}
    return _restricted(split, split.images.keys() - keys), _restricted(split, keys)


def _restricted(split: Split, keys: Collection[ImageKey]) -> Split:
    """What a split has of some of its images."""
    return Split(
        [person for person in split.instances if person.image_key in keys],
        {key: record for key, record in split.images.items() if key in keys},
        [region for region in split.ignored if region.image_key in keys],
        [person for person in split.detected if person.image_key in keys],
    )


def _name_hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16, person=b"cdkd hold out").digest()


def _synthetic(config: DataConfig, keypoint_set: KeypointSet) -> Splits:
    folder = draw_once(config)
    train, val = (
        read_coco_layout(folder / f"{split}.json", folder / split, keypoint_set, Tally(config.on_bad_record))
        for split in ("train", "val")
    )
    return Splits(train, val, Split(), keypoint_set)


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
