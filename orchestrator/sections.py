"""The sections of a study file: what each may hold, and the reader that checks a tree of nodes against it.

The JSON Schema (`orchestrator.schema`) is made from the same declarations. A field annotated `Node` is
read by the module that knows its content (design, space, training overrides).
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, TypeVar

from cdkd.options import check_scalar, describe, nearest, type_hints
from orchestrator.errors import Problem
from orchestrator.fingerprint import PROTOCOL_FIELDS
from orchestrator.yaml_reader import Node

S = TypeVar("S")


def entry(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    choices: Sequence[Any] | None = None,
    minimum: float | None = None,
    exclusive_minimum: float | None = None,
    maximum: float | None = None,
    words: Mapping[str, Any] | None = None,
    holds: str = "",
) -> Any:
    """Declare a key of a section.

    Args:
        default: value when the key is absent; without one the key is required.
        help: one line for people and for the JSON Schema.
        choices: the allowed values (of each element, for a tuple field).
        minimum: smallest allowed number.
        exclusive_minimum: numbers must be greater than this.
        maximum: largest allowed number.
        words: further spellings, and the value each stands for.
        holds: for a `Node` field, what it holds: a definition of `orchestrator.schema`.
    """
    rules = {
        "help": help,
        "choices": tuple(choices) if choices is not None else None,
        "minimum": minimum,
        "exclusive_minimum": exclusive_minimum,
        "maximum": maximum,
        "words": dict(words or {}),
        "holds": holds,
    }
    if default is dataclasses.MISSING:
        return field(metadata=rules)
    return field(default=default, metadata=rules)


@dataclass(frozen=True)
class MetricSection:
    """The score the study is about, and the epoch it is taken from."""

    ALIASES: ClassVar[dict[str, str]] = {"direction": "mode", "goal": "mode"}

    name: str = entry(help="score as reported: val/<score> or test/<score>")
    mode: str = entry("max", help="direction", choices=("max", "min"), words={"maximize": "max", "minimize": "min"})
    select: str = entry("best", help="epoch: best on the validation split, or last", choices=("best", "last"))


@dataclass(frozen=True)
class RepeatsSection:
    """As many repeats as an arm's interval needs: seeds 0, 1, ... between two bounds."""

    ALIASES: ClassVar[dict[str, str]] = {}

    min: int = entry(help="repeats that every arm has", minimum=2)
    max: int = entry(help="repeats that no arm exceeds", minimum=2)
    until: str = entry(
        help="ci95 <= 0.005: half the 95 % interval of the arm's mean, in the metric's unit; "
        "ci95(difference): of its difference to the baseline"
    )


@dataclass(frozen=True)
class AblationSection:
    """Arms x seeds, every arm at full budget."""

    ALIASES: ClassVar[dict[str, str]] = {}

    components: Node | None = entry(
        None, help="parts of the method: on is the base, off these overrides", holds="components"
    )
    arms: Node | None = entry(None, help="explicit arms: name and overrides", holds="arms")
    design: Node | None = entry(None, help="which arms are made of components and factors", holds="design")
    seeds: tuple[int, ...] = entry((), help="seeds of the repeats; none: the base's seed", minimum=0)
    repeats: RepeatsSection | None = entry(None, help="instead of seeds: add repeats while intervals are wide")


@dataclass(frozen=True)
class RefitSection:
    """After the search: its best configurations and the base on fresh seeds, every one at full budget."""

    ALIASES: ClassVar[dict[str, str]] = {}

    seeds: tuple[int, ...] = entry(help="seeds of the repeats; the search's own seed is not among them", minimum=0)
    top: int = entry(1, help="how many configurations", minimum=1)


@dataclass(frozen=True)
class PbtSection:
    """Population based training: the trials are its members, and the options change while they train."""

    ALIASES: ClassVar[dict[str, str]] = {
        "perturbation_interval": "interval",
        "quantile_fraction": "quantile",
        "perturbation_factors": "factors",
    }

    interval: int = entry(help="epochs between two looks at the population", minimum=1)
    quantile: float = entry(
        0.25, help="part of the population that goes on from one of the best", exclusive_minimum=0, maximum=0.5
    )
    resample_probability: float = entry(
        0.25, help="probability that an option is drawn anew rather than perturbed", minimum=0, maximum=1
    )
    factors: tuple[float, ...] = entry((0.8, 1.2), help="one of them perturbs a value", exclusive_minimum=0)


@dataclass(frozen=True)
class ObjectiveSection:
    """One of several scores or costs that a search weighs against each other."""

    ALIASES: ClassVar[dict[str, str]] = {"direction": "mode", "goal": "mode"}

    name: str = entry(help="score or cost as reported: val/<score>, params_m, gmacs, gflops, train_seconds")
    mode: str = entry(help="direction", choices=("max", "min"), words={"maximize": "max", "minimize": "min"})


@dataclass(frozen=True)
class LimitSection:
    """Bounds on a reported score or cost; a trial outside them is never the best."""

    ALIASES: ClassVar[dict[str, str]] = {}

    min: float | None = entry(None, help="smallest value allowed")
    max: float | None = entry(None, help="greatest value allowed")


@dataclass(frozen=True)
class ConstraintSection:
    """A rule between searched options; a proposal that breaks it is not trained."""

    ALIASES: ClassVar[dict[str, str]] = {}

    left: str = entry(help="a searched option")
    op: str = entry(help="how left is to stand to right", choices=("<", "<=", ">", ">=", "==", "!="))
    right: Node = entry(help="a value, or another searched option", holds="scalar")
    when: Node | None = entry(None, help="the rule holds only where these options have these values", holds="condition")


@dataclass(frozen=True)
class SearchSection:
    """A search over a space of dotted paths: by Optuna, or by a population."""

    ALIASES: ClassVar[dict[str, str]] = {"num_samples": "trials"}

    space: Node = entry(help="what is searched: dotted path and declaration", holds="space")
    trials: int = entry(help="number of trials", minimum=1)
    sampler: str = entry("tpe", help="Optuna's sampler")
    sampler_options: Node | None = entry(None, help="options of the sampler, as Optuna names them", holds="options")
    pruner: str = entry(
        "auto", help="Optuna's pruner; auto: asha for one objective and trainings of 10 epochs or more, else none"
    )
    pruner_options: Node | None = entry(None, help="options of the pruner, as Optuna names them", holds="options")
    seed: int = entry(0, help="seed of the sampler", minimum=0)
    training_seed: int | None = entry(None, help="seed of every training; none: the base's", minimum=0)
    enqueue: Node | None = entry(None, help="configurations tried first", holds="enqueue")
    refit: RefitSection | None = entry(None, help="train the best configurations again, on fresh seeds")
    pbt: PbtSection | None = entry(None, help="train the trials as a population, without sampler and pruner")
    objectives: Node | None = entry(
        None, help="several scores and costs, the metric among them; none: the metric alone", holds="objectives"
    )
    constraints: Node | None = entry(None, help="rules between searched options", holds="constraints")
    limits: Node | None = entry(None, help="bounds on reported scores and costs", holds="limits")


@dataclass(frozen=True)
class ResourcesSection:
    """What one trial asks of the machine or cluster."""

    ALIASES: ClassVar[dict[str, str]] = {}

    num_workers: int = entry(1, help="data-parallel workers of a trial", minimum=1)
    cpus_per_worker: float = entry(1.0, help="CPUs of a worker", exclusive_minimum=0)
    gpus_per_worker: float = entry(0.0, help="GPUs of a worker; a fraction shares one", minimum=0)
    max_concurrent_trials: int = entry(0, help="trials at a time; auto: as many as fit", minimum=1, words={"auto": 0})
    backend: str = entry("auto", help="train: a TorchTrainer even for one worker", choices=("auto", "train"))


@dataclass(frozen=True)
class BudgetSection:
    """What the whole study may cost."""

    ALIASES: ClassVar[dict[str, str]] = {}

    gpu_hours: float | None = entry(
        None, help="GPU hours after which nothing is begun and running trials are interrupted", exclusive_minimum=0
    )
    cpu_hours: float | None = entry(None, help="likewise, hours of the CPUs that trials ask for", exclusive_minimum=0)


@dataclass(frozen=True)
class TableSection:
    """How the study's table is laid out."""

    ALIASES: ClassVar[dict[str, str]] = {}

    rows: Node | None = entry(None, help="`arm`, or a list of arms in the order of the rows", holds="rows")
    columns: tuple[str, ...] = entry((), help="scores and costs; none: the metric")
    reference: Node | None = entry(
        None,
        help="the paper's column beside ours: <table>.<column>, beside the metric, or {column: <table>.<column>}",
        holds="reference",
    )
    baseline: Node | None = entry(
        None,
        help="arm the differences are taken to, or a list with one for each block; none: `baseline` where there is one",
        holds="baseline",
    )
    labels: Node | None = entry(None, help="text shown for an arm", holds="labels")
    factors: tuple[str, ...] = entry(
        (), help="options with columns of their own: a list of kernel sizes as counts, of names as check marks"
    )
    group_by: tuple[str, ...] = entry(
        (), help="options whose values divide the rows into blocks, best and baseline each"
    )
    allow: tuple[str, ...] = entry(
        (),
        help="protocol fields that may differ between the rows, noted below the table as with --allow",
        choices=PROTOCOL_FIELDS,
    )
    side_by_side: bool = entry(False, help="every score at the best and at the last epoch, beside each other")
    decimals: Node | None = entry(None, help="digits printed by column; `scores` for all scores", holds="decimals")


@dataclass(frozen=True)
class StudySection:
    """A study file: one question, answered by an ablation, a search or both."""

    ALIASES: ClassVar[dict[str, str]] = {}

    study: str = entry(help="name of the study")
    base: str = entry(help="name of the training configuration in bases/ that everything overrides")
    metric: MetricSection = entry(help="the score")
    description: str = entry("", help="the question; empty: the comment the file opens with")
    set: Node | None = entry(None, help="training options for the whole study, by dotted path", holds="overrides")
    ablation: AblationSection | None = entry(None, help="arms x seeds")
    search: SearchSection | None = entry(None, help="a sampler proposes")
    resources: ResourcesSection = entry(ResourcesSection(), help="what one trial asks for")
    budget: BudgetSection = entry(BudgetSection(), help="what the study may cost")
    table: TableSection = entry(TableSection(), help="layout of the table")
    profiles: Node | None = entry(None, help="named variants of this file (`--profile`)", holds="profiles")


def read_section(cls: type[S], node: Node, key: str, problems: list[Problem]) -> S | None:
    """Read a section; None when a required key is missing or the node is no section. Adds to `problems`."""
    if not isinstance(node.value, dict):
        problems.append(Problem(node.place, key, f"must be a section of keys, got {describe(node.plain())}"))
        return None
    declared = {item.name: item for item in fields(typing.cast(Any, cls))}
    given = _by_declared_name(cls, node, key, problems)
    values = {
        name: _read_entry(type_hints(typing.cast(type, cls))[name], declared[name], child, _join(key, name), problems)
        for name, child in given.items()
    }
    missing = [item for name, item in declared.items() if name not in given and item.default is dataclasses.MISSING]
    for item in missing:
        problems.append(Problem(node.place, _join(key, item.name), f"is missing ({item.metadata['help']})"))
    unreadable = [
        name for name, value in values.items() if value is None and declared[name].default is dataclasses.MISSING
    ]
    if missing or unreadable:
        return None
    return cls(**{name: value for name, value in values.items() if value is not None})


def _by_declared_name(cls: type, node: Node, key: str, problems: list[Problem]) -> dict[str, Node]:
    """The children under their declared names; unknown keys and doubles become problems."""
    aliases: Mapping[str, str] = getattr(cls, "ALIASES", {})
    known = [item.name for item in fields(cls)]
    given: dict[str, Node] = {}
    for written, child in node.value.items():
        name = aliases.get(written, written)
        if name not in known:
            message = f"unknown key{nearest(written, [*known, *aliases])}"
            problems.append(Problem(child.place, _join(key, written), message))
        elif name in given:
            problems.append(Problem(child.place, _join(key, written), f"says the same as {name!r}; keep one of them"))
        else:
            given[name] = child
    return given


def _read_entry(annotation: Any, item: dataclasses.Field[Any], node: Node, key: str, problems: list[Problem]) -> Any:
    annotation = without_none(annotation)
    if annotation is Node:
        return node
    if is_dataclass(annotation):
        return read_section(typing.cast(type, annotation), node, key, problems)
    if typing.get_origin(annotation) is tuple:
        return _read_list(typing.get_args(annotation)[0], item, node, key, problems)
    return _read_scalar(annotation, item.metadata, node, key, problems)


def without_none(annotation: Any) -> Any:
    """`X` for the annotation `X | None`; any other as it is."""
    arguments = [part for part in typing.get_args(annotation) if part is not type(None)]
    is_optional = len(arguments) == 1 and typing.get_origin(annotation) is not tuple
    return arguments[0] if is_optional else annotation


def _read_list(
    element: Any, item: dataclasses.Field[Any], node: Node, key: str, problems: list[Problem]
) -> tuple[Any, ...] | None:
    if not isinstance(node.value, list):
        problems.append(Problem(node.place, key, f"must be a list, got {describe(node.plain())}"))
        return None
    parts = [
        _read_scalar(element, item.metadata, part, f"{key}[{index}]", problems) for index, part in enumerate(node.value)
    ]
    for index, part in enumerate(parts):
        if part is not None and part in parts[:index]:
            problems.append(Problem(node.value[index].place, f"{key}[{index}]", f"{part} is in the list twice"))
    return tuple(part for part in parts if part is not None)


def _read_scalar(annotation: Any, rules: Mapping[str, Any], node: Node, key: str, problems: list[Problem]) -> Any:
    words = rules["words"]
    if isinstance(node.value, str) and node.value in words:
        return words[node.value]
    try:
        return check_scalar(annotation, rules, node.plain())
    except ValueError as error:
        instead = f" (or {', '.join(words)})" if words else ""
        problems.append(Problem(node.place, key, f"{error}{instead}"))
        return None


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
