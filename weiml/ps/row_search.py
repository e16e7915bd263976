"""Compiled search for the rows of many keys at once in the slots of a `RowStore`.

A slot is ``tag + 1`` (uint64) and the payload behind it. A bucket's slots are sorted by tag, the
hash without the bucket's bits; 0 is an empty slot, as fresh memory is. A slot never lies before its
tag's home, and no slot between the home and it is empty, so the layout follows from the set of tags
and the capacity alone, and a search ends at the first slot that is empty or holds a larger tag:
``load(slot) - 1 >= tag`` in unsigned arithmetic says both (ordered hashing: Amble and Knuth,
"Ordered hash tables", The Computer Journal 17, 1974). Nothing wraps around: behind a bucket's
homes lies a tail for what is displaced beyond them, and behind it one slot that stays empty.

`homes` int64 (buckets, 2): address of the first slot, number of home groups. `shape` int64 (4,):
hash bits that name the bucket, bytes of a slot, slots of a home group, bytes from the home on that
are asked for ahead. Slots of 16 bytes have groups of four, a cache line, and start at its start.

A miss takes 100 ns and more, so a search goes in rounds: all keys of a block ask for their first
lines long before these are looked at; those that are not there but may lie further on ask for the
next line and wait for the next round. Nothing branches on what a line holds, for that cannot be
foretold.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from weiml.hashing import mix64
from weiml.ps.memory import call_block, load_u64, prefetch

__all__ = [
    "AHEAD",
    "equal_in_line",
    "equal_in_two_lines",
    "find_rows",
    "home_of",
    "lowest_bit",
    "multiply_high",
]

AHEAD = 64
"""Keys between asking for a line and looking at it."""
VISITED = 1024
"""Rows that a function is called on at once: their pages are all known to the processor still."""
_VISITED_BYTES = 1 << 19  # of long rows fewer, which fit into the second-level cache together
_FEWEST = 64
_BLOCK = 2048  # their lines fit into the second-level cache
_ONE = np.uint64(1)
_NONE = 1 << 62
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)


@intrinsic
def multiply_high(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the upper 64 bits of the 128-bit product of two uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(x, wide) for x in args))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), codegen


def _comparer(slots: int) -> Any:
    lanes = 2 * slots
    words, bits = ir.VectorType(_I64, lanes), ir.IntType(lanes)
    nothing = ir.Constant(words, ir.Undefined)

    def equal_slots(typingctx: Any, address: Any, stored: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            there = builder.load(builder.inttoptr(args[0], words.as_pointer()), align=8)
            first = builder.insert_element(nothing, args[1], _I32(0))
            zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
            wanted = builder.shuffle_vector(first, nothing, zeros)
            equal = builder.bitcast(builder.icmp_unsigned("==", there, wanted), bits)
            # Every other lane is payload.
            return builder.zext(builder.and_(equal, bits(0x5555 & (1 << lanes) - 1)), _I64)

        return types.int64(types.int64, types.uint64), codegen

    return equal_slots


equal_in_line = intrinsic(_comparer(4))
"""``equal_in_line(address, stored)``: which of four 16-byte slots begin with `stored`.

The answer is the bits 0, 2, 4 and 6 of an int64.
"""
equal_in_two_lines = intrinsic(_comparer(8))
"""The same of eight slots."""


@intrinsic
def lowest_bit(typingctx: Any, number: Any) -> Any:
    """Return the place of the lowest bit set in an int64 that is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.int64), codegen


@numba.njit(inline="always")
def home_of(homes: np.ndarray, bucket: np.uint64, rest: np.uint64, stride: int) -> int:
    """Return the address of the home of a hash; `rest` is the hash shifted over its bucket."""
    group = multiply_high(rest, np.uint64(homes[bucket, 1]))
    return homes[bucket, 0] + np.int64(group) * stride


@numba.njit(inline="always")
def _payload(at: int, equal: int) -> Any:
    """Return the address of the payload in the slot ``at + 8 * lowest bit``, 0 without a bit."""
    return (at + 8 * lowest_bit(equal | _NONE) + 8) & -np.int64(equal != 0)


@numba.njit(inline="always")
def _ask_for_lines(homes: np.ndarray, bits: np.uint64, h: np.uint64) -> int:
    at = home_of(homes, h >> (np.uint64(64) - bits), h << bits, 64)
    prefetch(at)
    prefetch(at + 64)
    return at


@numba.njit(cache=True, nogil=True)
def _look_at_lines(
    homes: np.ndarray, bits: np.uint64, hashes: np.ndarray, out: np.ndarray, left: np.ndarray
) -> int:
    """Look for hashes in 16-byte slots in the lines of their homes and the ones behind.

    Writes payload addresses or 0 to `out` (n,), the numbers of those with 0 to `left`, and returns
    how many these are. The fewer instructions a key takes, the more misses are under way.
    """
    n = out.size
    count = np.uint64(0)
    for i in range(min(AHEAD, n)):
        out[i] = _ask_for_lines(homes, bits, hashes[i])
    for i in range(n):
        if i + AHEAD < n:
            out[i + AHEAD] = _ask_for_lines(homes, bits, hashes[i + AHEAD])
        equal = equal_in_two_lines(out[i], ((hashes[i] << bits) >> bits) + _ONE)
        out[i] = _payload(out[i], equal)
        left[count] = i
        count += np.uint64(equal == 0)
    return int(count)


@numba.njit(inline="always")
def _ask_for_slots(homes: np.ndarray, shape: np.ndarray, bits: np.uint64, h: np.uint64) -> int:
    at = home_of(homes, h >> (np.uint64(64) - bits), h << bits, shape[1] * shape[2])
    for line in range(0, shape[3], 64):
        prefetch(at + line)
    return at


@numba.njit(cache=True, nogil=True)
def _look_at_slots(
    homes: np.ndarray, shape: np.ndarray, hashes: np.ndarray, out: np.ndarray, left: np.ndarray
) -> int:
    """Do as `_look_at_lines` in slots of any size, their homes and the slots behind."""
    n = out.size
    bits = np.uint64(shape[0])
    slot = shape[1]
    count = np.uint64(0)
    for i in range(min(AHEAD, n)):
        out[i] = _ask_for_slots(homes, shape, bits, hashes[i])
    for i in range(n):
        if i + AHEAD < n:
            out[i + AHEAD] = _ask_for_slots(homes, shape, bits, hashes[i + AHEAD])
        at = out[i]
        stored = ((hashes[i] << bits) >> bits) + _ONE
        first = np.int64(load_u64(at) == stored)
        second = np.int64(load_u64(at + slot) == stored)
        out[i] = ((at + 8) & -first) | ((at + slot + 8) & -second)
        left[count] = i
        count += np.uint64(first | second == 0)
    return int(count)


@numba.njit(cache=True, nogil=True)
def _look_behind(
    homes: np.ndarray, shape: np.ndarray, hashes: np.ndarray, out: np.ndarray, left: np.ndarray
) -> None:
    """Look for the hashes numbered by `left` behind what was looked at at first."""
    bits = np.uint64(shape[0])
    slot = shape[1]
    lines = slot == 16
    step = 64 if lines else slot
    count = 0
    for i in left:
        h = hashes[i]
        at = home_of(homes, h >> (np.uint64(64) - bits), h << bits, slot * shape[2]) + 2 * step
        prefetch(at)
        on = load_u64(at - slot) - _ONE < (h << bits) >> bits
        out[i] = at & -np.int64(on)
        left[count] = i
        count += on
    while count:
        still = 0
        for k in range(count):
            i = left[k]
            at = out[i]
            tag = (hashes[i] << bits) >> bits
            on = load_u64(at + step - slot) - _ONE < tag
            if lines:
                found = _payload(at, equal_in_line(at, tag + _ONE))
            else:
                found = (at + 8) & -np.int64(load_u64(at) == tag + _ONE)
            prefetch(at + step)
            out[i] = found | ((at + step) & -np.int64(on))
            left[still] = i
            still += on
        count = still


@numba.njit(cache=True, nogil=True)
def find_rows(homes: np.ndarray, shape: np.ndarray, keys: np.ndarray, out: np.ndarray) -> int:
    """Write the payload address of each key, 0 where missing, and return how many are missing."""
    hashes = np.empty(_BLOCK, np.uint64)
    left = np.empty(_BLOCK, np.int64)
    missing = 0
    for start in range(0, keys.size, _BLOCK):
        part = out[start : min(start + _BLOCK, keys.size)]
        for i in range(part.size):
            hashes[i] = mix64(keys[start + i])
        if shape[1] == 16:
            count = _look_at_lines(homes, np.uint64(shape[0]), hashes, part, left)
        else:
            count = _look_at_slots(homes, shape, hashes, part, left)
        _look_behind(homes, shape, hashes, part, left[:count])
        for i in range(part.size):
            missing += part[i] == 0
    return missing


@numba.njit(cache=True, nogil=True)
def visit_rows(
    homes: np.ndarray,
    shape: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    parameters: np.ndarray,
    function: int,
) -> int:
    """Call `function` on block after block of rows; stop before one with a missing key.

    Returns the number of keys visited. `values` float32 (n, m) and `parameters` float32 are handed
    on to it; see `RowStore.visit`.
    """
    addresses = np.empty(VISITED, np.int64)
    at_once = min(VISITED, max(_FEWEST, _VISITED_BYTES // shape[1]))
    row = values.strides[0]
    for start in range(0, keys.size, at_once):
        block = keys[start : start + at_once]
        if find_rows(homes, shape, block, addresses):
            return start
        call_block(
            function,
            addresses.ctypes.data,
            block.size,
            values.ctypes.data + start * row,
            parameters.ctypes.data,
        )
    return keys.size
