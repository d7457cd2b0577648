"""Where data lies: the data root, and paths that stay below it. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cdkd.config import DataConfig, SourceConfig
from cdkd.data.errors import DataError

DATA_ROOT_VARIABLE = "CDKD_DATA_ROOT"
CACHE_VARIABLE = "CDKD_CACHE"


def inside(folder: Path, name: str) -> Path:
    """The path called `name` below `folder`.

    Raises:
        ValueError: the name is empty, absolute, climbs out by `..`, or holds a NUL.
    """
    parts = name.split("/")
    if not name or name == "." or not parts[0] or ".." in parts or "\0" in name:
        raise ValueError(f"{name!r} is not a relative path below {folder}")
    return folder / name


def data_root(config: DataConfig) -> Path:
    """The folder that `data.train` and its like are relative to: `data.root`, else CDKD_DATA_ROOT.

    Raises:
        DataError: neither is set.
    """
    root = config.root or os.environ.get(DATA_ROOT_VARIABLE, "")
    if not root:
        wanted = config.train[0].annotations if config.train else "the annotation files"
        raise DataError(f"no data root: set data.root or {DATA_ROOT_VARIABLE} to the folder that holds {wanted}")
    return Path(root).expanduser()


def synthetic_root(config: DataConfig) -> Path:
    """The folder that holds drawn sets: `data.root`, else the cache folder."""
    return Path(config.root).expanduser() if config.root else _cache_folder()


def pixel_cache_folder() -> Path:
    """The folder of decoded images, in the cache folder."""
    return _cache_folder() / "pixels"


def teacher_cache_folder() -> Path:
    """The folder of what teachers have said of batches, in the cache folder."""
    return _cache_folder() / "teachers"


def _cache_folder() -> Path:
    """CDKD_CACHE, else `cdkd` in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get(CACHE_VARIABLE) or Path(cache) / "cdkd").expanduser()


def locate(root: Path, source: SourceConfig) -> tuple[Path, Path]:
    """Annotation file and image folder of one source.

    Raises:
        DataError: a name leaves the root, or nothing is there; the message says how to set the root.
    """
    return locate_file(root, source.annotations), _there(root, source.images, Path.is_dir)


def locate_file(root: Path, name: str) -> Path:
    """A file of one source below the data root.

    Raises:
        DataError: as `locate`.
    """
    return _there(root, name, Path.is_file)


def _there(root: Path, name: str, is_there: Callable[[Path], bool]) -> Path:
    try:
        path = inside(root, name)
    except ValueError as error:
        raise DataError(f"data source: {error}") from None
    if not is_there(path):
        raise DataError(
            f"data set not found: {path} does not exist; "
            f"set data.root or {DATA_ROOT_VARIABLE} (now {root}) to the folder that holds it"
        )
    return path
