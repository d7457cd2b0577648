"""What a study compiles to: its trials, its teachers and what a table of it needs. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator import keys

TEACHER = "teacher"
"""The kind, and the arm, of a teacher's trial; every other one is a `student`."""


@dataclass(frozen=True)
class TrialSpec:
    """One training that a study asks for.

    Attributes:
        trial_id: deterministic and unique in the study, fit for a folder name (`plus_sape-seed1-1f6c2a90`).
        kind: `teacher` or `student`.
        arm: the setting's name in the tables; for a search trial `search`.
        seed: seed of the training (one repeat of the arm).
        config: the complete resolved TrainingConfig as nested plain data.
        overrides: what the arm (or the sampler) changed in the base, by dotted path.
        fingerprint: identity of the result (orchestrator.fingerprint).
        teacher: fingerprint of the teacher this trial needs; empty when none, or when the teacher is a given file.
        protocol: what must agree for two results to be compared in one table.
        number: Optuna's trial number for a search trial, else -1.
        generation: how often the study was begun afresh (`--fresh`) before this trial.
    """

    trial_id: str
    kind: str
    arm: str
    seed: int
    config: dict[str, Any]
    overrides: dict[str, Any]
    fingerprint: str
    teacher: str
    protocol: dict[str, Any]
    number: int = -1
    generation: int = 0


@dataclass(frozen=True)
class Metric:
    """The score a study maximises or minimises, and from which epoch it is taken."""

    name: str  # as reported, e.g. val/pckh@0.5
    mode: str  # max | min
    select: str  # best | last


@dataclass(frozen=True)
class Resources:
    """What one trial asks of the machine or cluster."""

    num_workers: int = 1
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0
    max_concurrent_trials: int = 0  # 0: as many as fit
    backend: str = "auto"  # auto: Ray Train for more than one worker; `train` forces it


@dataclass(frozen=True)
class RepeatRule:
    """When an arm has enough repeats (orchestrator.repeats); the most there may be are the study's seeds."""

    minimum: int
    statistic: str  # mean | difference (to the baseline, paired by seed)
    width: float  # half of the 95 % interval, in the metric's own unit


@dataclass(frozen=True)
class Budget:
    """What a study may cost; None: no limit."""

    gpu_hours: float | None = None
    cpu_hours: float | None = None


@dataclass(frozen=True)
class RefitSpec:
    """The best configurations of a search trained again, on seeds that the search has not seen."""

    top: int
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class PopulationSpec:
    """Population based training of a search's trials (orchestrator.population)."""

    interval: int  # epochs between two looks at the population
    quantile: float  # part of the population that goes on from the state of one of the best
    resample_probability: float  # that an option is drawn anew rather than perturbed
    factors: tuple[float, ...]  # one of them perturbs a value


@dataclass(frozen=True)
class SearchSpec:
    """A search: sampler, pruner, budget, space (orchestrator.space) and what is optimised; or a population."""

    sampler: str
    sampler_options: dict[str, Any]  # with the defaults of orchestrator.search_options
    pruner: str  # none | median | asha | hyperband | any Optuna pruner by name
    pruner_options: dict[str, Any]  # with the defaults of orchestrator.search_options
    trials: int
    seed: int
    space: dict[str, Any]  # dotted path -> declaration, as written in the study (checked)
    training_seed: int
    enqueue: tuple[dict[str, Any], ...] = ()
    refit: RefitSpec | None = None
    pbt: PopulationSpec | None = None
    objectives: tuple[Metric, ...] = ()  # several, in the order told to Optuna; none: the study's metric
    constraints: tuple[dict[str, Any], ...] = ()  # orchestrator.constraints
    limits: dict[str, dict[str, float]] = field(default_factory=dict)  # score or cost -> {min, max}
    rungs: tuple[int, ...] = ()  # epochs at which the pruner compares trials, or would
    pruner_reason: str = ""  # why `auto` is this pruner; empty where the study names one


@dataclass(frozen=True)
class Block:
    """Rows of a table that are compared with each other."""

    arms: tuple[str, ...]
    baseline: str  # arm their differences are taken to; empty: none


@dataclass(frozen=True)
class Reference:
    """One printed column: its title, and value and standard deviation (where printed) by arm."""

    title: str = ""
    values: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TableSpec:
    """How the study's table is laid out."""

    columns: tuple[str, ...]
    baseline: str  # arm the differences are taken to; empty: none
    arms: tuple[str, ...]  # row order
    components: tuple[str, ...] = ()
    switches: dict[str, dict[str, bool]] = field(default_factory=dict)  # arm -> component -> on
    labels: dict[str, str] = field(default_factory=dict)  # arm -> text shown
    reference: dict[str, float] = field(default_factory=dict)  # arm -> the paper's value, in the paper's unit (percent)
    reference_name: str = ""  # e.g. "Table IV, mpii_mean"
    reference_std: dict[str, float] = field(default_factory=dict)  # arm -> the paper's standard deviation, percent
    factors: dict[str, dict[str, Any]] = field(default_factory=dict)  # arm -> dotted path -> value, in column order
    group_by: tuple[str, ...] = ()  # those of these paths that make the blocks
    blocks: tuple[Block, ...] = ()  # in row order; none: all rows are one
    allow: tuple[str, ...] = ()  # protocol fields that may differ between the rows
    side_by_side: bool = False  # scores of the best and of the last epoch
    decimals: dict[str, int] = field(default_factory=dict)  # column, or `scores` -> digits printed
    references: dict[str, Reference] = field(default_factory=dict)  # column but the metric -> the paper's values
    merged: dict[str, str] = field(default_factory=dict)  # arm without a row -> arm that is the same training


@dataclass(frozen=True)
class Plan:
    """A compiled study.

    Attributes:
        study: name of the study.
        question: the comment or description the study opens with.
        trials: student trials in running order (empty for a pure search).
        reserve: further repeats of the arms in the order of their seeds, begun where `repeats` asks for them.
        teachers: teacher trials, one for each distinct fingerprint, that students of this plan need.
        search: the search, or None.
        base: the base's resolved configuration with the study's `set` applied, nested plain data.
        seeds: repeats of every arm; with `repeats` the most there may be.
        budget: what the study may cost.
        repeats: the rule that adds repeats; None: every arm has all seeds.
        generation: how often the study was begun afresh (`--fresh`).
        fresh_since: when it was last begun afresh: results from before do not count, seconds since 1970.
    """

    study: str
    question: str
    metric: Metric
    resources: Resources
    table: TableSpec
    trials: tuple[TrialSpec, ...]
    teachers: tuple[TrialSpec, ...]
    search: SearchSpec | None
    base: dict[str, Any]
    seeds: tuple[int, ...]
    budget: Budget = Budget()
    reserve: tuple[TrialSpec, ...] = ()
    repeats: RepeatRule | None = None
    generation: int = 0
    fresh_since: float = 0.0


def of_generation(spec: TrialSpec, generation: int) -> TrialSpec:
    """The trial as one of a study begun afresh so often: with an id of its own, so that older ones are kept."""
    if not generation:
        return spec
    return replace(spec, trial_id=f"{spec.trial_id}{keys.FRESH}{generation}", generation=generation)
