"""`cdkd report STUDY`: everything about a study on one page, or the files that go with a paper."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.fingerprint import file_digest
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.teachers import TeacherStore
from orchestrator.verbs.stored import add_store_arguments, reported_errors, store_uri, study_name
from orchestrator.verbs.table import add_choice_arguments, choices_of

if TYPE_CHECKING:
    from analysis.report.sections import Material


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Write report.html, one page that needs no other file, and report.md with its figures beside it: question,\n"
        "table, figures, protocol, cost, what failed, how to repeat it. Also while the study runs.\n"
        "With --submission, write what goes with a paper: LaTeX tables, figures as PDF, appendices on\n"
        "hyper-parameters and compute, seeds, one command a row, checksums."
    )
    parser.epilog = (
        "Examples:\n"
        "  cdkd report studies/table4_modules.yaml\n"
        "  cdkd report studies/table4_modules.yaml --submission --output paper/supplement"
    )
    add_store_arguments(parser)
    parser.add_argument("--submission", action="store_true", help="write the files that go with a paper instead")
    add_choice_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the files and prints their paths.

    Raises:
        UserError: no such study or store, or files cannot be written.
        Refused: results of different protocols would stand in one table.
    """
    study = study_name(args.study)
    file = args.study if args.study.endswith((".yaml", ".yml")) else ""
    uri, choices = store_uri(args.results, args.tracking_uri), choices_of(args)
    with reported_errors(study):
        from analysis.report.sections import gather
        from analysis.store import Store

        material = gather(Store(uri), study, choices, file)
        paths = _submission(material, args) if args.submission else _report(material, args)
    sys.stdout.write("".join(f"{path}\n" for path in paths))
    return 0


def _report(material: Material, args: argparse.Namespace) -> list[Path]:
    from analysis.report.write import write_report

    return write_report(material, _folder(material, args, "report"), datetime.now(UTC))


def _submission(material: Material, args: argparse.Namespace) -> list[Path]:
    from analysis.report.submission import write_submission

    paths = StudyPaths(results_folder(args.results), material.record.study)
    digests = _teacher_digests(paths, set(material.trials["teacher"]) - {""})
    return write_submission(material, _folder(material, args, "submission"), digests)


def _folder(material: Material, args: argparse.Namespace, name: str) -> Path:
    own: Path = StudyPaths(results_folder(args.results), material.record.study).folder / name
    return args.output or own


def _teacher_digests(paths: StudyPaths, fingerprints: set[str]) -> dict[str, str]:
    """Fingerprint -> SHA-256 of the teachers' files, as far as they lie in this results folder."""
    store = TeacherStore(paths)
    files = {fingerprint: store.file(fingerprint) for fingerprint in sorted(fingerprints)}
    return {fingerprint: file_digest(file) for fingerprint, file in files.items() if file.is_file()}
