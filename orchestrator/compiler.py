"""A checked study to a plan: every training it asks for, its teachers, and what they are identified by.

Trials are ordered by seed first, so that after the first seed every arm has a number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cdkd.config import TrainingConfig, resolve
from cdkd.data.content import content_digest
from cdkd.data.errors import DataError
from cdkd.options import flatten_keys, to_mapping
from orchestrator import keys
from orchestrator.errors import Place, Problem, UserError
from orchestrator.fingerprint import fingerprint, protocol, weights_digest
from orchestrator.library import slug
from orchestrator.overrides import FILE_FIELDS
from orchestrator.plan import TEACHER, Metric, Plan, SearchSpec, TrialSpec, of_generation
from orchestrator.space import conditions, extremes
from orchestrator.study import Study

SHORT = 8  # digits of a fingerprint in a trial's id


def compile_study(study: Study) -> Plan:
    """The plan of a study.

    Raises:
        UserError: the data set or a weights file cannot be read.
    """
    identify = _Identifier(study.metric)
    trials: list[TrialSpec] = []
    reserve: list[TrialSpec] = []
    teachers: dict[str, TrialSpec] = {}
    certain = study.seeds[: study.repeats.minimum] if study.repeats else study.seeds
    for name, seed, config, overrides in _trainings(study):
        with _located(study, config):
            spec, teacher = identify.student(config, name, seed, overrides)
        (trials if seed in certain else reserve).append(spec)
        if teacher is not None:
            teachers.setdefault(teacher.fingerprint, teacher)
    if study.search is not None:
        for teacher in _search_teachers(study, study.search, identify):
            teachers.setdefault(teacher.fingerprint, teacher)
    return Plan(
        study=study.name,
        question=study.question,
        metric=study.metric,
        resources=study.resources,
        table=study.table,
        trials=tuple(trials),
        teachers=tuple(teachers.values()),
        search=study.search,
        base=to_mapping(study.config),
        seeds=study.seeds,
        budget=study.budget,
        reserve=tuple(reserve),
        repeats=study.repeats,
    )


def begun_afresh(plan: Plan, generation: int, since: float) -> Plan:
    """The plan of a study that was begun afresh: its trials have ids of their own, so that older ones are kept.

    Args:
        plan: as compiled.
        generation: how often the study was begun afresh; 0: never.
        since: when it was last begun afresh, seconds since 1970.
    """
    if not generation:
        return plan

    def renamed(specs: tuple[TrialSpec, ...]) -> tuple[TrialSpec, ...]:
        return tuple(of_generation(spec, generation) for spec in specs)

    trials, reserve = renamed(plan.trials), renamed(plan.reserve)
    return replace(plan, trials=trials, reserve=reserve, generation=generation, fresh_since=since)


def _trainings(study: Study) -> Iterator[tuple[str, int, TrainingConfig, dict[str, Any]]]:
    for seed in study.seeds:
        for arm in study.arms:
            yield arm.name, seed, replace(arm.config, seed=seed), arm.overrides


def search_trial(plan: Plan, number: int, overrides: Mapping[str, Any]) -> tuple[TrialSpec, TrialSpec | None]:
    """The training of one proposal of the search, and the teacher it needs (None: none, or a given file).

    Args:
        plan: the study's plan.
        number: Optuna's trial number.
        overrides: what the sampler proposed, by dotted path.

    Raises:
        ConfigError: the proposal breaks a rule between options.
        DataError: its data cannot be read.
    """
    assert plan.search is not None
    seed = plan.search.training_seed
    config = resolve(plan.base, overrides, {"seed": seed})
    spec, teacher = _Identifier(plan.metric).student(config, keys.SEARCH_ARM, seed, dict(overrides))
    trial_id = f"{keys.SEARCH_ARM}-{number:04d}-{spec.fingerprint[:SHORT]}"
    return of_generation(replace(spec, trial_id=trial_id, number=number), plan.generation), teacher


def refit_trial(plan: Plan, arm: str, seed: int, overrides: Mapping[str, Any]) -> tuple[TrialSpec, TrialSpec | None]:
    """The training of a configuration that the search found, on a fresh seed, and the teacher it needs.

    Args:
        plan: the study's plan.
        arm: one of `orchestrator.design.refit_arms`.
        seed: of the training.
        overrides: what the sampler proposed, by dotted path.

    Raises:
        DataError: its data cannot be read.
    """
    config = resolve(plan.base, overrides, {"seed": seed})
    spec, teacher = _Identifier(plan.metric).student(config, arm, seed, dict(overrides))
    return of_generation(spec, plan.generation), teacher


def _search_teachers(study: Study, search: SearchSpec, identify: _Identifier) -> Iterator[TrialSpec]:
    """The teacher that every proposal of a search shares; nothing where the space changes the teacher."""
    base = to_mapping(study.config)
    changes: list[dict[str, Any]] = [
        {**conditions(path, search.space), path: value}
        for path, declaration in search.space.items()
        for value in extremes(declaration)
    ]
    found: dict[str, TrialSpec] = {}
    for change in [{}, *changes]:
        config = resolve(base, change, {"seed": search.training_seed})
        with _located(study, config):
            teacher = identify.student(config, keys.SEARCH_ARM, search.training_seed, change)[1]
        if teacher is not None:
            found[teacher.fingerprint] = teacher
    if len(found) == 1:
        yield from found.values()


@dataclass(frozen=True)
class _Identifier:
    """Makes the records of trainings: fingerprints, protocols, ids. Data are digested once."""

    metric: Metric

    def student(
        self, config: TrainingConfig, arm: str, seed: int, overrides: dict[str, Any]
    ) -> tuple[TrialSpec, TrialSpec | None]:
        """The record of a student's training, and of the training of its teacher where there is one."""
        teacher = self._teacher(config) if config.trains_teacher else None
        identity = teacher.fingerprint if teacher else ""
        if config.needs_teacher and config.teacher.checkpoint:
            identity = weights_digest(Path(config.teacher.checkpoint))
        spec = self._spec(config, identity, kind="student", arm=arm, name=f"{slug(arm)}-seed{seed}")
        return replace(spec, overrides=overrides, teacher=teacher.fingerprint if teacher else ""), teacher

    def _teacher(self, config: TrainingConfig) -> TrialSpec:
        own = config.for_teacher()
        name = f"{TEACHER}-{own.student.backbone}-{own.student.input_size}"
        return self._spec(own, "", kind=TEACHER, arm=TEACHER, name=name)

    def _spec(self, config: TrainingConfig, teacher: str, *, kind: str, arm: str, name: str) -> TrialSpec:
        digest = _data_digest(config)
        identity = fingerprint(config, data_digest=digest, teacher=teacher)
        return TrialSpec(
            trial_id=f"{name}-{identity[:SHORT]}",
            kind=kind,
            arm=arm,
            seed=config.seed,
            config=to_mapping(config),
            overrides={},
            fingerprint=identity,
            teacher="",
            protocol=protocol(config, self.metric, digest),
        )


_DIGESTS: dict[str, str] = {}


def _data_digest(config: TrainingConfig) -> str:
    """The digest of a configuration's data, made once a process for each data configuration."""
    key = json.dumps(asdict(config.data), sort_keys=True)
    if key not in _DIGESTS:
        _DIGESTS[key] = content_digest(config.data)
    return _DIGESTS[key]


@contextmanager
def _located(study: Study, config: TrainingConfig) -> Iterator[None]:
    """Turn data and weights files that cannot be read into a problem at the line that names them."""
    try:
        yield
    except DataError as error:
        key = "data.root" if config.data.root else "data.kind"
        raise UserError.of([Problem(study.layers.place(key), key, str(error))]) from None
    except OSError as error:
        key = _file_field(config, str(error.filename))
        reason = f"weights file cannot be read: {error.filename}: {error.strerror}"
        raise UserError.of([Problem(_file_place(study, key), key, reason)]) from None


def _file_field(config: TrainingConfig, file: str) -> str:
    """The option that names a weights file."""
    plain = flatten_keys(to_mapping(config))
    return next((path for path in FILE_FIELDS if plain[path] == file), "teacher.checkpoint")


def _file_place(study: Study, key: str) -> Place:
    """The line of the option; for one that only an arm sets, the arm's."""
    arms = [arm.place for arm in study.arms if key in arm.overrides]
    return arms[0] if arms and not study.layers.sets(key) else study.layers.place(key)
