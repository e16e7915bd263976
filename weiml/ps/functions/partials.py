"""Partial answers by bucket, put together in one fixed order, whatever shard gave which.

Sums of floats depend on the order of the terms. Here the terms of a bucket are one partial answer,
and neighbours are combined along a binary tree over all buckets. A shard combines what it can (of
k neighbouring buckets about log k partial answers are left), the client does the rest: the answer
has the same bits on any number of shards, before and after buckets moved.

Nodes of the tree are numbered as in a heap: the root is 1, the children of i are 2i and 2i + 1, the
leaf of bucket b is num_buckets + b.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from weiml.errors import ParameterServerError

__all__ = ["Combine", "Partials", "add_partials", "combine_buckets", "join_partials"]

Combine: TypeAlias = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Partials:
    """Partial answers at some nodes of the tree over the buckets; fit to be sent."""

    nodes: tuple[int, ...]
    values: tuple[Any, ...]
    """None where the node's buckets have nothing to say."""


def add_partials(left: Any, right: Any) -> Any:
    """Return the sum: what combines float64 numbers and arrays."""
    return left + right


def combine_buckets(
    buckets: np.ndarray, values: Iterable[Any], num_buckets: int, combine: Combine = add_partials
) -> Partials:
    """Combine the partial answers of ascending `buckets` as far as they are neighbours."""
    leaves = (num_buckets + np.asarray(buckets, np.int64)).tolist()
    return _fold(zip(leaves, values, strict=True), combine)


def join_partials(parts: Iterable[Partials], combine: Combine = add_partials) -> Any:
    """Return the answer over all buckets; None if no bucket had anything to say.

    Raises:
        ParameterServerError: a bucket is missing, or was answered for twice.
    """
    nodes = [pair for part in parts for pair in zip(part.nodes, part.values, strict=True)]
    # In the order of the buckets below them: compare the nodes' paths from the root.
    nodes.sort(key=lambda pair: bin(pair[0])[3:])
    whole = _fold(nodes, combine)
    if whole.nodes != (1,):
        raise ParameterServerError(
            f"the shards' partial answers do not cover every bucket exactly once (what is left are "
            f"nodes {list(whole.nodes[:5])} of the tree): buckets moved meanwhile; ask again"
        )
    return whole.values[0]


def _fold(pairs: Iterable[tuple[int, Any]], combine: Combine) -> Partials:
    nodes: list[int] = []
    values: list[Any] = []
    for child, partial in pairs:
        node, value = child, partial
        while node & 1 and nodes and nodes[-1] == node - 1:
            nodes.pop()
            left = values.pop()
            if left is not None:
                value = left if value is None else combine(left, value)
            node >>= 1
        nodes.append(node)
        values.append(value)
    return Partials(tuple(nodes), tuple(values))
