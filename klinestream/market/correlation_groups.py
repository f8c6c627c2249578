"""Groups of symbols that move together: the graph's communities by greatest modularity. Pure and deterministic.

    each symbol a group ─► moves, one symbol after the other, to the group that raises modularity most ─► groups become symbols ─► again

Blondel, Guillaume, Lambiotte and Lefebvre, "Fast unfolding of communities in large networks", Journal of Statistical Mechanics
P10008, 2008; weights are correlations, and only positive ones: what moves against each other is no group. Theirs goes through the
symbols in a random order; here it is that of the names, so that the same graph has the same groups.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Weights = list[dict[int, float]]
"""Of each node its neighbours, and how strong the edge to each is; with itself, twice what lies within it."""

_LEVELS_MOST = 20
_ROUNDS_MOST = 50
_GAIN_LEAST = 1e-9  # less is rounding, and could go round in circles


def groups_of(symbols: Sequence[str], a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], r: npt.NDArray[np.float64]) -> list[str | None]:
    """The group of each symbol, as the name of the one that is most strongly bound within it; None for a symbol without positive edges.

    `a` and `b` are places of symbols, `r` the correlation of each edge.

    >>> groups_of(["A", "B", "C", "D", "E"], np.array([0, 2, 1]), np.array([1, 3, 4]), np.array([0.9, 0.8, -0.7]))
    ['A', 'A', 'C', 'C', None]
    """
    weights: Weights = [{} for _ in symbols]
    for first, second, strength in zip(a.tolist(), b.tolist(), r.tolist(), strict=True):
        if strength > 0:
            weights[first][second] = weights[second][first] = strength
    # By place, so that sums are made in an order that depends on names alone.
    weights = [dict(sorted(neighbours.items())) for neighbours in weights]
    group_of = list(range(len(symbols)))
    level = weights
    for _ in range(_LEVELS_MOST):
        moved = _moved(level)
        if moved == list(range(len(level))):
            break
        group_of = [moved[group] for group in group_of]
        level = _joined(level, moved)
    return _named(symbols, weights, group_of)


def _moved(weights: Weights) -> list[int]:
    """The group of each node after all have moved to where modularity is greatest, numbered in order of first node."""
    strengths = [sum(neighbours.values()) for neighbours in weights]
    twice_all = sum(strengths)
    group_of = list(range(len(weights)))
    totals = list(strengths)
    for _ in range(_ROUNDS_MOST):
        moves = 0
        for node, neighbours in enumerate(weights):
            if not neighbours:
                continue
            own = group_of[node]
            totals[own] -= strengths[node]
            links = {own: 0.0}
            for other, weight in neighbours.items():
                if other != node:
                    links[group_of[other]] = links.get(group_of[other], 0.0) + weight
            gains = {group: link - totals[group] * strengths[node] / twice_all for group, link in links.items()}
            best = max(gains, key=lambda group: (gains[group], -group))
            if gains[best] <= gains[own] + _GAIN_LEAST:
                best = own
            moves += best != own
            group_of[node] = best
            totals[best] += strengths[node]
        if not moves:
            break
    numbers: dict[int, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in group_of]


def _joined(weights: Weights, group_of: Sequence[int]) -> Weights:
    """The graph whose nodes are the groups."""
    joined: Weights = [{} for _ in range(max(group_of) + 1)]
    for node, neighbours in enumerate(weights):
        into = joined[group_of[node]]
        for other, weight in neighbours.items():
            into[group_of[other]] = into.get(group_of[other], 0.0) + weight
    return [dict(sorted(neighbours.items())) for neighbours in joined]


def _named(symbols: Sequence[str], weights: Weights, group_of: Sequence[int]) -> list[str | None]:
    within = [
        sum(weight for other, weight in neighbours.items() if group_of[other] == group_of[node]) for node, neighbours in enumerate(weights)
    ]
    heart: dict[int, int] = {}
    for node, group in enumerate(group_of):
        if group not in heart or within[node] > within[heart[group]]:
            heart[group] = node
    return [symbols[heart[group]] if weights[node] else None for node, group in enumerate(group_of)]
