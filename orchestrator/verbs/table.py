"""`cdkd table STUDY`: the table of a study from the MLflow store, also while the study runs."""

from __future__ import annotations

import argparse
import sys

from orchestrator.paths import StudyPaths, results_folder
from orchestrator.verbs.stored import add_store_arguments, chosen_formats, reported_errors, store_uri, study_name

FORMATS = ("md", "csv", "tex")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = "Print the table of a study and write it, with a JSON file of the runs behind every cell."
    parser.epilog = "Example: cdkd table studies/table4_modules.yaml --format md,tex --output paper/tables"
    add_store_arguments(parser)
    parser.add_argument("--format", default=",".join(FORMATS), help="comma-separated, of %(default)s (default: all)")
    parser.add_argument(
        "--allow",
        metavar="FIELD",
        action="append",
        default=[],
        help="protocol field that may differ between results, noted below the table; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the first format to standard output and all of them to files.

    Raises:
        UserError: no such study or store, or an unknown format.
        Refused: results of different protocols would stand in one table.
    """
    formats = chosen_formats(args.format, FORMATS)
    study = study_name(args.study)
    folder = args.output or StudyPaths(results_folder(args.results), study).folder / "tables"
    with reported_errors(study):
        from analysis.render import FORMATS as RENDERERS
        from analysis.store import Store
        from analysis.tables import sheets, write

        uri = store_uri(args.results, args.tracking_uri)
        made = sheets(Store(uri).read(study), args.allow)
        paths = [path for sheet in made for path in write(sheet, folder, formats, uri)]
    sys.stdout.write("\n".join(RENDERERS[formats[0]](sheet) for sheet in made))
    sys.stderr.write("".join(f"wrote {path}\n" for path in paths))
    return 0
