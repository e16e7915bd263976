"""Looks at the outer form of JSON events before a reader that trusts its lines sees them.

The block reader counts values, not lines, so ``{}{}`` on one line and nothing on the next would
shift every event that follows, and a bare ``null`` crashes it. Here each value is held to be one
whole object by its brackets and quotes alone; what is inside is the reader's business.
"""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["BROKEN", "NEWLINE", "NOT_OBJECT", "compact", "scan_objects"]

NOT_OBJECT = 1
"""Does not begin with a brace."""
BROKEN = 2
"""Does not end where its first brace is closed."""
NEWLINE = 3
"""One whole object, over several lines."""

_QUOTE, _BACKSLASH, _NEWLINE = ord('"'), ord("\\"), ord("\n")
_OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST = ord("{"), ord("}"), ord("["), ord("]")
_SPACE, _TAB, _RETURN = ord(" "), ord("\t"), ord("\r")


@numba.njit(nogil=True, cache=True)
def scan_objects(data: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return what is wrong with each value: uint8 ``(n,)``, 0 if it is an object on one line.

    Args:
        data: uint8, values each followed by a newline.
        bounds: int64 ``(n + 1,)``, see `RawEvents.bounds`.
    """
    n = bounds.size - 1
    faults = np.zeros(n, np.uint8)
    for i in range(n):
        faults[i] = _fault(data, bounds[i], bounds[i + 1] - 1)
    return faults


@numba.njit(nogil=True, inline="always")
def _is_space(byte: int) -> bool:
    return byte in (_SPACE, _TAB, _RETURN, _NEWLINE)


@numba.njit(nogil=True, cache=True)
def _fault(data: np.ndarray, at: int, stop: int) -> int:
    newline = False
    while at < stop and _is_space(data[at]):
        newline |= data[at] == _NEWLINE
        at += 1
    if at == stop or data[at] != _OPEN:
        return NOT_OBJECT
    depth = 0
    while at < stop:
        byte = data[at]
        at += 1
        if byte == _QUOTE:
            while at < stop and data[at] != _QUOTE:
                if data[at] == _NEWLINE:
                    return BROKEN
                at += 2 if data[at] == _BACKSLASH else 1
            if at >= stop:
                return BROKEN
            at += 1
        elif byte in (_OPEN, _OPEN_LIST):
            depth += 1
        elif byte in (_CLOSE, _CLOSE_LIST):
            depth -= 1
            if depth == 0:
                break
        elif byte == _NEWLINE:
            newline = True
    while at < stop and _is_space(data[at]):
        newline |= data[at] == _NEWLINE
        at += 1
    if depth != 0 or at != stop:
        return BROKEN
    return NEWLINE if newline else 0


@numba.njit(nogil=True, cache=True)
def compact(
    data: np.ndarray, bounds: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return data and bounds of the values that are `kept` ``(n,)``, each ended by a newline."""
    size = 0
    for i in range(kept.size):
        if kept[i]:
            size += bounds[i + 1] - bounds[i]
    out = np.empty(size, np.uint8)
    ends = np.zeros(kept.sum() + 1, np.int64)
    at = row = 0
    for i in range(kept.size):
        if kept[i]:
            for j in range(bounds[i], bounds[i + 1] - 1):
                out[at] = data[j]
                at += 1
            out[at] = _NEWLINE  # whoever put newlines out of the way took this one too
            at += 1
            row += 1
            ends[row] = at
    return out, ends
