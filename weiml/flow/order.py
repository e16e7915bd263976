"""Topological order that keeps the order of declaration where the graph leaves a choice."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

__all__ = ["find_cycle", "topological_order"]


def find_cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return one cycle as ``[a, b, …, a]``, each needing the one before it, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def topological_order(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Order the names so that each comes after all that it needs.

    Args:
        graph: name → the names it needs, in order of declaration, without cycles.

    Raises:
        graphlib.CycleError: the graph has a cycle.
    """
    rank = {name: position for position, name in enumerate(graph)}
    sorter = TopologicalSorter(graph)
    sorter.prepare()
    ready = [(rank[name], name) for name in sorter.get_ready()]
    heapq.heapify(ready)
    order = []
    while ready:
        _, name = heapq.heappop(ready)
        order.append(name)
        sorter.done(name)
        for unlocked in sorter.get_ready():
            heapq.heappush(ready, (rank[unlocked], unlocked))
    return order
