"""The loss over a data set, held by a group of workers: what a solver minimises."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from weiml.group import Group
from weiml.train.solvers import worker as work
from weiml.train.solvers.vectors import SolverVectors

__all__ = ["DataLoss"]


class DataLoss:
    """Sums over all examples; each worker pulls the weights once an evaluation.

    Losses are added exactly and gradients in the order of the workers, so that one number of
    workers gives the same bits in process and on Ray.
    """

    def __init__(self, group: Group, vectors: SolverVectors) -> None:
        self._group = group
        self._vectors = vectors
        self._parts = [work.part_names(rank) for rank in range(group.num_workers)]
        vectors.create(*(name for pair in self._parts for name in pair))

    @staticmethod
    def read(group: Group, spec: work.DataSpec) -> np.ndarray:
        """Let the workers read their examples; return all distinct keys, ascending: uint64 (K,)."""
        found = group.execute(work.read_keys, spec)
        keys = np.unique(np.concatenate(found))
        group.execute(work.number_keys, keys)
        return keys

    def evaluate(self, point: str) -> tuple[float, Sequence[str]]:
        """See `weiml.train.solvers.objective.Loss`."""
        full = tuple((self._vectors.full(a), self._vectors.full(b)) for a, b in self._parts)
        losses = self._group.execute(work.evaluate, self._vectors.full(point), full)
        return math.fsum(losses), [name for pair in self._parts for name in pair]

    def gradient_squares(self, point: str) -> np.ndarray:
        """Return ``Σ g²`` over all examples at a point: float64 (P,)."""
        parts = self._group.execute(work.gradient_squares, self._vectors.full(point))
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        return np.asarray(total)
