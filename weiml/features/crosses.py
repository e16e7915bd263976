"""Products of slots, taken of a batch: as slots of a new batch, or block by block and never stored.

The key of a combination is folded from the left: it begins with the cross's own seed, and each
member's key is paired on by `weiml.hashing.cross_keys`. Its value is the product of the members'
values. Both ways give the same keys in the same order, the last member's fastest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numba
import numpy as np

from weiml.errors import ConfigError, DataError
from weiml.features.batch import Batch
from weiml.features.spec import check_crosses
from weiml.features.types import Cross
from weiml.hashing import TypeTag, cross_prefix, cross_with, feature_seed

__all__ = ["CrossBlock", "cross_blocks", "with_crosses"]

_UNIT = np.float32(1)


class CrossBlock(NamedTuple):
    """The crossed keys of examples ``start`` to ``stop``. Its arrays are overwritten by the next.

    Cross c of the block's example i has ``keys[offsets[i * C + c] : offsets[i * C + c + 1]]``.
    """

    start: int
    stop: int
    keys: np.ndarray
    """``(n,)`` uint64, never 0."""
    offsets: np.ndarray
    """``((stop - start) * C + 1,)`` int64, from 0 to n."""
    values: np.ndarray | None
    """``(n,)`` float32, or None where every value is 1."""


class _Plan(NamedTuple):
    """Crosses as compiled loops read them."""

    members: np.ndarray
    """int32 (C, most members): slots, -1 beyond a cross's last one."""
    seeds: np.ndarray
    """uint64 (C,): `cross_prefix` of each cross's seed."""


def with_crosses(batch: Batch, crosses: Sequence[Cross]) -> Batch:
    """Return the batch with a slot more for each cross, in order; the same batch without any.

    Raises:
        ConfigError: a cross has a member that is no slot of the batch.
        DataError: the batch would hold 2³¹ keys or more.
    """
    if not crosses:
        return batch
    plan = _plan(batch.slots, crosses)
    S, C, B = len(batch.slots), len(crosses), len(batch)
    offsets = np.empty(B * (S + C) + 1, np.int64)
    total = _count(batch.offsets, S, plan.members, 0, B, S, offsets)
    if total >= 2**31:
        raise DataError(
            f"a batch holds fewer than 2^31 keys, got {total} with its crosses: use smaller ones"
        )
    keys = np.empty(total, np.uint64)
    values = None if batch.values is None else np.empty(total, np.float32)
    _fill(batch.keys, batch.values, batch.offsets, S, *plan, 0, B, S, keys, values)
    return replace(
        batch,
        keys=keys,
        offsets=offsets.astype(np.int32),
        values=values,
        slots=batch.slots + tuple(cross.name for cross in crosses),
    )


def cross_blocks(
    batch: Batch, crosses: Sequence[Cross], *, examples: int = 1024
) -> Iterator[CrossBlock]:
    """Yield the crossed keys of a batch, `examples` examples at a time, in buffers used again.

    Memory does not grow with the batch: a model that reads a weight for each key needs no more
    than a block of them. The keys are those of `with_crosses`.

    Example:
        >>> for block in cross_blocks(batch, crosses):  # doctest: +SKIP
        ...     sums = np.add.reduceat(weights[find(block.keys)], block.offsets[:-1])

    Raises:
        ConfigError: a cross has a member that is no slot of the batch, or `examples` is below 1.
    """
    if examples < 1:
        raise ConfigError(f"examples must be at least 1, got {examples}")
    plan = _plan(batch.slots, crosses)
    return _blocks(batch, plan, min(examples, max(len(batch), 1)))


def _blocks(batch: Batch, plan: _Plan, examples: int) -> Iterator[CrossBlock]:
    S, C = len(batch.slots), plan.seeds.size
    offsets = np.empty(examples * C + 1, np.int64)
    keys = np.empty(0, np.uint64)
    values = None if batch.values is None else np.empty(0, np.float32)
    for start in range(0, len(batch), examples):
        stop = min(start + examples, len(batch))
        total = _count(batch.offsets, S, plan.members, start, stop, 0, offsets)
        if total > keys.size:
            keys = np.empty(total + total // 8, np.uint64)
            values = None if values is None else np.empty(keys.size, np.float32)
        _fill(batch.keys, batch.values, batch.offsets, S, *plan, start, stop, 0, keys, values)
        own = offsets[: (stop - start) * C + 1]
        yield CrossBlock(start, stop, keys[:total], own, None if values is None else values[:total])


def _plan(slots: Sequence[str], crosses: Sequence[Cross]) -> _Plan:
    check_crosses(crosses, slots)
    most = max((len(cross.of) for cross in crosses), default=2)
    members = np.full((len(crosses), most), -1, np.int32)
    seeds = np.empty(len(crosses), np.uint64)
    for c, cross in enumerate(crosses):
        members[c, : len(cross.of)] = [slots.index(member) for member in cross.of]
        seeds[c] = feature_seed(cross.name, TypeTag.CROSS)
    return _Plan(members, _prefixes(seeds))


@numba.njit(cache=True)
def _prefixes(seeds: np.ndarray) -> np.ndarray:
    out = np.empty(seeds.size, np.uint64)
    for c in range(seeds.size):
        out[c] = cross_prefix(seeds[c])
    return out


@numba.njit(nogil=True, cache=True)
def _count(
    offsets: np.ndarray,
    num_slots: int,
    members: np.ndarray,
    start: int,
    stop: int,
    plain: int,
    out: np.ndarray,
) -> int:
    """Write offsets of the cells of examples `start` to `stop`: `plain` slots, then the crosses.

    Return how many keys they have together.
    """
    total = at = 0
    out[0] = 0
    for b in range(start, stop):
        base = b * num_slots
        for s in range(plain):
            total += offsets[base + s + 1] - offsets[base + s]
            at += 1
            out[at] = total
        for c in range(members.shape[0]):
            product = 1
            for m in range(members.shape[1]):
                if members[c, m] >= 0:
                    cell = base + members[c, m]
                    product *= offsets[cell + 1] - offsets[cell]
            total += product
            at += 1
            out[at] = total
    return total


@numba.njit(nogil=True, cache=True)
def _fill(
    keys: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    num_slots: int,
    members: np.ndarray,
    prefixes: np.ndarray,
    start: int,
    stop: int,
    plain: int,
    out: np.ndarray,
    out_values: np.ndarray | None,
) -> None:
    """Write the keys (and values) of the cells of `_count`."""
    at = 0
    places = np.zeros(members.shape[1], np.int64)
    for b in range(start, stop):
        base = b * num_slots
        if plain:
            for j in range(offsets[base], offsets[base + plain]):
                out[at] = keys[j]
                if values is not None:
                    out_values[at] = values[j]  # type: ignore[index]
                at += 1
        for c in range(members.shape[0]):
            if members.shape[1] > 2 and members[c, 2] >= 0:
                at = _fold(
                    keys,
                    values,
                    offsets,
                    base,
                    members[c],
                    prefixes[c],
                    places,
                    at,
                    out,
                    out_values,
                )
                continue
            left, right = base + members[c, 0], base + members[c, 1]
            for i in range(offsets[left], offsets[left + 1]):
                prefix = cross_prefix(cross_with(prefixes[c], keys[i]))
                for j in range(offsets[right], offsets[right + 1]):
                    out[at] = cross_with(prefix, keys[j])
                    if values is not None:
                        out_values[at] = values[i] * values[j]  # type: ignore[index]
                    at += 1


@numba.njit(nogil=True, cache=True)
def _fold(
    keys: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    base: int,
    members: np.ndarray,
    prefix: np.uint64,
    places: np.ndarray,
    at: int,
    out: np.ndarray,
    out_values: np.ndarray | None,
) -> int:
    """Write the combinations of any number of members of one example; return what is next."""
    count = 0
    for m in range(members.size):
        if members[m] >= 0:
            cell = base + members[m]
            if offsets[cell + 1] == offsets[cell]:
                return at
            places[m] = offsets[cell]
            count += 1
    while True:
        key = cross_with(prefix, keys[places[0]])
        value = _UNIT if values is None else values[places[0]]
        for m in range(1, count):
            key = cross_with(cross_prefix(key), keys[places[m]])
            if values is not None:
                value *= values[places[m]]
        out[at] = key
        if values is not None:
            out_values[at] = value  # type: ignore[index]
        at += 1
        m = count - 1
        while m >= 0:
            cell = base + members[m]
            places[m] += 1
            if places[m] < offsets[cell + 1]:
                break
            places[m] = offsets[cell]
            m -= 1
        if m < 0:
            return at
