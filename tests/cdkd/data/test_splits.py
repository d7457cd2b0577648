"""Splits: who is trained, validated and tested on."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cdkd.config import DataConfig, SourceConfig, SyntheticConfig
from cdkd.data.errors import DataError
from cdkd.data.images import read_image
from cdkd.data.splits import Splits, draw_once, hold_out, load_splits
from cdkd.instances import IgnoredRegion, ImageRecord, PersonInstance, Split
from cdkd.keypoints import KEYPOINT_SETS

TINY = SyntheticConfig(train_images=3, val_images=2, image_size=64)


def source(name: str) -> tuple[SourceConfig, ...]:
    return (SourceConfig(f"{name}.json", name),)


def ids(split: Split) -> list[int]:
    return [instance.annotation_id for instance in split.instances]


def sizes(splits: Splits) -> tuple[int, ...]:
    return tuple(len(split.instances) for split in (splits.train, splits.val, splits.test))


def files(split: Split) -> set[Path]:
    return {person.image for person in split.instances}


def person(number: int, image: str, folder: str = "a") -> PersonInstance:
    keypoints, visibility = np.zeros((14, 2), np.float32), np.full(14, 2)
    image_id = int("".join(letter for letter in image if letter.isdigit()))
    return PersonInstance(Path(folder) / image, image_id, number, (0, 0, 1, 1), 1.0, keypoints, visibility)


def split_of(people: list[PersonInstance]) -> Split:
    return Split(people, {one.image_key: ImageRecord(one.image) for one in people})


@pytest.fixture
def config(write_layout, tmp_path: Path) -> DataConfig:
    for name, count in (("train", 5), ("more", 4), ("val", 2), ("test", 3)):
        write_layout(image_count=count, name=name)
    return DataConfig(
        kind="coco_layout", root=str(tmp_path), keypoint_set="lsp14", train=source("train") + source("more"),
        val=source("val"), test=source("test"),
    )  # fmt: skip


def test_named_files_make_the_splits_and_are_joined_in_order(config: DataConfig):
    splits = load_splits(config)
    assert ids(splits.train) == [11, 12, 13, 14, 15, 11, 12, 13, 14]
    assert sizes(splits)[1:] == (2, 3)
    assert splits.keypoint_set is KEYPOINT_SETS["lsp14"]


def test_the_root_may_come_from_the_environment(config: DataConfig, monkeypatch):
    monkeypatch.setenv("CDKD_DATA_ROOT", config.root)
    assert len(load_splits(replace(config, root="")).train.instances) == 9


def test_without_a_validation_file_training_images_are_held_out(config: DataConfig):
    splits = load_splits(replace(config, val=(), test=(), holdout=0.34))
    assert sizes(splits) == (6, 3, 0)
    assert not files(splits.train) & files(splits.val)


def test_without_validation_data_there_is_no_training(config: DataConfig):
    with pytest.raises(
        DataError, match=r"the validation split is empty: check data\.train, data\.val and data\.holdout"
    ):
        load_splits(replace(config, val=(), holdout=0.0))


def test_everything_held_out_leaves_no_training_data(config: DataConfig, write_layout):
    write_layout(image_count=1, name="one")
    with pytest.raises(DataError, match="the training split is empty"):
        load_splits(replace(config, train=source("one"), val=(), holdout=0.5))


def test_broken_records_follow_the_configuration(config: DataConfig, tmp_path: Path):
    (tmp_path / "val" / "val1.png").unlink()
    with pytest.raises(DataError, match=r"val1\.png: image file is missing"):
        load_splits(config)
    assert len(load_splits(replace(config, on_bad_record="skip")).val.instances) == 1


def test_held_out_images_depend_on_file_names_alone():
    people = [person(number, f"im{number:04d}.png") for number in range(200)]
    _, held = hold_out(split_of(people), 0.1)
    assert len(held.instances) == 20
    elsewhere = [person(number, f"im{number:04d}.png", "b") for number in reversed(range(200))]
    assert sorted(ids(hold_out(split_of(elsewhere), 0.1)[1])) == sorted(ids(held))
    assert ids(held) == sorted(ids(held)), "the order is that of the files"
    assert min(ids(held)) < 60
    assert max(ids(held)) >= 140, "spread over the file, whose order may mean something"


def test_all_persons_of_an_image_are_on_one_side():
    people = [person(number, f"im{number // 5}.png") for number in range(100)]
    remaining, held = hold_out(split_of(people), 0.2)
    assert (len(remaining.instances), len(held.instances)) == (80, 20)
    assert not files(remaining) & files(held)
    assert (len(remaining.images), len(held.images)) == (16, 4)


def test_regions_and_boxes_go_with_their_images():
    people = [person(number, f"im{number}.png") for number in range(10)]
    regions = [IgnoredRegion(one.image_key, (0, 0, 1, 1), 1.0, True) for one in people]
    empty = {(0, 99): ImageRecord(Path("a/im99.png"))}
    whole = replace(split_of(people), ignored=regions, detected=people)
    whole = replace(whole, images={**whole.images, **empty})
    remaining, held = hold_out(whole, 0.3)
    for part, count in ((remaining, 7), (held, 3)):
        keys = {one.image_key for one in part.instances}
        assert len(keys) == count
        assert [one.image_key for one in part.ignored] == [one.image_key for one in part.detected] == sorted(keys)
        assert set(part.images) - {(0, 99)} == keys
    assert (0, 99) in remaining.images, "an image without labelled persons is not held out"


def test_a_larger_part_holds_out_the_same_images_and_more():
    people = [person(number, f"im{number}.png") for number in range(100)]
    assert set(ids(hold_out(split_of(people), 0.1)[1])) < set(ids(hold_out(split_of(people), 0.3)[1]))


def test_a_drawn_set_is_drawn_once_and_read_back(tmp_path: Path):
    config = DataConfig(root=str(tmp_path), synthetic=TINY)
    splits = load_splits(config)
    assert sizes(splits) == (3, 2, 0)
    assert read_image(splits.train.instances[0].image).shape == (64, 64, 3)
    (folder,) = tmp_path.iterdir()
    changed = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = load_splits(config)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == changed
    assert np.array_equal(again.train.instances[1].keypoints_image, splits.train.instances[1].keypoints_image)


@pytest.mark.parametrize("keypoint_set", KEYPOINT_SETS)
def test_a_set_can_be_drawn_with_any_keypoints(tmp_path: Path, keypoint_set: str):
    splits = load_splits(DataConfig(root=str(tmp_path), synthetic=TINY, keypoint_set=keypoint_set))
    assert splits.train.instances[0].visibility.shape == (KEYPOINT_SETS[keypoint_set].count,)


def test_other_parameters_are_another_folder(tmp_path: Path):
    base = DataConfig(root=str(tmp_path), synthetic=TINY)
    folders = {
        draw_once(base),
        draw_once(replace(base, synthetic=replace(TINY, seed=1))),
        draw_once(replace(base, keypoint_set="coco17")),
    }
    assert len(folders) == 3
    assert set(tmp_path.iterdir()) == folders


def test_an_unfinished_drawing_is_never_taken_for_a_set(tmp_path: Path, monkeypatch):
    config = DataConfig(root=str(tmp_path), synthetic=TINY)

    def stop_half_way(folder: Path, *_: object) -> None:
        (folder / "train.json").write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cdkd.data.splits.write_synthetic", stop_half_way)
        with pytest.raises(KeyboardInterrupt):
            load_splits(config)
    assert list(tmp_path.iterdir()) == []
    assert len(load_splits(config).train.instances) == 3


def test_processes_that_draw_at_once_end_with_one_set(tmp_path: Path):
    config = DataConfig(root=str(tmp_path), synthetic=TINY)
    with multiprocessing.get_context("fork").Pool(3) as pool:
        folders = pool.map(draw_once, [config] * 3)
    assert list(tmp_path.iterdir()) == [folders[0]]
    assert len(load_splits(config).train.instances) == 3


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file.*: the synthetic set cannot be written here"):
        load_splits(DataConfig(root=str(tmp_path / "file"), synthetic=TINY))


def test_the_real_protocol_has_its_published_size(shared_data: Path):
    """Train on LSP and LSP extended, test on LSP's test persons, validate on a part of the training persons."""
    config = DataConfig(
        kind="coco_layout",
        root=str(shared_data),
        keypoint_set="lsp14",
        train=(SourceConfig("lsp/train.json", "lsp/images"), SourceConfig("lspet/train.json", "lspet/images")),
        test=(SourceConfig("lsp/test.json", "lsp/images"),),
        holdout=0.1,
    )
    splits = load_splits(config)
    assert sizes(splits) == (7282, 809, 1000)
    assert len(files(splits.train) | files(splits.val)) == 8091
