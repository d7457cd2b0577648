"""`cdkd table STUDY`: the table of a study from the MLflow store, also while the study runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import Refused, UserError
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.verbs.stored import add_store_arguments, chosen_formats, reported_errors, store_uri, study_name

if TYPE_CHECKING:
    from analysis.ablation import Choices
    from analysis.comparison import Mismatch
    from analysis.sheet import Sheet

FORMATS = ("md", "csv", "tex", "html")
INTERVALS = ("t", "percentile", "bca")
MOST_LINES = 20  # of a comparison


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Print the table of a study and write it, with a JSON file of the runs behind every cell.\n"
        "With --check, compare a table written before with the store: exit code 3 where a cell differs."
    )
    parser.epilog = (
        "Examples:\n"
        "  cdkd table studies/table4_modules.yaml --format md,tex --output paper/tables\n"
        "  cdkd table studies/table4_modules.yaml --check paper/tables/table4-modules-mpii-64.tex"
    )
    add_store_arguments(parser)
    formats = ",".join(FORMATS)
    parser.add_argument("--format", default=formats, help=f"comma-separated, of {formats} (default: all)")
    parser.add_argument(
        "--check", metavar="FILE", type=Path, help="compare this table (its suffix is its format) and write nothing"
    )
    add_choice_arguments(parser)


def add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    """What the reader of a table may choose: --allow, --interval, --side-by-side."""
    parser.add_argument(
        "--allow",
        metavar="FIELD",
        action="append",
        default=[],
        help="protocol field that may differ between results, noted below the table; may be repeated",
    )
    parser.add_argument(
        "--interval",
        choices=INTERVALS,
        default=INTERVALS[0],
        help="95%% interval of means: Student's t, or the percentile or BCa bootstrap (default: %(default)s)",
    )
    parser.add_argument(
        "--side-by-side", action="store_true", help="every score at the best and at the last epoch, beside each other"
    )


def choices_of(args: argparse.Namespace) -> Choices:
    """The arguments of `add_choice_arguments` as the analysis takes them."""
    from analysis.ablation import Choices

    return Choices(tuple(args.allow), args.interval, args.side_by_side)


def run(args: argparse.Namespace) -> int:
    """Writes the first format to standard output and all of them to files, or compares a file with the store.

    Raises:
        UserError: no such study, store or file, or an unknown format.
        Refused: results of different protocols would stand in one table, or the file no longer matches the store.
    """
    formats = chosen_formats(args.format, FORMATS)
    study = study_name(args.study)
    folder = args.output or StudyPaths(results_folder(args.results), study).folder / "tables"
    with reported_errors(study):
        from analysis.store import Store
        from analysis.tables import read, sheets

        uri, choices = store_uri(args.results, args.tracking_uri), choices_of(args)
        made = sheets(read(Store(uri), study, choices), choices)
        if args.check is None:
            _write(made, folder, formats, uri)
        else:
            _check(made, args.check)
    return 0


def _write(made: list[Sheet], folder: Path, formats: list[str], uri: str) -> None:
    from analysis.render import FORMATS as RENDERERS
    from analysis.tables import write

    paths = [path for sheet in made for path in write(sheet, folder, formats, uri)]
    sys.stdout.write("\n".join(RENDERERS[formats[0]](sheet) for sheet in made))
    sys.stderr.write("".join(f"wrote {path}\n" for path in paths))


def _check(made: list[Sheet], file: Path) -> None:
    """Compares a file with the sheet that is most like it.

    Raises:
        UserError: the file's suffix is no format, or it cannot be read.
        Refused: a cell differs.
    """
    extension = file.suffix.removeprefix(".")
    if extension not in FORMATS:
        raise UserError(f"--check {file}: its suffix must be one of {', '.join(FORMATS)}")
    try:
        committed = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--check {file}: cannot be read: {error}") from None
    found = _mismatches(committed, made, extension)
    sys.stdout.write("".join(f"{mismatch}\n" for mismatch in found[:MOST_LINES]))
    if len(found) > MOST_LINES:
        sys.stdout.write(f"and {len(found) - MOST_LINES} more\n")
    if found:
        what = "1 difference" if len(found) == 1 else f"{len(found)} differences"
        raise Refused(f"{file} no longer matches the store: {what}")
    sys.stdout.write(f"{file} matches the store\n")


def _mismatches(committed: str, made: list[Sheet], extension: str) -> list[Mismatch]:
    from analysis.comparison import compare

    return min((compare(committed, sheet, extension) for sheet in made), key=len)
