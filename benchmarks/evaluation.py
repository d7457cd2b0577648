"""How long COCO's keypoint evaluation takes: pycocotools as documented against `cdkd.evaluation.oks.coco_statistics`.

Both get the same plain lists, as read from an annotation file and a results file, and go from there to the ten
statistics. Sizes are those of COCO val2017: its 5,000 images, 11,004 persons of which 6,352 are labelled, scored in
the annotated boxes (6,352 predictions) and in the usual person detector's (104,125). The people are drawn at random.
The statistics are compared before anything is timed.

    python -m benchmarks.evaluation [--pairs 7]
"""

from __future__ import annotations

import argparse
import contextlib
import io
from typing import Any

import numpy as np

from benchmarks.measure import compare, lines, write
from cdkd.evaluation.oks import coco_statistics
from cdkd.keypoints import KEYPOINT_SETS

SIGMAS = KEYPOINT_SETS["coco17"].sigmas
IMAGES, IMAGES_WITH_PERSONS, PERSONS, LABELLED = 5000, 2693, 11004, 6352
BOXES = {"annotated": LABELLED, "detected": 104_125}
LARGEST_DIFFERENCE = 1e-12
SEED = 0

Records = list[dict[str, Any]]


def annotation_file(rng: np.random.Generator) -> dict[str, Any]:
    """Persons like those of val2017 in number, size and labels; 1 in 20 of the unlabelled is a crowd."""
    images = np.sort(rng.integers(0, IMAGES_WITH_PERSONS, PERSONS))
    sizes = np.exp(rng.normal((4.0, 4.6), 0.8, (PERSONS, 2))).clip(8, 640)
    corners = rng.uniform(0, 1, (PERSONS, 2)) * (640 - sizes).clip(0)
    points = np.round(corners[:, None] + rng.uniform(0, 1, (PERSONS, 17, 2)) * sizes[:, None])
    is_labelled = np.zeros(PERSONS, dtype=bool)
    is_labelled[rng.choice(PERSONS, LABELLED, replace=False)] = True
    visibility = rng.choice(3, (PERSONS, 17), p=(0.35, 0.1, 0.55)) * is_labelled[:, None]
    visibility[is_labelled, 5] = 2
    areas = sizes.prod(axis=1) * rng.uniform(0.35, 0.75, PERSONS)
    annotations = [
        {
            "id": number + 1,
            "image_id": int(images[number]),
            "category_id": 1,
            "bbox": [*corners[number].tolist(), *sizes[number].tolist()],
            "area": float(areas[number]),
            "iscrowd": int(not is_labelled[number] and rng.random() < 0.05),
            "num_keypoints": int((visibility[number] > 0).sum()),
            "keypoints": _triples(points[number], visibility[number]),
        }
        for number in range(PERSONS)
    ]
    return {
        "images": [{"id": image} for image in range(IMAGES)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def results_file(layout: dict[str, Any], count: int, rng: np.random.Generator) -> Records:
    """Predictions of the labelled persons; more of them than persons: any person again, or one in an empty image."""
    persons = [person for person in layout["annotations"] if person["num_keypoints"]]
    if count > len(persons):
        persons = [layout["annotations"][index] for index in rng.integers(0, PERSONS, count)]
    results = []
    for person in persons:
        points = np.array(person["keypoints"]).reshape(17, 3)[:, :2]
        spread = np.sqrt(person["area"]) * np.exp(rng.normal(-3, 0.9))
        is_elsewhere = count > LABELLED and rng.random() < 0.2
        image = int(rng.integers(0, IMAGES)) if is_elsewhere else person["image_id"]
        moved = points + rng.normal(0, spread, (17, 2))
        found = {"keypoints": _triples(moved, rng.random(17)), "score": float(rng.random())}
        results.append({"image_id": image, "category_id": 1, **found})
    return results


def with_pycocotools(layout: dict[str, Any], results: Records) -> list[float]:
    """The documented way, silenced: index, `loadRes`, evaluate, accumulate, summarize."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = layout
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def measure(boxes: str, pairs: int) -> dict[str, Any]:
    """Compare the two on one number of predictions.

    Raises:
        ValueError: their statistics differ.
    """
    rng = np.random.default_rng(SEED)
    layout = annotation_file(rng)
    results = results_file(layout, BOXES[boxes], rng)
    ours = list(coco_statistics(layout, results, SIGMAS).values())  # first, since pycocotools writes into both
    theirs = with_pycocotools(layout, [dict(result) for result in results])
    difference = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    if difference > LARGEST_DIFFERENCE:
        raise ValueError(f"the statistics differ by {difference}: {ours}, {theirs}")
    report = compare(
        {
            "pycocotools": lambda: with_pycocotools(layout, [dict(result) for result in results]),
            "cdkd": lambda: coco_statistics(layout, results, SIGMAS),
        },
        "pycocotools",
        name=f"evaluation_{boxes}_boxes",
        pairs=pairs,
        units=len(results),
        unit="prediction",
    )
    return {**report, "statistics": ours, "largest_difference": difference}


def _triples(points: np.ndarray, third: np.ndarray) -> list[float]:
    flat: list[float] = np.column_stack([points, third]).ravel().tolist()
    return flat


def main() -> None:
    """Measure both numbers of predictions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="counted rounds")
    pairs = parser.parse_args().pairs
    for boxes in BOXES:
        report = measure(boxes, pairs)
        print(lines(report))
        print(f"  largest difference of the statistics {report['largest_difference']:.1g}; {write(report)}")


if __name__ == "__main__":
    main()
