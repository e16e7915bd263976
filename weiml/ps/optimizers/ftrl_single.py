"""FTRL-proximal on rows of one weight, many rows at a time: the rule of `ftrl` to the bit.

Logistic regression's rows are (z, n) and nothing else, so the arithmetic is most of the work. Here
it runs over short arrays that rows are copied to and from, which a processor does several of at
once. It knows addresses and float32 only.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numba
import numpy as np

from weiml.ps.kernels import ftrl_weight
from weiml.ps.rows.blocks import BLOCK
from weiml.ps.rows.memory import (
    floats,
    integers,
    load_f32,
    load_u32,
    load_u64,
    store_f32,
    store_u32,
    store_u64,
)

__all__ = ["apply_block", "apply_single", "read_block", "read_single"]

_ROWS = 64
_ZERO = np.float32(0)


@numba.njit(inline="always")
def _stepped(
    z: np.float32,
    n: np.float32,
    g: np.float32,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> tuple[Any, Any]:
    root = math.sqrt(n)
    grown = n + g * g
    shrunk = max(z - l1, _ZERO) + min(z + l1, _ZERO)
    return z + (g + (math.sqrt(grown) - root) * shrunk / (beta + root + alpha * l2)), grown


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _step(
    state: np.ndarray,
    grads: np.ndarray,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> None:
    """Apply gradients (n,) to rows `state` (2n,), which is z, n, z, n and so on."""
    for i in range(grads.size):
        state[2 * i], state[2 * i + 1] = _stepped(
            state[2 * i], state[2 * i + 1], grads[i], alpha, beta, l1, l2
        )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _weights(
    state: np.ndarray,
    out: np.ndarray,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> None:
    for i in range(out.size):
        out[i] = ftrl_weight(state[2 * i], state[2 * i + 1], alpha, beta, l1, l2)


@numba.njit(inline="always")
def _load_marked(addresses: np.ndarray, rows: np.ndarray) -> bool:
    """Copy rows (z, n) to `rows` and leave marks in them; return whether an address occurs twice.

    Each row is made to hold its own number for a moment: one named twice holds the last only.
    """
    for i in range(addresses.size):
        rows[i] = load_u64(addresses[i])
        store_u32(addresses[i], np.uint32(i))
    clash = np.uint32(0)
    for i in range(addresses.size):
        clash |= load_u32(addresses[i]) ^ np.uint32(i)
    return clash != 0


@numba.njit(inline="always")
def _store_backwards(addresses: np.ndarray, rows: np.ndarray) -> None:
    """Put back what `_load_marked` copied: of a row named twice the first, which has no mark."""
    for i in range(addresses.size - 1, -1, -1):
        store_u64(addresses[i], rows[i])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _apply(
    addresses: np.ndarray,
    column: np.ndarray,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> None:
    rows = np.empty(_ROWS, np.uint64)
    state = rows.view(np.float32)
    for start in range(0, addresses.size, _ROWS):
        part = addresses[start : start + _ROWS]
        if _load_marked(part, rows):
            _store_backwards(part, rows)
            for i in range(start, start + part.size):
                at = addresses[i]
                z, n = _stepped(load_f32(at), load_f32(at + 4), column[i], alpha, beta, l1, l2)
                store_f32(at, z)
                store_f32(at + 4, n)
        else:
            _step(state, column[start : start + _ROWS], alpha, beta, l1, l2)
            for i in range(part.size):
                store_u64(part[i], rows[i])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _read(
    addresses: np.ndarray,
    column: np.ndarray,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> None:
    rows = np.empty(_ROWS, np.uint64)
    state = rows.view(np.float32)
    for start in range(0, addresses.size, _ROWS):
        part = addresses[start : start + _ROWS]
        for i in range(part.size):
            rows[i] = load_u64(part[i])
        _weights(state, column[start : start + _ROWS], alpha, beta, l1, l2)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def apply_single(
    addresses: np.ndarray,
    grads: np.ndarray,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> None:
    """Apply gradients float32 (n, 1) to the rows (z, n) at `addresses`, in order, in place."""
    _apply(addresses, grads.reshape(-1), alpha, beta, l1, l2)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def read_single(
    addresses: np.ndarray, alpha: np.float32, beta: np.float32, l1: np.float32, l2: np.float32
) -> np.ndarray:
    """Return the weights float32 (n, 1) of the rows (z, n) at `addresses`."""
    out = np.empty((addresses.size, 1), np.float32)
    _read(addresses, out.reshape(-1), alpha, beta, l1, l2)
    return out


@functools.cache
def apply_block() -> int:
    """Return the address of `apply_single` as `RowStore.visit` calls it."""
    return int(numba.cfunc(BLOCK, cache=True, error_model="numpy")(_apply_block).address)


@functools.cache
def read_block() -> int:
    """Return the address of `read_single` as `RowStore.visit` calls it."""
    return int(numba.cfunc(BLOCK, cache=True, error_model="numpy")(_read_block).address)


def _apply_block(addresses: int, size: int, grads: int, parameters: int) -> None:
    p = floats(parameters, 4)
    _apply(integers(addresses, size), floats(grads, size), p[0], p[1], p[2], p[3])


def _read_block(addresses: int, size: int, out: int, parameters: int) -> None:
    p = floats(parameters, 4)
    _read(integers(addresses, size), floats(out, size), p[0], p[1], p[2], p[3])
