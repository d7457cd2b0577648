"""`cdkd data`: what a person reads when a data set is sound, and when it is not."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from orchestrator.cli import main

KEYPOINTS = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
    "left_shoulder left_elbow left_wrist neck head_top"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two people in two images, a study and a base of them; the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CDKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CDKD_RESULTS", str(tmp_path / "results"))
    (tmp_path / "images").mkdir()
    people = []
    for number in (1, 2):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), pixels)
        triples = [value for index in range(14) for value in (20 + index, 15 + 2 * index, 2)]
        box = [10, 10, 40, 45]
        people.append({"id": number, "image_id": number, "category_id": 1, "keypoints": triples, "bbox": box})
    layout = {
        "images": [{"id": number, "file_name": f"{number}.png", "width": 80, "height": 60} for number in (1, 2)],
        "annotations": people,
        "categories": [{"id": 1, "name": "person", "keypoints": KEYPOINTS.split()}],
    }
    (tmp_path / "people.json").write_text(json.dumps(layout))
    (tmp_path / "base.yaml").write_text(
        "data: {kind: coco_layout, keypoint_set: lsp14, root: ., holdout: 0.5,\n"
        "       train: [{annotations: people.json, images: images}]}\n"
        "student: {backbone: hrnet_w16, input_size: 32}\n"
    )
    return tmp_path


def test_a_sound_set_is_told_in_one_screen_with_a_picture(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "check", "base.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "split     file         images  with people  persons  boxes  keypoints  box side  left out  broken",
        "train[0]  people.json  2       2            2        0      28         45 px     -         0",
        f"train: people with their keypoints in {folder}/results/data-check/train.png",
    ]
    assert err == ""
    assert cv2.imread(str(folder / "results/data-check/train.png")).ndim == 3


def test_the_data_of_a_study_is_that_of_its_base(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "bases").mkdir()
    (folder / "base.yaml").rename(folder / "bases" / "base.yaml")
    (folder / "study.yaml").write_text(
        "study: one\nbase: base\nmetric: {name: val/pck@0.2}\nablation: {arms: {plain: {}}}\n"
    )
    assert main(["data", "check", "study.yaml", "--data.root", str(folder), "--output", "seen"]) == 0
    assert "people.json  2 " in capsys.readouterr().out
    assert (folder / "seen" / "train.png").is_file()


def test_what_is_broken_is_told_line_by_line_and_the_exit_code_is_2(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "images" / "2.png").write_bytes(b"")
    assert main(["data", "check", "base.yaml", "--output", "seen"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err == [
        f"{folder}/people.json: annotation 2: {folder}/images/2.png: image file is empty",
        "1 broken records and images; all of them in seen/broken.txt",
    ]
    assert (folder / "seen" / "broken.txt").read_text().splitlines() == err[:1]


def test_faults_of_an_earlier_check_are_gone(folder: Path):
    sound = (folder / "images" / "2.png").read_bytes()
    (folder / "images" / "2.png").write_bytes(b"")
    main(["data", "check", "base.yaml", "--output", "seen"])
    (folder / "images" / "2.png").write_bytes(sound)
    assert main(["data", "check", "base.yaml", "--output", "seen"]) == 0
    assert not (folder / "seen" / "broken.txt").exists()


def test_pixels_that_cannot_be_decoded_are_told_and_left_out_of_the_picture(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    image = folder / "images" / "2.png"
    content = bytearray(image.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
    image.write_bytes(content)
    assert main(["data", "check", "base.yaml", "--output", "seen"]) == 2
    assert str(image) in capsys.readouterr().err
    assert (folder / "seen" / "train.png").is_file()


def test_an_output_that_cannot_be_written_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "check", "base.yaml", "--output", "people.json"]) == 2
    assert "people.json" in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_set_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "check", "base.yaml", "--data.root", "/nowhere"]) == 2
    line, count = capsys.readouterr().err.splitlines()
    assert line.startswith("data set not found: /nowhere/people.json does not exist; set data.root")
    assert count.startswith("1 broken records and images")


def test_the_drawn_set_is_drawn_once(folder: Path, capsys: pytest.CaptureFixture[str]):
    words = ["data", "synthesize", "synthetic_tiny", "--set", "data.synthetic.train_images=2"]
    (folder / "synthetic_tiny.yaml").write_text("data: {kind: synthetic, synthetic: {val_images: 1, image_size: 64}}\n")
    words[2] = "synthetic_tiny.yaml"
    assert main(words) == 0
    drawn = Path(capsys.readouterr().out.strip())
    assert drawn.parent == folder / "cache"
    assert len(list((drawn / "train").iterdir())) == 2
    assert main(["data", "synthesize", "base.yaml"]) == 2
    assert "data.kind is coco_layout, so there is nothing to draw" in capsys.readouterr().err


def test_images_are_decoded_once_and_kept(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "cache", "base.yaml", "--verify"]) == 0
    out = capsys.readouterr().out
    file = Path(out.partition(":")[0])
    assert file.parent == folder / "cache" / "pixels"
    assert "2 images, 0 MB" in out
    built = file.stat().st_mtime_ns
    assert main(["data", "cache", "base.yaml"]) == 0
    assert file.stat().st_mtime_ns == built


def test_files_of_changed_images_are_removed_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]):
    main(["data", "cache", "base.yaml"])
    stale = Path(capsys.readouterr().out.partition(":")[0])
    pixels = np.zeros((60, 80, 3), np.uint8)
    cv2.imwrite(str(folder / "images" / "2.png"), pixels)
    assert main(["data", "cache", "base.yaml", "--clean"]) == 0
    assert f"removed {stale}" in capsys.readouterr().out
    assert not stale.exists()


def test_damaged_pixels_are_named(folder: Path, capsys: pytest.CaptureFixture[str]):
    main(["data", "cache", "base.yaml"])
    file = Path(capsys.readouterr().out.partition(":")[0])
    content = bytearray(file.read_bytes())
    content[4096] ^= 1
    file.write_bytes(content)
    assert main(["data", "cache", "base.yaml", "--verify"]) == 2
    assert f"the pixels of {folder}/images/1.png are damaged" in capsys.readouterr().err
