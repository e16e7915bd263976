"""Examples picked from several batches in any order: the compiled loops of shuffling.

The batches are not joined first. Each example's rows are copied from where they lie, which may be a
mapped file; the lines of examples to come are asked for ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numba
import numpy as np

from weiml.data.batches.columns import check_columns
from weiml.errors import DataError
from weiml.features import Batch
from weiml.hashing.memory import load_i32, load_u32, load_u64, store_u64
from weiml.ps.rows.memory import address_of, move_bytes, prefetch, store_u32

__all__ = ["Gatherer", "has_one_key"]

_AHEAD = 24  # examples; their lines come while those before are copied
_LINE = 64
_ONE = np.uint32(0x3F800000)  # the float32 1


class Gatherer:
    """Picks examples from valid batches of the same columns, as if joined. Thread-safe.

    Raises:
        DataError: there are no batches, or their columns differ.
    """

    def __init__(self, parts: Sequence[Batch]) -> None:
        if not parts:
            raise DataError("examples are picked from at least one batch, got none")
        filled = [part for part in parts if part.num_examples] or parts[:1]
        for part in parts:  # what is compiled below copies rows of one size, unchecked
            check_columns(filled[0], part)
        parts = filled
        self._parts = [_contiguous(part) for part in parts]
        self._ends = np.cumsum([part.num_examples for part in parts])
        self._valued = any(part.values is not None for part in parts)
        self._one_key = not self._valued and all(has_one_key(part) for part in parts)

    @property
    def num_examples(self) -> int:
        """How many examples there are to pick from."""
        return int(self._ends[-1])

    def take(self, indices: np.ndarray) -> Batch:
        """Return the examples at `indices` ``(n,)`` integers from 0, in that order.

        Raises:
            DataError: an index is out of range, or the batch would hold 2³¹ keys or more.
        """
        where = np.ascontiguousarray(indices, np.int64)
        if where.size and not 0 <= where.min() <= where.max() < self.num_examples:
            raise DataError(
                f"examples are numbered 0 to {self.num_examples - 1}, got indices from "
                f"{where.min()} to {where.max()}"
            )
        parts, rows = np.empty(where.size, np.int32), np.empty(where.size, np.int64)
        _locate(where, self._ends, parts, rows)

        def column(of: Callable[[Batch], np.ndarray]) -> np.ndarray:
            arrays = [of(part) for part in self._parts]
            out = np.empty((where.size, *arrays[0].shape[1:]), arrays[0].dtype)
            size = out.itemsize * int(np.prod(out.shape[1:]))
            _copy_rows(_addresses(arrays), parts, rows, size, address_of(out))
            return out

        keys, offsets, values = self._sparse(parts, rows, column)
        return replace(
            self._parts[0],
            labels=column(lambda part: part.labels),
            weights=column(lambda part: part.weights),
            dense=column(lambda part: part.dense),
            keys=keys,
            offsets=offsets,
            values=values,
            groups=column(lambda part: part.groups),
            items=column(lambda part: part.items),
            times=column(lambda part: part.times),
        )

    def _sparse(
        self,
        parts: np.ndarray,
        rows: np.ndarray,
        column: Callable[[Callable[[Batch], np.ndarray]], np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        S = len(self._parts[0].slots)
        if self._one_key:
            keys = column(lambda part: part.keys.reshape(part.num_examples, S))
            return keys.reshape(-1), np.arange(rows.size * S + 1, dtype=np.int32), None
        sources = _addresses([part.offsets for part in self._parts])
        offsets = np.empty(rows.size * S + 1, np.int32)
        total = int(_new_offsets(sources, parts, rows, S, offsets))
        if total >= 2**31:
            raise DataError(f"a batch holds fewer than 2^31 keys, got {total}: take fewer examples")
        keys = np.empty(total, np.uint64)
        values = np.empty(total, np.float32) if self._valued else None
        given = [part.values for part in self._parts]
        _copy_keys(
            sources, _addresses([part.keys for part in self._parts]), _addresses(given),
            parts, rows, S, keys, np.empty(0, np.float32) if values is None else values,
        )  # fmt: skip
        return keys, offsets, values


def _contiguous(batch: Batch) -> Batch:
    return replace(
        batch,
        labels=np.ascontiguousarray(batch.labels),
        weights=np.ascontiguousarray(batch.weights),
        dense=np.ascontiguousarray(batch.dense),
        keys=np.ascontiguousarray(batch.keys),
        offsets=np.ascontiguousarray(batch.offsets),
        values=None if batch.values is None else np.ascontiguousarray(batch.values),
        groups=np.ascontiguousarray(batch.groups),
        items=np.ascontiguousarray(batch.items),
        times=np.ascontiguousarray(batch.times),
    )


def has_one_key(batch: Batch) -> bool:
    """Whether every slot of every example has exactly one key."""
    return batch.keys.size == batch.offsets.size - 1 and bool(_counts_up(batch.offsets))


def _addresses(arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    return np.array([0 if array is None else address_of(array) for array in arrays], np.int64)


@numba.njit(nogil=True, cache=True)
def _counts_up(offsets: np.ndarray) -> bool:
    wrong = 0
    for i in range(offsets.size):
        wrong |= offsets[i] ^ np.int32(i)
    return wrong == 0


@numba.njit(nogil=True, cache=True)
def _locate(indices: np.ndarray, ends: np.ndarray, parts: np.ndarray, rows: np.ndarray) -> None:
    """Write which part each index lies in, and at which row there."""
    for i in range(indices.size):
        part = np.searchsorted(ends, indices[i], side="right")
        parts[i] = part
        rows[i] = indices[i] - (ends[part - 1] if part else 0)


@numba.njit(nogil=True, cache=True)
def _copy_rows(
    sources: np.ndarray, parts: np.ndarray, rows: np.ndarray, size: int, out: int
) -> None:
    """Copy rows of `size` bytes from the columns at addresses `sources` to the address `out`."""
    for i in range(rows.size):
        if i + _AHEAD < rows.size:
            ahead = sources[parts[i + _AHEAD]] + rows[i + _AHEAD] * size
            for line in range(0, size, _LINE):
                prefetch(ahead + line)
            prefetch(ahead + max(size - 1, 0))
        source = sources[parts[i]] + rows[i] * size
        if size == 4:
            store_u32(out + 4 * i, np.uint32(load_u32(source)))
        elif size == 8:
            store_u64(out + 8 * i, load_u64(source))
        else:
            move_bytes(out + size * i, source, size)


@numba.njit(nogil=True, cache=True)
def _new_offsets(
    sources: np.ndarray, parts: np.ndarray, rows: np.ndarray, num_slots: int, out: np.ndarray
) -> int:
    """Write the offsets of the examples put one after the other; return how many keys they have."""
    total = 0
    out[0] = 0
    for i in range(rows.size):
        if i + _AHEAD < rows.size:
            ahead = sources[parts[i + _AHEAD]] + 4 * rows[i + _AHEAD] * num_slots
            for line in range(0, 4 * num_slots + 4, _LINE):
                prefetch(ahead + line)
        source = sources[parts[i]] + 4 * rows[i] * num_slots
        first = load_i32(source)
        for s in range(1, num_slots + 1):
            out[i * num_slots + s] = np.int32(total + load_i32(source + 4 * s) - first)
        total += load_i32(source + 4 * num_slots) - first
    return total


@numba.njit(nogil=True, cache=True)
def _copy_keys(
    offsets: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    parts: np.ndarray,
    rows: np.ndarray,
    num_slots: int,
    out: np.ndarray,
    out_values: np.ndarray,
) -> None:
    """Copy the keys of each example, and the values that go with them where there are some."""
    at = np.int64(0)
    to = np.int64(out.ctypes.data)
    to_values = np.int64(out_values.ctypes.data)
    for i in range(rows.size):
        if i + _AHEAD < rows.size:
            place = offsets[parts[i + _AHEAD]] + 4 * rows[i + _AHEAD] * num_slots
            first = load_i32(place)
            for key in range(first, load_i32(place + 4 * num_slots), 8):
                prefetch(keys[parts[i + _AHEAD]] + 8 * key)
        part = parts[i]
        place = offsets[part] + 4 * rows[i] * num_slots
        first, last = np.int64(load_i32(place)), np.int64(load_i32(place + 4 * num_slots))
        move_bytes(to + 8 * at, keys[part] + 8 * first, 8 * (last - first))
        if out_values.size:
            if values[part]:
                move_bytes(to_values + 4 * at, values[part] + 4 * first, 4 * (last - first))
            else:
                for j in range(last - first):
                    store_u32(to_values + 4 * (at + j), _ONE)
        at += last - first
