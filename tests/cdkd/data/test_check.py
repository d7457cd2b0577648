"""A walk through a data set: everything is counted, and every fault has its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from cdkd.config import DataConfig, SourceConfig, SyntheticConfig
from cdkd.data import check
from cdkd.data.check import FullSet, check_data, people_sheet
from cdkd.data.splits import load_splits


@pytest.fixture
def config(write_layout, tmp_path: Path) -> DataConfig:
    for seed, (name, count) in enumerate((("train", 4), ("test", 2))):
        write_layout(image_count=count, name=name, first_seed=10 * seed)
    return DataConfig(
        kind="coco_layout",
        root=str(tmp_path),
        keypoint_set="lsp14",
        train=(SourceConfig("train.json", "train"),),
        test=(SourceConfig("test.json", "test"),),
    )


def change(file: Path, **sections: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | sections))


def test_a_sound_set_is_counted(config: DataConfig):
    findings = check_data(config)
    first, second = findings.sources
    assert (first.name, first.images, first.pictured, first.persons, first.boxes) == ("train[0]", 4, 4, 4, 0)
    assert (first.keypoints, first.box_sides) == (4 * 14, 70.0)
    assert (second.name, second.persons) == ("test[0]", 2)
    assert (findings.broken, findings.shared) == ([], [])
    assert [len(findings.people[split]) for split in ("train", "test")] == [4, 2]


def test_every_fault_has_its_line_and_the_walk_goes_on(config: DataConfig, tmp_path: Path, make_record):
    records = [
        make_record(1, 1, bbox=[1, 2, 0, 4]),
        make_record(2, 2),
        make_record(3, 3),
        make_record(4, 4, iscrowd=1),
    ]
    change(tmp_path / "train.json", annotations=records)
    (tmp_path / "train" / "train3.png").unlink()
    (found, _) = check_data(config).sources
    assert found.persons == 1
    assert [line.partition("train.json: ")[2].split(":")[0] for line in found.broken] == [
        "annotation 1",
        "annotation 3",
    ]
    assert found.left_out == {"crowd regions": 1}


def test_pixels_that_cannot_be_decoded_are_found(config: DataConfig, tmp_path: Path):
    image = tmp_path / "train" / "train2.png"
    content = bytearray(image.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    image.write_bytes(content)
    assert check_data(config, decodes=False).broken == []
    seen: list[tuple[int, int]] = []
    (fault,) = check_data(config, lambda done, total: seen.append((done, total))).broken
    assert str(image) in fault
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4), (1, 2), (2, 2)]


def test_an_image_in_two_splits_is_told(config: DataConfig, tmp_path: Path):
    (tmp_path / "test" / "test2.png").write_bytes((tmp_path / "train" / "train3.png").read_bytes())
    (line,) = check_data(config).shared
    assert line == (f"{tmp_path}/test/test2.png (test[0]) is the same image as {tmp_path}/train/train3.png (train[0])")


def test_an_image_twice_in_one_split_is_no_fault(config: DataConfig, tmp_path: Path):
    (tmp_path / "train" / "train2.png").write_bytes((tmp_path / "train" / "train3.png").read_bytes())
    assert check_data(config).shared == []


@pytest.mark.parametrize(
    ("full", "remark", "broken"),
    [
        (FullSet("coco_layout", images=4, persons=4), "complete: 4 persons, as documented", ""),
        (FullSet("coco_layout", images=9, persons=7), "not the whole set: 4 of 7 persons", ""),
        (FullSet("coco_layout", images=4, persons=5), "", "train.json: all 4 images, but 4 persons instead of 5"),
        (FullSet("mpii", images=4, persons=5), "", ""),
    ],
)
def test_a_well_known_file_is_held_against_its_documented_size(
    config: DataConfig, monkeypatch, full: FullSet, remark: str, broken: str
):
    monkeypatch.setitem(check.FULL_SETS, "train.json", full)
    found = check_data(config).sources[0]
    assert found.remarks == [remark] * bool(remark)
    assert found.broken == [broken] * bool(broken)


def test_keypoints_far_from_their_box_are_told(config: DataConfig, tmp_path: Path, make_record):
    far = make_record(2, 2)
    far["keypoints"][0] = 111.0
    change(tmp_path / "train.json", annotations=[make_record(1, 1), far])
    assert check_data(config).sources[0].remarks == [
        "1 persons (50.0 %) have a keypoint further outside their box than half its size"
    ]


def test_a_drawn_set_is_drawn_and_walked_through(tmp_path: Path):
    tiny = SyntheticConfig(train_images=3, val_images=2, image_size=64)
    config = DataConfig(root=str(tmp_path), synthetic=tiny, keypoint_set="coco17")
    assert [source.persons for source in check_data(config).sources] == [3, 2]
    assert len(load_splits(config).val.instances) == 2


def test_the_sheet_shows_people_spread_over_the_split(config: DataConfig):
    people = check_data(config).people["train"]
    sheet = people_sheet(people, "lsp14", 1.25, count=3, columns=2)
    assert sheet.shape[:2] == (2 * check.CELL_SIZE + 4, 2 * check.CELL_SIZE + 4)
    assert (sheet[: check.CELL_SIZE, : check.CELL_SIZE] != people_sheet(people[1:], "lsp14", 1.25, count=1)).any()


def test_the_samples_at_hand_are_sound(shared_data: Path):
    annotations, boxes = "crowdpose/test_crowdpose.json", "crowdpose/test_crowdpose_det_AP_40.json"
    config = DataConfig(
        kind="coco_layout",
        root=str(shared_data / "official_format"),
        keypoint_set="crowdpose14",
        train=(SourceConfig(annotations, "crowdpose"),),
        val=(SourceConfig(annotations, "crowdpose", detections=boxes),),
    )
    findings = check_data(config)
    assert findings.broken == []
    assert [(source.persons, source.boxes) for source in findings.sources] == [(4, 0), (4, 6)]
    assert len(findings.shared) == 2, "both splits are of the same two images"


def test_images_that_show_nobody_must_be_there_too(config: DataConfig, tmp_path: Path, make_record):
    change(tmp_path / "train.json", annotations=[make_record(1, 1)])
    (tmp_path / "train" / "train3.png").unlink()
    assert check_data(config).broken == [f"{tmp_path}/train/train3.png: image file is missing"]


def test_a_source_that_cannot_be_used_does_not_hide_the_others(config: DataConfig, tmp_path: Path):
    (tmp_path / "train.json").write_text("{")
    first, second = check_data(config).sources
    assert len(first.broken) == 1
    assert (first.persons, second.persons) == (0, 2)
