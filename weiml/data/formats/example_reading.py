"""tf.train.Example messages to columns: the protobuf wire format, compiled, a block at a time.

Example { Features features = 1 }, Features { map<string, Feature> feature = 1 }, Feature { oneof:
BytesList = 1, FloatList = 2, Int64List = 3 }, each list { repeated value = 1 }. First every record
is walked once, which finds where each column's list lies; then each column's values are taken.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from weiml.data.formats.names import NameTable, find_name

__all__ = [
    "BYTES",
    "FLOATS",
    "INTEGERS",
    "Lists",
    "feature_names",
    "find_lists",
    "take_bytes",
    "take_floats",
    "take_integers",
]

ABSENT, BYTES, FLOATS, INTEGERS = 0, 1, 2, 3

MALFORMED = 1
UNKNOWN_NAME = 2
TWO_LISTS = 3

_DAMAGED = -1


class Lists(NamedTuple):
    """Where the lists of C columns lie in N records: arrays (C, N)."""

    kind: np.ndarray  # int8: ABSENT, BYTES, FLOATS or INTEGERS
    start: np.ndarray  # int32: the list message's bytes
    stop: np.ndarray  # int32
    counts: np.ndarray  # int32: how many values
    error: np.ndarray  # int8 (N,): 0 if the record is well
    where: np.ndarray  # int64 (N, 2): the name that an error is about


@numba.njit(inline="always")
def _varint(data: np.ndarray, at: int, stop: int) -> tuple[np.uint64, int]:
    """Return a varint and where it ends; the end is `_DAMAGED` if it does not end in time."""
    if at < stop and data[at] < 128:
        return np.uint64(data[at]), at + 1
    value = np.uint64(0)
    shift = np.uint64(0)
    while at < stop and shift < np.uint64(70):
        byte = data[at]
        at += 1
        value |= np.uint64(byte & np.uint8(127)) << shift
        if byte < 128:
            return value, at
        shift += np.uint64(7)
    return value, _DAMAGED


@numba.njit(nogil=True, cache=True)
def _field(data: np.ndarray, at: int, stop: int) -> tuple[np.int64, np.int64, int, Any]:
    """Return (number, wire type, start of the payload, its end); the end is `_DAMAGED` if cut."""
    tag, at = _varint(data, at, stop)
    if at == _DAMAGED or tag >> np.uint64(32) != 0:
        return np.int64(0), np.int64(0), 0, _DAMAGED
    number = np.int64(tag >> np.uint64(3))
    wire = np.int64(tag & np.uint64(7))
    if wire == 0:
        _, end = _varint(data, at, stop)
        return number, wire, at, end
    if wire == 2:
        size, at = _varint(data, at, stop)
        if at == _DAMAGED or size > np.uint64(stop - at):
            return number, wire, 0, _DAMAGED
        return number, wire, at, at + np.int64(size)
    size_of = 8 if wire == 1 else 4
    if (wire != 1 and wire != 5) or at + size_of > stop:
        return number, wire, 0, _DAMAGED
    return number, wire, at, at + size_of


@numba.njit(nogil=True, cache=True)
def _count(data: np.ndarray, start: int, stop: int, kind: int) -> int:
    """Return how many values a list has; `_DAMAGED` if it is malformed."""
    count = 0
    at = start
    while at < stop:
        number, wire, at, end = _field(data, at, stop)
        if end == _DAMAGED:
            return _DAMAGED
        if number == 1:
            if kind == BYTES:
                if wire != 2:
                    return _DAMAGED
                count += 1
            elif kind == FLOATS:
                if wire == 2 and (end - at) % 4 == 0:
                    count += (end - at) // 4
                elif wire == 5:
                    count += 1
                else:
                    return _DAMAGED
            elif wire == 0:
                count += 1
            elif wire == 2:
                while at < end:
                    _, at = _varint(data, at, end)
                    if at == _DAMAGED:
                        return _DAMAGED
                    count += 1
            else:
                return _DAMAGED
        at = end
    return count


@numba.njit(nogil=True, cache=True)
def _entry(data: np.ndarray, start: int, stop: int) -> tuple[int, int, int, int]:
    """Return (start and end of the name, start and end of the Feature) of a map entry."""
    name = name_end = value = value_end = start
    at = start
    while at < stop:
        number, wire, at, end = _field(data, at, stop)
        if end == _DAMAGED or (number <= 2 and wire != 2):
            return 0, 0, 0, _DAMAGED
        if number == 1:
            name, name_end = at, end
        elif number == 2:
            value, value_end = at, end
        at = end
    return name, name_end, value, value_end


@numba.njit(nogil=True, cache=True)
def _feature(data: np.ndarray, start: int, stop: int) -> tuple[int, int, int, int]:
    """Return (kind, start of the list, its end, error) of a Feature."""
    kind = list_start = list_end = 0
    at = start
    while at < stop:
        number, wire, at, end = _field(data, at, stop)
        if end == _DAMAGED:
            return 0, 0, 0, MALFORMED
        if 1 <= number <= 3:
            if wire != 2:
                return 0, 0, 0, MALFORMED
            if kind:
                return 0, 0, 0, TWO_LISTS
            kind, list_start, list_end = number, at, end
        at = end
    return kind, list_start, list_end, 0


@numba.njit(nogil=True, cache=True)
def _walk(
    data: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    names: np.ndarray,
    offsets: np.ndarray,
    slots: np.ndarray,
    strict: bool,
    kinds: np.ndarray,
    list_starts: np.ndarray,
    list_stops: np.ndarray,
    counts: np.ndarray,
    errors: np.ndarray,
    where: np.ndarray,
) -> None:
    columns = kinds.shape[0]
    # Writers mostly keep one order of names: the column met at a position is guessed again there.
    guesses = np.full(columns + 1, -1, np.int64)
    for record in range(starts.size):
        position = 0
        at = starts[record]
        while at < stops[record] and errors[record] == 0:
            number, wire, at, end = _field(data, at, stops[record])
            if end == _DAMAGED or (number == 1 and wire != 2):
                errors[record] = MALFORMED
                break
            while number == 1 and at < end:
                inner, inner_wire, at, entry_end = _field(data, at, end)
                if entry_end == _DAMAGED or (inner == 1 and inner_wire != 2):
                    errors[record] = MALFORMED
                    break
                if inner == 1:
                    name, name_end, value, value_end = _entry(data, at, entry_end)
                    if value_end == _DAMAGED:
                        errors[record] = MALFORMED
                        break
                    guess = guesses[min(position, columns)]
                    column = find_name(data, name, name_end, names, offsets, slots, guess)
                    where[record, 0], where[record, 1] = name, name_end
                    if column >= 0:
                        guesses[min(position, columns)] = column
                        kind, first, last, error = _feature(data, value, value_end)
                        count = 0
                        if error == 0 and kind:
                            count = _count(data, first, last, kind)
                            if count == _DAMAGED:
                                error = MALFORMED
                        if error:
                            errors[record] = error
                            break
                        kinds[column, record] = kind
                        list_starts[column, record] = first
                        list_stops[column, record] = last
                        counts[column, record] = count
                    elif strict:
                        errors[record] = UNKNOWN_NAME
                        break
                    position += 1
                at = entry_end
            at = end


def find_lists(
    data: np.ndarray, starts: np.ndarray, stops: np.ndarray, table: NameTable, strict: bool
) -> Lists:
    """Walk the records ``data[starts[i]:stops[i]]``; with `strict`, unknown names are errors."""
    shape = (len(table.offsets) - 1, len(starts))
    lists = Lists(
        np.zeros(shape, np.int8),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
        np.zeros(len(starts), np.int8),
        np.zeros((len(starts), 2), np.int64),
    )
    _walk(data, starts, stops, *table, strict, *lists)
    return lists


@numba.njit(nogil=True, cache=True)
def feature_names(
    data: np.ndarray, starts: np.ndarray, stops: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the spans of the names in all records that are well formed, int64 each."""
    size = 64
    first = np.empty(size, np.int64)
    last = np.empty(size, np.int64)
    count = 0
    for record in range(starts.size):
        at = starts[record]
        while at < stops[record]:
            number, wire, at, end = _field(data, at, stops[record])
            if end == _DAMAGED or (number == 1 and wire != 2):
                break
            while number == 1 and at < end:
                inner, inner_wire, at, entry_end = _field(data, at, end)
                if entry_end == _DAMAGED or (inner == 1 and inner_wire != 2):
                    break
                if inner == 1:
                    name, name_end, _, value_end = _entry(data, at, entry_end)
                    if value_end == _DAMAGED:
                        break
                    if count == size:
                        first = np.concatenate((first, np.empty(size, np.int64)))
                        last = np.concatenate((last, np.empty(size, np.int64)))
                        size *= 2
                    first[count], last[count] = name, name_end
                    count += 1
                at = entry_end
            at = end
    return first[:count], last[:count]


@numba.njit(nogil=True, cache=True)
def take_integers(data: np.ndarray, start: np.ndarray, stop: np.ndarray, total: int) -> np.ndarray:
    """Return the values of Int64Lists, int64 ``(total,)``, in the records' order."""
    out = np.empty(total, np.int64)
    i = 0
    for record in range(start.size):
        at = start[record]
        while at < stop[record]:
            number, _, at, end = _field(data, at, stop[record])
            if number == 1:
                while at < end:
                    value, at = _varint(data, at, end)
                    out[i] = np.int64(value)
                    i += 1
            at = end
    return out


@numba.njit(nogil=True, cache=True)
def take_floats(data: np.ndarray, start: np.ndarray, stop: np.ndarray, total: int) -> np.ndarray:
    """Return the values of FloatLists as their bits, uint32 ``(total,)``."""
    out = np.empty(total, np.uint32)
    i = 0
    for record in range(start.size):
        at = start[record]
        while at < stop[record]:
            number, _, at, end = _field(data, at, stop[record])
            if number == 1:
                while at < end:
                    bits = np.uint32(0)
                    for k in range(4):
                        bits |= np.uint32(data[at + k]) << np.uint32(8 * k)
                    out[i] = bits
                    i += 1
                    at += 4
            at = end
    return out


@numba.njit(nogil=True, cache=True)
def take_bytes(
    data: np.ndarray, start: np.ndarray, stop: np.ndarray, total: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the spans of the values of BytesLists, int64 ``(total,)`` each."""
    first = np.empty(total, np.int64)
    last = np.empty(total, np.int64)
    i = 0
    for record in range(start.size):
        at = start[record]
        while at < stop[record]:
            number, _, at, end = _field(data, at, stop[record])
            if number == 1:
                first[i], last[i] = at, end
                i += 1
            at = end
    return first, last
