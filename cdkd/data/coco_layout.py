"""Annotation files in COCO keypoint layout, of any keypoint set."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cdkd.data.errors import DataError
from cdkd.data.images import check_image_file
from cdkd.data.paths import inside
from cdkd.instances import PersonInstance
from cdkd.keypoints import KEYPOINT_SETS, KeypointSet

logger = logging.getLogger(__name__)

AREA_OF_BOX = 0.53
"""A person's area as a part of the box, where a file gives no area: CrowdPose's evaluation (method section 7)."""

LARGEST = 1e9
"""No coordinate or area, in pixels, comes near this."""


def read_coco_layout(
    annotations: Path, images: Path, keypoint_set: KeypointSet, on_bad_record: str = "stop"
) -> list[PersonInstance]:
    """Read the persons of an annotation file, in the file's order.

    Crowd regions, persons without a labelled keypoint and objects without keypoints are left out and
    counted in the log.

    Args:
        annotations: the JSON file.
        images: the folder of its images; names in the file never lead out of it.
        keypoint_set: the convention that the file's keypoint names must follow.
        on_bad_record: `stop` raises at the first broken record; `skip` counts them and warns.

    Raises:
        DataError: the file cannot be used, or a record is broken (`stop`), or none is sound.
        ValueError: no such `on_bad_record`.
    """
    if on_bad_record not in ("stop", "skip"):
        raise ValueError(f"on_bad_record must be stop or skip, got {on_bad_record!r}")
    reader = _Reader(annotations, images, keypoint_set, _read_json(annotations))
    instances = list(reader.instances(on_bad_record))
    if not instances:
        raise DataError(f"{annotations}: holds no usable person ({reader.summary() or 'no annotations'})")
    logger.info("%s: %d persons; left out: %s", annotations, len(instances), reader.summary() or "none")
    return instances


class _BadRecordError(Exception):
    """A record that breaks a rule; carries what is wrong, without the file's name."""


class _LeftOut(Exception):
    """A sound record that is no example; carries why."""


class _Reader:
    """Turns the records of one parsed file into instances."""

    def __init__(self, file: Path, images: Path, keypoint_set: KeypointSet, layout: Mapping[str, Any]) -> None:
        self.file = file
        self.folder = images
        self.keypoint_set = keypoint_set
        self.annotations = _section(file, layout, "annotations")
        self.images = _images(file, _section(file, layout, "images"))
        self.has_keypoints = _categories(file, _section(file, layout, "categories"), keypoint_set)
        self.image_files: dict[int, Path | str] = {}
        self.seen: set[int] = set()
        self.left_out: Counter[str] = Counter()

    def instances(self, on_bad_record: str) -> Iterator[PersonInstance]:
        """The usable persons; what is left out is counted in `left_out`."""
        for position, record in enumerate(self.annotations):
            try:
                yield self.instance(record)
            except _LeftOut as reason:
                self.left_out[str(reason)] += 1
            except _BadRecordError as fault:
                message = f"{self.file}: {_name(record, position)}: {fault}"
                if on_bad_record == "stop":
                    raise DataError(message) from None
                logger.warning("skipped: %s", message)
                self.left_out["broken"] += 1

    def summary(self) -> str:
        """What was left out, with counts."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))

    def instance(self, record: Any) -> PersonInstance:
        """One person.

        Raises:
            _BadRecordError: a rule is broken.
            _LeftOut: the record is sound and no example.
        """
        if not isinstance(record, Mapping):
            raise _BadRecordError("is not an object")
        annotation_id, image_id = _integer(record, "id"), _integer(record, "image_id")
        if annotation_id in self.seen:
            raise _BadRecordError("an earlier annotation has the same id")
        self.seen.add(annotation_id)
        self._require_person(record)
        keypoints, visibility = _keypoints(record, self.keypoint_set)
        if not visibility.any():
            raise _LeftOut("without a labelled keypoint")
        box = _box(record)
        image = self._image(image_id)
        _require_overlap(box, self.images[image_id])
        return PersonInstance(image, image_id, annotation_id, box, _area(record, box), keypoints, visibility)

    def _require_person(self, record: Mapping[str, Any]) -> None:
        category = _integer(record, "category_id")
        if category not in self.has_keypoints:
            raise _BadRecordError(f"unknown category_id {category}; the file has {sorted(self.has_keypoints)}")
        if not self.has_keypoints[category]:
            raise _LeftOut("of a category without keypoints")
        if record.get("iscrowd", 0):
            raise _LeftOut("crowd regions")

    def _image(self, image_id: int) -> Path:
        """The checked image file; each is looked at once, however many persons it shows."""
        if image_id not in self.images:
            raise _BadRecordError(f"unknown image_id {image_id}")
        if image_id not in self.image_files:
            self.image_files[image_id] = self._check(self.images[image_id].get("file_name"))
        found = self.image_files[image_id]
        if isinstance(found, str):
            raise _BadRecordError(found)
        return found

    def _check(self, name: Any) -> Path | str:
        """The path of an image, or what is wrong with it."""
        if not isinstance(name, str):
            return f"its image has the file_name {name!r}, not a text"
        try:
            path = inside(self.folder, name)
            check_image_file(path)
        except ValueError as error:
            return str(error)
        return path


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        layout = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:
        raise DataError(f"{file}: not an annotation file: {error}") from None
    except RecursionError:
        raise DataError(f"{file}: not an annotation file: nested too deeply") from None
    if not isinstance(layout, Mapping):
        raise DataError(f"{file}: not in COCO layout: must be an object with images, annotations and categories")
    return layout


def _section(file: Path, layout: Mapping[str, Any], name: str) -> list[Any]:
    records = layout.get(name)
    if not isinstance(records, list):
        raise DataError(f"{file}: not in COCO layout: has no list {name!r}")
    return records


def _images(file: Path, records: list[Any]) -> dict[int, Mapping[str, Any]]:
    """Image records by id. Two images of one id are an error of the whole file: its persons are ambiguous."""
    images: dict[int, Mapping[str, Any]] = {}
    for position, record in enumerate(records):
        image_id = record.get("id") if isinstance(record, Mapping) else None
        if not isinstance(image_id, int):
            raise DataError(f"{file}: image at position {position}: has no whole-number id")
        if image_id in images:
            raise DataError(f"{file}: image at position {position}: an earlier image has the same id {image_id}")
        images[image_id] = record
    return images


def _categories(file: Path, records: list[Any], keypoint_set: KeypointSet) -> dict[int, bool]:
    """Whether each category has keypoints, by category id; the names are checked."""
    has_keypoints: dict[int, bool] = {}
    for position, record in enumerate(records):
        if not isinstance(record, Mapping) or not isinstance(record.get("id"), int):
            raise DataError(f"{file}: category at position {position}: has no whole-number id")
        names = record.get("keypoints")
        has_keypoints[record["id"]] = bool(names)
        if names:
            _require_names(file, record.get("name"), names, keypoint_set)
    if not any(has_keypoints.values()):
        raise DataError(f"{file}: no category has a list of keypoint names")
    return has_keypoints


def _require_names(file: Path, category: Any, names: Any, keypoint_set: KeypointSet) -> None:
    """Compare a category's keypoint names with the set's, in order."""
    found = tuple(map(str, names)) if isinstance(names, list) else (str(names),)
    if found == keypoint_set.names:
        return
    shared = min(len(found), keypoint_set.count)
    first = next((index for index in range(shared) if found[index] != keypoint_set.names[index]), shared)
    here = repr(found[first]) if first < len(found) else "missing"
    wanted = repr(keypoint_set.names[first]) if first < keypoint_set.count else "no such keypoint"
    nearest = max(KEYPOINT_SETS.values(), key=lambda known: _agreement(found, known.names))
    raise DataError(
        f"{file}: category {category!r}: keypoint {first} is {here}, keypoint set {keypoint_set.name!r} has {wanted}; "
        f"the nearest set is {nearest.name!r} (data.keypoint_set)"
    )


def _agreement(found: tuple[str, ...], known: tuple[str, ...]) -> tuple[int, int]:
    """How well names fit a set: equal names at equal places, then names in common."""
    return sum(a == b for a, b in zip(found, known)), len(set(found) & set(known))


def _name(record: Any, position: int) -> str:
    """How an annotation is named in a message."""
    if isinstance(record, Mapping) and "id" in record:
        return f"annotation {str(record['id'])[:40]}"
    return f"annotation at position {position}"


def _integer(record: Mapping[str, Any], key: str) -> int:
    value = record.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _BadRecordError(f"{key} must be a whole number, got {str(value)[:40]}")
    return value


def _numbers(record: Mapping[str, Any], key: str, count: int) -> list[float]:
    """A list of finite numbers of the right length."""
    values = record.get(key)
    if not isinstance(values, list) or len(values) != count:
        length = len(values) if isinstance(values, list) else "none"
        raise _BadRecordError(f"{key} must hold {count} numbers, got {length}")
    if not set(map(type, values)) <= {int, float} or not all(abs(value) < LARGEST for value in values):
        strange = next(value for value in values if not _is_number(value))
        raise _BadRecordError(f"{key} holds {str(strange)[:40]}, not a finite number below {LARGEST:g}")
    return values


def _is_number(value: Any) -> bool:
    """Finite and of a size pixels can have (comparisons with NaN are false)."""
    return type(value) in (int, float) and abs(value) < LARGEST


def _keypoints(record: Mapping[str, Any], keypoint_set: KeypointSet) -> tuple[Any, Any]:
    """Coordinates (J, 2) float32 and visibility (J,) int64; coordinates of unlabelled keypoints are zero."""
    numbers = _numbers(record, "keypoints", 3 * keypoint_set.count)
    if not set(numbers[2::3]) <= {0, 1, 2}:
        raise _BadRecordError("a keypoint's visibility is not 0, 1 or 2")
    triples = np.array(numbers, dtype=np.float32).reshape(-1, 3)
    triples[triples[:, 2] == 0, :2] = 0
    return triples[:, :2].copy(), triples[:, 2].astype(np.int64)


def _box(record: Mapping[str, Any]) -> tuple[float, float, float, float]:
    left, top, width, height = map(float, _numbers(record, "bbox", 4))
    if width <= 0 or height <= 0:
        raise _BadRecordError(f"bbox has no area: {width:g} x {height:g}")
    return left, top, width, height


def _require_overlap(box: tuple[float, float, float, float], image: Mapping[str, Any]) -> None:
    """A box must show some of its image, where the file gives the image's size."""
    left, top, width, height = box
    image_width, image_height = image.get("width"), image.get("height")
    if not _is_number(image_width) or not _is_number(image_height):
        return
    if left >= float(image_width or 0) or top >= float(image_height or 0) or left + width <= 0 or top + height <= 0:
        raise _BadRecordError(f"bbox lies outside its image of {image_width} x {image_height} pixels")


def _area(record: Mapping[str, Any], box: tuple[float, float, float, float]) -> float:
    """The annotated area, else CrowdPose's part of the box."""
    if record.get("area") is None:
        return AREA_OF_BOX * box[2] * box[3]
    (area,) = _numbers({"area": [record["area"]]}, "area", 1)
    if area <= 0:
        raise _BadRecordError(f"area must be positive, got {area:g}")
    return float(area)
