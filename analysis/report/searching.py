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
