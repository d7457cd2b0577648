"""How to repeat a study: commands, revision, versions, digests, and the runs themselves."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.database import shown
from analysis.factors import NONE
from analysis.report.document import Block, Code, Grid, Words, grid
from analysis.report.trials import ARMS, TEACHERS, rows_of
from analysis.store import StudyRecord

NOT_RECORDED = "not recorded"
SHORT = 12  # letters of a digest that tell it from others
AGAIN = 'again() { for run; do cdkd repro "$run" --output "repeat/$run" && sh "repeat/$run/command.sh"; done; }'
CANNOT = (
    "Not guaranteed by any of this: other hardware, numbers of CPU threads, drivers and package versions order "
    "floating-point sums differently, and a training that begins equal drifts apart by it; images changed in place "
    "without a change of size are not noticed by the data's digest."
)


@dataclass(frozen=True)
class Origin:
    """What a study was made with.

    Attributes:
        command: runs the whole study.
        revisions: revision of the code -> number of trainings.
        versions: package -> version, of the study's latest invocation.
        data: digests of the data.
        store: where the runs are, without credentials.
    """

    command: str
    revisions: dict[str, int]
    versions: dict[str, str]
    data: tuple[str, ...]
    store: str


def origin(record: StudyRecord, trials: pd.DataFrame, study_file: str = "") -> Origin:
    """Collects what a study was made with.

    Args:
        record: the study.
        trials: as `trials_of` gives them.
        study_file: the file the reader named, for a study that did not record its command.
    """
    specification = record.specification
    told = specification.get("versions")
    data = dict.fromkeys(str(protocol.get("data", "")) for protocol in trials["protocol"])
    return Origin(
        command=study_command(specification, record.study, study_file),
        revisions=dict(Counter(revision or NOT_RECORDED for revision in trials["revision"])),
        versions={str(name): str(version) for name, version in told.items()} if isinstance(told, dict) else {},
        data=tuple(digest for digest in data if digest),
        store=shown(record.uri),
    )


def study_command(specification: Mapping[str, Any], study: str, study_file: str = "", changes: str = "") -> str:
    """What runs a study again, with some more changes: as it was recorded, else by the file that is named."""
    own = specification.get("command") or (f"cdkd run {shlex.quote(study_file)}" if study_file else "")
    if own:
        return f"{own} {changes}".strip()
    return (
        f"{f'cdkd run {study}.yaml {changes}'.strip()}  # or whatever the study's file is called: it was not recorded"
    )


def row_commands(trials: pd.DataFrame, seeds: Sequence[int]) -> dict[str, str]:
    """Label of each arm -> one line that trains all its repeats again, from the store (with AGAIN)."""
    arms = trials[(trials["role"] == ARMS) & trials["seed"].isin(seeds)]
    short = {run_id: run_id[:SHORT] for run_id in trials["run_id"]}
    is_clear = len(set(short.values())) == len(short)
    groups = arms.groupby("label", sort=False)["run_id"]
    return {str(label): " ".join(["again", *(short[one] if is_clear else one for one in ids)]) for label, ids in groups}


def reproduction_blocks(found: Origin, rows: Mapping[str, str]) -> Iterator[Block]:
    """How to repeat the study, and each of its rows."""
    yield _facts(found)
    yield Words("The whole study, from its file, and each row of the table by itself, from the store:")
    yield Code(tuple(_lines(found, rows)))
    yield Words(CANNOT)
    if any(revision.endswith("-dirty") for revision in found.revisions):
        yield Words("A revision marked -dirty had changes that were not committed, and is not to be had again exactly.")


def _facts(found: Origin) -> Grid:
    rows = [
        ["Revision", ", ".join(_revision(revision, count) for revision, count in found.revisions.items()) or NONE],
        ["Versions", ", ".join(f"{name} {version}" for name, version in found.versions.items()) or NOT_RECORDED],
        ["Digest of the data", ", ".join(found.data) or NOT_RECORDED],
        ["Store", found.store],
    ]
    return grid(["What", "Which"], rows, "ll", is_prose=True)


def _revision(revision: str, count: int) -> str:
    return f"{revision} ({count} {'training' if count == 1 else 'trainings'})"


def _lines(found: Origin, rows: Mapping[str, str]) -> Iterator[str]:
    yield found.command
    yield ""
    yield f"export MLFLOW_TRACKING_URI={shlex.quote(found.store)}"
    if rows:
        yield AGAIN
    width = max(map(len, rows.values()), default=0)
    yield from (f"{command:{width}}  # {label}" for label, command in rows.items())


def run_grid(trials: pd.DataFrame) -> Grid:
    """Every run: arms, then the search, then teachers."""
    rows = [_run(row) for row in rows_of(trials)]
    starts = [index for index in range(1, len(rows)) if rows[index][0] != rows[index - 1][0]]
    header = ["Training", "Seed", "State", "Run", "Fingerprint", "Teacher", "Revision"]
    return grid(header, rows, "lrlllll", rules=tuple(starts))


def _run(row: Mapping[str, Any]) -> list[str]:
    label = "teacher" if row["role"] == TEACHERS else row["label"]
    digests = [row["fingerprint"], row["teacher"], row["revision"]]
    return [label, str(row["seed"]), row["state"], row["run_id"], *(digest or NONE for digest in digests)]
