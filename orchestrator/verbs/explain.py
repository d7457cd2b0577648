"""`cdkd explain STUDY ROW COLUMN`: which runs made one cell of a study's table, and how."""

from __future__ import annotations

import argparse
import io
import sys
from typing import TYPE_CHECKING

from orchestrator.verbs.stored import add_store_arguments, reported_errors, store_uri, study_name
from orchestrator.verbs.table import add_choice_arguments, choices_of

if TYPE_CHECKING:
    from analysis.evaluation_noise import Instances
    from analysis.store import Store


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Print the runs, seeds, revision, versions, protocol and aggregation behind one cell of a study's table,\n"
        "and the command that repeats each run."
    )
    parser.epilog = (
        "Examples:\n"
        "  cdkd explain studies/table4_modules.yaml full val/pckh@0.5\n"
        "  cdkd explain table4-modules-mpii-64 full val/pckh@0.5 --against baseline --json"
    )
    add_store_arguments(parser, writes=False)
    parser.add_argument("row", metavar="ROW", help="an arm or its label, or the id of a search trial")
    parser.add_argument("column", metavar="COLUMN", help="a metric, by its name or its heading")
    parser.add_argument(
        "--against",
        metavar="ROW",
        help="add the evaluation noise of the difference to this row (not training noise): other images in the split",
    )
    parser.add_argument("--json", action="store_true", help="print it for machines")
    add_choice_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the explanation.

    Raises:
        UserError: no such study, store, row or column.
        Refused: results of different protocols would stand in the table.
    """
    study = study_name(args.study)
    with reported_errors(study):
        from analysis.explanation import as_json, as_text, explain, with_noise
        from analysis.store import Store
        from analysis.tables import read

        store, choices = Store(store_uri(args.results, args.tracking_uri)), choices_of(args)
        record = read(store, study, choices)
        found = explain(record, args.row, args.column, choices)
        if args.against:
            other = explain(record, args.against, args.column, choices)
            found = with_noise(found, other, lambda run_id, split: _instances(store, study, run_id, split))
    sys.stdout.write(as_json(found) if args.json else as_text(found))
    return 0


def _instances(store: Store, study: str, run_id: str, split: str) -> Instances:
    from analysis.evaluation_noise import instances_file, read_instances

    name = instances_file(split)
    return read_instances(io.BytesIO(store.artifact(study, run_id, name)), f"{name} of run {run_id}")
