"""The studies and bases that ship with cdkd, and how a command's arguments name them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from cdkd.options import nearest
from orchestrator.errors import UserError

REPOSITORY = Path(__file__).resolve().parent.parent
STUDIES = REPOSITORY / "studies"
PAPER_TABLES = REPOSITORY / "analysis" / "paper_tables.yaml"
LONGEST_SLUG = 60


def slug(name: str) -> str:
    """A name fit for a folder: `[a-z0-9_-]` only, `+` spelt out, never empty, never a path."""
    text = re.sub(r"[^a-z0-9_-]+", "_", name.lower().replace("+", "_plus_"))
    return re.sub(r"_{2,}", "_", text).strip("_-")[:LONGEST_SLUG].rstrip("_-") or "unnamed"


def find_study(argument: str) -> Path:
    """The study file a command names: a path, or the bare name of a study that ships with cdkd.

    Raises:
        UserError: there is no such file.
    """
    path = Path(argument)
    if _is_file(path):
        return path
    shipped = STUDIES / f"{argument}.yaml"
    if re.fullmatch(r"[\w-]+", argument) and _is_file(shipped):
        return _from_here(shipped)
    near = [item for folder in (path.parent, STUDIES) for item in _yaml_files(folder)]
    names = [str(_from_here(item)) for item in near] + [item.stem for item in near]
    raise UserError(f"{argument}: no such study file{nearest(argument, names)}")


def find_base(name: str, study_file: Path) -> Path | None:
    """The base of that name beside the study file, else the one that ships with cdkd, else None."""
    candidates = (folder / f"{name}.yaml" for folder in _base_folders(study_file))
    found = next((path for path in candidates if _is_file(path)), None)
    return _from_here(found) if found else None


def base_names(study_file: Path) -> list[str]:
    """The names of all bases a study file may use."""
    return sorted({path.stem for folder in _base_folders(study_file) for path in _yaml_files(folder)})


def find_profile(name: str, study_file: Path) -> Path | None:
    """The profile of that name for any study: beside the study file, else the one that ships with cdkd, else None."""
    found = (folder / f"{name}.yaml" for folder in _profile_folders(study_file))
    file = next((path for path in found if _is_file(path)), None)
    return _from_here(file) if file else None


def profile_names(study_file: Path) -> list[str]:
    """The names of all profiles that fit any study."""
    return sorted({path.stem for folder in _profile_folders(study_file) for path in _yaml_files(folder)})


def _profile_folders(study_file: Path) -> Iterable[Path]:
    return (study_file.parent / "profiles", STUDIES / "profiles")


def _base_folders(study_file: Path) -> Iterable[Path]:
    return (study_file.parent / "bases", STUDIES / "bases")


def _yaml_files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("*.yaml"))
    except (OSError, ValueError):
        return []


def _from_here(path: Path) -> Path:
    """The path as a person in the current folder would write it."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
