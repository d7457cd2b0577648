"""What the rows of a study's table show of their configurations: columns of options, and blocks with a rule between."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdkd.config import TrainingConfig
from cdkd.identity import semantic_mapping
from cdkd.options import describe, flatten_keys, nearest, to_mapping
from orchestrator.errors import Place, Problem
from orchestrator.overrides import leaf_paths, unknown_path
from orchestrator.plan import Block
from orchestrator.yaml_reader import Node

SCORES = "scores"  # in `decimals`: every score
MOST_DECIMALS = 6


@dataclass(frozen=True)
class ShownOptions:
    """Which options a table shows of its arms.

    Attributes:
        factors: dotted paths with columns of their own.
        group_by: dotted paths whose values divide the rows into blocks.
    """

    factors: tuple[str, ...]
    group_by: tuple[str, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Every option shown: what makes a block is always seen in its rows."""
        return tuple(dict.fromkeys((*self.group_by, *self.factors)))

    def values(self, config: TrainingConfig) -> dict[str, Any]:
        """The options of one arm, as plain data by dotted path; None for one that this arm makes no use of."""
        used = semantic_mapping(config)
        return {path: used.get(path) for path in self.paths}

    def blocks(
        self, rows: Sequence[str], configs: Mapping[str, TrainingConfig], baselines: Sequence[str]
    ) -> tuple[Block, ...]:
        """Rows with equal values of `group_by`, blocks in the order of their first rows.

        The baseline of a block is the first given arm that is in it, else the arm that differs from the first one in
        `group_by` alone (it need not be among the rows), else none.
        """
        found: dict[str, list[str]] = {}
        for arm in rows:
            found.setdefault(self._block_of(configs[arm]), []).append(arm)
        return tuple(Block(tuple(arms), self._baseline(key, configs, baselines)) for key, arms in found.items())

    def _baseline(self, key: str, configs: Mapping[str, TrainingConfig], baselines: Sequence[str]) -> str:
        of_block = [arm for arm, config in configs.items() if self._block_of(config) == key]
        given = [arm for arm in baselines if arm in of_block]
        if given or not baselines:
            return next(iter(given), "")
        wanted = self._rest(configs[baselines[0]])
        return next((arm for arm in of_block if self._rest(configs[arm]) == wanted), "")

    def _block_of(self, config: TrainingConfig) -> str:
        flat = flatten_keys(to_mapping(config))
        return json.dumps([flat.get(path) for path in self.group_by])

    def _rest(self, config: TrainingConfig) -> dict[str, Any]:
        return {path: value for path, value in semantic_mapping(config).items() if path not in self.group_by}


def check_paths(key: str, paths: Sequence[str], place: Place) -> list[Problem]:
    """A problem for every path that is no option."""
    return [
        Problem(place, f"{key}[{index}]", unknown_path(path))
        for index, path in enumerate(paths)
        if path not in leaf_paths()
    ]


def read_decimals(node: Node | None, columns: Sequence[str], problems: list[Problem]) -> dict[str, int]:
    """The section `table.decimals`: digits by column, or for all scores. Adds to `problems`."""
    key = "table.decimals"
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        problems.append(Problem(node.place, key, f"must be a section {{column: digits}}, got {describe(node.plain())}"))
        return {}
    found = {name: child.plain() for name, child in node.value.items()}
    known = [SCORES, *columns]
    for name, digits in found.items():
        place = node.value[name].place
        if name not in known:
            problems.append(Problem(place, f"{key}.{name}", f"is no column of this table{nearest(name, known)}"))
        if type(digits) is not int or not 0 <= digits <= MOST_DECIMALS:
            message = f"must be a whole number from 0 to {MOST_DECIMALS}, got {describe(digits)}"
            problems.append(Problem(place, f"{key}.{name}", message))
    return found
