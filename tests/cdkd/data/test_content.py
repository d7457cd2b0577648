"""The identity of data: what changes it, and what does not."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cdkd.config import DataConfig, SourceConfig, SyntheticConfig
from cdkd.data import content
from cdkd.data.content import content_digest
from cdkd.data.errors import DataError


@pytest.fixture
def config(write_layout, tmp_path: Path) -> DataConfig:
    write_layout()
    source = (SourceConfig("people.json", "people"),)
    return DataConfig(kind="coco_layout", root=str(tmp_path), keypoint_set="lsp14", train=source)


def test_it_is_the_same_wherever_the_data_lies(config: DataConfig, tmp_path: Path, monkeypatch):
    first = content_digest(config)
    assert len(first) == 32
    shutil.copytree(tmp_path, tmp_path.parent / "moved")
    assert content_digest(replace(config, root=str(tmp_path.parent / "moved"))) == first
    monkeypatch.setenv("CDKD_DATA_ROOT", str(tmp_path))
    assert content_digest(replace(config, root="")) == first


def grow(folder: Path) -> None:
    with (folder / "people/people2.png").open("ab") as file:
        file.write(b"\0")


def annotate(folder: Path) -> None:
    file = folder / "people.json"
    file.write_text(file.read_text().replace("2000.0", "2000.5"))


@pytest.mark.parametrize("change", [grow, annotate])
def test_changed_data_has_another_identity(config: DataConfig, tmp_path: Path, change: Callable[[Path], None]):
    before = content_digest(config)
    change(tmp_path)
    assert content_digest(config) != before


def test_files_no_annotation_names_do_not_count(config: DataConfig, tmp_path: Path):
    before = content_digest(config)
    (tmp_path / "people/Thumbs.db").write_bytes(b"x")
    assert content_digest(config) == before


def test_the_same_file_in_another_role_is_another_data_set(config: DataConfig):
    tested = replace(config, test=config.train)
    validated = replace(config, val=config.train)
    assert len({content_digest(one) for one in (config, tested, validated)}) == 3


def test_a_missing_image_stops_or_becomes_part_of_the_identity(config: DataConfig, tmp_path: Path):
    before = content_digest(config)
    (tmp_path / "people/people3.png").unlink()
    with pytest.raises(DataError, match=r"people\.json: image file is missing: .*people3\.png"):
        content_digest(config)
    assert content_digest(replace(config, on_bad_record="skip")) != before


def test_a_missing_data_set_is_an_error(config: DataConfig, tmp_path: Path):
    with pytest.raises(DataError, match=r"does not exist; set data\.root"):
        content_digest(replace(config, root=str(tmp_path / "nowhere")))


def test_an_image_name_that_leads_elsewhere_is_an_error(config: DataConfig, tmp_path: Path):
    file = tmp_path / "people.json"
    file.write_text(file.read_text().replace("people3.png", "../people.json"))
    with pytest.raises(DataError, match="is not a relative path below"):
        content_digest(config)


def test_names_written_with_escapes_are_read(config: DataConfig, tmp_path: Path):
    (tmp_path / "people/people3.png").rename(tmp_path / 'people/per"s\u00f8n.png')
    file = tmp_path / "people.json"
    file.write_text(file.read_text().replace("people3.png", 'per\\"s\\u00f8n.png'))
    assert content_digest(config)


def test_a_drawn_set_is_its_parameters_and_the_version_of_the_drawing(monkeypatch):
    base = DataConfig()
    changed = [
        replace(base, synthetic=SyntheticConfig(seed=1)),
        replace(base, synthetic=SyntheticConfig(val_images=10)),
        replace(base, keypoint_set="coco17"),
    ]
    digests = {content_digest(one) for one in (base, *changed)}
    assert len(digests) == 4
    assert content_digest(replace(base, root="/anywhere")) == content_digest(base)
    monkeypatch.setattr(content, "DRAWING_VERSION", content.DRAWING_VERSION + 1)
    assert content_digest(base) not in digests


def test_it_needs_neither_numpy_nor_torch_nor_opencv():
    program = (
        "import sys; from cdkd.data.content import content_digest; from cdkd.config import DataConfig; "
        "content_digest(DataConfig()); assert not {'numpy', 'torch', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_real_data_has_an_identity(shared_data: Path):
    sources = (SourceConfig("lsp/train.json", "lsp/images"), SourceConfig("lspet/train.json", "lspet/images"))
    test = (SourceConfig("lsp/test.json", "lsp/images"),)
    config = DataConfig(kind="coco_layout", root=str(shared_data), keypoint_set="lsp14", train=sources, test=test)
    assert content_digest(config) == content_digest(config) != content_digest(replace(config, test=()))


def test_boxes_and_head_boxes_count(config: DataConfig, tmp_path: Path):
    (tmp_path / "boxes.json").write_text("[]")
    (tmp_path / "heads.mat").write_text("a")
    source = SourceConfig("people.json", "people", detections="boxes.json", head_boxes="heads.mat")
    tested = replace(config, test=(source,))
    digests = [content_digest(tested)]
    for name in ("boxes.json", "heads.mat"):
        (tmp_path / name).write_text("b")
        digests.append(content_digest(tested))
    assert len(set(digests)) == 3


def test_the_images_of_mpiis_files_count(tmp_path: Path):
    (tmp_path / "train.json").write_text('[{"image": "a.jpg"}, {"image" : "a.jpg"}]')
    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "a.jpg"
    image.write_text("1")
    config = DataConfig(kind="mpii", root=str(tmp_path), train=(SourceConfig("train.json", "images"),))
    before = content_digest(config)
    image.write_text("12")
    assert content_digest(config) != before
    image.unlink()
    with pytest.raises(DataError, match=r"image file is missing: .*a\.jpg"):
        content_digest(config)
