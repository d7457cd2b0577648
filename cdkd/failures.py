"""Which persons a network fails on: a person's mean keypoint error, and the list of persons by it (paper Fig. 10)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cdkd.evaluation.scores import Predictions
from cdkd.instances import PersonInstance

COLUMNS = ("annotation_id", "image", "error", "worst_keypoint", "worst_error")


@dataclass(frozen=True)
class Failure:
    """One person's error.

    Attributes:
        index: position among the persons.
        error: mean distance of the labelled keypoints from the truth, in the person's normalising lengths.
        worst_keypoint: index of the keypoint farthest off.
        worst_error: its distance, likewise.
    """

    index: int
    error: float
    worst_keypoint: int
    worst_error: float


@dataclass(frozen=True)
class Ranking:
    """Persons by their errors.

    Attributes:
        failures: largest error first; equal ones in the persons' order.
        unit: the normalising length in words.
    """

    failures: list[Failure]
    unit: str


def rank_failures(predictions: Predictions, instances: Sequence[PersonInstance]) -> Ranking:
    """The persons by their mean keypoint error.

    Distances are in annotated head sizes where every person has one, else in square roots of the person's area, the
    scale of OKS. Not in head segments: where neck and head top lie behind each other, an error of any size is large.

    Args:
        predictions: in the order of `instances`.
        instances: persons with at least one labelled keypoint each.
    """
    lengths, unit = _normaliser(instances)
    truth = np.array([instance.keypoints_image for instance in instances], dtype=np.float64)
    distances = np.linalg.norm(predictions.keypoints_image - truth, axis=-1) / lengths[:, None]
    is_labelled = np.array([instance.visibility for instance in instances]) > 0
    counted = np.where(is_labelled, distances, np.nan)
    failures = sorted(map(_failure, range(len(counted)), counted), key=lambda failure: -failure.error)
    return Ranking(failures, unit)


def _failure(index: int, distances: NDArray[np.float64]) -> Failure:
    worst = int(np.nanargmax(distances))
    return Failure(index, float(np.nanmean(distances)), worst, float(distances[worst]))


def _normaliser(instances: Sequence[PersonInstance]) -> tuple[NDArray[np.float64], str]:
    """A length for each person, and what it is."""
    head_sizes = [instance.head_size for instance in instances if instance.head_size is not None]
    if len(head_sizes) == len(instances):
        return np.array(head_sizes, dtype=np.float64), "head sizes"
    return np.sqrt([instance.area for instance in instances]), "square roots of the person's area"


def write_failures(
    path: Path, failures: Sequence[Failure], instances: Sequence[PersonInstance], names: Sequence[str]
) -> None:
    """The failures as CSV, one person a row, in their order; `names` are those of the keypoints."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for failure in failures:
            instance = instances[failure.index]
            worst = names[failure.worst_keypoint]
            errors = (f"{failure.error:.4f}", worst, f"{failure.worst_error:.4f}")
            rows.writerow((instance.annotation_id, instance.image, *errors))
