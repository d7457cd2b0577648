"""Annotation files in COCO keypoint layout, of any keypoint set: COCO, CrowdPose and whoever follows them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from cdkd.data.errors import DataError
from cdkd.data.records import BadRecord, ImageFiles, LeftOut, Tally, box, integer, is_number, number, numbers, read_json
from cdkd.data.records import section as as_section
from cdkd.instances import IgnoredRegion, ImageKey, ImageRecord, PersonInstance, Split
from cdkd.keypoints import KEYPOINT_SETS, KeypointSet

logger = logging.getLogger(__name__)

AREA_OF_BOX = 0.53
"""A person's area as a part of the box, where a file gives no area: CrowdPose's evaluation (method section 7)."""


def read_coco_layout(
    annotations: Path,
    images: Path,
    keypoint_set: KeypointSet,
    tally: Tally | None = None,
    *,
    detections: Path | None = None,
    source: int = 0,
) -> Split:
    """Read an annotation file, its persons in the file's order.

    Crowd regions and persons without a labelled keypoint are no examples: they become ignored regions, and
    objects without keypoints are left out; all are counted in `tally` and in the log. A broken record that is
    skipped becomes an ignored region too, where it has a box: what a detector finds there is no mistake.

    Differs from released code: boxes are taken as annotated; HRNet's reader cuts a pixel off their right and bottom.

    Args:
        annotations: the JSON file.
        images: the folder of its images; names in the file never lead out of it.
        keypoint_set: the convention that the file's keypoint names must follow.
        tally: what to do with broken records, and where to count them; None: they stop the reading.
        detections: boxes of a person detector for these images, in COCO's results layout.
        source: position of the file in its split's list.

    Raises:
        DataError: the file cannot be used, a record is broken (and `tally` stops at those), or nobody in it is usable.
    """
    tally = tally or Tally("stop")
    reader = _Reader(annotations, images, keypoint_set, source)
    instances = list(tally.read(annotations, "annotation", reader.annotations, reader.instance))
    boxes = [] if detections is None else _read_list(detections)
    detected = [] if detections is None else list(tally.read(detections, "detection", boxes, reader.detection))
    if detections is not None and not detected:
        raise DataError(f"{detections}: holds no usable box of a person ({tally.summary() or 'no boxes'})")
    if not instances and not detected:
        raise DataError(f"{annotations}: holds no usable person ({tally.reason() or 'no annotations'})")
    logger.info("%s: %d persons; left out: %s", annotations, len(instances), tally.summary() or "none")
    return Split(instances, reader.image_records(), reader.ignored, detected)


class _Reader:
    """Turns the records of one parsed file into instances."""

    def __init__(self, file: Path, folder: Path, keypoint_set: KeypointSet, source: int) -> None:
        layout = read_json(file)
        if not isinstance(layout, Mapping):
            raise DataError(f"{file}: not in COCO layout: must be an object with images, annotations and categories")
        self.source = source
        self.keypoint_set = keypoint_set
        self.annotations = (
            layout.get("annotations", []) if _is_without_labels(layout) else _list(file, layout, "annotations")
        )
        self.images = _images(file, _list(file, layout, "images"))
        self.has_keypoints = _categories(
            file, _list(file, layout, "categories"), keypoint_set, _is_without_labels(layout)
        )
        self.files = ImageFiles(folder)
        self.seen: set[int] = set()
        self.ignored: list[IgnoredRegion] = []

    def instance(self, position: int, record: Any) -> PersonInstance:
        """One person.

        Raises:
            BadRecord: a rule is broken.
            LeftOut: the record is sound and no example.
        """
        record = as_section(record)
        annotation_id, image_id = integer(record, "id"), integer(record, "image_id")
        if annotation_id in self.seen:
            raise BadRecord("an earlier annotation has the same id")
        self.seen.add(annotation_id)
        self._require_person(record)
        if image_id not in self.images:
            raise BadRecord(f"unknown image_id {image_id}")
        if record.get("iscrowd", 0):
            self._ignore(record, image_id, is_crowd=True)
        try:
            return self._labelled(record, annotation_id, image_id)
        except BadRecord:
            self._note_region(record, image_id, is_crowd=False)
            raise

    def _labelled(self, record: Mapping[str, Any], annotation_id: int, image_id: int) -> PersonInstance:
        keypoints, visibility = _keypoints(record, self.keypoint_set)
        if not visibility.any():
            self._ignore(record, image_id, is_crowd=False)
        edges = box(record)
        image = self._file(image_id)
        _require_overlap(edges, self.images[image_id])
        return PersonInstance(
            image, image_id, annotation_id, edges, _area(record, edges), keypoints, visibility, self.source
        )

    def detection(self, position: int, record: Any) -> PersonInstance:
        """One box of a person detector.

        Raises:
            BadRecord: a rule is broken.
            LeftOut: the box is of another category.
        """
        record = as_section(record)
        image_id, category = integer(record, "image_id"), integer(record, "category_id")
        if not self.has_keypoints.get(category, False):
            raise LeftOut("detections of other categories")
        if image_id not in self.images:
            raise BadRecord(f"unknown image_id {image_id}")
        edges, count = box(record), self.keypoint_set.count
        unlabelled = np.zeros((count, 2), np.float32), np.zeros(count, np.int64)
        return PersonInstance(
            self._file(image_id),
            image_id,
            position,
            edges,
            edges[2] * edges[3],
            *unlabelled,
            source=self.source,
            box_score=number(record, "score"),
        )

    def image_records(self) -> dict[ImageKey, ImageRecord]:
        """Every image of the file, looked at or not."""
        return {(self.source, image_id): self._image_record(record) for image_id, record in self.images.items()}

    def _image_record(self, record: Mapping[str, Any]) -> ImageRecord:
        width, height, crowd_index = (record.get(key) for key in ("width", "height", "crowdIndex"))
        return ImageRecord(self.files.folder / str(record.get("file_name")), width, height, crowd_index)

    def _require_person(self, record: Mapping[str, Any]) -> None:
        category = integer(record, "category_id")
        if category not in self.has_keypoints:
            raise BadRecord(f"unknown category_id {category}; the file has {sorted(self.has_keypoints)}")
        if not self.has_keypoints[category]:
            raise LeftOut("of a category without keypoints")

    def _ignore(self, record: Mapping[str, Any], image_id: int, *, is_crowd: bool) -> NoReturn:
        """Note a region that scores ignore.

        Raises:
            LeftOut: always, since it is no example.
            BadRecord: it has no box.
        """
        numbers(record, "bbox", 4)
        self._note_region(record, image_id, is_crowd=is_crowd)
        raise LeftOut("crowd regions" if is_crowd else "without a labelled keypoint")

    def _note_region(self, record: Mapping[str, Any], image_id: int, *, is_crowd: bool) -> None:
        """Remember the region of a record, if it has a box."""
        try:
            left, top, width, height = map(float, numbers(record, "bbox", 4))
        except BadRecord:
            return
        area = _number_or(record.get("area"), AREA_OF_BOX * width * height)
        self.ignored.append(IgnoredRegion((self.source, image_id), (left, top, width, height), area, is_crowd))

    def _file(self, image_id: int) -> Path:
        record = self.images[image_id]
        return self.files.path(record.get("file_name"), (record.get("width"), record.get("height")))


def _is_without_labels(layout: Mapping[str, Any]) -> bool:
    """True of a test file whose labels are withheld, such as image_info_test-dev2017.json."""
    return "annotations" not in layout and "images" in layout


def _read_list(file: Path) -> list[Any]:
    records = read_json(file)
    if not isinstance(records, list):
        raise DataError(f"{file}: not in COCO's results layout: must be a list of boxes")
    return records


def _list(file: Path, layout: Mapping[str, Any], name: str) -> list[Any]:
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
        for key in ("width", "height", "crowdIndex"):
            if record.get(key) is not None and not is_number(record[key]):
                raise DataError(f"{file}: image {image_id}: {key} must be a number, got {str(record[key])[:40]}")
        images[image_id] = record
    return images


def _categories(file: Path, records: list[Any], keypoint_set: KeypointSet, is_without_labels: bool) -> dict[int, bool]:
    """Whether each category has keypoints, by category id; the names are checked.

    A test file whose labels are withheld may leave the names out; the persons are then the category of that name.
    """
    has_keypoints: dict[int, bool] = {}
    for position, record in enumerate(records):
        if not isinstance(record, Mapping) or not isinstance(record.get("id"), int):
            raise DataError(f"{file}: category at position {position}: has no whole-number id")
        names = record.get("keypoints")
        has_keypoints[record["id"]] = bool(names) or (is_without_labels and record.get("name") == "person")
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


def _keypoints(record: Mapping[str, Any], keypoint_set: KeypointSet) -> tuple[Any, Any]:
    """Coordinates (J, 2) float32 and visibility (J,) int64; coordinates of unlabelled keypoints are zero."""
    values = numbers(record, "keypoints", 3 * keypoint_set.count)
    if not set(values[2::3]) <= {0, 1, 2}:
        raise BadRecord("a keypoint's visibility is not 0, 1 or 2")
    triples = np.array(values, dtype=np.float32).reshape(-1, 3)
    triples[triples[:, 2] == 0, :2] = 0
    return triples[:, :2].copy(), triples[:, 2].astype(np.int64)


def _require_overlap(edges: tuple[float, float, float, float], image: Mapping[str, Any]) -> None:
    """A box must show some of its image, where the file gives the image's size."""
    left, top, width, height = edges
    image_width, image_height = image.get("width"), image.get("height")
    if image_width is None or image_height is None:
        return
    if left >= image_width or top >= image_height or left + width <= 0 or top + height <= 0:
        raise BadRecord(f"bbox lies outside its image of {image_width} x {image_height} pixels")


def _area(record: Mapping[str, Any], edges: tuple[float, float, float, float]) -> float:
    """The annotated area, else CrowdPose's part of the box."""
    if record.get("area") is None:
        return AREA_OF_BOX * edges[2] * edges[3]
    area = number(record, "area")
    if area <= 0:
        raise BadRecord(f"area must be positive, got {area:g}")
    return area


def _number_or(value: Any, otherwise: float) -> float:
    return float(value) if is_number(value) else otherwise
