"""`cdkd validate STUDY...`: check study files without torch or Ray, every fault at once."""

from __future__ import annotations

import argparse
import sys

from orchestrator.compiler import compile_study
from orchestrator.errors import UserError
from orchestrator.library import find_study
from orchestrator.search_notes import chosen, warnings
from orchestrator.study import Study, load_study
from orchestrator.verbs.study_arguments import add_change_arguments


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Check study files: every fault with file, line and the nearest valid name. The data set is looked at\n"
        "where the study says where it lies (data.root, or the environment variable CDKD_DATA_ROOT)."
    )
    parser.epilog = "Example: cdkd validate studies/*.yaml"
    parser.add_argument("studies", metavar="STUDY", nargs="+", help="study files, or names of shipped studies")
    add_change_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints one line for each good file.

    Raises:
        UserError: with the faults of all files.
    """
    faults: list[str] = []
    for argument in args.studies:
        try:
            study = load_study(find_study(argument), args.overrides, args.profile)
            sys.stdout.write(f"ok {study.path}: {_summary(study)}\n")
            sys.stdout.write("".join(f"warning: {line}\n" for line in warnings(study)))
        except UserError as error:
            faults.extend(error.lines)
    if faults:
        raise UserError(faults)
    return 0


def _summary(study: Study) -> str:
    data = study.config.data
    parts = [f"{len(study.arms)} arms x {len(study.seeds)} seeds"] if study.arms else []
    if study.search:
        search = study.search
        how = f"{search.sampler}, pruner {chosen(search)}" if search.pbt is None else "one population"
        parts.append(f"{search.trials} search trials ({how}) over {len(search.space)} options")
    if data.kind == "synthetic" or data.root:
        teachers = len(compile_study(study).teachers)
        parts.append(f"{teachers} teachers to train" if teachers != 1 else "1 teacher to train")
    else:
        parts.append("data not looked at (no data.root, no CDKD_DATA_ROOT)")
    return ", ".join(parts)
