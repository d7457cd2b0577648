"""Which of several points are beaten by none, over any number of scores and costs. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence


def unbeaten(points: Sequence[Sequence[float]], modes: Sequence[str]) -> list[bool]:
    """Which points are beaten by none: no other is at least as good in everything and better in something.

    Args:
        points: finite numbers, as many of each point as there are modes.
        modes: `max` or `min`, of each of them.
    """
    signs = [-1.0 if mode == "max" else 1.0 for mode in modes]
    costs = [tuple(sign * value for sign, value in zip(signs, point, strict=True)) for point in points]
    front: list[tuple[float, ...]] = []
    for cost in sorted(set(costs)):  # whoever beats a point came before it, and so did someone of the front
        if not any(all(other <= own for other, own in zip(rival, cost)) for rival in front):
            front.append(cost)
    members = set(front)
    return [cost in members for cost in costs]
