"""Columns to TFRecords of tf.train.Example messages, compiled: sizes first, then bytes in place."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from weiml.data.formats.crc32c import masked_crc32c
from weiml.data.formats.example_reading import BYTES, FLOATS, INTEGERS

__all__ = ["Column", "records_of"]

_FRAME = 16  # length (8), its CRC (4), and the CRC of the data (4)


class Column(NamedTuple):
    """One column of N examples: values and where each example's lie among them."""

    name: np.ndarray  # uint8
    kind: int  # BYTES, FLOATS or INTEGERS
    values: np.ndarray  # uint8 of BYTES, uint32 bits of FLOATS, int64 of INTEGERS
    bounds: np.ndarray  # int64 (values + 1,): of BYTES, where each value lies; else empty
    offsets: np.ndarray  # int64 (N + 1,)
    present: np.ndarray  # bool (N,): where False, the example lacks the feature


def records_of(columns: list[Column], rows: int) -> np.ndarray:
    """Return `rows` framed records, uint8; features stand in the columns' order."""
    inner = np.zeros((len(columns), rows), np.int64)
    features = np.zeros(rows, np.int64)
    for column, sizes in zip(columns, inner, strict=True):
        _sizes(*column, sizes, features)
    examples = _outer(features)
    ends = np.cumsum(examples + _FRAME)
    out = np.empty(int(ends[-1]) if rows else 0, np.uint8)
    at = ends - examples - 4
    _open(out, at, features)
    for column, sizes in zip(columns, inner, strict=True):
        _fill(*column, sizes, out, at)
    _frame(out, ends, examples)
    return out


@numba.njit(inline="always")
def _width(value: np.uint64) -> int:
    """Return how many bytes a varint takes."""
    width = 1
    while value > np.uint64(127):
        value >>= np.uint64(7)
        width += 1
    return width


@numba.njit(inline="always")
def _put(out: np.ndarray, at: int, value: np.uint64) -> int:
    """Write a varint; return where it ends."""
    while value > np.uint64(127):
        out[at] = np.uint8(value & np.uint64(127)) | np.uint8(128)
        value >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@numba.njit(inline="always")
def _delimited(size: int) -> int:
    """Return the size of a field of number 1 to 15 that holds `size` bytes."""
    return 1 + _width(np.uint64(size)) + size


@numba.njit(nogil=True, cache=True)
def _outer(features: np.ndarray) -> np.ndarray:
    """Return the sizes of Examples that hold Features of these sizes."""
    out = np.empty(features.size, np.int64)
    for i in range(features.size):
        out[i] = _delimited(features[i])
    return out


@numba.njit(nogil=True, cache=True)
def _sizes(
    name: np.ndarray,
    kind: int,
    values: np.ndarray,
    bounds: np.ndarray,
    offsets: np.ndarray,
    present: np.ndarray,
    payload: np.ndarray,
    features: np.ndarray,
) -> None:
    """Set the size of each example's packed values (or BytesList); add the map entry's size."""
    for row in range(present.size):
        if not present[row]:
            continue
        first, last = offsets[row], offsets[row + 1]
        size = 0
        if kind == FLOATS:
            size = 4 * (last - first)
        elif kind == INTEGERS:
            for i in range(first, last):
                size += _width(np.uint64(values[i]))
        else:
            for i in range(first, last):
                size += _delimited(bounds[i + 1] - bounds[i])
        payload[row] = size
        listed = size if kind == BYTES or last == first else _delimited(size)
        entry = _delimited(name.size) + _delimited(_delimited(listed))
        features[row] += _delimited(entry)


@numba.njit(nogil=True, cache=True)
def _open(out: np.ndarray, at: np.ndarray, features: np.ndarray) -> None:
    for row in range(at.size):
        out[at[row]] = 10
        at[row] = _put(out, at[row] + 1, np.uint64(features[row]))


@numba.njit(nogil=True, cache=True)
def _fill(
    name: np.ndarray,
    kind: int,
    values: np.ndarray,
    bounds: np.ndarray,
    offsets: np.ndarray,
    present: np.ndarray,
    payload: np.ndarray,
    out: np.ndarray,
    at: np.ndarray,
) -> None:
    for row in range(present.size):
        if not present[row]:
            continue
        first, last = offsets[row], offsets[row + 1]
        size = payload[row]
        packed = kind != BYTES and last > first
        listed = _delimited(size) if packed else size
        feature = _delimited(listed)
        to = at[row]
        out[to] = 10
        to = _put(out, to + 1, np.uint64(_delimited(name.size) + _delimited(feature)))
        out[to] = 10
        to = _put(out, to + 1, np.uint64(name.size))
        for i in range(name.size):
            out[to + i] = name[i]
        to += name.size
        out[to] = 18
        to = _put(out, to + 1, np.uint64(feature))
        out[to] = np.uint8(kind << 3 | 2)
        to = _put(out, to + 1, np.uint64(listed))
        if packed:
            out[to] = 10
            to = _put(out, to + 1, np.uint64(size))
        for i in range(first, last):
            if kind == INTEGERS:
                to = _put(out, to, np.uint64(values[i]))
            elif kind == FLOATS:
                for k in range(4):
                    out[to + k] = np.uint8((values[i] >> (8 * k)) & 255)
                to += 4
            else:
                out[to] = 10
                to = _put(out, to + 1, np.uint64(bounds[i + 1] - bounds[i]))
                for k in range(bounds[i], bounds[i + 1]):
                    out[to] = np.uint8(values[k])
                    to += 1
        at[row] = to


@numba.njit(inline="always")
def _put_word(out: np.ndarray, at: int, value: np.uint64, width: int) -> None:
    for k in range(width):
        out[at + k] = np.uint8((value >> np.uint64(8 * k)) & np.uint64(255))


@numba.njit(nogil=True, cache=True)
def _frame(out: np.ndarray, ends: np.ndarray, examples: np.ndarray) -> None:
    for row in range(ends.size):
        stop = ends[row] - 4
        start = stop - examples[row]
        _put_word(out, start - 12, np.uint64(examples[row]), 8)
        _put_word(out, start - 4, np.uint64(masked_crc32c(out, start - 12, start - 4)), 4)
        _put_word(out, stop, np.uint64(masked_crc32c(out, start, stop)), 4)
