"""Whom `cdkd predict` draws: the person in an image, or persons of a split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from cdkd.gallery import Network
    from cdkd.instances import PersonInstance

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Chosen:
    """Persons to draw.

    Attributes:
        persons: who.
        stems: for each person what the name of a picture's file begins with.
        captions: for each person a line of text.
        title: what the persons have in common.
    """

    persons: Sequence[PersonInstance]
    stems: Sequence[str]
    captions: Sequence[str]
    title: str = ""


def persons_in_images(images: Sequence[Path], box: Box | None, network: Network) -> Chosen:
    """One person in each image file; without a box it is the whole image.

    Raises:
        DataError: an image cannot be read.
    """
    persons = [_person_in(image, box, network.student.keypoint_set.count) for image in images]
    return Chosen(persons, [image.stem for image in images], [image.name for image in images])


def _person_in(image: Path, box: Box | None, keypoint_count: int) -> PersonInstance:
    """A person of whom no keypoint is labelled."""
    import numpy as np

    from cdkd.data.images import read_image
    from cdkd.instances import PersonInstance

    height, width = read_image(image).shape[:2]
    box = box or (0.0, 0.0, float(width), float(height))
    return PersonInstance(
        image=image,
        image_id=0,
        annotation_id=0,
        box=box,
        area=box[2] * box[3],
        keypoints_image=np.zeros((keypoint_count, 2), np.float32),
        visibility=np.zeros(keypoint_count, np.int64),
    )


def spread_persons(network: Network, split: str, wanted: int) -> Chosen:
    """Persons of a split of the network's data set, at equal distances.

    Raises:
        ConfigError: the split is empty.
        DataError: the data set is missing or broken.
    """
    from cdkd.gallery import evenly_spread
    from cdkd.inference import load_split

    found = load_split(network.student.config, split)
    persons = found.instances or found.detected
    chosen = [persons[position] for position in evenly_spread(len(persons), wanted)]
    title = f"{len(chosen)} of {len(persons)} persons of the {split} split"
    return Chosen(chosen, [_stem(person) for person in chosen], [_caption(person) for person in chosen], title)


def worst_persons(network: Network, split: str, wanted: int, table: Path) -> Chosen:
    """The labelled persons of a split with the largest errors; `table` is written with the errors of all.

    Raises:
        ConfigError: the split is empty.
        DataError: the data set is missing or broken.
        UserError: nobody is labelled, or the table cannot be written.
    """
    from cdkd.failures import rank_failures, write_failures
    from cdkd.inference import load_split, predict_instances

    names = network.student.keypoint_set.names
    persons = load_split(network.student.config, split).instances
    if not persons:
        raise UserError(f"--failures: nobody is labelled in the {split} split, so no error is known")
    ranking = rank_failures(predict_instances(network.student, persons), persons)
    with writing(table):
        write_failures(table, ranking.failures, persons, names)
    worst = ranking.failures[:wanted]
    chosen = [persons[failure.index] for failure in worst]
    errors = [
        f"error {failure.error:.2f}, worst {names[failure.worst_keypoint]} {failure.worst_error:.2f}"
        for failure in worst
    ]
    captions = [f"{_caption(person)}: {error}" for person, error in zip(chosen, errors)]
    title = (
        f"The {len(worst)} largest errors of {network.name} among {len(persons)} persons of the {split} split. "
        f"Error: mean distance of the labelled keypoints in {ranking.unit}"
    )
    return Chosen(chosen, [_stem(person) for person in chosen], captions, title)


def _stem(person: PersonInstance) -> str:
    return f"{person.image.stem}-{person.annotation_id}"


def _caption(person: PersonInstance) -> str:
    return f"{person.image.name} #{person.annotation_id}"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A context in which a file is written into its folder, which is made.

    Raises:
        UserError: folder or file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
