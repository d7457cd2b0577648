"""People and worlds made for the tests, the real excerpts where they are at hand, and pycocotools as it is."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdkd.instances import PersonInstance
from cdkd.keypoints import KEYPOINT_SETS

SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is not at hand: {SHARED_DATA} does not exist")
    return SHARED_DATA


@pytest.fixture
def read_shared(shared_data: Path) -> Callable[[str], Any]:
    """Reads a JSON file of the real data."""
    return lambda name: json.loads((shared_data / name).read_text())


def person(keypoint_set: str = "coco17", number: int = 0, seed: int = 0, **changes: Any) -> PersonInstance:
    """A person of 100 x 100 pixels with all keypoints visible, alone in an image of her own; changed as asked."""
    count = KEYPOINT_SETS[keypoint_set].count
    points = np.random.default_rng((seed, number)).uniform(0, 100, (count, 2)).astype(np.float32)
    values: dict[str, Any] = {
        "image": Path(f"{number}.png"),
        "image_id": number,
        "annotation_id": number,
        "box": (0.0, 0.0, 100.0, 100.0),
        "area": 10000.0,
        "keypoints_image": points,
        "visibility": np.full(count, 2, dtype=np.int64),
    }
    return PersonInstance(**{**values, **changes})


@pytest.fixture
def make_person() -> Callable[..., PersonInstance]:
    """`person`, for tests."""
    return person


def world(
    seed: int, *, images: int = 8, categories: int = 1, ties: bool = False, keypoint_count: int = 17
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Annotations and results of random people: crowds, regions, empty images, duplicates, and far more than 20 of one.

    With `ties` scores are of three values only.
    """
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 5)):
            points = rng.integers(0, 200, (keypoint_count, 2)).astype(float)
            visibility = rng.integers(0, 3, keypoint_count) * (rng.random() > 0.25)
            size = rng.uniform(5, 250, 2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.integers(1, categories + 1)),
                    "bbox": [*rng.uniform(0, 100, 2).tolist(), *size.tolist()],
                    "area": float(size.prod() / 2),
                    "iscrowd": int(not visibility.any() and rng.random() < 0.5),
                    "num_keypoints": int((visibility > 0).sum()),
                    "keypoints": np.column_stack([points * (visibility > 0)[:, None], visibility]).ravel().tolist(),
                }
            )
            for _ in range(rng.integers(0, 14)):
                moved = points + rng.normal(0, rng.choice([0, 0.5, 2, 6, 20]), points.shape)
                results.append(
                    {
                        "image_id": image,
                        "category_id": int(rng.integers(1, categories + 1)),
                        "keypoints": np.column_stack([moved, np.ones(keypoint_count)]).ravel().tolist(),
                        "score": float(rng.integers(1, 4)) / 4 if ties else float(rng.random()),
                    }
                )
    layout = {
        "images": [{"id": image} for image in range(1, images + 3)],
        "annotations": annotations,
        "categories": [{"id": category, "name": str(category)} for category in range(1, categories + 1)],
    }
    return layout, results


@pytest.fixture
def make_world() -> Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]:
    """`world`, for tests."""
    return world


def pycocotools_stats(layout: dict[str, Any], results: list[dict[str, Any]], sigmas: Any) -> list[float]:
    """What pycocotools alone makes of the two files' contents, by its own `loadRes`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**layout, "annotations": [dict(annotation) for annotation in layout["annotations"]]}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.fixture
def peer() -> Callable[..., list[float]]:
    """`pycocotools_stats`, for tests."""
    return pycocotools_stats
