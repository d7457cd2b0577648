"""The written set: layout, repeatability, annotation."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cdkd.config import SyntheticConfig
from cdkd.data.coco_layout import read_coco_layout
from cdkd.data.synthetic import draw, write_synthetic
from cdkd.keypoints import KEYPOINT_SETS

CONFIG = SyntheticConfig(seed=3, train_images=3, val_images=2, image_size=64)
MPII = KEYPOINT_SETS["mpii16"]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", sorted(KEYPOINT_SETS))
def test_the_written_set_is_read_back_as_it_was_drawn(tmp_path, name):
    keypoint_set = KEYPOINT_SETS[name]
    write_synthetic(tmp_path, CONFIG, keypoint_set)
    for split, count in (("train", 3), ("val", 2)):
        instances = read_coco_layout(tmp_path / f"{split}.json", tmp_path / split, keypoint_set).instances
        assert len(instances) == count
        for index, instance in enumerate(instances):
            drawing = draw(CONFIG, split, index, keypoint_set)
            assert instance.visibility.tolist() == drawing.visibility.tolist()
            assert np.allclose(instance.keypoints_image, drawing.keypoints, atol=0.006)
            assert np.allclose(instance.box, drawing.box, atol=0.006)
            assert instance.area == drawing.area
            assert cv2.imread(str(instance.image)).shape == (64, 64, 3)


def test_the_category_names_the_keypoints_and_counts_the_skeleton_from_one(tmp_path):
    write_synthetic(tmp_path, CONFIG, MPII)
    document = json.loads((tmp_path / "train.json").read_text())
    category = document["categories"][0]
    assert category["keypoints"] == list(MPII.names)
    assert category["skeleton"] == [[first + 1, second + 1] for first, second in MPII.skeleton]
    for annotation in document["annotations"]:
        labelled = np.array(annotation["keypoints"]).reshape(16, 3)[:, 2] > 0
        assert annotation["num_keypoints"] == labelled.sum()
        assert annotation["iscrowd"] == 0


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(tmp_path):
    for name, seed in (("first", 3), ("second", 3), ("third", 4)):
        write_synthetic(tmp_path / name, SyntheticConfig(seed, 2, 1, 64), MPII)
    first, second, third = (files_of(tmp_path / name) for name in ("first", "second", "third"))
    assert first == second
    assert first.keys() == third.keys()
    assert not [name for name, data in first.items() if data == third[name]]


def test_an_image_depends_neither_on_the_number_of_images_nor_on_the_keypoint_set(tmp_path):
    write_synthetic(tmp_path / "few", SyntheticConfig(3, 2, 1, 64), MPII)
    write_synthetic(tmp_path / "more", SyntheticConfig(3, 4, 2, 64), KEYPOINT_SETS["coco17"])
    few, more = files_of(tmp_path / "few"), files_of(tmp_path / "more")
    assert [name for name in few if name.endswith(".jpg")]
    assert not [name for name in few if name.endswith(".jpg") and few[name] != more[name]]


def test_splits_and_indices_show_different_people():
    images = [draw(CONFIG, split, index, MPII).image for split in ("train", "val") for index in (0, 1)]
    pairs = [(first, second) for first in range(4) for second in range(first)]
    assert min(np.abs(images[a].astype(int) - images[b]).mean() for a, b in pairs) > 5


@pytest.fixture(scope="module")
def drawings():
    """A handful of images, enough to see every kind of annotation."""
    return [draw(SyntheticConfig(image_size=64), "train", index, KEYPOINT_SETS["coco17"]) for index in range(80)]


def test_images_are_full_of_contrast(drawings):
    assert {drawing.image.dtype for drawing in drawings} == {np.dtype(np.uint8)}
    assert min(drawing.image.std() for drawing in drawings) > 8


def test_labelled_keypoints_lie_in_the_image_and_in_the_box_and_others_are_zero(drawings):
    for drawing in drawings:
        labelled = drawing.keypoints[drawing.visibility > 0]
        x, y, width, height = drawing.box
        assert (labelled >= -0.5).all()
        assert (labelled <= 63.5).all()
        assert (labelled >= np.array([x, y]) - 1).all()
        assert (labelled <= np.array([x + width, y + height]) + 1).all()
        assert (drawing.keypoints[drawing.visibility == 0] == 0).all()


def test_boxes_and_areas_are_those_of_a_person_of_the_announced_size(drawings):
    for drawing in drawings:
        x, y, width, height = drawing.box
        assert min(x, y) >= 0
        assert max(x + width, y + height) <= 64
        assert 0.25 * 64 < max(width, height) <= 64
        assert 0.04 * width * height < drawing.area < width * height


def test_keypoints_are_seen_hidden_and_unlabelled(drawings):
    visibility = np.array([drawing.visibility for drawing in drawings])
    seen, hidden, unlabelled = ((visibility == value).mean() for value in (2, 1, 0))
    assert 0.5 < seen < 0.9
    assert 0.08 < hidden < 0.4
    assert 0.01 < unlabelled < 0.25
    body = visibility[:, 5:]
    assert (body == 0).mean() < 0.1  # only the image's border takes a body's keypoint away
    assert (body > 0).sum(axis=1).min() >= 4


def test_keypoints_scale_with_the_image():
    small, large = (draw(SyntheticConfig(image_size=size), "train", 5, MPII) for size in (64, 256))
    both = (small.visibility > 0) & (large.visibility > 0)
    assert both.sum() > 10
    assert np.allclose(4 * small.keypoints[both], large.keypoints[both], atol=1e-2)
