"""Evaluation noise: how a difference between two trained networks depends on which images are in the split.

Images are resampled, not persons, since persons of one image depend on each other; both networks are scored on the same
resampled images. It says nothing about training noise: another seed is another network.

A run's file `instances_<split>.npz` holds, for N persons with a prediction each in a ground-truth box: image_id (N,),
annotation_id (N,), score (N,), oks (N,) to the person whose box it is (NaN: not counted, since nothing is labelled),
counted (N,) labelled keypoints of the person, and correct@0.5, correct@0.1 (N,) of them within that part of the head.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from analysis.errors import AnalysisError
from analysis.statistics import SEED

FloatArray = NDArray[np.float64]
OKS_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2))
RECALLS = np.linspace(0.0, 1.0, 101)
RESAMPLES = 1000
AT_A_TIME = 50  # resamples scored together: bounds the memory
ARRAYS = ("image_id", "annotation_id", "score", "oks", "counted")


class InstancesError(AnalysisError):
    """The scores per person of a run are missing, unreadable or of other persons than those compared with."""


def instances_file(split: str) -> str:
    """Name of the artifact with the scores per person."""
    return f"instances_{split}.npz"


@dataclass(frozen=True)
class Instances:
    """One network's predictions on one split, ordered by falling score as COCO ranks them.

    Attributes:
        image_id, annotation_id: (N,) whose prediction it is.
        oks: (N,) similarity to that person; NaN where it does not count.
        counted: (N,) labelled keypoints.
        correct: threshold as text -> (N,) correct keypoints.
    """

    image_id: NDArray[np.int64]
    annotation_id: NDArray[np.int64]
    oks: FloatArray
    counted: FloatArray
    correct: Mapping[str, FloatArray]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Instances:
        """Makes them of the arrays of a file.

        Raises:
            InstancesError: if one is missing or of another length.
        """
        missing = [name for name in ARRAYS if name not in arrays]
        if missing:
            raise InstancesError(f"has no array {', '.join(missing)}")
        names = [*ARRAYS, *(name for name in arrays if name.startswith("correct@"))]
        lengths = {name: len(arrays[name]) for name in names}
        if len(set(lengths.values())) > 1:
            raise InstancesError(f"its arrays must be of one length, got {lengths}")
        order = np.argsort(-np.asarray(arrays["score"], dtype=np.float64), kind="stable")
        taken = {name: np.asarray(arrays[name])[order] for name in names}
        return cls(
            image_id=taken["image_id"].astype(np.int64),
            annotation_id=taken["annotation_id"].astype(np.int64),
            oks=taken["oks"].astype(np.float64),
            counted=taken["counted"].astype(np.float64),
            correct={name.partition("@")[2]: taken[name].astype(np.float64) for name in names[len(ARRAYS) :]},
        )


def read_instances(file: BinaryIO, name: str) -> Instances:
    """Reads the scores per person of a run.

    Args:
        file: content of an npz file.
        name: of the file, for messages.

    Raises:
        InstancesError: if the file cannot be read or is not as it should be.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Instances.of(dict(arrays))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InstancesError(f"{name}: {error}") from error


Score = Callable[[Instances, FloatArray], FloatArray]


def score_of(metric: str) -> Score:
    """How a metric is computed of persons that count several times.

    Args:
        metric: without split, such as `ap` or `pckh@0.5`.

    Returns:
        A function of the persons and their weights (B, N), with one score in [0, 1] for each of the B weightings.

    Raises:
        InstancesError: if the file does not hold what this metric needs.
    """
    thresholds = {"ap": OKS_THRESHOLDS, "ap50": (0.5,), "ap75": (0.75,)}
    if metric in thresholds:
        return lambda instances, weights: average_precision(instances, weights, thresholds[metric])
    name, _, threshold = metric.partition("@")
    if name == "pckh" and threshold in ("0.5", "0.1"):
        return lambda instances, weights: correct_part(instances, weights, threshold)
    raise InstancesError(
        f"evaluation noise is known of {', '.join(thresholds)}, pckh@0.5 and pckh@0.1, not of {metric}"
    )


def average_precision(instances: Instances, weights: FloatArray, thresholds: tuple[float, ...]) -> FloatArray:
    """COCO's 101-point interpolated average precision, mean over the thresholds, where each person has one prediction.

    Args:
        instances: N persons.
        weights: (B, N) how often each person counts.
        thresholds: of OKS, for a prediction to be right.
    """
    is_counted = ~np.isnan(instances.oks)
    weights, oks = weights[:, is_counted], instances.oks[is_counted]
    seen = np.cumsum(weights, axis=1)
    persons = weights.sum(axis=1)
    found = [_interpolated(weights, seen, np.flatnonzero(oks >= threshold), persons) for threshold in thresholds]
    return np.where(persons > 0, np.mean(found, axis=0), math.nan)


def _interpolated(weights: FloatArray, seen: FloatArray, right: NDArray[np.intp], persons: FloatArray) -> FloatArray:
    """(B,) mean precision at 101 recalls; 0 at a recall that is not reached.

    Recall grows and precision peaks at predictions that are right, so nothing else has to be looked at.
    """
    true_positives = np.cumsum(weights[:, right], axis=1)
    precision = true_positives / np.maximum(seen[:, right], 1.0)  # 0 before the first that counts
    np.maximum.accumulate(precision[:, ::-1], axis=1, out=precision[:, ::-1])
    recall = true_positives / np.maximum(persons[:, None], 1.0)
    return np.array([_mean_at_recalls(*row) for row in zip(recall, precision)])


def _mean_at_recalls(recall: FloatArray, precision: FloatArray) -> float:
    positions = np.searchsorted(recall, RECALLS)
    return float(precision[positions[positions < len(precision)]].sum() / len(RECALLS))


def correct_part(instances: Instances, weights: FloatArray, threshold: str) -> FloatArray:
    """PCKh: correct keypoints over labelled ones.

    Raises:
        InstancesError: if the file has no counts at this threshold.
    """
    if threshold not in instances.correct:
        raise InstancesError(f"has no array correct@{threshold}")
    counted = weights @ instances.counted
    correct = weights @ instances.correct[threshold]
    return np.where(counted > 0, correct / np.where(counted > 0, counted, 1.0), math.nan)


@dataclass(frozen=True)
class EvaluationNoise:
    """Difference between two networks on one split, and its spread over resampled images.

    Attributes:
        difference: on the split as it is, in [-1, 1].
        low, high: 95 % percentile interval.
        images, persons: in the split.
    """

    difference: float
    low: float
    high: float
    images: int
    persons: int


@dataclass(frozen=True)
class PairedImages:
    """Bootstrap over images, the same for both networks.

    Attributes:
        seed: of the generator of every call.
    """

    resamples: int = RESAMPLES
    confidence: float = 0.95
    seed: int = SEED

    def __call__(self, first: Instances, second: Instances, metric: str) -> EvaluationNoise:
        """Difference `first - second` of a metric (see score_of).

        Raises:
            InstancesError: if the two are of different persons, or do not hold what the metric needs.
        """
        check_same_persons(first, second)
        score, one = score_of(metric), np.ones((1, len(first.oks)))
        images = np.unique(first.image_id)
        differences = [
            score(first, drawn[:, np.searchsorted(images, first.image_id)])
            - score(second, drawn[:, np.searchsorted(images, second.image_id)])
            for drawn in self._drawn(len(images))
        ]
        tails = ((1 - self.confidence) / 2, (1 + self.confidence) / 2)
        low, high = np.nanquantile(np.concatenate(differences), tails)
        difference = float((score(first, one) - score(second, one))[0])
        return EvaluationNoise(difference, float(low), float(high), len(images), len(first.oks))

    def _drawn(self, images: int) -> list[FloatArray]:
        """(B, images) how often each image was drawn, in parts of few resamples."""
        rng = np.random.default_rng(self.seed)
        even = np.full(images, 1 / images)
        parts = [min(AT_A_TIME, self.resamples - start) for start in range(0, self.resamples, AT_A_TIME)]
        return [rng.multinomial(images, even, size=part).astype(np.float64) for part in parts]


def check_same_persons(first: Instances, second: Instances) -> None:
    """Refuses networks that were scored on different persons.

    Raises:
        InstancesError: if so.
    """
    one, other = (set(zip(each.image_id.tolist(), each.annotation_id.tolist())) for each in (first, second))
    if one != other or len(first.oks) != len(second.oks):
        raise InstancesError(
            f"the runs were scored on different persons: {len(one)} and {len(other)}, {len(one & other)} in both"
        )
