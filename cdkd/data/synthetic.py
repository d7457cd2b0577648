"""The synthetic data set: drawn people with known keypoints, written in COCO keypoint layout.

Articulated figures in three dimensions (`synthetic_figure`) are dressed and painted from far to near
(`synthetic_people`, `synthetic_paint`) before and behind clutter (`synthetic_scene`). Every image comes
from a random stream of its own: image i is the same whatever the number of images, and whatever the
keypoint set. A change that moves a pixel or a keypoint must raise `drawing_version.DRAWING_VERSION`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cdkd.config import SyntheticConfig
from cdkd.data.streams import generator
from cdkd.data.synthetic_figure import Figure, sample_figure
from cdkd.data.synthetic_paint import IN_FRONT, UNOWNED, Canvas
from cdkd.data.synthetic_people import Person, Placement, sample_wardrobe
from cdkd.data.synthetic_scene import empty_canvas, paint_clutter, paint_ground_shadow, paint_in_front, photograph
from cdkd.keypoints import KeypointSet

Box = tuple[float, float, float, float]

PERSON_SIZE = (0.40, 0.95)  # longer side of the person, in image sides
CUT_PROBABILITY = 0.15  # of a person cut by the image's border
FLESH = 0.055  # how far a body reaches beyond its outermost joints, body heights

# Head features: place on the head (x left, y up, z forward, body heights) and the direction they face.
HEAD_FEATURES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "nose": ((0.0, -0.013, 0.062), (0.0, 0.0, 1.0)),
    "left_eye": ((0.019, 0.004, 0.054), (0.45, 0.1, 0.88)),
    "right_eye": ((-0.019, 0.004, 0.054), (-0.45, 0.1, 0.88)),
    "left_ear": ((0.050, -0.006, -0.004), (1.0, 0.0, 0.0)),
    "right_ear": ((-0.050, -0.006, -0.004), (-1.0, 0.0, 0.0)),
}
TURNED_AWAY = -0.35  # features facing further from the viewer than this are not labelled
SEEN_ON: dict[str, tuple[str, ...]] = {
    "shoulder": ("upper_arm", "arm", "torso", "neck"),
    "elbow": ("upper_arm", "forearm", "arm"),
    "wrist": ("forearm", "hand", "arm"),
    "hip": ("thigh", "leg", "pelvis", "torso", "skirt"),
    "knee": ("thigh", "shank", "leg"),
    "ankle": ("shank", "leg", "foot"),
    "pelvis": ("pelvis", "torso", "skirt", "left_thigh", "right_thigh", "left_leg", "right_leg"),
    "thorax": ("torso", "neck"),
    "neck": ("torso", "neck", "head"),
    "upper_neck": ("torso", "neck", "head"),
    "head_top": ("head",),
}
MIDDLE_PARTS = ("torso", "neck", "pelvis", "skirt")  # parts that belong to no side
FAR_SIDE = 0.03  # a shoulder or hip so much behind the spine is hidden by the trunk, body heights


@dataclass(frozen=True)
class Drawing:
    """One image with its person.

    Attributes:
        image: (H, W, 3) RGB uint8.
        keypoints: (J, 2) image pixels; 0 where not labelled.
        visibility: (J,) 0 not labelled (outside the image, or a face turned away), 1 hidden, 2 seen.
        box: x, y, width, height of the person inside the image, as if nothing were in front.
        area: pixels of the person that can be seen.
    """

    image: NDArray[np.uint8]
    keypoints: NDArray[np.float64]
    visibility: NDArray[np.int64]
    box: Box
    area: float


def write_synthetic(folder: Path, config: SyntheticConfig, keypoint_set: KeypointSet) -> None:
    """Draw the training and validation images into `folder`.

    Writes `train.json`, `val.json` (COCO keypoint layout) and the JPEG images in `train/` and `val/`.

    Args:
        folder: made when it is not there; files of the same names are overwritten.
        config: seed, numbers of images and their size.
        keypoint_set: keypoints to annotate.
    """
    for split, count in (("train", config.train_images), ("val", config.val_images)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        document = _document(keypoint_set)
        for index in range(count):
            drawing = draw(config, split, index, keypoint_set)
            _write_image(folder / split / _file_name(index), drawing.image)
            _add(document, drawing, index)
        (folder / f"{split}.json").write_text(json.dumps(document), encoding="utf-8")


def draw(config: SyntheticConfig, split: str, index: int, keypoint_set: KeypointSet) -> Drawing:
    """Draw image `index` of a split: depends on the seed, the split, the index and the image size alone."""
    rng = generator(config.seed, "synthetic", split, index)
    size = config.image_size
    canvas = empty_canvas(rng, size)
    paint_clutter(rng, canvas)
    person = _place_person(rng, size)
    _paint_bystanders(rng, canvas, person)
    extent = person.extent()
    if person.figure.is_grounded:
        paint_ground_shadow(canvas, ((extent[0] + extent[2]) / 2, extent[3]), max(0.4 * (extent[2] - extent[0]), 2.0))
    parts = person.paint(canvas)
    paint_in_front(rng, canvas, extent)
    keypoints, visibility = _annotate(person, parts, canvas, keypoint_set)
    is_seen = (canvas.owner != UNOWNED) & (canvas.owner != IN_FRONT)
    return Drawing(photograph(rng, canvas), keypoints, visibility, _inside(extent, size), float(is_seen.sum()))


# Placing people.


def _place_person(rng: np.random.Generator, size: int) -> Person:
    """The labelled person: mostly all inside the image, now and then cut by its border."""
    figure = sample_figure(rng)
    reach, middle = _reach(figure)
    length = rng.uniform(*PERSON_SIZE) * size
    scale = length / reach.max()
    free = np.maximum(size - reach * scale, 0.0) / 2
    offset = rng.uniform(-1, 1, size=2) * free
    if rng.random() < CUT_PROBABILITY:
        axis, outside = rng.integers(2), rng.uniform(0.05, 0.3)
        offset[axis] = rng.choice([-1.0, 1.0]) * (free[axis] + outside * reach[axis] * scale)
    return _person(rng, figure, scale, middle, size / 2 + offset)


def _paint_bystanders(rng: np.random.Generator, canvas: Canvas, person: Person) -> None:
    """Nobody, one or two other people behind the labelled one, off its centre and rarely larger."""
    size, (left, top, right, bottom) = canvas.owner.shape[0], person.extent()
    for _ in range(rng.choice(3, p=[0.6, 0.28, 0.12])):
        figure = sample_figure(rng)
        reach, middle = _reach(figure)
        scale = max(right - left, bottom - top) * rng.uniform(0.4, 1.0) / reach.max()
        sideways = (
            rng.choice([-1.0, 1.0])
            * rng.uniform(0.7, 1.3)
            * max((right - left) / 2 + reach[0] * scale / 2, 0.15 * size)
        )
        centre = np.array([(left + right) / 2 + sideways, (top + bottom) / 2 + rng.normal(0, 0.12) * size])
        _person(rng, figure, scale, middle, centre).paint(canvas, is_owner=False)


def _person(
    rng: np.random.Generator, figure: Figure, scale: float, middle: NDArray[np.float64], centre: NDArray[np.float64]
) -> Person:
    """A dressed figure whose `middle` (body heights) falls on the pixel `centre`."""
    origin = (float(centre[0] - middle[0] * scale), float(centre[1] + middle[1] * scale))
    return Person(figure, sample_wardrobe(rng, scale), Placement(scale, origin))


def _reach(figure: Figure) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Width and height of a figure, and its middle, body heights."""
    flat = np.stack(list(figure.joints.values()))[:, :2]
    low, high = flat.min(axis=0), flat.max(axis=0)
    return high - low + FLESH, (high + low) / 2


# Annotation.


def _annotate(
    person: Person, parts: dict[int, str], canvas: Canvas, keypoint_set: KeypointSet
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Keypoints (J, 2) and visibility (J,) of the person as painted."""
    places = [keypoint_place(person, name) for name in keypoint_set.names]
    pixels = person.placement.project(np.stack(places))
    size = canvas.owner.shape[0]
    keypoints, visibility = np.zeros((len(places), 2)), np.zeros(len(places), dtype=np.int64)
    for index, name in enumerate(keypoint_set.names):
        x, y = (round(float(value)) for value in pixels[index])
        if not (0 <= x < size and 0 <= y < size) or _is_turned_away(person, name):
            continue
        part = parts.get(int(canvas.owner[y, x]), "")
        keypoints[index] = pixels[index]
        visibility[index] = 2 if _is_seen(person, name, places[index], part) else 1
    return keypoints, visibility


def keypoint_place(person: Person, name: str) -> NDArray[np.float64]:
    """(3,) place of a keypoint of any set, body heights in the camera's frame.

    Raises:
        KeyError: a keypoint that this body does not have.
    """
    joints = person.figure.joints
    if name in HEAD_FEATURES:
        return person.feature(*HEAD_FEATURES[name][0])
    if name == "neck":  # where neck and shoulders meet, as in LSP and CrowdPose
        return 0.6 * joints["thorax"] + 0.4 * joints["upper_neck"]
    return joints["head_top" if name == "head" else name]


def _is_turned_away(person: Person, name: str) -> bool:
    return name in HEAD_FEATURES and _facing(person, name) < TURNED_AWAY


def _facing(person: Person, name: str) -> float:
    """How much a head feature faces the viewer, -1 to 1."""
    return float((person.figure.frames["head"] @ np.array(HEAD_FEATURES[name][1]))[2])


def _is_seen(person: Person, name: str, place: NDArray[np.float64], part: str) -> bool:
    """Whether the part painted last at a keypoint is one that shows it."""
    if name in HEAD_FEATURES:
        return part == "head" and _facing(person, name) > 0
    side, _, kind = name.rpartition("_") if name.startswith(("left_", "right_")) else ("", "", name)
    shown_by = SEEN_ON["head_top" if kind == "head" else kind]
    if not side:
        return part in shown_by
    if part in MIDDLE_PARTS:
        spine = person.figure.joints["thorax" if kind == "shoulder" else "pelvis"]
        return part in shown_by and bool(place[2] > spine[2] - FAR_SIDE)
    return part.startswith(f"{side}_") and part.removeprefix(f"{side}_") in shown_by


def _inside(extent: Box, size: int) -> Box:
    """x, y, width, height of the part of (left, top, right, bottom) that is inside the image."""
    left, top, right, bottom = np.clip(extent, 0, size).tolist()
    return left, top, right - left, bottom - top


# Files.


def _file_name(index: int) -> str:
    return f"{index:06d}.jpg"


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a JPEG; OSError where it cannot be written."""
    is_encoded, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 93])
    if not is_encoded:
        raise OSError(f"{path}: the image could not be encoded")
    path.write_bytes(data.tobytes())


def _document(keypoint_set: KeypointSet) -> dict[str, Any]:
    skeleton = [[first + 1, second + 1] for first, second in keypoint_set.skeleton]
    category = {"id": 1, "name": "person", "keypoints": list(keypoint_set.names), "skeleton": skeleton}
    description = f"Synthetic people drawn by this program, keypoint set {keypoint_set.name}"
    return {"info": {"description": description}, "images": [], "annotations": [], "categories": [category]}


def _add(document: dict[str, Any], drawing: Drawing, index: int) -> None:
    """Append an image and its one annotation; ids count from 1, coordinates have two decimals."""
    height, width = drawing.image.shape[:2]
    document["images"].append({"id": index + 1, "file_name": _file_name(index), "width": width, "height": height})
    triples = np.column_stack([np.round(drawing.keypoints, 2), drawing.visibility])
    annotation = {
        "id": index + 1,
        "image_id": index + 1,
        "category_id": 1,
        "bbox": [round(value, 2) for value in drawing.box],
        "area": drawing.area,
        "iscrowd": 0,
        "num_keypoints": int((drawing.visibility > 0).sum()),
        "keypoints": triples.ravel().tolist(),
    }
    document["annotations"].append(annotation)
