"""`cdkd predict` on small untrained networks and a drawn data set."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cdkd.checkpoint import save_tensors
from cdkd.config import resolve
from cdkd.data.splits import draw_once, load_splits
from cdkd.inference import load_student
from cdkd.keypoints import KEYPOINT_SETS
from cdkd.options import to_mapping
from orchestrator.cli import main
from tests.cdkd.networks import simcc_net


def write_checkpoint(folder: Path, root: Path, input_size: int, keypoint_set: str = "mpii16") -> None:
    config = resolve(
        {
            "data.synthetic": {"train_images": 2, "val_images": 5, "image_size": 64},
            "data.root": str(root),
            "data.keypoint_set": keypoint_set,
            "student": {"backbone": "hrnet_w16", "input_size": input_size},
            "simcc.split_ratio": 2.0,
            "evaluation.flip_test": False,
            "runtime.device": "cpu",
        }
    )
    count = KEYPOINT_SETS[keypoint_set].count
    net = simcc_net("hrnet_w16", input_size, 2.0, count, generator=torch.Generator().manual_seed(input_size))
    folder.mkdir(parents=True)
    state = {"state_dict": net.state_dict(), "config": json.dumps(to_mapping(config)), "epoch": 3}
    for name in ("best.pt", "last.pt"):
        save_tensors(folder / name, state)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the networks small (32), large (64) and of_lsp, their drawn data set, and an image."""
    folder = tmp_path_factory.mktemp("predict")
    write_checkpoint(folder / "small", folder / "data", 32)
    write_checkpoint(folder / "large", folder / "data", 64)
    write_checkpoint(folder / "of_lsp", folder / "data", 32, "lsp14")
    cv2.imwrite(str(folder / "person.jpg"), np.full((80, 60, 3), 128, np.uint8))
    (folder / "other").mkdir()
    cv2.imwrite(str(folder / "other" / "person.png"), np.full((80, 60, 3), 128, np.uint8))
    return folder


def predict(place: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[Path]:
    """Run with every word that names something in the folder replaced by its path; returns the written files."""
    capsys.readouterr()
    assert main(["predict", *_paths(place, words)]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert all(path.is_file() for path in written)
    return written


def _paths(place: Path, words: tuple[str, ...]) -> list[str]:
    return [str(place / word) if (place / word).exists() else word for word in words]


def test_an_image_is_drawn_beside_its_input(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "new" / "out")
    (path,) = predict(place, capsys, "small", "--output", output, "--box", "5,5,50,70", "person.jpg")
    assert path == tmp_path / "new" / "out" / "person-pose.png"
    drawn = cv2.imread(str(path))
    assert drawn.shape[0] > 384
    assert drawn.shape[1] > 288 + 2 * 384
    (compared,) = predict(place, capsys, "small", "person.jpg", "--compare", "large", "--output", output)
    assert cv2.imread(str(compared)).shape[0] > 2 * 384


def test_a_box_changes_what_is_seen(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = []
    for box in ((), ("--box", "5,5,20,20")):
        (path,) = predict(place, capsys, "small", "person.jpg", *box, "--output", str(tmp_path))
        pictures.append(cv2.imread(str(path)))
    assert not np.array_equal(*pictures)


def test_a_grid_shows_persons_of_a_split(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "grids" / "grid.jpg"
    assert predict(place, capsys, "small", "--split", "val", "--count", "4", "--output", str(file)) == [file]
    assert cv2.imread(str(file)).shape[1] == 4 * 256 + 3 * 8
    (narrow,) = predict(
        place, capsys, "small", "--split", "val", "--count", "4", "--columns", "2", "--output", str(tmp_path)
    )
    assert narrow == tmp_path / "val-grid.png"
    assert cv2.imread(str(narrow)).shape[1] == 2 * 256 + 8


def test_several_networks_take_the_place_of_columns(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = predict(place, capsys, "small", "--compare", "large", "--split", "val", "--output", str(tmp_path))
    assert cv2.imread(str(path)).shape[1] == 3 * (2 * 256 + 2) + 2 * 8


def test_a_grid_is_the_same_each_time(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = []
    for name in ("a.png", "b.png"):
        predict(place, capsys, "small", "--split", "val", "--count", "2", "--output", str(tmp_path / name))
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


def unlabelled_test_split(place: Path, root: Path) -> list[str]:
    """Arguments by which the test split is the drawn images with a box of a detector, and without labels."""
    shutil.copytree(draw_once(load_student(place / "small").config.data), root, dirs_exist_ok=True)
    layout = json.loads((root / "val.json").read_text())
    del layout["annotations"]
    (root / "test.json").write_text(json.dumps(layout))
    box = {"image_id": layout["images"][0]["id"], "category_id": 1, "bbox": [5, 5, 40, 50], "score": 0.9}
    (root / "boxes.json").write_text(json.dumps([box]))
    labelled = {"annotations": "val.json", "images": "val"}
    test = {**labelled, "annotations": "test.json", "detections": "boxes.json"}
    data = {"kind": "coco_layout", "root": str(root), "train": [labelled], "val": [labelled], "test": [test]}
    return [word for key, value in data.items() for word in ("--set", f"data.{key}={json.dumps(value)}")]


def test_boxes_without_labels_are_drawn_but_have_no_errors(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["small", "--split", "test", "--output", str(tmp_path), *unlabelled_test_split(place, tmp_path)]
    (picture,) = predict(place, capsys, *words)
    assert cv2.imread(str(picture)) is not None
    assert main(["predict", *_paths(place, (*words, "--failures", "2"))]) == 2
    assert "nobody is labelled in the test split" in capsys.readouterr().err


def test_failures_are_drawn_and_listed(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "worst.png")
    table, picture = predict(
        place, capsys, "small", "--compare", "large", "--split", "val", "--failures", "2", "--output", output
    )
    assert (table.name, picture.name) == ("worst.csv", "worst.png")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(load_splits(load_student(place / "small").config.data).val.instances)
    errors = [float(row["error"]) for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert all(float(row["worst_error"]) >= float(row["error"]) for row in rows)
    assert cv2.imread(str(picture)).shape[1] == 2 * (2 * 256 + 2) + 8


def test_attention_is_a_picture_a_person(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["small", "--compare", "large", "--attention", "head_top,left_knee", "--output", str(tmp_path)]
    paths = predict(place, capsys, *words, "--split", "val", "--count", "2", "--names", "baseline,CDKD")
    assert len(paths) == 2
    assert all(path.name.endswith("-attention.png") for path in paths)
    (of_image,) = predict(place, capsys, *words, "person.jpg")
    assert of_image == tmp_path / "person-attention.png"
    for path in (*paths, of_image):
        assert cv2.imread(str(path)).shape[1] == 7 * 256 + 6 * 4
    table, *worst = predict(place, capsys, *words, "--split", "val", "--failures", "1")
    assert table == tmp_path / "val-failures.csv"
    assert len(worst) == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere.jpg"], "nowhere.jpg: image file is missing"),
        (["person.jpg", "--box", "1,2,3"], "must be four numbers x,y,w,h"),
        (["person.jpg", "--box", "1,2,0,3"], "must have a width and a height above 0"),
        ([], "give image files or --split"),
        (["person.jpg", "--split", "val"], "give image files or --split"),
        (["--split", "vall"], "must be one of train, val, test, got 'vall' (did you mean 'val'?)"),
        (["--split", "test"], "test split is empty"),
        (["--split", "val", "--box", "1,2,3,4"], "--box: goes with image files"),
        (["--split", "val", "--count", "0"], "must be a whole number from 1, got '0'"),
        (["--split", "val", "--count", "2", "--failures", "2"], "--count"),
        (["person.jpg", "--count", "2"], "--count: goes with --split"),
        (["person.jpg", "--failures", "2"], "--failures: goes with --split"),
        (["person.jpg", "--columns", "2"], "--columns: goes with --split"),
        (["--split", "val", "--attention", "head_top", "--columns", "2"], "--columns"),
        (["--split", "val", "--attention", "left_kne"], "no keypoint 'left_kne' (did you mean 'left_knee'?)"),
        (["--split", "val", "--attention", "head_top,"], "must be names separated by commas"),
        (["--split", "val", "--attention", "head_top", "--output", "a.png"], "--output a.png: must be a folder"),
        (["person.jpg", "--output", "a.png"], "--output a.png: must be a folder"),
        (["person.jpg", "--output", "person.jpg/folder"], "cannot be written"),
        (["person.jpg", "other/person.png"], "two of the images have the same name"),
        (["person.jpg", "--compare", "nowhere"], "nowhere"),
        (["person.jpg", "--compare", "of_lsp"], "predicts lsp14, the first network mpii16"),
        (["person.jpg", "--names", "a,b"], "--names: must name 1 network, got a, b"),
        (["--split", "val", "--set", "data.rot=1"], "did you mean 'data.root'?"),
    ],
)
def test_mistakes_are_one_line(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(place / word) if word.startswith("person.jpg/") else word for word in words]
    assert main(["predict", *_paths(place, ("small", *words))]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_mode_has_an_example_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    said = capsys.readouterr().out
    examples = said[said.index("Examples:") :]
    assert all(option in examples for option in ("--box", "--split", "--failures", "--attention", "--compare"))
    assert "Ground truth is dashed" in said


def test_networks_are_named_by_their_folders(place: Path) -> None:
    from orchestrator.verbs.predict import default_name

    files = (place / "small", place / "small" / "best.pt", place / "small" / "last.pt")
    assert [default_name(file) for file in files] == ["small", "small", "small/last"]
