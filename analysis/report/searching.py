"""How a study searched: sampler, pruner, budget, and where each option was searched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.factors import NONE
from analysis.report.document import Block, Items, grid


def search_blocks(search: Mapping[str, Any]) -> Iterator[Block]:
    """Words on the search, and its space.

    Args:
        search: of the study's specification.
    """
    yield Items(
        (
            ("Sampler", _named(search, "sampler")),
            ("Pruner", _named(search, "pruner")),
            *_asked(search),
            ("Trials", f"{search.get('trials')}, each trained with seed {search.get('training_seed')}"),
            ("Seed of the sampler", str(search.get("seed"))),
            *_population(search.get("pbt")),
        )
    )
    rows = [[path, range_text(declaration), _condition(declaration)] for path, declaration in _space(search)]
    if rows:
        yield grid(["Option", "Searched in", "Only where"], rows, "lll", is_prose=True)


def _population(options: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """How the trials were trained as a population; nothing where they were not."""
    if not options:
        return []
    factors = " or ".join(f"{factor:g}" for factor in options["factors"])
    text = (
        f"every {options['interval']} epochs the worst {100 * options['quantile']:g} % go on from one of the best, "
        f"each option drawn anew with probability {options['resample_probability']:g}, else times {factors}"
    )
    return [("Population", text)]


def _named(search: Mapping[str, Any], role: str) -> str:
    options = ", ".join(f"{name} {value}" for name, value in (search.get(f"{role}_options") or {}).items())
    return f"{search.get(role) or 'none'}{f' ({options})' if options else ''}"


def _asked(search: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Objectives, rules between options and limits, where there are any."""
    signs = {"min": "at least", "max": "at most"}
    objectives = [f"{each['name']} ({each['mode']})" for each in search.get("objectives") or ()]
    rules = [_rule(rule) for rule in search.get("constraints") or ()]
    limits = [
        f"{name} {' and '.join(f'{signs[side]} {bound:g}' for side, bound in bounds.items())}"
        for name, bounds in (search.get("limits") or {}).items()
    ]
    for name, parts in (("Objectives", objectives), ("Constraints", rules), ("Limits", limits)):
        if parts:
            yield name, "; ".join(parts)


def _rule(rule: Mapping[str, Any]) -> str:
    condition = _condition(rule)
    return f"{rule['left']} {rule['op']} {_value(rule['right'])}{f' where {condition}' if condition else ''}"


def _space(search: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return list((search.get("space") or {}).items())


def range_text(declaration: Mapping[str, Any]) -> str:
    """`0.01 to 10, logarithmic`, `1 to 4 in steps of 1`, `true or false`."""
    if "choices" in declaration:
        return " or ".join(_value(choice) for choice in declaration["choices"])
    if "low" not in declaration:
        return str(declaration.get("type", NONE))
    step = f" in steps of {declaration['step']:g}" if declaration.get("step") else ""
    scale = ", logarithmic" if declaration.get("log") else ""
    return f"{declaration['low']:g} to {declaration['high']:g}{step}{scale}"


def _condition(declaration: Mapping[str, Any]) -> str:
    when = declaration.get("when") or {}
    return " and ".join(f"{path} is {' or '.join(map(_value, values))}" for path, values in when.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
