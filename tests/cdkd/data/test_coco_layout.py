"""Annotation files: read as they are, or refused with file and record."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdkd.data.coco_layout import read_coco_layout
from cdkd.data.errors import DataError
from cdkd.data.records import Tally
from cdkd.instances import IgnoredRegion, PersonInstance
from cdkd.keypoints import KEYPOINT_SETS, KeypointSet

LSP = KEYPOINT_SETS["lsp14"]


def read(file: Path, images: Path, keypoint_set: KeypointSet = LSP, policy: str = "stop") -> list[PersonInstance]:
    return list(read_coco_layout(file, images, keypoint_set, Tally(policy)).instances)


def test_a_person_is_read_as_written(write_layout, make_record):
    keypoints = [float(value) for index in range(14) for value in (30 + index, 20.25, index % 3)]
    file, images = write_layout([make_record(7, 2, keypoints=keypoints, bbox=[20, 10, 50.5, 60], area=1234.5)])
    (person,) = read(file, images)
    assert (person.image, person.image_id, person.annotation_id) == (images / "people2.png", 2, 7)
    assert person.box == (20.0, 10.0, 50.5, 60.0)
    assert person.area == 1234.5
    assert person.visibility.tolist() == [index % 3 for index in range(14)]
    assert (person.keypoints_image.dtype, person.visibility.dtype) == (np.float32, np.int64)
    assert person.keypoints_image[1].tolist() == [31, 20.25]
    assert person.keypoints_image[3].tolist() == [0, 0], "an unlabelled keypoint has no place"


def test_without_an_area_it_is_crowdposes_part_of_the_box(write_layout, make_record):
    file, images = write_layout([make_record(1, 1, area=None)])
    assert read(file, images)[0].area == pytest.approx(0.53 * 60 * 70)


def test_crowds_and_persons_without_keypoints_are_left_out_and_counted(write_layout, make_record, caplog):
    categories = [
        {"id": 1, "name": "person", "keypoints": list(LSP.names)},
        {"id": 2, "name": "dog"},
    ]
    file, images = write_layout(
        [
            make_record(1, 1),
            make_record(2, 1, iscrowd=1, keypoints=None),
            make_record(3, 1, keypoints=[0] * 42),
            make_record(4, 1, keypoints=[0] * 42),
            make_record(5, 1, category_id=2, keypoints=None),
        ],
        categories=categories,
    )
    with caplog.at_level(logging.INFO, "cdkd.data.coco_layout"):
        assert [person.annotation_id for person in read(file, images)] == [1]
    assert caplog.messages == [
        f"{file}: 1 persons; left out: 1 crowd regions, 1 of a category without keypoints, "
        "2 without a labelled keypoint"
    ]


def broken(number_at: int, value: Any) -> list[Any]:
    numbers: list[Any] = [40.0, 40.0, 2] * 14
    numbers[number_at] = value
    return numbers


BAD_RECORDS = {
    "not an object": ("x", "annotation at position 1: is not an object"),
    "no id": ({"id": None}, "annotation at position 1: id must be a whole number, got None"),
    "text id": ({"id": "a"}, "annotation a: id must be a whole number, got a"),
    "repeated id": ({"id": 1}, "annotation 1: an earlier annotation has the same id"),
    "unknown image": ({"image_id": 99}, "annotation 2: unknown image_id 99"),
    "unknown category": ({"category_id": 9}, r"annotation 2: unknown category_id 9; the file has \[1\]"),
    "no keypoints": ({"keypoints": None}, "annotation 2: keypoints must hold 42 numbers, got none"),
    "another length": ({"keypoints": [1, 2, 2] * 17}, "annotation 2: keypoints must hold 42 numbers, got 51"),
    "NaN": ({"keypoints": broken(3, float("nan"))}, "annotation 2: keypoints holds nan, not a finite number"),
    "infinity": ({"keypoints": broken(4, float("-inf"))}, "annotation 2: keypoints holds -inf, not a finite number"),
    "huge": ({"keypoints": broken(4, 10**400)}, "annotation 2: keypoints holds 1000000"),
    "text": ({"keypoints": broken(4, "7")}, "annotation 2: keypoints holds 7, not a finite number"),
    "null": ({"keypoints": broken(4, None)}, "annotation 2: keypoints holds None, not a finite number"),
    "true": ({"keypoints": broken(5, True)}, "annotation 2: keypoints holds True, not a finite number"),
    "visibility": ({"keypoints": broken(5, 3)}, "annotation 2: a keypoint's visibility is not 0, 1 or 2"),
    "half visible": ({"keypoints": broken(5, 0.5)}, "annotation 2: a keypoint's visibility is not 0, 1 or 2"),
    "no box": ({"bbox": None}, "annotation 2: bbox must hold 4 numbers, got none"),
    "box of no area": ({"bbox": [10, 10, 0, 30]}, "annotation 2: bbox has no area: 0 x 30"),
    "negative box": ({"bbox": [10, 10, 20, -30]}, "annotation 2: bbox has no area: 20 x -30"),
    "NaN box": ({"bbox": [10, float("nan"), 20, 30]}, "annotation 2: bbox holds nan"),
    "box outside": ({"bbox": [120, 10, 20, 30]}, "annotation 2: bbox lies outside its image of 120 x 90 pixels"),
    "box left of it": ({"bbox": [-40, 10, 40, 30]}, "annotation 2: bbox lies outside its image"),
    "no area": ({"area": 0}, "annotation 2: area must be positive, got 0"),
    "NaN area": ({"area": float("nan")}, "annotation 2: area holds nan"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_a_broken_record_stops_with_one_line_naming_file_and_record(write_layout, make_record, change, message: str):
    bad = make_record(2, 2, **change) if isinstance(change, dict) else change
    file, images = write_layout([make_record(1, 1), bad, make_record(3, 3)])
    with pytest.raises(DataError, match=message) as caught:
        read(file, images)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("change", [change for change, _ in BAD_RECORDS.values()], ids=BAD_RECORDS)
def test_a_broken_record_is_skipped_and_counted_when_asked(write_layout, make_record, caplog, change):
    bad = make_record(2, 2, **change) if isinstance(change, dict) else change
    file, images = write_layout([make_record(1, 1), bad, make_record(3, 3)])
    with caplog.at_level(logging.INFO, "cdkd.data.coco_layout"):
        people = read(file, images, policy="skip")
    assert [person.annotation_id for person in people] == [1, 3]
    warnings = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].getMessage().startswith(f"skipped: {file}: annotation ")
    assert caplog.messages[-1] == f"{file}: 2 persons; left out: 1 broken"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "image file is missing"),
        (lambda path: path.write_bytes(b""), "image file is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "image file is truncated"),
        (lambda path: path.write_bytes(b"<html>"), "not a JPEG"),
    ],
)
def test_a_broken_image_is_found_before_training(write_layout, damage, message: str):
    file, images = write_layout()
    damage(images / "people2.png")
    with pytest.raises(DataError, match=rf"annotation 12: .*people2\.png: {message}"):
        read(file, images)
    assert [person.image_id for person in read(file, images, policy="skip")] == [1, 3]


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "/etc/passwd", "", "a\0.png", 7, None])
def test_a_file_name_never_leads_out_of_the_image_folder(write_layout, tmp_path: Path, make_image, name):
    file, images = write_layout()
    (tmp_path / "secret.png").write_bytes((images / "people1.png").read_bytes())
    layout = json.loads(file.read_text())
    layout["images"][1]["file_name"] = name
    file.write_text(json.dumps(layout))
    with pytest.raises(DataError, match=r"annotation 12: .*(not a relative path below|not a text)"):
        read(file, images)


def test_images_may_lie_in_folders_below(write_layout):
    file, images = write_layout()
    (images / "sub").mkdir()
    (images / "people1.png").rename(images / "sub" / "moved.png")
    layout = json.loads(file.read_text())
    layout["images"][0]["file_name"] = "sub/moved.png"
    file.write_text(json.dumps(layout))
    assert read(file, images)[0].image == images / "sub" / "moved.png"


def test_another_keypoint_set_is_recognised(write_layout):
    file, images = write_layout(keypoint_set="coco17")
    with pytest.raises(DataError, match=r"keypoint 0 is 'nose', keypoint set 'lsp14' has 'right_ankle'; .*'coco17'"):
        read(file, images)


def test_exchanged_names_are_recognised(write_layout):
    names = list(LSP.names)
    names[9], names[10] = names[10], names[9]
    file, images = write_layout(categories=[{"id": 1, "name": "person", "keypoints": names}])
    with pytest.raises(
        DataError, match=r"keypoint 9 is 'left_elbow', keypoint set 'lsp14' has 'left_shoulder'; .*'lsp14'"
    ):
        read(file, images)


def test_a_missing_last_name_is_recognised(write_layout):
    file, images = write_layout(categories=[{"id": 1, "name": "person", "keypoints": list(LSP.names[:-1])}])
    with pytest.raises(DataError, match="keypoint 13 is missing, keypoint set 'lsp14' has 'head_top'"):
        read(file, images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"people\.json:1: not JSON"),
        ("[]", "must be an object with images, annotations and categories"),
        ("{}", "has no list 'annotations'"),
        ("[" * 100000, "nested too deeply"),
        ("1" * 5000, "not an annotation file: Exceeds the limit"),
        (b"\xff\xfe{\x00".decode("latin-1"), r"people\.json"),
    ],
)
def test_a_file_that_is_no_annotation_file(tmp_path: Path, text: str, message: str):
    file = tmp_path / "people.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read(file, tmp_path, policy="skip")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"images": [{"id": 1, "file_name": "people1.png"}] * 2}, "position 1: an earlier image has the same id 1"),
        ({"images": [{"file_name": "people1.png"}]}, "image at position 0: has no whole-number id"),
        ({"categories": []}, "no category has a list of keypoint names"),
        ({"categories": [{"id": 1, "name": "person"}]}, "no category has a list of keypoint names"),
        ({"categories": ["person"]}, "category at position 0: has no whole-number id"),
    ],
)
def test_a_fault_of_the_whole_file_stops_even_when_records_may_be_skipped(write_layout, sections, message: str):
    file, images = write_layout(**sections)
    with pytest.raises(DataError, match=message):
        read(file, images, policy="skip")


def test_a_file_without_a_usable_person_is_an_error(write_layout, make_record):
    file, images = write_layout([make_record(1, 1, iscrowd=1)])
    with pytest.raises(DataError, match=r"holds no usable person \(1 crowd regions\)"):
        read(file, images)


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="on_bad_record must be stop or skip, got 'ignore'"):
        Tally("ignore")


def test_crowds_and_persons_without_keypoints_are_ignored_regions(write_layout, make_record):
    file, images = write_layout(
        [
            make_record(1, 1),
            make_record(2, 1, iscrowd=1, area=900, bbox=[1, 2, 30, 40]),
            make_record(3, 2, keypoints=[0] * 42, area=None, bbox=[0, 0, 10, 20]),
        ]
    )
    split = read_coco_layout(file, images, LSP, source=4)
    assert split.ignored == [
        IgnoredRegion((4, 1), (1.0, 2.0, 30.0, 40.0), 900.0, True),
        IgnoredRegion((4, 2), (0.0, 0.0, 10.0, 20.0), pytest.approx(0.53 * 200), False),
    ]
    assert split.instances[0].image_key == (4, 1)


def test_every_image_of_the_file_is_known_with_its_crowding(write_layout, make_record):
    records = [{"id": 7, "file_name": "people1.png", "width": 120, "height": 90, "crowdIndex": 0.25}]
    records.append({"id": 9, "file_name": "empty.png"})
    file, images = write_layout([make_record(1, 7)], images=records)
    split = read_coco_layout(file, images, LSP)
    assert [(key, one.path.name, one.width, one.height, one.crowd_index) for key, one in split.images.items()] == [
        ((0, 7), "people1.png", 120, 90, 0.25),
        ((0, 9), "empty.png", None, None, None),
    ]


def boxes(tmp_path: Path, *records: Any) -> Path:
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(list(records)))
    return file


def detected(image_id: int = 1, /, **changes: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "bbox": [10.0, 5.0, 40.0, 60.0], "score": 0.75} | changes


def test_a_detectors_boxes_are_persons_without_labels(write_layout, tmp_path: Path):
    file, images = write_layout()
    found = read_coco_layout(
        file, images, LSP, detections=boxes(tmp_path, detected(2), detected(2, category_id=1)), source=3
    ).detected
    assert [(one.image, one.image_key, one.annotation_id) for one in found] == [
        (images / "people2.png", (3, 2), 0),
        (images / "people2.png", (3, 2), 1),
    ]
    assert (found[0].box, found[0].box_score, found[0].area) == ((10.0, 5.0, 40.0, 60.0), 0.75, 2400.0)
    assert not found[0].visibility.any()


def test_a_test_file_without_labels_is_read_for_its_detections(write_layout, tmp_path: Path):
    file, images = write_layout()
    layout = json.loads(file.read_text())
    del layout["annotations"]
    file.write_text(json.dumps(layout))
    split = read_coco_layout(file, images, LSP, detections=boxes(tmp_path, detected()))
    assert (len(split.instances), len(split.detected), len(split.images)) == (0, 1, 3)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (detected(99), "detection at position 1: unknown image_id 99"),
        (detected(bbox=[1, 2, 0, 4]), "detection at position 1: bbox has no area: 0 x 4"),
        (detected(score=None), "detection at position 1: score holds None, not a finite number"),
        ("box", "detection at position 1: is not an object"),
    ],
)
def test_a_broken_detection_stops_or_is_counted(write_layout, tmp_path: Path, record: Any, message: str):
    file, images = write_layout()
    found = boxes(tmp_path, detected(), record)
    with pytest.raises(DataError, match=f"boxes.json: {message}"):
        read_coco_layout(file, images, LSP, detections=found)
    tally = Tally("skip")
    assert len(read_coco_layout(file, images, LSP, tally, detections=found).detected) == 1
    assert len(tally.broken) == 1
    assert message in tally.broken[0]


def test_detections_of_other_categories_are_counted(write_layout, tmp_path: Path):
    file, images = write_layout()
    tally = Tally("stop")
    found = boxes(tmp_path, detected(), detected(category_id=3))
    assert len(read_coco_layout(file, images, LSP, tally, detections=found).detected) == 1
    assert tally.summary() == "1 detections of other categories"


def test_detections_must_be_a_list(write_layout, tmp_path: Path):
    file, images = write_layout()
    with pytest.raises(DataError, match=r"people\.json: not in COCO's results layout: must be a list of boxes"):
        read_coco_layout(file, images, LSP, detections=file)


def test_an_image_of_another_size_than_annotated_is_named(write_layout):
    file, images = write_layout()
    layout = json.loads(file.read_text())
    layout["images"][1]["width"] = 121
    file.write_text(json.dumps(layout))
    with pytest.raises(
        DataError, match=r"annotation 12: .*people2\.png: is 120 x 90 pixels, the annotation file says 121 x 90"
    ):
        read(file, images)
    assert [person.image_id for person in read(file, images, policy="skip")] == [1, 3]


@pytest.mark.parametrize(("key", "value"), [("width", "wide"), ("crowdIndex", float("nan"))])
def test_an_image_record_holds_numbers(write_layout, key: str, value: Any):
    file, images = write_layout(images=[{"id": 1, "file_name": "people1.png", key: value}])
    with pytest.raises(DataError, match=f"image 1: {key} must be a number, got {value}"):
        read(file, images)


@pytest.mark.parametrize(
    ("name", "keypoint_set", "boxes_file"),
    [
        ("coco", "coco17", "test_coco_det_AP_H_56.json"),
        ("crowdpose", "crowdpose14", "test_crowdpose_det_AP_40.json"),
    ],
)
def test_the_official_detector_files_are_read(shared_data: Path, name: str, keypoint_set: str, boxes_file: str):
    folder = shared_data / "official_format" / name
    file, found = folder / f"test_{name}.json", folder / boxes_file
    split = read_coco_layout(file, folder, KEYPOINT_SETS[keypoint_set], detections=found)
    assert [one.box_score for one in split.detected] == [one["score"] for one in json.loads(found.read_text())]
    has_crowding = [one.crowd_index is not None for one in split.images.values()]
    assert set(has_crowding) == {name == "crowdpose"}


@pytest.mark.parametrize(
    ("annotations", "images", "keypoint_set", "count"),
    [
        ("lsp/train.json", "lsp/images", "lsp14", 1000),
        ("lspet/train.json", "lspet/images", "lsp14", 7091),
        ("lsp/test.json", "lsp/images", "lsp14", 1000),
        ("coco/annotations/person_keypoints_train2017.json", "coco/train2017", "coco17", 368),
        ("coco/annotations/person_keypoints_val2017.json", "coco/val2017", "coco17", 719),
        ("official_format/crowdpose/test_crowdpose.json", "official_format/crowdpose", "crowdpose14", 4),
        ("official_format/coco/test_coco.json", "official_format/coco", "coco17", 12),
        ("official_format/ochuman/test_ochuman.json", "official_format/ochuman", "coco17", 5),
    ],
)
def test_real_files_give_the_published_counts(
    shared_data: Path, annotations: str, images: str, keypoint_set: str, count: int
):
    people = read(shared_data / annotations, shared_data / images, KEYPOINT_SETS[keypoint_set])
    assert len(people) == count
    assert all(person.visibility.any() and person.area > 0 for person in people)


def test_a_broken_person_that_is_skipped_is_an_ignored_region(write_layout, make_record):
    file, images = write_layout([make_record(1, 1), make_record(2, 2, area=0), make_record(3, 3, bbox=None)])
    split = read_coco_layout(file, images, LSP, Tally("skip"))
    assert [region.image_key for region in split.ignored] == [(0, 2)]


def test_detections_without_a_person_are_an_error(write_layout, tmp_path: Path):
    file, images = write_layout()
    with pytest.raises(DataError, match=r"boxes\.json: holds no usable box of a person \(no boxes\)"):
        read_coco_layout(file, images, LSP, detections=boxes(tmp_path))


def test_a_test_file_may_leave_out_the_names_of_keypoints(write_layout, tmp_path: Path):
    file, images = write_layout(categories=[{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}])
    layout = json.loads(file.read_text())
    del layout["annotations"]
    file.write_text(json.dumps(layout))
    found = boxes(tmp_path, detected(), detected(category_id=2))
    assert len(read_coco_layout(file, images, LSP, detections=found).detected) == 1
