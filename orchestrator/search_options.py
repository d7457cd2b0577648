"""Optuna's samplers and pruners by name, with the options a study may give them.

Written down rather than read from Optuna, so that a study is checked without importing it; a test holds
these tables equal to the installed Optuna's signatures.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cdkd.config import TrainingConfig, schedulable_paths
from cdkd.identity import semantic_mapping
from cdkd.options import describe, nearest
from orchestrator.errors import Place, Problem
from orchestrator.plan import PopulationSpec, SearchSpec
from orchestrator.sections import SearchSection
from orchestrator.space import Space, is_finite
from orchestrator.yaml_reader import Node


@dataclass(frozen=True)
class Algorithm:
    """One class of `optuna.samplers` or `optuna.pruners`."""

    class_name: str
    options: Mapping[str, type]
    needs: tuple[str, ...] = ()  # modules that Optuna imports for it
    several: bool = True  # takes several objectives
    limits: bool = False  # takes limits on reported values
    prunes: bool = False  # knows what a trial that was stopped early tells, or looks at no results


_GENETIC = {"population_size": int, "mutation_prob": float, "crossover_prob": float, "swapping_prob": float}

SAMPLERS: Mapping[str, Algorithm] = {
    "tpe": Algorithm(
        "TPESampler",
        {
            "n_startup_trials": int,
            "n_ei_candidates": int,
            "multivariate": bool,
            "group": bool,
            "constant_liar": bool,
            "prior_weight": float,
            "consider_magic_clip": bool,
            "consider_endpoints": bool,
        },
        limits=True,
        prunes=True,
    ),
    "random": Algorithm("RandomSampler", {}, prunes=True),
    "grid": Algorithm("GridSampler", {}),
    "brute_force": Algorithm("BruteForceSampler", {"avoid_premature_stop": bool}),
    "qmc": Algorithm("QMCSampler", {"qmc_type": str, "scramble": bool}, ("scipy",), prunes=True),
    "gp": Algorithm(
        "GPSampler", {"n_startup_trials": int, "deterministic_objective": bool}, ("scipy", "torch"), limits=True
    ),
    "cmaes": Algorithm(
        "CmaEsSampler",
        {
            "sigma0": float,
            "n_startup_trials": int,
            "popsize": int,
            "use_separable_cma": bool,
            "with_margin": bool,
            "consider_pruned_trials": bool,
        },
        ("cmaes",),
        several=False,
    ),
    "nsga2": Algorithm("NSGAIISampler", _GENETIC, limits=True),
    "nsga3": Algorithm("NSGAIIISampler", {**_GENETIC, "dividing_parameter": int}, limits=True),
}

_HALVING = {"min_resource": int, "reduction_factor": int, "bootstrap_count": int}
_WARM = {"n_startup_trials": int, "n_warmup_steps": int, "interval_steps": int, "n_min_trials": int}

PRUNERS: Mapping[str, Algorithm] = {
    "none": Algorithm("NopPruner", {}),
    "median": Algorithm("MedianPruner", _WARM),
    "percentile": Algorithm("PercentilePruner", {"percentile": float, **_WARM}),
    "asha": Algorithm("SuccessiveHalvingPruner", {**_HALVING, "min_early_stopping_rate": int}),
    "hyperband": Algorithm("HyperbandPruner", {**_HALVING, "max_resource": int}),
    "threshold": Algorithm(
        "ThresholdPruner", {"lower": float, "upper": float, "n_warmup_steps": int, "interval_steps": int}
    ),
}

SPELLINGS = {
    "nop": "none",
    "successive_halving": "asha",
    "nsgaii": "nsga2",
    "nsgaiii": "nsga3",
    "cma_es": "cmaes",
    "bruteforce": "brute_force",
}
REQUIRED = {"percentile": "percentile"}  # options without a default in Optuna
POPULATION_BASED = ("pbt", "pb2")
POPULATION_HINT = "trains a population: give the search a section `pbt` such as pbt: {interval: 5} instead"
PBT = "pbt"  # stands for the sampler of a search by a population
NOT_OF_A_POPULATION = ("sampler", "sampler_options", "pruner", "pruner_options")
FIRST_RUNG = 0.1
"""Part of a full training before which no pruner compares trials, unless a study says otherwise. The first epochs
rank trainings badly: on LCBench halving from the first of 52 epochs on ends worse than random search."""
ETA = 3
"""One in this many trials goes on from a rung to the next, which is this many times as far."""
FULL_TRIALS = 20
"""So many trials of full length tell whether early epochs rank trials as the last one does."""
TRUSTED_RANK = 0.5
"""Below this rank correlation of the first rung with the result a pruner is not to be trusted there: of 20 trials with
normal values, compared all at once, a rung that lets a third through then stops the best one in more than a quarter
of searches (65 % where early epochs say nothing). Of 20 pairs, 0.45 is also what chance exceeds in 5 %."""
AUTO = "auto"
FEWEST_EPOCHS = 10
"""Of shorter trainings `auto` stops none: a tenth of one is less than an epoch, no rung worth the name."""


def canonical(name: str) -> str:
    """One spelling of an algorithm's name: `TPESampler`, `tpe` and `TPE` are `tpe`."""
    for table in (SAMPLERS, PRUNERS):
        for known, algorithm in table.items():
            if name.lower() == algorithm.class_name.lower():
                return known
    return SPELLINGS.get(name.lower(), name.lower())


def check_algorithm(kind: str, name: str, node: Node, problems: list[Problem]) -> Algorithm | None:
    """The sampler or pruner of that name; None, with a problem, where there is none or it cannot be imported."""
    table = SAMPLERS if kind == "sampler" else PRUNERS
    key = f"search.{kind}"
    if canonical(name) not in table:
        hint = POPULATION_HINT if canonical(name) in POPULATION_BASED else ""
        known = [*((AUTO,) if kind == "pruner" else ()), *table]
        reason = hint or f"must be one of {', '.join(known)}, got {name!r}{nearest(name, known)}"
        problems.append(Problem(node.place_of([kind]), key, f"{name!r} {reason}" if hint else reason))
        return None
    algorithm = table[canonical(name)]
    for module in algorithm.needs:
        if importlib.util.find_spec(module) is None:
            problems.append(
                Problem(node.place_of([kind]), key, f"{name!r} needs the package {module!r}, which is not installed")
            )
    return algorithm


def read_options(kind: str, name: str, node: Node, problems: list[Problem]) -> dict[str, Any]:
    """The options of the search's sampler or pruner, checked; `node` is the section `search`."""
    algorithm = check_algorithm(kind, name, node, problems)
    key = f"{kind}_options"
    given = node.value.get(key)
    if algorithm is None:
        return {}
    if given is not None and not isinstance(given.value, dict):
        problems.append(
            Problem(given.place, f"search.{key}", f"must be a section of keys, got {describe(given.plain())}")
        )
        return {}
    children: dict[str, Node] = given.value if given is not None else {}
    required = REQUIRED.get(canonical(name))
    if kind == "pruner" and required and required not in children:
        problems.append(
            Problem(node.place_of([kind]), f"search.{key}.{required}", f"is missing ({name} has no default for it)")
        )
    for option, child in children.items():
        problems.extend(_option_problem(algorithm, f"search.{key}", option, child))
    return {option: child.plain() for option, child in children.items()}


def _option_problem(algorithm: Algorithm, key: str, option: str, node: Node) -> list[Problem]:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    wanted = algorithm.options.get(option)
    if wanted is None:
        known = list(algorithm.options)
        options = f"; it has {', '.join(known)}" if known else ""
        return [
            Problem(
                node.place,
                f"{key}.{option}",
                f"is no option of {algorithm.class_name}{nearest(option, known) or options}",
            )
        ]
    value = node.plain()
    fits = isinstance(value, (int, float) if wanted is float else wanted) and (
        wanted is bool or not isinstance(value, bool)
    )
    return [] if fits else [Problem(node.place, f"{key}.{option}", f"must be {names[wanted]}, got {describe(value)}")]


def with_sampler_defaults(search: SearchSpec) -> dict[str, Any]:
    """The sampler's options with ours: `tpe` draws each option by itself, unless the study says otherwise.

    Optuna 5 draws all options together where there is one objective. Regret after 100 full trials on LCBench, 3 tasks
    x 10 seeds: together 0.08 with one worker and 0.14 with eight, one by one 0.05 and 0.07. `group` draws together
    what is active together.
    """
    if search.sampler != "tpe" or search.sampler_options.get("group"):
        return search.sampler_options
    return {"multivariate": False, **search.sampler_options}


def auto_pruner(search: SearchSpec, epochs: int) -> tuple[str, str]:
    """What `pruner: auto` is in a search, and why.

    Args:
        search: all but its pruner.
        epochs: of a full training.
    """
    algorithm = SAMPLERS.get(search.sampler)
    against = {
        "a pruner compares one value, and the search has several objectives": bool(search.objectives),
        "a pruner knows no limits, and may stop the trials that keep them": bool(search.limits),
        f"{search.sampler} makes no use of trials that were stopped": algorithm is None or not algorithm.prunes,
        "train.epochs is searched, so that trainings differ in length": "train.epochs" in search.space,
        f"train.epochs is {epochs}, less than {FEWEST_EPOCHS}": epochs < FEWEST_EPOCHS,
    }
    reasons = [reason for reason, holds in against.items() if holds]
    return ("none", reasons[0]) if reasons else ("asha", f"one objective, sampler {search.sampler}, {epochs} epochs")


def with_pruner(
    search: SearchSpec, section: SearchSection, epochs: int, node: Node, problems: list[Problem]
) -> SearchSpec:
    """The search with its pruner, the pruner's options, and the epochs at which it compares trials.

    Args:
        search: all but its pruner.
        section: the search as written.
        epochs: of a full training.
        node: the section `search`, for the places of what is wrong.
        problems: added to.
    """
    name, reason = "none", ""
    given: dict[str, Any] = {}
    if search.pbt is None and canonical(section.pruner) != AUTO:
        given = read_options("pruner", section.pruner, node, problems)
        name = canonical(section.pruner)
    elif search.pbt is None:
        name, reason = auto_pruner(search, epochs)
        problems.extend(_nameless_options(node))
    options = with_defaults(name, given, epochs)
    found = () if problems else rungs(options, epochs)
    return replace(search, pruner=name, pruner_options=options, rungs=found, pruner_reason=reason)


def _nameless_options(node: Node) -> list[Problem]:
    given = node.value.get("pruner_options")
    message = "needs the pruner whose options these are, such as pruner: asha"
    return [] if given is None else [Problem(given.place, "search.pruner_options", message)]


def with_defaults(pruner: str, options: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """A pruner's options with our defaults for a full training of so many epochs."""
    first = max(1, round(FIRST_RUNG * epochs))
    halving = {"min_resource": first, "reduction_factor": ETA}
    warm = {"n_warmup_steps": first}
    defaults: dict[str, dict[str, Any]] = {
        "asha": halving,
        "hyperband": {**halving, "max_resource": epochs},
        "median": warm,
        "percentile": warm,
    }
    return {**defaults.get(canonical(pruner), {}), **options}


def rungs(options: Mapping[str, Any], epochs: int) -> tuple[int, ...]:
    """Epochs before the last at which trials are compared, by a pruner's options (`with_defaults`).

    A pruner that compares at every epoch, and a search without one, is looked at where successive halving would.
    """
    first = options.get("min_resource", options.get("n_warmup_steps", 0)) or round(FIRST_RUNG * epochs)
    step = max(1, first) * options.get("reduction_factor", ETA) ** options.get("min_early_stopping_rate", 0)
    found = []
    while step < epochs:
        found.append(step)
        step *= max(2, options.get("reduction_factor", ETA))
    return tuple(found)


def check_sampler_takes(search: SearchSpec, node: Node, problems: list[Problem]) -> None:
    """Several objectives and limits are not for every sampler, and no pruner weighs several objectives."""
    algorithm = SAMPLERS.get(search.sampler)
    if algorithm is None:
        return
    place = node.place_of(["sampler"])
    if search.objectives and not algorithm.several:
        message = f"{search.sampler} takes one objective; use {_others('several')}"
        problems.append(Problem(place, "search.sampler", message))
    if search.limits and not algorithm.limits:
        message = f"{search.sampler} knows no search.limits; use {_others('limits')}"
        problems.append(Problem(place, "search.sampler", message))
    if search.objectives and search.pruner != "none":
        message = f"{search.pruner} compares one value, and the search has several objectives; use pruner: none"
        problems.append(Problem(node.place_of(["pruner"]), "search.pruner", message))


def _others(ability: str) -> str:
    return ", ".join(name for name, algorithm in SAMPLERS.items() if getattr(algorithm, ability))


def check_sampler_fits(sampler: str, space: Space, node: Node, problems: list[Problem]) -> None:
    """A grid needs countable values, and has no notion of a condition."""
    if canonical(sampler) not in ("grid", "brute_force"):
        return
    space_node: Node = node.value["space"]
    for path, declaration in space.items():
        if not is_finite(declaration):
            message = f"cannot be sampled by {sampler}: a float needs step, or use type: categorical"
            problems.append(Problem(space_node.place_of([path]), path, message))
        if canonical(sampler) == "grid" and declaration["when"]:
            message = "cannot be sampled by grid, which knows no `when`; use sampler: brute_force"
            problems.append(Problem(space_node.place_of([path, "when"]), path, message))


def read_population(
    section: SearchSection, space: Space, config: TrainingConfig, node: Node, problems: list[Problem]
) -> PopulationSpec | None:
    """The search's section `pbt`, checked against the rest of it; None where there is none.

    Args:
        section: the search.
        space: as checked so far.
        config: what the members change.
        node: the section `search`, for the places of what is wrong.
        problems: added to.
    """
    found = section.pbt
    if found is None:
        return None
    for key in NOT_OF_A_POPULATION:
        if key in node.value:
            message = "does not go with search.pbt, which draws the first values and stops nobody; leave it out"
            problems.append(Problem(node.value[key].place, f"search.{key}", message))
    problems.extend(_population_problems(section, config, node))
    for path, declaration in space.items():
        fault = _member_option_fault(path, declaration, config)
        if fault:
            problems.append(Problem(section.space.place_of([path]), f"search.space.{path}", fault))
    return PopulationSpec(found.interval, found.quantile, found.resample_probability, found.factors)


def _population_problems(section: SearchSection, config: TrainingConfig, node: Node) -> list[Problem]:
    assert section.pbt is not None
    pbt: Place = node.place_of(["pbt"])
    faults = [
        (
            section.trials < 2,
            node.place_of(["trials"]),
            "search.trials",
            f"is the number of members of the population, of which there must be at least 2, got {section.trials}",
        ),
        (
            section.pbt.interval >= config.train.epochs,
            node.place_of(["pbt", "interval"]),
            "search.pbt.interval",
            f"must be less than train.epochs ({config.train.epochs}), got {section.pbt.interval}",
        ),
        (
            not section.pbt.factors,
            node.place_of(["pbt", "factors"]),
            "search.pbt.factors",
            "must name at least one factor",
        ),
        (
            bool(config.schedule),
            pbt,
            "search.pbt",
            "finds the schedule itself; leave `schedule` out of the training options",
        ),
    ]
    return [Problem(place, key, message) for is_wrong, place, key, message in faults if is_wrong]


def _member_option_fault(path: str, declaration: Mapping[str, Any], config: TrainingConfig) -> str:
    """Why a population has no use for an option; empty when it has."""
    known = schedulable_paths()
    if path not in known:
        return f"cannot change during a training, as search.pbt needs it to; these can: {', '.join(known)}"
    if path not in semantic_mapping(config):
        return "has no effect in this training: the part that it belongs to is switched off"
    return "search.pbt knows no `when`" if declaration["when"] else ""


def check_population_resources(workers: int, backend: str, place: Callable[[str], Place]) -> list[Problem]:
    """A member leaves and goes on at epochs that its worker hears of at once, which those of Ray Train do not.

    Args:
        workers: of a trial.
        backend: `resources.backend`.
        place: of a key of the section `resources`.
    """
    rule = "a search by a population needs trials of one worker and without Ray Train"
    found = []
    if workers > 1:
        found.append(Problem(place("num_workers"), "resources.num_workers", f"{rule}, got {workers}"))
    if backend == "train":
        found.append(Problem(place("backend"), "resources.backend", f"{rule}, got {backend!r}"))
    return found
