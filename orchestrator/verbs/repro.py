"""`cdkd repro RUN_ID`: the command and the configuration that repeat one run, and what they cannot promise.

What is printed is a configuration file that `cdkd train` reads, with everything else in its comments.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from cdkd.config import TrainingConfig, resolve
from cdkd.data.content import content_digest
from cdkd.data.errors import DataError
from cdkd.options import ConfigError
from orchestrator.errors import UserError
from orchestrator.paths import StudyPaths, results_folder
from orchestrator.specification import revision, versions
from orchestrator.teachers import TeacherStore
from orchestrator.verbs.stored import TRACKING_VARIABLE, reported_errors, store_uri

if TYPE_CHECKING:
    from analysis.report.found import FoundRun

CONFIG, COMMAND = "config.yaml", "command.sh"
WIDTH = 12  # of the names of the fields
CANNOT = (
    "Not guaranteed: another processor, GPU, driver, number of threads or version of a package orders floating-point",
    "sums differently, and a training that begins equal drifts apart by it. On the same machine with the same versions",
    "the numbers are the same on CPUs; on GPUs some kernels are not deterministic.",
)


@dataclass(frozen=True)
class Teacher:
    """The teacher of a run, as far as it is at hand.

    Attributes:
        fingerprint: empty where the run needs none, or was given a file.
        file: its weights in this results folder; None where they are not, or damaged.
    """

    fingerprint: str
    file: Path | None


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.description = (
        "Print the exact command and the resolved configuration of one run, as a file that `cdkd train` reads, with\n"
        "revision, versions, data, teacher and what cannot be guaranteed in its comments."
    )
    parser.epilog = (
        "Examples:\n  cdkd repro 51dd5c51 > config.yaml\n  cdkd repro 51dd5c51 --output again && sh again/command.sh"
    )
    parser.add_argument("run_id", metavar="RUN_ID", help="an MLflow run id, or the beginning of one")
    parser.add_argument("--results", metavar="DIR", help="results folder (default: $CDKD_RESULTS, else ./results)")
    parser.add_argument(
        "--tracking-uri", metavar="URI", help=f"MLflow store (default: ${TRACKING_VARIABLE}, else mlflow.db in results)"
    )
    parser.add_argument("--output", metavar="DIR", type=Path, help=f"write {CONFIG} and {COMMAND} there instead")


def run(args: argparse.Namespace) -> int:
    """Prints, or writes, how to repeat the run.

    Raises:
        UserError: no such run or store, or several runs begin so.
    """
    uri = store_uri(args.results, args.tracking_uri)
    with reported_errors(args.run_id):
        from analysis.report.found import find_run
        from analysis.store import Store

        found = find_run(Store(uri), args.run_id)
    teacher = _teacher(found, _results(args.results, uri))
    folder = args.output or Path()
    command = command_of(folder, teacher, found)
    comment = "".join(f"# {line}".rstrip() + "\n" for line in _lines(found, teacher, command))
    if args.output is None:
        sys.stdout.write(comment + found.config)
        return 0
    _write(folder, {CONFIG: comment + found.config, COMMAND: f"{comment}{command}\n"})
    sys.stdout.write(f"{command}\n")
    return 0


def _results(flag: str | None, uri: str) -> Path:
    """The results folder: as given, else where the SQLite store lies."""
    parts = urlsplit(uri)
    if flag or parts.scheme != "sqlite":
        return results_folder(flag)
    return Path(parts.path.removeprefix("/")).parent.absolute()


def _teacher(found: FoundRun, results: Path) -> Teacher:
    """The teacher by its fingerprint, verified by the digest that was recorded when it was trained."""
    fingerprint = str(found.run["teacher"])
    store = TeacherStore(StudyPaths(results, found.record.study))
    file = store.file(fingerprint)
    return Teacher(fingerprint, file if fingerprint and store.is_complete(fingerprint) else None)


def command_of(folder: Path, teacher: Teacher, found: FoundRun) -> str:
    """What trains the run again from its configuration in a folder."""
    given = ["--set", f"teacher.checkpoint={teacher.file}"] if teacher.file else []
    output = folder if folder != Path() else Path("repeat") / str(found.run["run_id"])
    return shlex.join(["cdkd", "train", str(folder / CONFIG), *given, "--output", str(output)])


def _lines(found: FoundRun, teacher: Teacher, command: str) -> Iterator[str]:
    """Everything but the configuration."""
    run = found.run
    yield f"Run {run['run_id']}: {found.record.study}, {run['arm']}, seed {run['seed']}, {run['state']}."
    if run["reused_from"]:
        yield f"Its result was taken over from {run['reused_from']}."
    yield ""
    yield from _field("command", command)
    yield from _field("in a study", _study_command(found))
    yield from _field("expect", f"{found.score[0]} = {found.score[1]!r}" if found.score else "no score was recorded")
    yield from _field("code", *_code(str(run["revision"])))
    yield from _field("versions", *_versions(found.record.specification.get("versions")))
    yield from _field("machine", _machine(found.record.specification.get("machine")))
    yield from _field("data", *_data(found))
    yield from _field("teacher", *_teacher_words(teacher, found))
    yield ""
    yield from CANNOT


def _field(name: str, *lines: str) -> Iterator[str]:
    yield from (f"{name if index == 0 else '':{WIDTH}}{line}" for index, line in enumerate(lines))


def _study_command(found: FoundRun) -> str:
    """The whole study, cut to the run's seed; a search's trials depend on those before them."""
    from analysis.report.reproduction import study_command

    run, specification = found.run, found.record.specification
    is_repeat = run["kind"] == "student" and run["seed"] in (specification.get("seeds") or ())
    change = f"--set 'ablation.seeds=[{run['seed']}]'" if is_repeat and run["arm"] != "search" else ""
    return study_command(specification, found.record.study, changes=change)


def _code(recorded: str) -> Iterator[str]:
    here = revision()
    yield f"{recorded or 'not recorded'}{'' if recorded == here else f' (here: {here})'}"
    if recorded.endswith("-dirty"):
        yield "-dirty: files differed from that commit, and what they held was not kept"
    elif recorded and recorded != here:
        yield f"git checkout {recorded}"


def _versions(recorded: Any) -> Iterator[str]:
    """The recorded ones, with those that differ here."""
    if not isinstance(recorded, dict):
        yield "not recorded"
        return
    here = versions()
    for name, version in recorded.items():
        other = here.get(name, "missing")
        yield f"{name} {version}{'' if version == other else f' (here: {other})'}"


def _machine(recorded: Any) -> str:
    from analysis.report.spending import machine_words

    return machine_words(recorded) or "not recorded"


def _data(found: FoundRun) -> Iterator[str]:
    """The digest of the data, and whether what lies here has the same."""
    recorded = str(found.run["protocol"].get("data", "not recorded"))
    try:
        here = content_digest(_resolved(found.config).data)
    except ConfigError as error:
        yield recorded
        yield f"this version cannot read the configuration: {error.problems[0]}"
    except (DataError, OSError) as error:
        yield f"{recorded} (not found here: {error})"
    else:
        yield f"{recorded} ({'the same here' if here == recorded else f'here: {here}'})"


def _resolved(text: str) -> TrainingConfig:
    return resolve(yaml.safe_load(text))


def _teacher_words(teacher: Teacher, found: FoundRun) -> Sequence[str]:
    if teacher.file:
        return (f"{teacher.fingerprint}, verified: {teacher.file}",)
    if teacher.fingerprint:
        return (f"{teacher.fingerprint}, not in this results folder: the command trains it first",)
    given = (yaml.safe_load(found.config).get("teacher") or {}).get("checkpoint")
    return (f"the file {given}",) if given and found.run["kind"] == "student" else ("none needed",)


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None
