"""MPII's files: read with MPII's conventions, or refused with file and record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io

from cdkd.data.augmentation import plain_view
from cdkd.data.errors import DataError
from cdkd.data.mpii import read_mpii
from cdkd.data.records import Tally

BOX_PADDING = 1.25


def person(image: str = "a.png", /, **changes: Any) -> dict[str, Any]:
    """A sound record, changed as asked; a change to None takes the key away."""
    points = [[10.0 + 3 * number, 20.0 + number] for number in range(16)]
    sound = {"image": image, "center": [60.0, 40.0], "scale": 0.3, "joints": points, "joints_vis": [1] * 16}
    return {key: value for key, value in (sound | changes).items() if value is not None}


@pytest.fixture
def write(tmp_path: Path, make_image) -> Callable[..., tuple[Path, Path]]:
    def write(*records: Any) -> tuple[Path, Path]:
        for number, name in enumerate(("a.png", "b.png")):
            cv2.imwrite(str(tmp_path / name), make_image(seed=number))
        file = tmp_path / "valid.json"
        file.write_text(json.dumps(list(records)))
        return file, tmp_path

    return write


def write_truth(path: Path, records: list[dict[str, Any]], **changes: Any) -> Path:
    """gt_valid.mat of these persons, whose head boxes are 30 wide and 40 high."""
    keypoints = np.array([record["joints"] for record in records], dtype=float).transpose(1, 2, 0)
    missing = 1 - np.array([record["joints_vis"] for record in records]).T
    boxes = np.zeros((2, 2, len(records)))
    boxes[1] = [[30.0], [40.0]]
    content = {"pos_gt_src": keypoints, "jnt_missing": missing, "headboxes_src": boxes} | changes
    scipy.io.savemat(str(path), {key: value for key, value in content.items() if value is not None})
    return path


def test_a_person_is_seen_as_mpiis_users_see_it(write):
    """Centre 15 * scale down, scale times 1.25, both in pixels counted from 0 (method 6.5)."""
    (one,) = read_mpii(*write(person())).instances
    view = plain_view(one, BOX_PADDING)
    assert view.center == pytest.approx((60 - 1, 40 + 15 * 0.3 - 1))
    assert view.scale == pytest.approx(0.3 * 1.25)


def test_keypoints_count_from_zero(write):
    labelled = [1] * 15 + [0]
    (one,) = read_mpii(*write(person(joints_vis=labelled))).instances
    assert one.keypoints_image[1].tolist() == [12.0, 20.0]
    assert (one.keypoints_image[15].tolist(), one.visibility[15]) == ([0, 0], 0)
    assert (one.visibility[:15] > 0).all()
    assert (one.keypoints_image.dtype, one.visibility.dtype) == (np.float32, np.int64)


def test_persons_of_one_image_share_its_id(write):
    split = read_mpii(*write(person("b.png"), person("a.png"), person("b.png")), source=2)
    assert [(one.image.name, one.image_key, one.annotation_id) for one in split.instances] == [
        ("b.png", (2, 0), 0),
        ("a.png", (2, 1), 1),
        ("b.png", (2, 0), 2),
    ]
    assert {key: record.path.name for key, record in split.images.items()} == {(2, 0): "b.png", (2, 1): "a.png"}


def test_without_keypoints_persons_are_known_by_their_boxes(write):
    bare = person(joints=None, joints_vis=None)
    split = read_mpii(*write(bare, bare))
    assert (len(split.instances), len(split.detected)) == (0, 2)


def test_a_person_without_a_labelled_keypoint_is_left_out_and_counted(write):
    tally = Tally("stop")
    split = read_mpii(*write(person(), person(joints_vis=[0] * 16)), tally)
    assert (len(split.instances), len(split.detected)) == (1, 0)
    assert tally.summary() == "1 without a labelled keypoint"


def test_head_sizes_come_from_the_head_boxes(write, tmp_path: Path):
    records = [person(), person("b.png")]
    truth = write_truth(tmp_path / "gt_valid.mat", records)
    split = read_mpii(*write(*records), head_boxes=truth)
    assert [one.head_size for one in split.instances] == [pytest.approx(0.6 * 50)] * 2
    assert read_mpii(*write(*records)).instances[0].head_size is None


def test_unrounded_keypoints_are_taken_from_the_ground_truth(write, tmp_path: Path):
    exact = person(joints=[[10.00004, 20.0]] * 16)
    rounded = person(joints=[[10.0, 20.0]] * 16)
    truth = write_truth(tmp_path / "gt_valid.mat", [exact])
    (one,) = read_mpii(*write(rounded), head_boxes=truth).instances
    assert one.keypoints_image[0, 0] == np.float32(9.00004)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([person(), person()], "is of 2 persons, .*valid.json of 1"),
        ([person(joints=[[99.0, 20.0]] * 16)], "person 0 is not the annotation file's"),
        ([person(joints_vis=[0] + [1] * 15)], "person 0 is not the annotation file's"),
    ],
)
def test_head_boxes_of_other_persons_are_refused(write, tmp_path: Path, others, message: str):
    truth = write_truth(tmp_path / "gt_valid.mat", others)
    with pytest.raises(DataError, match=f"gt_valid.mat: {message}"):
        read_mpii(*write(person()), Tally("skip"), head_boxes=truth)


def test_a_file_that_is_no_ground_truth(write, tmp_path: Path):
    file, images = write(person())
    with pytest.raises(DataError, match=r"valid\.json: not a MATLAB file of MPII's ground truth"):
        read_mpii(file, images, head_boxes=file)
    truth = write_truth(tmp_path / "gt_valid.mat", [person()], headboxes_src=None)
    with pytest.raises(DataError, match=r"not MPII's ground truth: has no headboxes_src"):
        read_mpii(file, images, head_boxes=truth)


BAD_RECORDS = {
    "not an object": ("x", "is not an object"),
    "no image": (person(image=None), "its image has the file name 'None', not a text"),
    "missing image": (person("c.png"), r"c\.png: image file is missing"),
    "image elsewhere": (person("../a.png"), "is not a relative path below"),
    "no centre": (person(center=None), "center must hold 2 numbers, got none"),
    "NaN centre": (person(center=[1.0, float("nan")]), "center holds nan"),
    "no scale": (person(scale=None), "scale holds None, not a finite number"),
    "scale of no extent": (person(scale=0), "scale must be positive, got 0"),
    "too few keypoints": (person(joints=[[1, 2]] * 15), "joints must hold 16 points, got 15"),
    "keypoints of no length": (person(joints=7), "joints must hold 16 points, got none"),
    "NaN keypoint": (person(joints=[[1, 2]] * 15 + [[float("nan"), 2]]), "joints holds nan"),
    "three coordinates": (person(joints=[[1, 2, 3]] * 16), "joints must hold 2 numbers, got 3"),
    "labels without keypoints": (person(joints=None), "joints must hold 16 points, got none"),
    "too few labels": (person(joints_vis=[1] * 15), "joints_vis must hold 16 numbers, got 15"),
    "strange label": (person(joints_vis=[2] * 16), "a value of joints_vis is not 0 or 1"),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "message"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_a_broken_record_stops_or_is_counted(write, bad: Any, message: str):
    file, images = write(person(), bad, person("b.png"))
    with pytest.raises(DataError, match=f"{file}: person at position 1: .*{message}"):
        read_mpii(file, images)
    tally = Tally("skip")
    assert [one.annotation_id for one in read_mpii(file, images, tally).instances] == [0, 2]
    assert (len(tally.broken), tally.summary()) == (1, "1 broken")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "not MPII's layout: must be a list of persons"), ("[]", r"holds no usable person \(no records\)")],
)
def test_a_file_that_is_no_annotation_file(tmp_path: Path, text: str, message: str):
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_mpii(tmp_path / "train.json", tmp_path)


def test_the_official_files_are_read(shared_data: Path):
    folder = shared_data / "official_format" / "mpii"
    split = read_mpii(folder / "test_mpii.json", folder)
    assert (len(split.instances), len(split.images)) == (5, 5)
    first = split.instances[0]
    assert first.keypoints_image[0].tolist() == [803.0, 710.0]
    assert plain_view(first, BOX_PADDING).center == pytest.approx((965.0, 340 + 15 * 4.718488 - 1))


def test_the_whole_validation_file_agrees_with_the_ground_truth(shared_data: Path, tmp_path: Path, make_image):
    folder = shared_data / "golden" / "mpii"
    for name in {record["image"] for record in json.loads((folder / "valid.json").read_text())}:
        (tmp_path / name).symlink_to(tmp_path / "one.jpg")
    cv2.imwrite(str(tmp_path / "one.jpg"), make_image())
    split = read_mpii(folder / "valid.json", tmp_path, head_boxes=folder / "gt_valid.mat")
    assert (len(split.instances), len(split.images)) == (2958, 2729)
    assert min(one.head_size or 0 for one in split.instances) == pytest.approx(0.6 * 24.207438903808665)
