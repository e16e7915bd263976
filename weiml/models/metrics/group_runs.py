"""Examples summed by group and score, and what each group's order is worth.

After a sort by group and falling score, examples with equal scores form *runs*: they share their
places. Every metric of an order here is the mean over the orders that ties leave open.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numba
import numpy as np

from weiml.models.metrics.arrays import run_starts

__all__ = ["GroupRuns", "GroupTable", "GroupValues", "group_values"]

_PENDING = 1 << 16


class GroupTable(NamedTuple):
    """Examples of one group, score and label summed, by group, falling score and label."""

    groups: np.ndarray
    """(r,), of any integer type."""
    scores: np.ndarray
    """float64 (r,)."""
    labels: np.ndarray
    """float64 (r,)."""
    counts: np.ndarray
    """float64 (r,): of examples."""
    weights: np.ndarray
    """float64 (r,): sums of example weights."""

    @classmethod
    def of(
        cls, groups: np.ndarray, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
    ) -> Self:
        """Sum examples, (n,) each."""
        return cls(groups, scores, labels, np.ones(len(labels)), weights).compacted()

    def compacted(self) -> Self:
        """Sort, and sum what is equal."""
        if not len(self.groups):
            return self
        order = np.argsort(self.groups, kind="stable")
        starts = run_starts(self.groups[order])
        bounds = np.concatenate([starts, [len(order)]])
        _sort_within(bounds, self.scores, self.labels, order)
        groups, scores, labels = self.groups[order], self.scores[order], self.labels[order]
        starts = run_starts(groups, scores, labels)
        counts, weights = (
            np.add.reduceat(column[order], starts) for column in (self.counts, self.weights)
        )
        return self._replace(
            groups=groups[starts],
            scores=scores[starts],
            labels=labels[starts],
            counts=counts,
            weights=weights,
        )


class GroupRuns:
    """A group table that grows: exact whatever groups the parts share. Not thread-safe.

    About 40 bytes for each distinct group, score and label.
    """

    def __init__(self) -> None:
        self._parts: list[GroupTable] = []
        self._pending = 0

    def add(self, table: GroupTable) -> None:
        """Add a table."""
        self._parts.append(table)
        self._pending += len(table.groups)
        if self._pending > max(_PENDING, len(self._parts[0].groups)):
            self.table()

    def table(self) -> GroupTable:
        """Return the table of all that was added."""
        if not self._parts:
            return GroupTable(np.empty(0, np.int64), *(np.empty(0) for _ in range(4)))
        if len(self._parts) > 1:
            columns = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
            self._parts = [GroupTable(*columns).compacted()]
            self._pending = 0
        return self._parts[0]


class GroupValues(NamedTuple):
    """Metrics of each group, float64 (G,); NaN where a group says nothing about the order."""

    sizes: np.ndarray
    """How many examples."""
    weights: np.ndarray
    """Sum of example weights."""
    auc: np.ndarray
    """Defined where both classes have weight."""
    ndcg: np.ndarray
    """At k; defined for two examples or more with a positive among them."""
    precision: np.ndarray
    """At k; defined for two examples or more."""
    reciprocal_rank: np.ndarray
    """Of the first positive; defined for two examples or more with a positive among them."""


def group_values(table: GroupTable, k: int) -> GroupValues:
    """Return the metrics of each group of a compacted table, in the order of the groups."""
    if not len(table.groups):
        return GroupValues(*(np.empty(0) for _ in range(6)))
    starts = run_starts(table.groups)
    bounds = np.concatenate([starts, [len(table.groups)]])
    sizes = np.add.reduceat(table.counts, starts)
    # Places beyond the largest group do not occur, however large k is.
    deepest = int(min(k, sizes.max()))
    discounts = np.zeros(deepest + 1)
    np.cumsum(1.0 / np.log2(np.arange(deepest) + 2.0), out=discounts[1:])
    _, scores, labels, counts, weights = table
    gains, best = np.empty((2, len(starts)))
    _gains(bounds, scores, labels, counts, discounts, gains)
    order = np.arange(len(labels))
    _sort_within(bounds, labels, scores, order)
    _gains(bounds, labels[order], labels[order], counts[order], discounts, best)
    orders = np.full((4, len(starts)), np.nan)
    _orders(bounds, scores, labels, counts, weights, float(k), orders)
    several = sizes > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        ndcg = np.where(several & (best > 0), gains / best, np.nan)
    precision, rank = (np.where(several, values, np.nan) for values in orders[2:])
    return GroupValues(sizes, orders[0], orders[1], ndcg, precision, rank)


@numba.njit(cache=True, nogil=True)
def _sort_within(
    bounds: np.ndarray, falling: np.ndarray, rising: np.ndarray, order: np.ndarray
) -> None:
    """Sort each part of `order` by falling numbers of one column, then by rising of the other.

    Group by group, since that stays in the cache and is faster than one sort of all.
    """
    for g in range(bounds.size - 1):
        if bounds[g + 1] - bounds[g] > 1:
            members = order[bounds[g] : bounds[g + 1]].copy()
            members = members[np.argsort(rising[members], kind="mergesort")]
            members = members[np.argsort(-falling[members], kind="mergesort")]
            order[bounds[g] : bounds[g + 1]] = members


@numba.njit(cache=True, nogil=True)
def _gains(
    bounds: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
    discounts: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write each group's discounted gains; a run has its mean gain at each of its places.

    `discounts` (k + 1,) are sums of the first k places' discounts.
    """
    last_place = discounts.size - 1
    for g in range(out.size):
        total = 0.0
        place = 0
        i = bounds[g]
        while i < bounds[g + 1]:
            start, count, gain = i, 0.0, 0.0
            while i < bounds[g + 1] and scores[i] == scores[start]:
                count += counts[i]
                gain += counts[i] * labels[i]
                i += 1
            end = place + int(count)
            share = discounts[min(end, last_place)] - discounts[min(place, last_place)]
            total += gain / count * share
            place = end
        out[g] = total


@numba.njit(cache=True, nogil=True)
def _orders(
    bounds: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
    weights: np.ndarray,
    k: float,
    out: np.ndarray,
) -> None:
    """Write each group's weight, AUC, precision at k and reciprocal rank to `out` (4, G)."""
    for g in range(out.shape[1]):
        place, hits = 0.0, 0.0
        positive, negative, lost = 0.0, 0.0, 0.0
        first = np.nan
        i = bounds[g]
        while i < bounds[g + 1]:
            start, count, gain, relevant, p, q = i, 0.0, 0.0, 0.0, 0.0, 0.0
            while i < bounds[g + 1] and scores[i] == scores[start]:
                count += counts[i]
                gain += counts[i] * labels[i]
                relevant += counts[i] if labels[i] > 0 else 0.0
                p += weights[i] * labels[i]
                q += weights[i] * (1 - labels[i])
                i += 1
            lost += q * (positive + p / 2)
            positive += p
            negative += q
            hits += gain / count * (min(place + count, k) - min(place, k))
            if np.isnan(first) and relevant > 0:
                first = _reciprocal_rank(place, count, relevant)
            place += count
        out[0, g] = positive + negative
        if positive > 0 and negative > 0:
            out[1, g] = lost / (positive * negative)
        out[2, g] = hits / min(k, place)
        out[3, g] = first


@numba.njit(cache=True, nogil=True)
def _reciprocal_rank(place: float, count: float, relevant: float) -> float:
    """Return the mean of 1 / rank of the first of `relevant` among `count` in random order.

    `place` others stand before them.
    """
    mean = 0.0
    left = 1.0  # the probability that none was met so far
    for j in range(int(count - relevant) + 1):
        here = relevant / (count - j)
        mean += left * here / (place + j + 1)
        left *= 1 - here
    return mean
