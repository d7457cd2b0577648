"""COCO's evaluation of keypoints by faster-coco-eval, or by pycocotools where that is not installed.

The two agree to 1e-15 (tests/cdkd/evaluation/test_engines.py). Both are imported on first use: a machine that only
trains may have neither.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdkd.evaluation.similarity import FloatArray, truth_similarity

logger = logging.getLogger(__name__)

Records = Sequence[Mapping[str, Any]]
Engine = Callable[[Mapping[str, Any], Records, FloatArray, Sequence[float]], list[float]]
"""From a ground truth in COCO layout, results (id, image_id, category_id, score, area) in the order of image, category
and falling score, their points (N, J, 2) and J sigmas to COCOeval's ten statistics. Annotations are changed."""


@functools.cache
def engine() -> Engine | None:
    """The fastest engine that can be imported; None, with one warning a process, when there is none."""
    for run, package in ((with_faster_coco_eval, "faster_coco_eval"), (with_pycocotools, "pycocotools.cocoeval")):
        with contextlib.suppress(ImportError):
            __import__(package)
            return run
    logger.warning("no average precision: neither faster-coco-eval nor pycocotools can be imported")
    return None


def with_pycocotools(
    ground_truth: Mapping[str, Any], results: Records, points: FloatArray, sigmas: Sequence[float]
) -> list[float]:
    """The reference: COCOeval as it is, without its printing."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    flat = np.pad(points, ((0, 0), (0, 0), (0, 1))).reshape(len(points), -1).tolist()
    whole = [{**result, "keypoints": keypoints} for result, keypoints in zip(results, flat, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset, found.dataset = dict(ground_truth), {**ground_truth, "annotations": whole}
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def with_faster_coco_eval(
    ground_truth: Mapping[str, Any], results: Records, points: FloatArray, sigmas: Sequence[float]
) -> list[float]:
    """Matching and accumulation in C++, and the similarities of all pairs at once instead of person by person."""
    from faster_coco_eval import COCO, COCOeval_faster

    matrices = _matrices(ground_truth["annotations"], results, points, sigmas)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of an id 0, which `oks` has told of
        truth, found = COCO(dict(ground_truth)), COCO({**ground_truth, "annotations": list(results)})
    evaluation = COCOeval_faster(truth, found, "keypoints", print_function=_silent)
    evaluation.computeOks = lambda image_id, category_id: matrices[image_id, category_id]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def _silent(*_: object) -> None:
    """Instead of the tool's report."""


def _matrices(
    annotations: Records, results: Records, points: FloatArray, sigmas: Sequence[float]
) -> dict[tuple[int, int], FloatArray]:
    """OKS of every result with every annotation of its image and category: a matrix (results, annotations) each."""
    places, groups = np.unique(
        np.concatenate([places_of(results), places_of(annotations)]), axis=0, return_inverse=True
    )
    of_results, of_annotations = groups[: len(results)], groups[len(results) :]
    heights, widths = (np.bincount(members, minlength=len(places)) for members in (of_results, of_annotations))
    # Results stand by place already; of the annotations each result's are those from `first` on in `ordered`.
    ordered, first = np.argsort(of_annotations, kind="stable"), np.cumsum(widths) - widths
    repeats = widths[of_results]
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    pairs = np.repeat(np.arange(len(results)), repeats), ordered[np.repeat(first[of_results], repeats) + within]
    similarities = truth_similarity(
        points,
        triples(annotations, len(sigmas)),
        np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64),
        np.array([annotation["area"] for annotation in annotations], dtype=np.float64),
        sigmas,
        pairs,
    )
    blocks = np.split(similarities, np.cumsum(heights * widths))[:-1]
    shapes = zip(heights.tolist(), widths.tolist(), strict=True)
    keys = map(tuple, places.tolist())
    return {key: block.reshape(shape) for key, block, shape in zip(keys, blocks, shapes, strict=True)}


def places_of(records: Records) -> NDArray[np.int64]:
    """(N, 2) image and category of records in COCO layout."""
    columns = [
        np.fromiter((record[name] for record in records), np.int64, len(records))
        for name in ("image_id", "category_id")
    ]
    return np.stack(columns, axis=1)


def triples(records: Records, keypoint_count: int) -> FloatArray:
    """(N, J, 3) keypoints of records in COCO layout."""
    size = len(records) * keypoint_count * 3
    values = itertools.chain.from_iterable(record["keypoints"] for record in records)
    return np.fromiter(values, np.float64, size).reshape(-1, keypoint_count, 3)
