"""The sampler: Optuna by ask and tell, its study a projection of the ledger.

Optuna's study lies in a SQLite file (a torn journal file cannot be written again, a SQLite file repairs
itself). It holds nothing that the ledger does not: `synchronise` compares the two and builds the study anew
where they differ, so that a driver killed between the two writes leaves no trial running for ever.

A proposal is a function of the search's seed, its own number and the results so far: the sampler is made
afresh for every proposal, with a seed derived from both. So asking again after a crash proposes the same.

A proposal that breaks a rule between options (`search.constraints`) is told to Optuna as failed, with the rule as
its attribute `constraint`, and the sampler is asked again under the next number; the proposal that is kept carries
those before it into the ledger. After SAMPLED of them in a row the options are drawn at random, after TRIES the
search ends.

A proposal that was trained with a configuration of the study as it was before an edit keeps its number and is told as
failed too, with the attribute `superseded` and without parameters or anything that a sampler left on it: to the sampler
it was never proposed.
"""

from __future__ import annotations

import hashlib
import logging
import math
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cdkd.options import nearest
from orchestrator import keys
from orchestrator.constraints import broken
from orchestrator.errors import UserError
from orchestrator.objectives import objectives
from orchestrator.plan import Metric, SearchSpec
from orchestrator.search_options import PRUNERS, SAMPLERS, Algorithm, canonical
from orchestrator.space import encode, grid, suggest, values_of

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

TRIAL_ID = "trial_id"
_DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = {"max": "maximize", "min": "minimize"}
CONSTRAINT = "constraint"
EXCESS = "excess"
REJECTED = "rejected"
ANOTHER = "another configuration"
TRIES = 100
SAMPLED = 50
QMC, PARENTS = "qmc:", ":parent:"
"""Names of what Optuna's samplers keep on a study begin with the one or hold the other."""
SERIES = ("grid", "qmc")
"""Samplers that go through one series of points, whatever the number of the proposal."""
EXHAUSTIVE = ("grid", "brute_force")


@dataclass(frozen=True)
class Proposal:
    """What Optuna proposed, with all that is needed to build the same Optuna trial again.

    Attributes:
        number: Optuna's trial number.
        overrides: of the training configuration, by dotted path.
        params: Optuna's parameters by name.
        distributions: Optuna's distributions by name, as JSON texts.
        attributes: the system attributes that the sampler left on the trial.
        study_attributes: what a sampler keeps on the study: a quasi-random series' counters, a genetic sampler's
            parents (as trial numbers).
        broken: the constraint it breaks, as text; empty for a proposal to be trained.
        rejected: the proposals before it that broke one.
    """

    number: int
    overrides: dict[str, Any]
    params: dict[str, Any]
    distributions: dict[str, str]
    attributes: dict[str, Any]
    study_attributes: dict[str, Any]
    broken: str = ""
    rejected: tuple[Proposal, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """What became of a proposal.

    Attributes:
        number: Optuna's trial number.
        trial_id: ours; empty for a proposal that broke a constraint.
        state: one of orchestrator.keys (`running` while it is open), REJECTED or keys.SUPERSEDED.
        values: of the objectives in their order; empty where they were not all reported.
        excess: by how much each limit is exceeded, in the order of the limits; 0 or less where it is kept.
    """

    number: int
    trial_id: str
    state: str
    values: tuple[float, ...] = ()
    excess: tuple[float, ...] = ()


def proposal_of(mapping: Mapping[str, Any]) -> Proposal:
    """The Proposal that a ledger's mapping holds."""
    rejected = tuple(proposal_of(each) for each in mapping.get("rejected", ()))
    return Proposal(**{**mapping, "rejected": rejected})


def unknown(proposal: Proposal) -> Proposal:
    """A superseded proposal as the sampler is to know of it: by its number alone."""
    return Proposal(proposal.number, {}, params={}, distributions={}, attributes={}, study_attributes={})


class NoProposal(Exception):
    """The sampler found no configuration that keeps the constraints."""


class Sampler:
    """One search."""

    def __init__(self, search: SearchSpec, metric: Metric, file: Path, study: str, epochs: int) -> None:
        """Open or create the study's file.

        Args:
            search: sampler, pruner, budget and space.
            metric: what is maximised or minimised where the search names no objectives.
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
        self._directions = [_DIRECTIONS[each.mode] for each in objectives(search, metric)]
        self._pruner = make_pruner(search, epochs)
        self._budget = budget_of(search)
        make_sampler(search, 0)
        self._study = self._open()
        self._trials: dict[int, optuna.Trial] = {}
        self._count()

    def remaining(self) -> int:
        """How many more proposals the budget allows; one that broke a constraint costs nothing."""
        return max(0, self._budget - self._kept)

    def ask(self) -> Proposal:
        """A new proposal that keeps the constraints.

        Raises:
            NoProposal: none was found.
        """
        rejected: list[Proposal] = []
        for attempt in range(_tries(self._search)):
            proposal = self._ask(is_random=attempt >= SAMPLED and self._search.sampler not in EXHAUSTIVE)
            fault = broken(self._search.constraints, proposal.overrides)
            if not fault:
                self._kept += 1
                return replace(proposal, rejected=tuple(rejected))
            rejected.append(self._reject(replace(proposal, broken=fault)))
        raise NoProposal(f"{len(rejected)} proposals in a row break a constraint, the last {rejected[-1].broken}")

    def _ask(self, *, is_random: bool) -> Proposal:
        from optuna.distributions import distribution_to_json

        number = self._asked
        if self._kept < len(self._search.enqueue):
            self._study.enqueue_trial(encode(self._search.enqueue[self._kept]))
        search = replace(self._search, sampler="random", sampler_options={}) if is_random else self._search
        self._study.sampler = make_sampler(search, number)
        with _quiet():
            trial = self._study.ask()
            overrides = self._suggest(trial)
        self._trials[number] = trial
        self._asked += 1
        self._study.sampler = _neutral(self._search)
        frozen = self._study._storage.get_trial(trial._trial_id)
        return Proposal(
            number=number,
            overrides=overrides,
            params=dict(frozen.params),
            distributions={name: distribution_to_json(item) for name, item in frozen.distributions.items()},
            attributes=dict(frozen.system_attrs),
            study_attributes=self._study_attributes(),
        )

    def _reject(self, proposal: Proposal) -> Proposal:
        self._trial(proposal.number).set_user_attr(CONSTRAINT, proposal.broken)
        self.tell(Evaluation(proposal.number, "", REJECTED))
        return proposal

    def _count(self) -> None:
        """How many proposals there are, and how many of them count. Nobody else writes the file."""
        trials = self._study.get_trials(deepcopy=False)
        self._asked = len(trials)
        self._kept = sum(not {CONSTRAINT, keys.SUPERSEDED} & trial.user_attrs.keys() for trial in trials)

    def _suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """The trial's overrides.

        Raises:
            UserError: the study was edited so that Optuna cannot go on with what it has seen.
        """
        try:
            return suggest(trial, self._search.space)
        except ValueError as error:
            if "dynamic value space" not in str(error):
                raise
            reason = "the choices of an option were changed since this search began; --fresh begins it anew"
            raise UserError(f"{self._name}: search.space: {reason}") from None

    def mark(self, number: int, trial_id: str) -> None:
        """Write the trial's id on the Optuna trial, for dashboards and for `synchronise`."""
        self._trial(number).set_user_attr(TRIAL_ID, trial_id)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """An epoch's value; True when the pruner wants the trial stopped.

        A value that is not finite is left out, and so is every one of a search with several objectives: Optuna
        takes none there.
        """
        if not math.isfinite(value) or len(self._directions) > 1:
            return False
        trial = self._trial(number)
        trial.report(value, step=epoch)
        return bool(trial.should_prune())

    def tell(self, evaluation: Evaluation) -> None:
        """What became of a proposal: COMPLETE with its values, PRUNED at its last step, or FAIL."""
        from optuna.trial import TrialState

        state = _optuna_state(evaluation)
        if evaluation.excess:
            self._trial(evaluation.number).set_user_attr(EXCESS, list(evaluation.excess))
        values = list(evaluation.values) if state == TrialState.COMPLETE else None
        self._study.tell(evaluation.number, values, state=None if state == TrialState.COMPLETE else state)

    def synchronise(
        self, evaluations: Sequence[tuple[Proposal, Evaluation]], reports: Sequence[tuple[int, int, float]]
    ) -> None:
        """Make the study say what the ledger says; nothing is written when it does already.

        Args:
            evaluations: every proposal of the ledger in the order of numbers, and what became of it.
            reports: (number, epoch, value) in the order in which they came.
        """
        finite = [report for report in reports if math.isfinite(report[2]) and len(self._directions) == 1]
        if not self._agrees(evaluations, finite):
            self._rebuild(evaluations, finite)
            self._count()

    def _agrees(
        self, evaluations: Sequence[tuple[Proposal, Evaluation]], reports: Sequence[tuple[int, int, float]]
    ) -> bool:
        trials = self._study.get_trials(deepcopy=False)
        directions = [direction.name.lower() for direction in self._study.directions]
        if len(trials) != len(evaluations) or directions != self._directions:
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
                self._study.add_trial(_running_trial(proposal, evaluation))
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
            directions=self._directions,
            load_if_exists=True,
            sampler=_neutral(self._search),
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
        series = {name: value for name, value in stored.items() if name.startswith(QMC)}
        parents = {name: value for name, value in stored.items() if PARENTS in name}
        if not parents:
            return series
        numbers = {trial._trial_id: trial.number for trial in self._study.get_trials(deepcopy=False)}
        newest = max(parents, key=lambda name: int(name.rpartition(":")[2]))
        return series | {newest: [numbers[trial] for trial in parents[newest]]}

    def _restore_study_attributes(self, proposal: Proposal) -> None:
        trials = self._study.get_trials(deepcopy=False) if proposal.study_attributes else []
        for name, value in proposal.study_attributes.items():
            own = [trials[number]._trial_id for number in value] if PARENTS in name else value
            self._study._storage.set_study_system_attr(self._study._study_id, name, own)


# ----------------------------------------------------------------------------- samplers and pruners by name


def make_sampler(search: SearchSpec, number: int) -> optuna.samplers.BaseSampler:
    """The sampler that proposes trial `number`.

    Raises:
        UserError: no such sampler, or an option of it is wrong.
    """
    import optuna

    kind = _kind(optuna.samplers, SAMPLERS, search.sampler, "search.sampler")
    options = dict(search.sampler_options)
    is_series = canonical(search.sampler) in SERIES
    if kind is optuna.samplers.GridSampler:
        options["search_space"] = grid(search.space)
    if kind is optuna.samplers.QMCSampler:
        options["independent_sampler"] = optuna.samplers.RandomSampler(seed=proposal_seed(search.seed, number))
    options["seed"] = search.seed if is_series else proposal_seed(search.seed, number)
    if search.limits and SAMPLERS[canonical(search.sampler)].limits:
        options["constraints_func"] = _excess
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


def _neutral(search: SearchSpec) -> optuna.samplers.BaseSampler:
    """A sampler without a say at `tell`: Optuna's grid sampler stops the study there, which only `optimize` may.

    With limits it is one that notes there, as every sampler that takes them does, how far a trial exceeds them.
    """
    import optuna

    if not search.limits:
        return optuna.samplers.RandomSampler(seed=0)
    with _quiet():
        return optuna.samplers.NSGAIISampler(seed=0, constraints_func=_excess)


def _excess(trial: optuna.trial.FrozenTrial) -> tuple[float, ...]:
    """Optuna's `constraints_func`."""
    return tuple(trial.user_attrs.get(EXCESS, ()))


def proposal_seed(seed: int, number: int) -> int:
    """The seed of one proposal, far from those of its neighbours: the first four bytes of a SHA-256 digest.

    A loop over Optuna alone that makes its sampler anew with this seed before every `ask` proposes the same.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")


def budget_of(search: SearchSpec) -> int:
    """How many trials a search proposes: a grid no more than it has cells."""
    if canonical(search.sampler) != "grid":
        return search.trials
    kept = islice(_cells(search), search.trials)
    return min(search.trials, sum(1 for _ in kept) + len(search.enqueue))


def _cells(search: SearchSpec) -> Iterator[dict[str, Any]]:
    """The cells of a grid that keep the constraints."""
    values = {path: values_of(declaration) for path, declaration in search.space.items()}
    cells = (dict(zip(values, cell, strict=True)) for cell in product(*values.values()))
    return (cell for cell in cells if not broken(search.constraints, cell))


def _tries(search: SearchSpec) -> int:
    """How often the sampler is asked for one proposal; a sampler that misses no point, until it has seen all."""
    if not search.constraints or canonical(search.sampler) not in EXHAUSTIVE:
        return TRIES
    return math.prod(len(values) for values in grid(search.space).values())


# ------------------------------------------------------------------------------------------ optuna's trials


def _optuna_state(evaluation: Evaluation) -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    if evaluation.state == keys.RUNNING:
        return TrialState.RUNNING
    if evaluation.state == keys.FINISHED and evaluation.values and all(map(math.isfinite, evaluation.values)):
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
        and trial.user_attrs.get(TRIAL_ID, "") == evaluation.trial_id
        and trial.user_attrs.get(CONSTRAINT, "") == proposal.broken
        and (keys.SUPERSEDED in trial.user_attrs) == (evaluation.state == keys.SUPERSEDED)
        and tuple(trial.user_attrs.get(EXCESS, ())) == evaluation.excess
        and trial.intermediate_values == steps
        and (not is_complete or tuple(trial.values) == evaluation.values)
    )


def _running_trial(proposal: Proposal, evaluation: Evaluation) -> optuna.trial.FrozenTrial:
    import optuna
    from optuna.distributions import json_to_distribution

    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params=proposal.params,
        distributions={name: json_to_distribution(text) for name, text in proposal.distributions.items()},
        user_attrs=_marks(proposal, evaluation),
        system_attrs=proposal.attributes,
    )


def _marks(proposal: Proposal, evaluation: Evaluation) -> dict[str, str]:
    if proposal.broken:
        return {CONSTRAINT: proposal.broken}
    superseded = {keys.SUPERSEDED: ANOTHER} if evaluation.state == keys.SUPERSEDED else {}
    return {TRIAL_ID: evaluation.trial_id, **superseded}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's remarks that a class is experimental or a parameter is sampled independently."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
