"""Where one cell of a study's table comes from: its runs and what was done with their values."""

from __future__ import annotations

import difflib
import json
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from analysis import protocols
from analysis.ablation import (
    AblationTable,
    Absence,
    Cell,
    Choices,
    Reference,
    Row,
    Source,
    ablation_table,
    by_arm,
    cell_of,
)
from analysis.ablation_sheet import INTERVAL_NAMES
from analysis.columns import SELECTED, SPLITS, Column
from analysis.database import shown
from analysis.errors import UnknownCell
from analysis.evaluation_noise import EvaluationNoise, Instances, InstancesError, PairedImages
from analysis.provenance import AGGREGATION
from analysis.search import SearchTable, search_table
from analysis.sheet import CONFIDENCE, SELECTION, cell_text, difference_text, number, seeds_text, signed
from analysis.store import StudyRecord
from orchestrator import keys

WIDTH = 13  # of the names of the fields, in text
CONFIG = "config.yaml"  # artifact of a run: its resolved configuration


@dataclass(frozen=True)
class RunValue:
    """One run in a cell.

    Attributes:
        source: the run.
        value: as stored.
        text: in print.
        command: trains it again.
    """

    source: Source
    value: float
    text: str
    command: str


@dataclass(frozen=True)
class SeedNoise:
    """Evaluation noise of the difference between two runs of one seed."""

    seed: int
    against: str
    noise: EvaluationNoise


@dataclass(frozen=True)
class Explanation:
    """What made one cell.

    Attributes:
        study, arm, label, column, metric: which cell; `metric` as stored.
        text: in print.
        select: which epoch.
        aggregation: what was done with the values, in words.
        runs: those in the cell.
        absences: seeds that are not.
        judgement: difference to the baseline and to the paper, in words; only the study's metric has them.
        protocol: field -> value, of all runs in the cell.
        versions: of packages, as the study's latest invocation recorded them.
        noise: evaluation noise of the difference to another row, where it was asked for.
    """

    study: str
    arm: str
    label: str
    column: str
    metric: str
    text: str
    select: str
    aggregation: str
    runs: tuple[RunValue, ...]
    absences: tuple[Absence, ...]
    judgement: tuple[str, ...]
    protocol: dict[str, str]
    versions: dict[str, str]
    noise: tuple[SeedNoise, ...] = ()


def explain(record: StudyRecord, row: str, column: str, choices: Choices) -> Explanation:
    """Explains a cell of a study's table.

    Args:
        record: the study as stored.
        row: an arm or its label, or the id of a search trial.
        column: a metric, as the study names it, as stored, or as it is headed.
        choices: as for the table.

    Raises:
        UnknownCell: if there is no such row or column.
        MixedProtocols: if there can be no table.
    """
    table = ablation_table(record, choices)
    search = search_table(record, choices.allow, top=len(record.trials))
    trials = [trial.trial_id for trial in search.trials] if search else []
    if search is not None and row in trials:
        return _of_trial(record, _searched_column(search, table, column), row)
    position = find_column(table, column)
    found = find_row(table, row, trials)
    return _of_arm(record, table, found, position)


def _searched_column(search: SearchTable, table: AblationTable, name: str) -> Column:
    """A column of the search's table, which has its objectives and limited numbers; else one of the arms' table."""
    own = [each for each in search.others if name in (each.metric, each.stored, each.title, each.heading)]
    return own[0] if own else table.columns[find_column(table, name)]


def find_row(table: AblationTable, name: str, others: Sequence[str] = ()) -> Row:
    """The row of an arm's name, else of a label that only one arm has.

    Args:
        table: where to look.
        name: what was asked for.
        others: further rows of the study's tables, to be suggested.

    Raises:
        UnknownCell: if there is none, or several.
    """
    by_arm = {row.arm: row for row in table.rows}
    labelled = [row for row in table.rows if row.label == name]
    if name in by_arm:
        return by_arm[name]
    if len(labelled) > 1:
        raise UnknownCell(f"{len(labelled)} rows are labelled {name!r}: name the arm, {_listed(labelled)}")
    if labelled:
        return labelled[0]
    raise _unknown("row", name, [*by_arm, *(row.label for row in table.rows), *others])


def find_column(table: AblationTable, name: str) -> int:
    """The index of a metric's column.

    Raises:
        UnknownCell: if there is none.
    """
    for index, each in enumerate(table.columns):
        if name in (each.stored, each.title):
            return index
    # Where both epochs stand side by side, a metric's own name means the study's.
    named = [index for index, each in enumerate(table.columns) if name in (each.metric, each.heading)]
    if not named:
        raise _unknown("column", name, [text for each in table.columns for text in (each.metric, each.title)])
    return table.main if table.main in named else named[0]


def _unknown(what: str, name: str, known: Sequence[str]) -> UnknownCell:
    distinct = list(dict.fromkeys(known))
    near = difflib.get_close_matches(name, distinct, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(distinct)}"
    return UnknownCell(f"the table has no {what} {name!r} ({hint})")


def _listed(rows: Sequence[Row]) -> str:
    return ", ".join(row.arm for row in rows)


def _of_arm(record: StudyRecord, table: AblationTable, row: Row, position: int) -> Explanation:
    each, cell = table.columns[position], row.cells[position]
    return Explanation(
        study=record.study,
        arm=row.arm,
        label=row.label,
        column=each.title,
        metric=each.stored,
        text=cell_text(cell.statistics, each),
        select=_selection(each),
        aggregation=f"{AGGREGATION.split(';')[0]} (planned: {seeds_text(table.seeds)})",
        runs=_run_values(record, each, cell),
        absences=row.absences,
        judgement=tuple(_judgement(table, row) if position == table.main else _printed(table, row, each)),
        protocol=_protocol(record, [source.run_id for source in cell.sources]),
        versions=_versions(record),
    )


def _of_trial(record: StudyRecord, each: Column, trial_id: str) -> Explanation:
    """A trial of the search is one run; what did not use its whole budget has no value."""
    trials = record.trials[record.trials["trial_id"] == trial_id]
    cell = cell_of(by_arm(trials, [each])[keys.SEARCH_ARM], each)
    last = trials.iloc[-1]
    absence = Absence(keys.SEARCH_ARM, int(last["seed"]), last["state"], last["reason"], last["run_id"])
    return Explanation(
        study=record.study,
        arm=trial_id,
        label=trial_id,
        column=each.title,
        metric=each.stored,
        text=number(cell.statistics.mean, each.decimals) if cell.sources else last["state"],
        select=_selection(each),
        aggregation="none: one trial of the search",
        runs=_run_values(record, each, cell),
        absences=() if cell.sources else (absence,),
        judgement=(),
        protocol=_protocol(record, list(trials["run_id"])),
        versions=_versions(record),
    )


def _selection(each: Column) -> str:
    """Which epoch of each training; a cost belongs to none."""
    found = [text for rule, text in SELECTION.items() if each.stored.startswith(f"{SELECTED[rule]}/")]
    return found[0] if found and each.unit == "%" else "of no epoch"


def _run_values(record: StudyRecord, each: Column, cell: Cell) -> tuple[RunValue, ...]:
    return tuple(
        RunValue(source, value, number(each.scale * value, each.decimals), _command(record.uri, source.run_id))
        for source, value in zip(cell.sources, cell.values)
    )


def _command(uri: str, run_id: str) -> str:
    """Gets the run's configuration from the store and trains it again."""
    folder = f"repeat/{run_id}"
    store = shlex.quote(shown(uri))
    return f"cdkd repro {run_id} --tracking-uri {store} --output {folder} && sh {folder}/command.sh"


def _judgement(table: AblationTable, row: Row) -> Iterator[str]:
    decimals = table.metric.decimals
    if row.comparison is not None:
        difference = difference_text(row.comparison.difference, decimals)
        yield (
            f"difference {difference} to {row.comparison.baseline}, paired by seed, {CONFIDENCE} interval "
            f"{INTERVAL_NAMES[table.interval]}{_test_text(row)}"
        )
    if row.reference is not None:
        yield _paper_text(row.reference, table.reference_name, decimals)


def _printed(table: AblationTable, row: Row, each: Column) -> Iterator[str]:
    """What the paper says of a column that is not the metric."""
    if each.stored in row.references:
        yield _paper_text(row.references[each.stored], table.reference_names[each.stored], each.decimals)


def _paper_text(reference: Reference, name: str, decimals: int) -> str:
    found = reference.reproduction
    verdict = {True: "reproduced", False: "not reproduced", None: "no interval to judge by"}[found.is_reproduced]
    between = (
        f" ({number(found.low, decimals)} to {number(found.high, decimals)})" if found.is_reproduced is not None else ""
    )
    return f"paper {reference.value:g} ({name or 'named in the study'}): {verdict}{between}"


def _test_text(row: Row) -> str:
    comparison = row.comparison
    if comparison is None or math.isnan(comparison.p):
        return ""
    adjusted = "too few pairs for a claim" if math.isnan(comparison.p_holm) else f"{comparison.p_holm:.3g} by Holm"
    return f"; exact sign-flip test p = {comparison.p:.3g}, {adjusted}"


def _protocol(record: StudyRecord, run_ids: Sequence[str]) -> dict[str, str]:
    """The fields all these runs share, and of the others every value."""
    trials = record.trials[record.trials["run_id"].isin(run_ids)]
    fields = protocols.flatten(trials["protocol"].iloc[0]) if len(trials) else {}
    return fields | {name: " or ".join(values) for name, values in protocols.differing(trials).items()}


def _versions(record: StudyRecord) -> dict[str, str]:
    found = record.specification.get("versions")
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def with_noise(found: Explanation, other: Explanation, instances: Callable[[str, str], Instances]) -> Explanation:
    """Adds the evaluation noise of the difference to another row, seed by seed.

    Args:
        found, other: the same column of two rows.
        instances: run id, split -> scores per person.

    Raises:
        InstancesError: if the metric has none, or the runs were scored on different persons.
    """
    _, split, score = [*found.metric.split("/", 2), "", ""][:3]
    if split not in SPLITS:
        raise InstancesError(f"evaluation noise is of scores on a split, not of {found.metric}")
    theirs = {run.source.seed: run.source.run_id for run in other.runs}
    pairs = [(run, theirs[run.source.seed]) for run in found.runs if run.source.seed in theirs]
    noise = [
        PairedImages()(instances(run.source.run_id, split), instances(their_id, split), score)
        for run, their_id in pairs
    ]
    seeds = [run.source.seed for run, _ in pairs]
    return replace(found, noise=tuple(SeedNoise(seed, other.arm, each) for seed, each in zip(seeds, noise)))


def as_json(found: Explanation) -> str:
    """Everything, for machines."""
    return json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n"


def as_text(found: Explanation) -> str:
    """Everything, for people."""
    lines = [
        f"{found.study}: {found.label}, {found.column}",
        found.text,
        "",
        *_field("metric", f"{found.metric}, {found.select}"),
        *_field("aggregation", found.aggregation),
        *_field("judgement", *found.judgement),
        *_field("revision", *dict.fromkeys(run.source.revision or "not recorded" for run in found.runs)),
        *_field("versions", _versions_text(found.versions)),
        *_field("protocol", *(f"{name}: {value}" for name, value in found.protocol.items())),
        *_field("not in it", *(_absence(each) for each in found.absences)),
        *_field("noise", *_noise_lines(found)),
        "",
        *(line for run in found.runs for line in _run_lines(run)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _field(name: str, *values: str) -> list[str]:
    """One line for each value, the name before the first."""
    return [f"{name if index == 0 else '':{WIDTH}}{value}" for index, value in enumerate(values)]


def _versions_text(versions: dict[str, str]) -> str:
    found = ", ".join(f"{name} {value}" for name, value in versions.items())
    return f"{found} (where the study was last run from)" if found else "not recorded"


def _absence(each: Absence) -> str:
    return f"seed {each.seed}: {each.state}{f' ({each.reason})' if each.reason else ''}"


def _run_lines(run: RunValue) -> list[str]:
    source = run.source
    origin = f", taken over from {source.reused_from}" if source.reused_from else ""
    teacher = f", teacher {source.teacher}" if source.teacher else ""
    return [
        f"seed {source.seed}: {run.text} (stored {run.value!r})",
        f"  run {source.run_id}, trial {source.trial_id}, fingerprint {source.fingerprint}{teacher}{origin}",
        f"  again: {run.command}",
    ]


def _noise_lines(found: Explanation) -> list[str]:
    if not found.noise:
        return []
    first = found.noise[0]
    head = (
        f"evaluation noise of the difference to {first.against}: which of {first.noise.images} images are in the split "
        f"({CONFIDENCE} bootstrap over images); training noise is not in it"
    )
    return [head, *(f"seed {each.seed}: {_noise_text(each.noise)}" for each in found.noise)]


def _noise_text(noise: EvaluationNoise) -> str:
    return f"{signed(100 * noise.difference, 2)} [{signed(100 * noise.low, 2)}, {signed(100 * noise.high, 2)}] %"
