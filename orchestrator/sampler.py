"""The sampler: Optuna by ask and tell, its study a projection of the ledger.

Optuna's study lies in a SQLite file (a torn journal file cannot be written again, a SQLite file repairs
itself). It holds nothing that the ledger does not: `synchronise` compares the two and builds the study anew
where they differ, so that a driver killed between the two writes leaves no trial running for ever.

A proposal is a function of the search's seed, its own number and the results so far: the sampler is made
afresh for every proposal, with a seed derived from both. So asking again after a crash proposes the same.
"""

from __future__ import annotations

import hashlib
import logging
import math
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cdkd.config import nearest
from orchestrator import keys
from orchestrator.errors import UserError
from orchestrator.plan import Metric, SearchSpec
from orchestrator.search_options import PRUNERS, SAMPLERS, Algorithm, canonical
from orchestrator.space import encode, grid, suggest

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

TRIAL_ID = "trial_id"


@dataclass(frozen=True)
class Proposal:
    """What Optuna proposed, with all that is needed to build the same Optuna trial again.

    Attributes:
        number: Optuna's trial number.
        overrides: of the training configuration, by dotted path.
        params: Optuna's parameters by name.
        distributions: Optuna's distributions by name, as JSON texts.
        attributes: the system attributes that the sampler left on the trial.
        study_attributes: the counters that a quasi-random sampler keeps on the study.
    """

    number: int
    overrides: dict[str, Any]
    params: dict[str, Any]
    distributions: dict[str, str]
    attributes: dict[str, Any]
    study_attributes: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """What became of a proposal: a state of orchestrator.keys (`running` while it is open) and its value."""

    number: int
    trial_id: str
    state: str
    value: float | None = None


class Sampler:
    """One search."""

    def __init__(self, search: SearchSpec, metric: Metric, file: Path, study: str, epochs: int) -> None:
        """Open or create the study's file.

        Args:
            search: sampler, pruner, budget and space.
            metric: what is maximised or minimised.
            file: of the SQLite storage.
            study: name of the Optuna study.
            epochs: length of a full training, the pruner's greatest resource.

        Raises:
            UserError: no such sampler or pruner, or one of its options is wrong.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._search = search
        self._name = study
        self._file = file
        self._direction: Literal["maximize", "minimize"] = "maximize" if metric.mode == "max" else "minimize"
        self._pruner = make_pruner(search, epochs)
        self._budget = _budget(search)
        make_sampler(search, 0)
        self._study = self._open()
        self._trials: dict[int, optuna.Trial] = {}

    def remaining(self) -> int:
        """How many more proposals the budget allows."""
        return max(0, self._budget - len(self._study.get_trials(deepcopy=False)))

    def ask(self) -> Proposal:
        """A new proposal."""
        from optuna.distributions import distribution_to_json

        number = len(self._study.get_trials(deepcopy=False))
        if number < len(self._search.enqueue):
            self._study.enqueue_trial(encode(self._search.enqueue[number]))
        self._study.sampler = make_sampler(self._search, number)
        with _quiet():
            trial = self._study.ask()
            overrides = suggest(trial, self._search.space)
        self._trials[number] = trial
        self._study.sampler = _neutral()
        frozen = self._study.get_trials(deepcopy=False)[number]
        return Proposal(
            number=number,
            overrides=overrides,
            params=dict(frozen.params),
            distributions={name: distribution_to_json(item) for name, item in frozen.distributions.items()},
            attributes=dict(frozen.system_attrs),
            study_attributes=self._study_attributes(),
        )

    def mark(self, number: int, trial_id: str) -> None:
        """Write the trial's id on the Optuna trial, for dashboards and for `synchronise`."""
        self._trial(number).set_user_attr(TRIAL_ID, trial_id)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """An epoch's value; True when the pruner wants the trial stopped. A value that is not finite is left out."""
        if not math.isfinite(value):
            return False
        trial = self._trial(number)
        trial.report(value, step=epoch)
        return bool(trial.should_prune())

    def tell(self, evaluation: Evaluation) -> None:
        """What became of a proposal: COMPLETE with its value, PRUNED at its last step, or FAIL."""
        from optuna.trial import TrialState

        state = _optuna_state(evaluation)
        values = evaluation.value if state == TrialState.COMPLETE else None
        self._study.tell(evaluation.number, values, state=None if state == TrialState.COMPLETE else state)

    def synchronise(
        self, evaluations: Sequence[tuple[Proposal, Evaluation]], reports: Sequence[tuple[int, int, float]]
    ) -> None:
        """Make the study say what the ledger says; nothing is written when it does already.

        Args:
            evaluations: every proposal of the ledger in the order of numbers, and what became of it.
            reports: (number, epoch, value) in the order in which they came.
        """
        finite = [report for report in reports if math.isfinite(report[2])]
        if not self._agrees(evaluations, finite):
            self._rebuild(evaluations, finite)

    def _agrees(
        self, evaluations: Sequence[tuple[Proposal, Evaluation]], reports: Sequence[tuple[int, int, float]]
    ) -> bool:
        trials = self._study.get_trials(deepcopy=False)
        if len(trials) != len(evaluations) or self._study.direction.name.lower() != self._direction:
            return False
        steps: dict[int, dict[int, float]] = {}
        for number, epoch, value in reports:
            steps.setdefault(number, {})[epoch] = value
        pairs = zip(trials, evaluations, strict=True)
        return all(_is_same(trial, *known, steps.get(trial.number, {})) for trial, known in pairs)

    def _rebuild(
        self, evaluations: Sequence[tuple[Proposal, Evaluation]], reports: Sequence[tuple[int, int, float]]
    ) -> None:
        """Replay the ledger into an empty study. Reports pass the pruner again, which notes its rungs by them."""
        import optuna

        optuna.delete_study(study_name=self._name, storage=self._study._storage)
        self._study = self._open()
        self._trials = {}
        with _quiet():
            for proposal, evaluation in evaluations:
                self._study.add_trial(_running_trial(proposal, evaluation.trial_id))
                self._restore_study_attributes(proposal)
        for number, epoch, value in reports:
            self.report(number, epoch, value)
        for _, evaluation in evaluations:
            if evaluation.state != keys.RUNNING:
                self.tell(evaluation)

    def _open(self) -> optuna.Study:
        try:
            return self._create()
        except Exception as error:  # whatever is wrong with the file: all it held is in the ledger
            if not self._file.exists():
                raise
            broken = self._file.with_suffix(".broken")
            logger.warning("%s: not readable (%s), set aside and built anew", self._file, type(error).__name__)
            self._file.replace(broken)
            return self._create()

    def _create(self) -> optuna.Study:
        import optuna

        self._file.parent.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.RDBStorage(f"sqlite:///{self._file}", engine_kwargs={"creator": self._connect})
        return optuna.create_study(
            study_name=self._name,
            storage=storage,
            direction=self._direction,
            load_if_exists=True,
            sampler=_neutral(),
            pruner=self._pruner,
        )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=60, check_same_thread=False)
        # A power cut may tear this file; it is then built anew, so that no proposal need wait for the disk.
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    def _trial(self, number: int) -> optuna.Trial:
        """The live trial; one that began under another driver is picked up from the storage."""
        import optuna

        if number not in self._trials:
            stored = self._study.get_trials(deepcopy=False)[number]
            self._trials[number] = optuna.Trial(self._study, stored._trial_id)
        return self._trials[number]

    def _study_attributes(self) -> dict[str, Any]:
        stored = self._study._storage.get_study_system_attrs(self._study._study_id)
        return {name: value for name, value in stored.items() if name.startswith("qmc:")}

    def _restore_study_attributes(self, proposal: Proposal) -> None:
        for name, value in proposal.study_attributes.items():
            self._study._storage.set_study_system_attr(self._study._study_id, name, value)


# ----------------------------------------------------------------------------- samplers and pruners by name


def make_sampler(search: SearchSpec, number: int) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial `number`.

    Raises:
        UserError: no such sampler, or an option of it is wrong.
    """
    import optuna

    kind = _kind(optuna.samplers, SAMPLERS, search.sampler, "search.sampler")
    options = dict(search.sampler_options)
    is_series = kind in (optuna.samplers.QMCSampler, optuna.samplers.GridSampler)
    if kind is optuna.samplers.GridSampler:
        options["search_space"] = grid(search.space)
    if kind is optuna.samplers.QMCSampler:
        options["independent_sampler"] = optuna.samplers.RandomSampler(seed=_seed(search.seed, number))
    options["seed"] = search.seed if is_series else _seed(search.seed, number)
    sampler: optuna.samplers.BaseSampler = _construct(kind, options, "search.sampler_options")
    return sampler


def make_pruner(search: SearchSpec, epochs: int) -> optuna.pruners.BasePruner:
    """The pruner of a search; Hyperband's greatest resource is the length of a full training.

    Raises:
        UserError: no such pruner, or an option of it is wrong.
    """
    import optuna

    kind = _kind(optuna.pruners, PRUNERS, search.pruner, "search.pruner")
    options = dict(search.pruner_options)
    if kind is optuna.pruners.HyperbandPruner:
        options.setdefault("max_resource", epochs)
    pruner: optuna.pruners.BasePruner = _construct(kind, options, "search.pruner_options")
    return pruner


def _kind(module: Any, table: Mapping[str, Algorithm], name: str, key: str) -> Any:
    if canonical(name) not in table:
        raise UserError(f"{key}: must be one of {', '.join(table)}, got {name!r}{nearest(name, list(table))}")
    return getattr(module, table[canonical(name)].class_name)


def _construct(kind: Any, options: dict[str, Any], key: str) -> Any:
    try:
        with _quiet():
            return kind(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {kind.__name__}: {error}") from None


def _neutral() -> optuna.samplers.BaseSampler:
    """A sampler without a say at `tell`: Optuna's grid sampler stops the study there, which only `optimize` may."""
    import optuna

    return optuna.samplers.RandomSampler(seed=0)


def _seed(seed: int, number: int) -> int:
    """The seed of one proposal, far from those of its neighbours."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")


def _budget(search: SearchSpec) -> int:
    if canonical(search.sampler) != "grid":
        return search.trials
    cells = math.prod(len(values) for values in grid(search.space).values())
    return min(search.trials, cells + len(search.enqueue))


# ------------------------------------------------------------------------------------------ optuna's trials


def _optuna_state(evaluation: Evaluation) -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    if evaluation.state == keys.RUNNING:
        return TrialState.RUNNING
    if evaluation.state == keys.FINISHED and evaluation.value is not None and math.isfinite(evaluation.value):
        return TrialState.COMPLETE
    return TrialState.PRUNED if evaluation.state == keys.PRUNED else TrialState.FAIL


def _is_same(
    trial: optuna.trial.FrozenTrial, proposal: Proposal, evaluation: Evaluation, steps: Mapping[int, float]
) -> bool:
    from optuna.trial import TrialState

    is_complete = trial.state == TrialState.COMPLETE
    return (
        trial.number == proposal.number
        and trial.state == _optuna_state(evaluation)
        and trial.params == proposal.params
        and trial.user_attrs.get(TRIAL_ID) == evaluation.trial_id
        and trial.intermediate_values == steps
        and (not is_complete or trial.value == evaluation.value)
    )


def _running_trial(proposal: Proposal, trial_id: str) -> optuna.trial.FrozenTrial:
    import optuna
    from optuna.distributions import json_to_distribution

    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=proposal.params,
        distributions={name: json_to_distribution(text) for name, text in proposal.distributions.items()},
        user_attrs={TRIAL_ID: trial_id},
        system_attrs=proposal.attributes,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's remarks that a class is experimental or a parameter is sampled independently."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
