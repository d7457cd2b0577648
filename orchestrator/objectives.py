"""What a search optimises and what it may not exceed: read from the study, and taken from a trial's results.

`search.objectives` names several scores and costs (none: the study's metric); `search.limits` bounds reported
values. A trial beyond a limit counts for the sampler as infeasible and is never the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from analysis.front import unbeaten
from cdkd.config import TrainingConfig
from cdkd.options import describe
from orchestrator.errors import Problem
from orchestrator.metrics import column_fault
from orchestrator.plan import Metric, SearchSpec
from orchestrator.sections import LimitSection, ObjectiveSection, read_section
from orchestrator.yaml_reader import Node

Limits = Mapping[str, Mapping[str, float]]
Epochs = Mapping[int, Mapping[str, float]]


def value_of(metric: Metric, summary: Mapping[str, float], epochs: Epochs) -> float | None:
    """The study's score of a finished training, or None when it did not report it.

    `best/<name>` and `final/<name>` of the summary count first; a number that only epochs report (a loss,
    say) is taken from its best or last epoch; a cost such as `train_seconds` has one value.
    """
    section = "best" if metric.select == "best" else "final"
    for name in (f"{section}/{metric.name}", metric.name):
        if name in summary:
            return summary[name]
    values = [metrics[metric.name] for _, metrics in sorted(epochs.items()) if metric.name in metrics]
    if not values:
        return None
    if metric.select == "last":
        return values[-1]
    return max(values) if metric.mode == "max" else min(values)


def objectives(search: SearchSpec | None, metric: Metric) -> tuple[Metric, ...]:
    """What is optimised, in the order told to Optuna."""
    return (search.objectives if search is not None else ()) or (metric,)


def excess(limits: Limits, select: str, summary: Mapping[str, float], epochs: Epochs) -> dict[str, float]:
    """By how much each limit is exceeded; 0 or less where it is kept. A value that was not reported is left out.

    Args:
        limits: score or cost -> `{min, max}`.
        select: the study's rule for the epoch.
        summary: of the trial's end.
        epochs: metrics by epoch.
    """
    found: dict[str, float] = {}
    for name, bounds in limits.items():
        value = value_of(Metric(name, "max", select), summary, epochs)
        if value is not None:
            found |= {f"{name} {side}": _beyond(side, bound, value) for side, bound in bounds.items()}
    return found


def _beyond(side: str, bound: float, value: float) -> float:
    return value - bound if side == "max" else bound - value


class Result(Protocol):
    """What a training has reported."""

    @property
    def summary(self) -> Mapping[str, float]:
        """Reported at its end."""

    @property
    def epochs(self) -> Epochs:
        """Metrics by epoch."""


@dataclass(frozen=True)
class Goals:
    """What the results of a search's trials are judged by.

    Attributes:
        metric: the study's.
        objectives: all that is optimised; the metric alone where there is nothing else.
        limits: score or cost -> `{min, max}`.
    """

    metric: Metric
    objectives: tuple[Metric, ...]
    limits: Limits

    @classmethod
    def of(cls, search: SearchSpec | None, metric: Metric) -> Goals:
        """Those of a plan."""
        return cls(metric, objectives(search, metric), search.limits if search is not None else {})

    @classmethod
    def in_specification(cls, specification: Mapping[str, Any]) -> Goals:
        """Those that a ledger's specification holds as plain data; an older one has the metric alone."""
        metric, search = Metric(**specification["metric"]), specification.get("search") or {}
        several = tuple(Metric(**each) for each in search.get("objectives") or ())
        return cls(metric, several or (metric,), search.get("limits") or {})

    def value(self, result: Result) -> float | None:
        """The study's metric; None where it was not reported."""
        return value_of(self.metric, result.summary, result.epochs)

    def values(self, result: Result) -> tuple[float, ...]:
        """The values of the objectives in their order; empty when one of them was not reported."""
        found = [value_of(each, result.summary, result.epochs) for each in self.objectives]
        known = tuple(value for value in found if value is not None)
        return known if len(known) == len(found) else ()

    def excess(self, result: Result) -> dict[str, float]:
        """`excess` over these limits."""
        return excess(self.limits, self.metric.select, result.summary, result.epochs)

    def knows_excess(self, result: Result) -> bool:
        """Whether every limited value was reported."""
        return len(self.excess(result)) == sum(map(len, self.limits.values()))

    def keeps_limits(self, result: Result) -> bool:
        """Whether none of the reported values is beyond its limit."""
        return all(over <= 0 for over in self.excess(result).values())

    def front(self, results: Mapping[str, Result]) -> list[str]:
        """The names of the results that no other beats in all objectives, in the order given."""
        points = {name: values for name, result in results.items() if (values := self.values(result))}
        is_front = unbeaten(list(points.values()), [each.mode for each in self.objectives])
        return [name for name, unbeaten_one in zip(points, is_front, strict=True) if unbeaten_one]


def needed(search: SearchSpec | None, metric: Metric) -> tuple[Metric, ...]:
    """Everything that a finished trial of a search must have reported."""
    limits = search.limits if search is not None else {}
    own = objectives(search, metric)
    known = {each.name for each in own}
    return (*own, *(Metric(name, "max", metric.select) for name in limits if name not in known))


# ------------------------------------------------------------------------------------------- reading


def read_objectives(
    node: Node | None, metric: Metric, config: TrainingConfig, problems: list[Problem]
) -> tuple[Metric, ...]:
    """The objectives of a search; empty where there are none or one, which is the study's metric."""
    if node is None:
        return ()
    key = "search.objectives"
    if not isinstance(node.value, list) or not node.value:
        message = f"must be a list of {{name: ..., mode: max or min}}, got {describe(node.plain())}"
        problems.append(Problem(node.place, key, message))
        return ()
    before = len(problems)
    read = [read_section(ObjectiveSection, item, f"{key}[{i}]", problems) for i, item in enumerate(node.value)]
    found = tuple(Metric(each.name, each.mode, metric.select) for each in read if each is not None)
    if len(problems) == before:
        problems.extend(_objective_problems(found, node, metric, config))
    return found if len(found) > 1 else ()


def _objective_problems(
    found: tuple[Metric, ...], node: Node, metric: Metric, config: TrainingConfig
) -> Iterator[Problem]:
    names = [each.name for each in found]
    for index, each in enumerate(found):
        place, key = node.value[index].place_of(["name"]), f"search.objectives[{index}].name"
        fault = reported_fault(each.name, config)
        if fault:
            yield Problem(place, key, fault)
        elif each.name in names[:index]:
            yield Problem(place, key, f"{each.name} is in the list twice")
    if metric not in found:
        message = f"the study's metric {metric.name} (mode {metric.mode}) must be one of them"
        yield Problem(node.place, "search.objectives", message)


def reported_fault(name: str, config: TrainingConfig) -> str:
    """Why a name is nothing that a search may be steered by; empty when it is."""
    if name.startswith("test/"):
        return "a search is not steered by the test split; use val/..."
    return column_fault(name, config)


def read_limits(node: Node | None, config: TrainingConfig, problems: list[Problem]) -> dict[str, dict[str, float]]:
    """The limits of a search: score or cost -> `{min, max}`."""
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        message = f"must be a section {{name: {{max: value}}}}, got {describe(node.plain())}"
        problems.append(Problem(node.place, "search.limits", message))
        return {}
    found: dict[str, dict[str, float]] = {}
    for name, child in node.value.items():
        bounds, faults = _limit(name, child, config)
        problems.extend(faults)
        found |= {name: bounds} if bounds else {}
    return found


def _limit(name: str, node: Node, config: TrainingConfig) -> tuple[dict[str, float], list[Problem]]:
    key, faults = f"search.limits.{name}", list[Problem]()
    read = read_section(LimitSection, node, key, faults)
    own = {} if read is None else {"min": read.min, "max": read.max}
    bounds = {side: bound for side, bound in own.items() if bound is not None}
    fault = reported_fault(name, config)
    if fault:
        faults.append(Problem(node.place, key, fault))
    elif not faults and not bounds:
        faults.append(Problem(node.place, key, "needs min, max or both"))
    elif bounds.get("min", -math.inf) > bounds.get("max", math.inf):
        faults.append(Problem(node.place, key, f"no value is in it: min {bounds['min']:g} is above max"))
    return bounds, faults
