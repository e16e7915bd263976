"""What a `RowStore.visit` can run on rows of float32 whatever they mean: add to them, copy them.

It knows addresses and float32 only. Rules have blocks of their own beside these.
"""

from __future__ import annotations

import functools
from typing import TypeAlias

import numba
import numpy as np
from numba import types

from weiml.ps.rows.memory import floats, integers

__all__ = ["BLOCK", "Block", "add_block", "copy_block"]

Block: TypeAlias = tuple[int, np.ndarray]
"""The address of a compiled C function and its parameters, as `RowStore.visit` takes them."""

BLOCK = types.void(types.int64, types.int64, types.int64, types.int64)
"""Its type: where the row addresses lie, how many, where the values and the parameters lie."""


def add_block(width: int) -> Block:
    """Return what adds values float32 (n, width) to the rows' first numbers, in order."""
    return _compiled_add(), np.array([width], np.float32)


def copy_block(width: int) -> Block:
    """Return what copies the rows' first numbers into values float32 (n, width)."""
    return _compiled_copy(), np.array([width], np.float32)


@functools.cache
def _compiled_add() -> int:
    return int(numba.cfunc(BLOCK, cache=True)(_add).address)


@functools.cache
def _compiled_copy() -> int:
    return int(numba.cfunc(BLOCK, cache=True)(_copy).address)


def _add(addresses: int, size: int, values: int, parameters: int) -> None:
    rows = integers(addresses, size)
    width = int(floats(parameters, 1)[0])
    for i in range(size):
        row = floats(rows[i], width)
        more = floats(values + 4 * width * i, width)
        for c in range(width):
            row[c] += more[c]


def _copy(addresses: int, size: int, values: int, parameters: int) -> None:
    rows = integers(addresses, size)
    width = int(floats(parameters, 1)[0])
    for i in range(size):
        row = floats(rows[i], width)
        out = floats(values + 4 * width * i, width)
        for c in range(width):
            out[c] = row[c]
