"""Small data sets written by the tests, and the real excerpts where they are at hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cdkd.keypoints import KEYPOINT_SETS

SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data is not at hand: {SHARED_DATA} does not exist")
    return SHARED_DATA


def smooth_image(height: int = 90, width: int = 120, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 without sharp edges, different everywhere."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def record(annotation_id: int, image_id: int, keypoint_count: int = 14, /, **changes: Any) -> dict[str, Any]:
    """A sound annotation, changed as asked; a change to None takes the key away."""
    xs = np.linspace(30, 80, keypoint_count)
    ys = np.linspace(20, 70, keypoint_count)
    triples = [value for x, y in zip(xs, ys) for value in (float(x), float(y), 2)]
    sound = {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": triples,
        "bbox": [20.0, 10.0, 60.0, 70.0],
        "area": 2000.0,
    }
    return {key: value for key, value in {**sound, **changes}.items() if value is not None}


@pytest.fixture
def write_layout(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes an annotation file and its images below `tmp_path`; returns their paths."""

    def write(
        annotations: list[Any] | None = None,
        *,
        image_count: int = 3,
        keypoint_set: str = "lsp14",
        name: str = "people",
        first_seed: int = 0,
        **sections: Any,
    ) -> tuple[Path, Path]:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        names = [f"{name}{number}.png" for number in range(1, image_count + 1)]
        for number, file_name in enumerate(names, start=first_seed):
            cv2.imwrite(str(folder / file_name), smooth_image(seed=number))
        count = KEYPOINT_SETS[keypoint_set].count
        layout = {
            "images": [
                {"id": number, "file_name": file_name, "width": 120, "height": 90}
                for number, file_name in enumerate(names, start=1)
            ],
            "annotations": annotations
            if annotations is not None
            else [record(10 + number, number, count) for number in range(1, image_count + 1)],
            "categories": [{"id": 1, "name": "person", "keypoints": list(KEYPOINT_SETS[keypoint_set].names)}],
            **sections,
        }
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(layout))
        return file, folder

    return write


@pytest.fixture
def make_record() -> Callable[..., dict[str, Any]]:
    """`record`, for tests."""
    return record


@pytest.fixture
def make_image() -> Callable[..., np.ndarray]:
    """`smooth_image`, for tests."""
    return smooth_image
