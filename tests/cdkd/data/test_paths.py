"""Where data is looked for."""

from pathlib import Path

import pytest

from cdkd.config import DataConfig, SourceConfig
from cdkd.data.errors import DataError
from cdkd.data.paths import data_root, inside, locate, pixel_cache_folder, synthetic_root

SOURCE = SourceConfig("lsp/train.json", "lsp/images")


@pytest.mark.parametrize("name", ["a.png", "a/b.png", "a..b.png", "./a.png"])
def test_a_name_below_the_folder_is_taken(name: str):
    assert inside(Path("/data"), name) == Path("/data") / name


@pytest.mark.parametrize("name", ["", ".", "..", "../a.png", "a/../../b", "/a.png", "//a.png", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused(name: str):
    with pytest.raises(ValueError, match="is not a relative path below"):
        inside(Path("/data"), name)


def test_the_configured_root_comes_before_the_environment(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("CDKD_DATA_ROOT", str(tmp_path))
    assert data_root(DataConfig(root="/elsewhere")) == Path("/elsewhere")
    assert data_root(DataConfig()) == tmp_path


def test_without_any_root_the_message_says_how_to_set_one(monkeypatch):
    monkeypatch.delenv("CDKD_DATA_ROOT", raising=False)
    with pytest.raises(DataError, match=r"set data\.root or CDKD_DATA_ROOT to the folder that holds lsp/train\.json"):
        data_root(DataConfig(kind="coco_layout", train=(SOURCE,)))


def test_a_missing_data_set_is_named_with_the_way_to_set_it(tmp_path: Path):
    with pytest.raises(DataError) as caught:
        locate(tmp_path, SOURCE)
    assert str(caught.value) == (
        f"data set not found: {tmp_path}/lsp/train.json does not exist; "
        f"set data.root or CDKD_DATA_ROOT (now {tmp_path}) to the folder that holds it"
    )


def test_a_missing_image_folder_is_named(tmp_path: Path):
    (tmp_path / "lsp").mkdir()
    (tmp_path / "lsp/train.json").write_text("{}")
    with pytest.raises(DataError, match=r"lsp/images does not exist"):
        locate(tmp_path, SOURCE)


def test_a_source_stays_below_the_root(tmp_path: Path):
    with pytest.raises(DataError, match=r"data source: '\.\./a\.json' is not a relative path"):
        locate(tmp_path, SourceConfig("../a.json", "images"))


def test_where_drawn_sets_are_kept(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CDKD_CACHE", raising=False)
    assert synthetic_root(DataConfig()) == Path("/home/somebody/.cache/cdkd")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert synthetic_root(DataConfig()) == Path("/xdg/cdkd")
    monkeypatch.setenv("CDKD_CACHE", str(tmp_path))
    assert synthetic_root(DataConfig()) == tmp_path
    assert pixel_cache_folder() == tmp_path / "pixels"
    assert synthetic_root(DataConfig(root="/mine")) == Path("/mine")
