"""What the verbs that read the MLflow store share: which study, which store, and errors as the command reports them."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import Refused, UserError
from orchestrator.paths import results_folder

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def add_store_arguments(parser: argparse.ArgumentParser, *, writes: bool = True) -> None:
    """The arguments that say which study and where it is stored, and for a verb that writes files where they go."""
    parser.add_argument("study", metavar="STUDY", help="a study file, or the name of a study in the store")
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")
    parser.add_argument(
        "--tracking-uri", metavar="URI", help=f"MLflow store (default: ${TRACKING_VARIABLE}, else mlflow.db in results)"
    )
    if writes:
        parser.add_argument("--output", metavar="DIR", type=Path, help="where files go (default: the study's results)")


def study_name(study: str) -> str:
    """The name of a study given by file or by name.

    Only the file's `study` key (else its stem) is read: what is stored can be shown whatever else the file says now.

    Raises:
        UserError: if the file cannot be read or the name is not fit for a file.
    """
    name = study
    if study.endswith((".yaml", ".yml")):
        from orchestrator.yaml_reader import read_file

        name = str(read_file(Path(study)).plain().get("study") or Path(study).stem)
    if not _NAME.fullmatch(name):
        raise UserError(f"{study}: a study's name has letters, digits, `_`, `.` and `-` only, got {name!r}")
    return name


def store_uri(results: str | None, tracking_uri: str | None) -> str:
    """The MLflow store: the flag, else the SQLite file of a given results folder, else the environment's."""
    if tracking_uri:
        return tracking_uri
    environment = os.environ.get(TRACKING_VARIABLE)
    if environment and not results:
        return environment
    return f"sqlite:///{results_folder(results) / 'mlflow.db'}"


@contextmanager
def reported_errors(study: str) -> Iterator[None]:
    """Turns the analysis package's errors into the command's: exit code 3 for mixed protocols, else 2."""
    from analysis.errors import AnalysisError, MixedProtocols

    try:
        yield
    except MixedProtocols as error:
        raise Refused(f"{study}: {error}") from error
    except (AnalysisError, OSError) as error:
        raise UserError(f"{study}: {error}") from error


def chosen_formats(text: str, known: tuple[str, ...]) -> list[str]:
    """A comma-separated list of formats, checked.

    Raises:
        UserError: if one is unknown or there is none.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UserError(f"--format: must be of {', '.join(known)}, got {', '.join(unknown) or 'none'}")
    return names
