"""A walk through a data set: what is there, what is broken, what looks wrong. Nothing is dropped in silence."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cdkd.config import DataConfig, SourceConfig
from cdkd.data.augmentation import plain_view
from cdkd.data.crops import crop, warp_points
from cdkd.data.errors import DataError
from cdkd.data.images import Image, check_image_file, read_image
from cdkd.data.records import Tally
from cdkd.data.splits import draw_once, read_sources
from cdkd.drawing import contact_sheet, draw_skeleton
from cdkd.instances import PersonInstance, Split
from cdkd.keypoints import KEYPOINT_SETS, KeypointSet

SPLITS = ("train", "val", "test")
CELL_SIZE = 192
"""Side of a person's cell on the contact sheet, pixels."""


@dataclass(frozen=True)
class FullSet:
    """What is documented of a file of a data set (method 6.5): the images that make it complete, what it then holds."""

    kind: str
    images: int | None = None
    persons: int | None = None
    boxes: int | None = None


FULL_SETS = {
    "person_keypoints_train2017.json": FullSet("coco_layout", images=118_287, persons=149_813),
    "person_keypoints_val2017.json": FullSet("coco_layout", images=5_000, persons=6_352),
    "COCO_val2017_detections_AP_H_56_person.json": FullSet("coco_layout", boxes=104_125),
    "train.json": FullSet("mpii", persons=22_246),
    "valid.json": FullSet("mpii", images=2_729, persons=2_958),
}
"""By file name."""


@dataclass
class SourceFindings:
    """What was found of one annotation file.

    Attributes:
        name: `train[0]` and the like.
        file: the annotation file.
        images: images of the file.
        pictured: of those, images that show a usable person or box.
        persons: labelled persons.
        boxes: boxes without labels.
        keypoints: labelled keypoints.
        left_out: records that are no examples, by reason.
        broken: one line for each broken record or image.
        remarks: what is sound and may still surprise.
        box_sides: median of the longer sides of the boxes, pixels; 0 without one.
    """

    name: str
    file: Path
    images: int = 0
    pictured: int = 0
    persons: int = 0
    boxes: int = 0
    keypoints: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    box_sides: float = 0.0


@dataclass(frozen=True)
class Findings:
    """What was found of a data set; `shared` names images that are in two splits."""

    sources: list[SourceFindings]
    shared: list[str]
    people: dict[str, list[PersonInstance]]

    @property
    def broken(self) -> list[str]:
        """Every broken record and image, one line each."""
        return [line for source in self.sources for line in source.broken]


Progress = Callable[[int, int], None]
"""Told of images decoded, of how many."""


def check_data(config: DataConfig, progress: Progress | None = None, *, decodes: bool = True) -> Findings:
    """Read every annotation file and every image of a data set; what cannot be read is told in the findings.

    Args:
        config: the data set.
        progress: called now and then while images are decoded.
        decodes: False: look at the images' headers only.
    """
    config = _files_of(config)
    sources: list[SourceFindings] = []
    people: dict[str, list[PersonInstance]] = {}
    images: dict[str, list[Path]] = {}
    for split in SPLITS:
        for position, source in enumerate(getattr(config, split)):
            name = f"{split}[{position}]"
            found, part = _check_source(name, source, config)
            images[name] = _distinct_images(part)
            faults = _undecodable(images[name], progress) if decodes else {}
            found.broken += faults.values()
            sources.append(found)
            shown = part.instances or part.detected
            people.setdefault(split, []).extend(person for person in shown if person.image not in faults)
    return Findings(sources, list(_in_two_splits(images)), people)


def _files_of(config: DataConfig) -> DataConfig:
    """The configuration by its files; a drawn set is drawn first and then read as what it is."""
    if config.kind != "synthetic":
        return config
    folder = draw_once(config)
    return DataConfig(
        kind="coco_layout",
        root=str(folder),
        keypoint_set=config.keypoint_set,
        train=(SourceConfig("train.json", "train"),),
        val=(SourceConfig("val.json", "val"),),
    )


def _check_source(name: str, source: SourceConfig, config: DataConfig) -> tuple[SourceFindings, Split]:
    tally = Tally("skip", warns=False)
    try:
        split = read_sources([source], config, tally)
    except DataError as error:
        return SourceFindings(name, Path(source.annotations), broken=[*tally.broken, str(error)]), Split()
    found = SourceFindings(
        name=name,
        file=Path(source.annotations),
        images=len(split.images),
        pictured=len(_distinct_images(split)),
        persons=len(split.instances),
        boxes=len(split.detected),
        keypoints=sum(int((person.visibility > 0).sum()) for person in split.instances),
        left_out=Counter({reason: count for reason, count in tally.left_out.items() if reason != "broken"}),
        broken=list(tally.broken),
        box_sides=float(np.median([max(one.box[2:]) for one in (*split.instances, *split.detected)] or [0.0])),
    )
    found.broken += [fault for fault in _faults_of_others(split) if not any(fault in line for line in tally.broken)]
    found.remarks += [*_documented(source, config.kind, found), *_strange_places(split)]
    return found, split


def _faults_of_others(split: Split) -> Iterator[str]:
    """Missing and broken images among those that show nobody: they belong to the set, and scores count them."""
    pictured = set(_distinct_images(split))
    for record in split.images.values():
        if record.path not in pictured:
            try:
                check_image_file(record.path)
            except DataError as error:
                yield str(error)


def _distinct_images(split: Split) -> list[Path]:
    return list(dict.fromkeys(person.image for person in (*split.instances, *split.detected)))


def _documented(source: SourceConfig, kind: str, found: SourceFindings) -> Iterator[str]:
    """Compare with the documented size of a well-known file; a complete one of another size is broken."""
    for name, count, what in (
        (source.annotations, found.persons, "persons"),
        (source.detections, found.boxes, "boxes"),
    ):
        full = FULL_SETS.get(Path(name).name)
        whole = FULL_SETS.get(Path(source.annotations).name)
        expected = getattr(full, what) if full else None
        if full is None or full.kind != kind or expected is None:
            continue
        if count == expected:
            yield f"complete: {count:,} {what}, as documented"
        elif whole is not None and whole.images == found.images:
            found.broken.append(f"{name}: all {found.images:,} images, but {count:,} {what} instead of {expected:,}")
        else:
            yield f"not the whole set: {count:,} of {expected:,} {what}"


def _strange_places(split: Split) -> Iterator[str]:
    """Keypoints outside their image or far outside their box: often a unit or an order mixed up."""
    outside = sum(_has_keypoint_outside(person) for person in split.instances)
    if outside:
        part = 100 * outside / len(split.instances)
        yield f"{outside:,} persons ({part:.1f} %) have a keypoint further outside their box than half its size"


def _has_keypoint_outside(person: PersonInstance) -> bool:
    left, top, width, height = person.box
    points = person.keypoints_image[person.visibility > 0]
    margin = np.array([width, height]) / 2
    low, high = np.array([left, top]) - margin, np.array([left + width, top + height]) + margin
    return bool(((points < low) | (points > high)).any())


def _undecodable(images: Sequence[Path], progress: Progress | None) -> dict[Path, str]:
    """One line for every image that cannot be decoded; OpenCV works outside Python's lock, so threads help."""
    broken: dict[Path, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for count, (image, fault) in enumerate(zip(images, pool.map(_decoding_fault, images)), start=1):
            if fault:
                broken[image] = fault
            if progress is not None:
                progress(count, len(images))
    return broken


def _decoding_fault(image: Path) -> str:
    try:
        read_image(image)
    except DataError as error:
        return str(error)
    return ""


def _in_two_splits(images: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    """Images with the same bytes in two splits: who is tested on must not be trained on.

    Only files of equal length are read.
    """
    by_size: dict[int, list[tuple[Path, str]]] = {}
    for source, paths in images.items():
        for path in paths:
            by_size.setdefault(path.stat().st_size, []).append((path, source))
    for same in by_size.values():
        if len({_split_of(source) for _, source in same}) > 1:
            yield from _equal_bytes(same)


def _equal_bytes(files: Sequence[tuple[Path, str]]) -> Iterator[str]:
    seen: dict[bytes, tuple[Path, str]] = {}
    for path, source in files:
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
        first, other = seen.setdefault(digest, (path, source))
        if _split_of(other) != _split_of(source):
            yield f"{path} ({source}) is the same image as {first} ({other})"


def _split_of(source: str) -> str:
    return source.partition("[")[0]


def people_sheet(
    people: Sequence[PersonInstance], keypoint_set: str, box_padding: float, *, count: int = 24, columns: int = 6
) -> Image:
    """A contact sheet of persons spread evenly over a split, each in its padded box with its labelled keypoints.

    Raises:
        ValueError: nobody to show.
        DataError: an image cannot be read.
    """
    chosen = np.linspace(0, len(people) - 1, min(count, len(people))).round().astype(int)
    names = KEYPOINT_SETS[keypoint_set]
    return contact_sheet([_cell(people[index], names, box_padding) for index in chosen], columns)


def _cell(person: PersonInstance, keypoint_set: KeypointSet, box_padding: float) -> Image:
    matrix = plain_view(person, box_padding).affine(CELL_SIZE)
    points = warp_points(person.keypoints_image, matrix)
    points[person.visibility == 0] = np.nan
    return draw_skeleton(crop(read_image(person.image), matrix, CELL_SIZE), points, keypoint_set)
