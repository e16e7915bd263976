"""Peers of a table of FTRL rows: bare memory at known positions, and a hash table in numpy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from weiml.hashing import mix64
from weiml.ps.optimizers import FTRL
from weiml.ps.rows.memory import Region, load_f32, prefetch, store_f32

__all__ = ["NumpyTable", "Slots", "keys_at", "modify_first_level", "modify_second_level"]

_BATCH = 1 << 20


@numba.njit(cache=True, nogil=True)
def keys_at(positions: np.ndarray) -> np.ndarray:
    """Return the keys that the table was filled with, by their numbers."""
    out = np.empty(positions.size, np.uint64)
    for i in range(positions.size):
        out[i] = mix64(np.uint64(positions[i]) + np.uint64(0x9E3779B97F4A7C15))
    return out


@numba.njit(cache=True, nogil=True)
def hashes_of(keys: np.ndarray) -> np.ndarray:
    out = np.empty(keys.size, np.uint64)
    for i in range(keys.size):
        out[i] = mix64(keys[i])
    return out


@intrinsic
def prefetch_to_write(typingctx: Any, address: Any) -> Any:
    """Ask for a line into the first-level cache, for writing."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        builder.call(function, [builder.inttoptr(args[0], byte), word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@numba.njit(cache=True, nogil=True)
def modify_second_level(base: int, positions: np.ndarray, grads: np.ndarray, ahead: int) -> None:
    """Read and write both floats of 16-byte slots at known positions."""
    for i in range(positions.size):
        if i + ahead < positions.size:
            prefetch(base + 16 * positions[i + ahead])
        at = base + 16 * positions[i] + 8
        g = grads[i, 0]
        z, n = load_f32(at), load_f32(at + 4)
        store_f32(at, z + g)
        store_f32(at + 4, n + g * g)


@numba.njit(cache=True, nogil=True)
def modify_first_level(base: int, positions: np.ndarray, grads: np.ndarray, ahead: int) -> None:
    """Do the same with the other prefetch."""
    for i in range(positions.size):
        if i + ahead < positions.size:
            prefetch_to_write(base + 16 * positions[i + ahead])
        at = base + 16 * positions[i] + 8
        g = grads[i, 0]
        z, n = load_f32(at), load_f32(at + 4)
        store_f32(at, z + g)
        store_f32(at + 4, n + g * g)


class Slots:
    """The peer that has nothing to find."""

    def __init__(self, rows: int) -> None:
        self.region = Region(16 * rows)
        self.ahead: dict[Callable[..., None], int] = {}
        positions = np.arange(rows)
        for part in np.array_split(positions, max(rows // _BATCH, 1)):
            modify_second_level(self.region.address, part, np.ones((part.size, 1), np.float32), 0)

    def tune(self, kernel: Callable[..., None], positions: np.ndarray, grads: np.ndarray) -> None:
        """Choose the distance of the prefetch at which `kernel` is fastest."""
        seconds = {}
        for ahead in (8, 16, 24, 32, 64, 128):
            times = []
            for _ in range(4):
                begin = time.perf_counter()
                kernel(self.region.address, positions, grads, ahead)
                times.append(time.perf_counter() - begin)
            seconds[ahead] = min(times)
        self.ahead[kernel] = min(seconds, key=lambda ahead: seconds[ahead])

    def modify(self, kernel: Callable[..., None], positions: np.ndarray, grads: np.ndarray) -> None:
        """Run `kernel` over the slots at `positions`."""
        kernel(self.region.address, positions, grads, self.ahead[kernel])


class NumpyTable:
    """FTRL rows in numpy: hashes sorted by linear probing, found in vectorised rounds."""

    CHUNK = 1 << 13

    def __init__(self, keys: np.ndarray, rule: FTRL) -> None:
        self.scalars = rule.scalars
        hashes = np.sort(hashes_of(keys))
        self.bits = int(np.ceil(np.log2(keys.size / 0.75)))
        self.shift = np.uint64(64 - self.bits)
        homes = (hashes >> self.shift).astype(np.int64)
        homes -= np.arange(keys.size)
        places = np.maximum.accumulate(homes)
        places += np.arange(keys.size)
        self.slots = np.zeros(int(places[-1]) + 2, np.uint64)
        self.slots[places] = hashes
        self.state = np.zeros((self.slots.size, 2), np.float32)

    def _places(self, hashes: np.ndarray) -> np.ndarray:
        places = (hashes >> self.shift).astype(np.int64)
        left = np.flatnonzero(self.slots[places] != hashes)
        while left.size:
            places[left] += 1
            left = left[self.slots[places[left]] != hashes[left]]
        return places

    def update(self, keys: np.ndarray, grads: np.ndarray) -> None:
        """Apply gradients float32 (n, 1) to the rows of distinct keys that are there."""
        alpha, beta, l1, l2 = self.scalars
        for start in range(0, keys.size, self.CHUNK):
            g = grads[start : start + self.CHUNK, 0]
            places = self._places(hashes_of(keys[start : start + self.CHUNK]))
            rows = self.state[places]
            z, n = rows[:, 0], rows[:, 1]
            root = np.sqrt(n)
            n += g * g
            shrunk = np.maximum(z - l1, 0) + np.minimum(z + l1, 0)
            z += g + (np.sqrt(n) - root) * shrunk / (beta + root + alpha * l2)
            self.state[places] = rows

    def weights(self, keys: np.ndarray) -> np.ndarray:
        """Return the weights float32 (n, 1) of keys that are there."""
        alpha, beta, l1, l2 = self.scalars
        out = np.empty((keys.size, 1), np.float32)
        for start in range(0, keys.size, self.CHUNK):
            places = self._places(hashes_of(keys[start : start + self.CHUNK]))
            rows = self.state[places]
            z, n = rows[:, 0], rows[:, 1]
            shrunk = np.maximum(z - l1, 0) + np.minimum(z + l1, 0)
            out[start : start + self.CHUNK, 0] = -alpha * shrunk / (beta + np.sqrt(n) + alpha * l2)
        return out
