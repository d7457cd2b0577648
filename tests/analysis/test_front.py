"""Points that no other beats."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.front import unbeaten


def by_definition(points: list[tuple[float, ...]], modes: list[str]) -> list[bool]:
    signs = [1 if mode == "max" else -1 for mode in modes]

    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        gains = [sign * (x - y) for sign, x, y in zip(signs, a, b)]
        return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)

    return [not any(beats(other, point) for other in points) for point in points]


@pytest.mark.parametrize("modes", [["max"], ["max", "min"], ["min", "max", "min"]])
def test_it_is_the_definition(modes: list[str]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = [tuple(float(x) for x in row) for row in rng.integers(0, 5, (30, len(modes)))]
        assert unbeaten(points, modes) == by_definition(points, modes)


def test_equal_points_are_all_on_the_front_and_nothing_has_none() -> None:
    assert unbeaten([(1.0, 2.0), (1.0, 2.0), (0.0, 3.0)], ["max", "min"]) == [True, True, False]
    assert unbeaten([], ["max", "min"]) == []
