"""`cdkd figure STUDY`: learning curves and gradient ratios of a study from the MLflow store."""

from __future__ import annotations

import argparse
import sys

from orchestrator.errors import UserError
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.verbs.stored import add_store_arguments, chosen_formats, reported_errors, store_uri, study_name

FORMATS = ("png", "svg", "pdf")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = "Draw the score per epoch of every arm and how much each distillation loss contributes."
    parser.epilog = "Example: cdkd figure studies/table4_modules.yaml --format pdf --output paper/figures"
    add_store_arguments(parser)
    parser.add_argument("--format", default="png", help=f"comma-separated, of {','.join(FORMATS)} (default: png)")
    parser.add_argument("--metric", default="", help="metric reported every epoch (default: the study's)")


def run(args: argparse.Namespace) -> int:
    """Writes `<study>-curves.<format>` and prints the paths.

    Raises:
        UserError: no such study or store, an unknown format, or a metric that is not reported every epoch.
    """
    formats = chosen_formats(args.format, FORMATS)
    study = study_name(args.study)
    folder = args.output or StudyPaths(results_folder(args.results), study).folder / "figures"
    with reported_errors(study):
        from analysis.curves import curves
        from analysis.figure import draw, save
        from analysis.store import Store

        store = Store(store_uri(args.results, args.tracking_uri))
        found = curves(store, store.read(study), args.metric)
        if found.bands.empty and found.singles.empty:
            raise UserError(f"{study}: no trial has reported an epoch of {found.metric} yet")
        paths = save(draw(found), folder / f"{study}-curves", formats)
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    return 0
