"""MPII's annotation files as commonly released: `train.json`, `valid.json`, `trainval.json`, `test.json` (method 6.5).

Each file is a list of persons: image, centre, scale, 16 keypoints and whether each is labelled; coordinates
count from 1. `gt_valid.mat` holds the head boxes of the validation persons, in the order of `valid.json`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cdkd.data.coco_layout import AREA_OF_BOX
from cdkd.data.crops import PIXELS_PER_SCALE
from cdkd.data.errors import DataError
from cdkd.data.records import BadRecord, ImageFiles, Tally, number, numbers, read_json, section
from cdkd.instances import MPII_HEAD_BOX_FACTOR, ImageKey, ImageRecord, PersonInstance, Split
from cdkd.keypoints import KEYPOINT_SETS

logger = logging.getLogger(__name__)

KEYPOINTS = KEYPOINT_SETS["mpii16"]
CENTER_SHIFT = 15.0
"""Pixels per unit of scale that the square is moved down, so that it covers the feet."""
LARGEST_DIFFERENCE = 0.01
"""Pixels by which the rounded coordinates of `valid.json` may differ from those of `gt_valid.mat`."""


def read_mpii(
    annotations: Path, images: Path, tally: Tally | None = None, *, head_boxes: Path | None = None, source: int = 0
) -> Split:
    """Read an annotation file, its persons in the file's order, in pixels that count from 0.

    A person's box is the square of `scale` around the centre, moved down as MPII's users do; with
    `data.box_padding` at 1.25 the crop is theirs. Without keypoints (`test.json`) persons are known by their
    boxes alone and are in `Split.detected`.

    Args:
        annotations: the JSON file.
        images: the folder of its images.
        tally: what to do with broken records, and where to count them; None: they stop the reading.
        head_boxes: `gt_valid.mat`, of the same persons in the same order.
        source: position of the file in its split's list.

    Raises:
        DataError: a file cannot be used, the two disagree, a record is broken (and `tally` stops at those), or
            nobody is usable.
    """
    tally = tally or Tally("stop")
    records = read_json(annotations)
    if not isinstance(records, list):
        raise DataError(f"{annotations}: not MPII's layout: must be a list of persons")
    reader = _Reader(images, source)
    if head_boxes is not None:
        reader.truth = _Truth(head_boxes, annotations, records)
    persons = list(tally.read(annotations, "person", records, reader.person))
    labelled = [person for person in persons if person.visibility.any()]
    detected = [] if labelled else persons
    if len(labelled) + len(detected) < len(persons):
        tally.left_out["without a labelled keypoint"] += len(persons) - len(labelled)
    if not persons:
        raise DataError(f"{annotations}: holds no usable person ({tally.reason() or 'no records'})")
    logger.info("%s: %d persons; left out: %s", annotations, len(persons), tally.summary() or "none")
    return Split(labelled, reader.images, (), detected)


class _Truth:
    """Head sizes and unrounded keypoints of `gt_valid.mat`, checked against the annotation file."""

    def __init__(self, file: Path, annotations: Path, records: list[Any]) -> None:
        content = _read_mat(file)
        keypoints, missing, boxes = (content[key] for key in ("pos_gt_src", "jnt_missing", "headboxes_src"))
        count = len(records)
        if keypoints.shape != (16, 2, count) or missing.shape != (16, count) or boxes.shape != (2, 2, count):
            raise DataError(
                f"{file}: is of {keypoints.shape[-1]} persons, {annotations} of {count}: other files belong together"
            )
        self.file = file
        self.keypoints = keypoints.transpose(2, 0, 1).astype(np.float64)
        self.is_labelled = missing.T == 0
        corners = boxes.transpose(2, 0, 1).astype(np.float64)
        self.head_sizes = MPII_HEAD_BOX_FACTOR * np.linalg.norm(corners[:, 1] - corners[:, 0], axis=-1)

    def check(self, position: int, keypoints: npt.NDArray[np.float64], is_labelled: npt.NDArray[np.bool_]) -> None:
        """Hold a record of the annotation file against this file.

        Raises:
            DataError: they differ; this is no fault of one record.
        """
        differs = (is_labelled != self.is_labelled[position]).any()
        distance = np.abs(keypoints - self.keypoints[position])[is_labelled]
        if differs or (distance > LARGEST_DIFFERENCE).any():
            raise DataError(f"{self.file}: person {position} is not the annotation file's: another order or release")


class _Reader:
    """Turns the records of one parsed file into instances."""

    def __init__(self, folder: Path, source: int) -> None:
        self.source = source
        self.files = ImageFiles(folder)
        self.image_ids: dict[Path, int] = {}
        self.truth: _Truth | None = None

    @property
    def images(self) -> dict[ImageKey, ImageRecord]:
        """Every image that shows a usable person."""
        return {(self.source, image_id): ImageRecord(path) for path, image_id in self.image_ids.items()}

    def person(self, position: int, record: Any) -> PersonInstance:
        """One person.

        Raises:
            BadRecord: a rule is broken.
        """
        record = section(record)
        box = _box(record)
        keypoints, is_labelled = _keypoints(record)
        head_size = None
        if self.truth is not None:
            self.truth.check(position, keypoints, is_labelled)
            keypoints, head_size = self.truth.keypoints[position], float(self.truth.head_sizes[position])
            if head_size <= 0:
                raise BadRecord("its head box has no extent")
        image = self.files.path(record.get("image"))
        image_id = self.image_ids.setdefault(image, len(self.image_ids))
        return PersonInstance(
            image=image,
            image_id=image_id,
            annotation_id=position,
            box=box,
            area=AREA_OF_BOX * box[2] * box[3],  # MPII gives none
            keypoints_image=np.where(is_labelled[:, None], keypoints - 1, 0).astype(np.float32),
            visibility=np.where(is_labelled, 2, 0).astype(np.int64),  # the files do not tell occluded from visible
            source=self.source,
            head_size=head_size,
        )


def _box(record: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The square of `scale` around the moved centre."""
    x, y = numbers(record, "center", 2)
    scale = number(record, "scale")
    if scale <= 0:
        raise BadRecord(f"scale must be positive, got {scale:g}")
    side = PIXELS_PER_SCALE * scale
    return x - 1 - side / 2, y + CENTER_SHIFT * scale - 1 - side / 2, side, side


def _keypoints(record: Mapping[str, Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Coordinates (16, 2) as in the file, and which keypoints are labelled (none in a file without any)."""
    if "joints" not in record and "joints_vis" not in record:
        return np.zeros((KEYPOINTS.count, 2)), np.zeros(KEYPOINTS.count, dtype=np.bool_)
    points, labelled = record.get("joints"), numbers(record, "joints_vis", KEYPOINTS.count)
    if not isinstance(points, list) or len(points) != KEYPOINTS.count:
        raise BadRecord(
            f"joints must hold {KEYPOINTS.count} points, got {len(points) if isinstance(points, list) else 'none'}"
        )
    if not set(labelled) <= {0, 1}:
        raise BadRecord("a value of joints_vis is not 0 or 1")
    pairs = [numbers({"joints": point}, "joints", 2) for point in points]
    return np.array(pairs, dtype=np.float64), np.array(labelled) > 0


def _read_mat(file: Path) -> dict[str, Any]:
    import scipy.io

    wanted = ("pos_gt_src", "jnt_missing", "headboxes_src")
    try:
        content: dict[str, Any] = scipy.io.loadmat(str(file), variable_names=wanted)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
    # SciPy's reader raises whatever the bytes of a foreign file lead it to: there is no common class.
    except Exception as error:
        raise DataError(f"{file}: not a MATLAB file of MPII's ground truth: {error}") from None
    missing = [name for name in wanted if name not in content]
    if missing:
        raise DataError(f"{file}: not MPII's ground truth: has no {', '.join(missing)}")
    return content
