"""`cdkd figure STUDY`: figures of a study from the MLflow store, also while the study runs."""

from __future__ import annotations

import argparse
import sys

from analysis.figures import BANDS, COSTS, FORMATS, KINDS, WIDTHS
from orchestrator.errors import UserError
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.verbs.stored import add_store_arguments, chosen_formats, reported_errors, store_uri, study_name

ALL = "all"
DEFAULT_FORMATS = "pdf,png"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Draw a study's figures, each with a JSON file of its runs and of the numbers in it. Kinds:\n"
        + "\n".join(f"  {kind:<12}{line}" for kind, line in KINDS.items())
    )
    parser.epilog = "Example: cdkd figure studies/table4_modules.yaml --kind curves,keypoints --output paper/figures"
    add_store_arguments(parser)
    parser.add_argument(
        "--kind", metavar="KINDS", default=ALL, help="comma-separated; default: every kind the study's data can give"
    )
    parser.add_argument(
        "--format", default=DEFAULT_FORMATS, help=f"comma-separated, of {','.join(FORMATS)} (default: %(default)s)"
    )
    widths = ", ".join(f"{name} {width:g} mm" for name, width in WIDTHS.items())
    parser.add_argument("--width", choices=WIDTHS, default="single", help=f"column width: {widths} (default: single)")
    parser.add_argument("--metric", default="", help="score reported every epoch, val/ap say (default: the study's)")
    parser.add_argument("--band", choices=BANDS, default="std", help="band around a mean over seeds (default: std)")
    parser.add_argument(
        "--against", choices=COSTS, default=COSTS[0], help="cost in the Pareto figure (default: %(default)s)"
    )
    parser.add_argument(
        "--with",
        dest="others",
        metavar="STUDY",
        action="append",
        default=[],
        help="study drawn beside in the cost figure",
    )
    parser.add_argument(
        "--allow",
        metavar="FIELD",
        action="append",
        default=[],
        help="protocol field that may differ between results; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the figures, prints their paths, and says of each other kind why there is none.

    Raises:
        UserError: no such study or store, an unknown format or kind, a metric that is not reported every epoch, or
            a kind asked for by name that the study's data do not give.
        Refused: results of different protocols would stand in one figure.
    """
    formats, kinds = chosen_formats(args.format, FORMATS), _chosen_kinds(args.kind)
    study = study_name(args.study)
    folder = args.output or StudyPaths(results_folder(args.results), study).folder / "figures"
    uri = store_uri(args.results, args.tracking_uri)
    with reported_errors(study):
        from analysis.figures.kinds import make, write
        from analysis.figures.source import Source
        from analysis.figures.style import Page
        from analysis.store import Store

        store = Store(uri)
        others = [store.read(study_name(other)) for other in args.others]
        source = Source(store, store.read(study), args.metric, args.band, args.against, args.allow, others)
        made = make(source, kinds or KINDS)
        for one in made:
            if one.found is not None:
                paths = write(one, folder, formats, Page.of(args.width), uri)
                sys.stdout.write("".join(f"{path}\n" for path in paths))
    reasons = [f"{study}: no {one.kind} figure: {one.reason}" for one in made if one.found is None]
    if kinds and reasons:
        raise UserError(reasons)
    sys.stderr.write("".join(f"{reason}\n" for reason in reasons))
    return 0


def _chosen_kinds(text: str) -> list[str]:
    """The kinds asked for by name; none for all that can be drawn.

    Raises:
        UserError: if one is unknown.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in (*KINDS, ALL)]
    if unknown or not names:
        raise UserError(f"--kind: must be {ALL} or of {', '.join(KINDS)}, got {', '.join(unknown) or 'none'}")
    return [] if ALL in names else names
