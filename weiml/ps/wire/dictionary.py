"""Keys as small numbers: a client and a shard count the keys that passed between them.

The first time a key travels it goes in full and gets the next number; later its number goes. The
numbers of a list are sent in ascending order as gaps, each block of 128 gaps with just the bits
that its largest needs, so that the hot keys, which have small and dense numbers, cost a bit or two.

A `Dictionary` is the client's side, a `KeyTable` the shard's. An epoch is one count from 0, with a
number that no other epoch of the process has: the client begins a new one when the dictionary is
full or the shard has lost its side.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numba
import numpy as np

from weiml.hashing import mix64
from weiml.ps.rows.memory import prefetch

__all__ = ["Dictionary", "KeyTable", "PackedKeys"]

_BLOCK = 128
_SMALLEST = 1024
_AHEAD = 64
_RADIX = 11
_EPOCHS = itertools.count()
_U1, _U6, _U63, _U64 = (np.uint64(n) for n in (1, 6, 63, 64))


@dataclass(frozen=True)
class PackedKeys:
    """A list of keys on the wire; it makes sense to the shard that has had those before it."""

    epoch: int
    known: int
    """How many keys the epoch had numbered before this list."""
    new: np.ndarray
    """uint64 (k,): the keys that get the numbers from `known` on."""
    size: int
    """Keys in the list."""
    widths: np.ndarray
    """uint8 (blocks,): bits of each gap of a block."""
    gaps: np.ndarray
    """uint64 words: the blocks' gaps one after the other, each block beginning a word."""

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.new.nbytes + self.widths.nbytes + self.gaps.nbytes


class Dictionary:
    """A client's numbering of the keys that it sends to one shard; at most `capacity` of them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.epoch = 0
        self._count = 0
        self._slots = _no_slots()
        self.restart()

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._slots.nbytes

    def restart(self) -> None:
        """Begin the next epoch, which knows no key."""
        self.epoch = next(_EPOCHS)
        self._count = 0
        self._slots = _no_slots()

    def pack(self, keys: np.ndarray) -> tuple[PackedKeys, np.ndarray] | None:
        """Return `keys` uint64 (n,) packed, and order int32 (n,): the i-th key is keys[order[i]].

        None: there are more keys than the dictionary may hold.
        """
        if keys.size > self.capacity:
            return None
        if self._count + keys.size > self.capacity:
            self.restart()  # by its bound it might overflow in the middle
        known = self._count
        self._reserve(known + keys.size)
        numbered = np.empty(keys.size, np.uint64)
        new = np.empty(keys.size, np.uint64)
        self._count = int(_number(self._slots, keys, known, numbered, new))
        bits = (self._count - 1).bit_length() if self._count else 0
        ordered = _sorted(numbered, bits)
        widths, gaps, order = _pack(ordered)
        packed = PackedKeys(
            self.epoch, known, new[: self._count - known].copy(), keys.size, widths, gaps
        )
        return packed, np.asarray(order)

    def _reserve(self, count: int) -> None:
        size = len(self._slots)
        while 4 * count > 3 * size:
            size *= 2
        if size > len(self._slots):
            slots = np.zeros((size, 2), np.uint64)
            _move(self._slots, slots)
            self._slots = slots


def _no_slots() -> np.ndarray:
    return np.zeros((2 * _SMALLEST, 2), np.uint64)


class KeyTable:
    """A shard's side of one client's dictionary."""

    def __init__(self) -> None:
        self.epoch = -1
        self._keys = np.empty(_SMALLEST, np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the numbered keys."""
        return self._keys.nbytes

    def unpack(self, packed: PackedKeys) -> np.ndarray | None:
        """Return the keys uint64 (n,), or None: a list before this one is missing.

        A list that arrives twice, or after later ones, gives the same keys again.
        """
        if packed.epoch != self.epoch:
            if packed.known:
                return None
            self.epoch, self._count = packed.epoch, 0
        if packed.known > self._count:
            return None
        end = packed.known + packed.new.size
        again = self._keys[packed.known : min(end, self._count)]
        if not np.array_equal(again, packed.new[: again.size]):
            return None
        self._reserve(end)
        self._keys[packed.known : end] = packed.new
        self._count = max(self._count, end)
        out = np.empty(packed.size, np.uint64)
        _unpack(packed.widths, packed.gaps, self._keys, out)
        return out

    def _reserve(self, count: int) -> None:
        if count > self._keys.size:
            keys = np.empty(max(count, 2 * self._keys.size), np.uint64)
            keys[: self._count] = self._keys[: self._count]
            self._keys = keys


@numba.njit(cache=True, nogil=True)
def _number(
    slots: np.ndarray, keys: np.ndarray, count: int, numbered: np.ndarray, new: np.ndarray
) -> int:
    """Write (number << 32 | place) of each key, and the new keys; return how many there are now.

    A slot is (key, number + 1), or (…, 0) when it is free.
    """
    mask = np.uint64(slots.shape[0] - 1)
    at = slots.ctypes.data
    known = count
    homes = np.empty(_AHEAD, np.uint64)
    for start in range(0, keys.size, _AHEAD):
        block = keys[start : start + _AHEAD]
        for j in range(block.size):
            homes[j] = mix64(block[j]) & mask
            prefetch(at + 16 * np.int64(homes[j]))
        for j in range(block.size):
            key, slot = block[j], homes[j]
            while slots[slot, 1] != 0 and slots[slot, 0] != key:
                slot = (slot + _U1) & mask
            if slots[slot, 1] == 0:
                new[count - known] = key
                count += 1
                slots[slot, 0] = key
                slots[slot, 1] = np.uint64(count)
            number = slots[slot, 1] - _U1
            numbered[start + j] = number << np.uint64(32) | np.uint64(start + j)
    return count


@numba.njit(cache=True, nogil=True)
def _move(source: np.ndarray, target: np.ndarray) -> None:
    mask = np.uint64(target.shape[0] - 1)
    for i in range(source.shape[0]):
        if source[i, 1] != 0:
            slot = mix64(source[i, 0]) & mask
            while target[slot, 1] != 0:
                slot = (slot + _U1) & mask
            target[slot, 0] = source[i, 0]
            target[slot, 1] = source[i, 1]


@numba.njit(cache=True, nogil=True)
def _sorted(numbered: np.ndarray, bits: int) -> np.ndarray:
    """Return `numbered` sorted by number, equal ones as they stand (least significant digit)."""
    source = numbered
    target = np.empty_like(numbered)
    digits = np.uint64((1 << _RADIX) - 1)
    shift = 0
    while shift < bits:
        by = np.uint64(32 + shift)
        starts = np.zeros((1 << _RADIX) + 1, np.int64)
        for i in range(source.size):
            starts[int((source[i] >> by) & digits) + 1] += 1
        for d in range(1 << _RADIX):
            starts[d + 1] += starts[d]
        for i in range(source.size):
            d = int((source[i] >> by) & digits)
            target[starts[d]] = source[i]
            starts[d] += 1
        source, target = target, source
        shift += _RADIX
    return source


@numba.njit(inline="always")
def _width(number: np.uint64) -> int:
    width = 0
    while number:
        number >>= _U1
        width += 1
    return width


@numba.njit(cache=True, nogil=True)
def _pack(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (widths, gaps, order) of sorted (number << 32 | place)."""
    size = ordered.size
    order = np.empty(size, np.int32)
    widths = np.empty((size + _BLOCK - 1) // _BLOCK, np.uint8)
    words = np.zeros(size // 2 + widths.size, np.uint64)  # a number has at most 31 bits
    gaps = np.empty(_BLOCK, np.uint64)
    last = np.uint64(0)
    word = 0
    for block in range(widths.size):
        start = block * _BLOCK
        count = min(_BLOCK, size - start)
        union = np.uint64(0)
        for j in range(count):
            entry = ordered[start + j]
            order[start + j] = np.int32(entry & np.uint64(0xFFFFFFFF))
            number = entry >> np.uint64(32)
            gaps[j] = number - last
            union |= gaps[j]
            last = number
        width = np.uint64(_width(union))
        widths[block] = width
        bit = np.uint64(0)
        for j in range(count):
            at = word + int(bit >> _U6)
            offset = bit & _U63
            words[at] |= gaps[j] << offset
            if offset + width > _U64:
                words[at + 1] = gaps[j] >> (_U64 - offset)
            bit += width
        word += int((bit + _U63) >> _U6)
    return widths, words[:word].copy(), order


@numba.njit(cache=True, nogil=True)
def _unpack(widths: np.ndarray, words: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    number = np.uint64(0)
    word = 0
    for block in range(widths.size):
        start = block * _BLOCK
        count = min(_BLOCK, out.size - start)
        width = np.uint64(widths[block])
        mask = (_U1 << width) - _U1
        bit = np.uint64(0)
        for j in range(count):
            at = word + int(bit >> _U6)
            offset = bit & _U63
            gap = np.uint64(0)
            if width:
                gap = words[at] >> offset
                if offset + width > _U64:
                    gap |= words[at + 1] << (_U64 - offset)
            number += gap & mask
            out[start + j] = table[np.int64(number)]
            bit += width
        word += int((bit + _U63) >> _U6)
