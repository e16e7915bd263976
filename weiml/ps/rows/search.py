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
foretold. In 16-byte slots three blocks are under way together, and a loop either asks or looks: a
look that has to wait would keep the processor from asking on.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from weiml.hashing import mix64
from weiml.ps.rows.memory import call_block, load_u64, prefetch

__all__ = [
    "AHEAD",
    "VISITED",
    "equal_in_line",
    "find_rows",
    "home_of",
    "lowest_bit",
    "multiply_high",
]

AHEAD = 64
"""Keys between asking for a line and looking at it."""
VISITED = 256
"""Rows of 16 bytes that are asked for at once, looked at at once and visited at once."""
_LONGER_VISITED = 1024  # longer rows that are visited at once
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


@intrinsic
def equal_in_line(typingctx: Any, address: Any, stored: Any) -> Any:
    """Return which of the four 16-byte slots at an address begin with `stored`.

    The answer is the bits 0, 2, 4 and 6 of an int64.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = ir.VectorType(_I64, 8)
        nothing = ir.Constant(words, ir.Undefined)
        there = builder.load(builder.inttoptr(args[0], words.as_pointer()), align=8)
        first = builder.insert_element(nothing, args[1], _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, 8), [0] * 8)
        wanted = builder.shuffle_vector(first, nothing, zeros)
        equal = builder.bitcast(builder.icmp_unsigned("==", there, wanted), ir.IntType(8))
        # Every other lane is payload.
        return builder.zext(builder.and_(equal, ir.IntType(8)(0x55)), _I64)

    return types.int64(types.int64, types.uint64), codegen


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


@numba.njit(cache=True, nogil=True)
def _ask_for_lines(
    homes: np.ndarray, bits: np.uint64, keys: np.ndarray, stored: np.ndarray, at: np.ndarray
) -> None:
    """Write what the slots of keys begin with and the lines of their homes, and ask for these.

    Separate loops, for those without memory run over several keys at once.
    """
    for i in range(keys.size):
        stored[i] = mix64(keys[i])
    for i in range(keys.size):
        h = stored[i]
        at[i] = home_of(homes, h >> (np.uint64(64) - bits), h << bits, 64)
        prefetch(at[i])
    for i in range(keys.size):
        stored[i] = ((stored[i] << bits) >> bits) + _ONE


@numba.njit(inline="always")
def _lies_behind(line: int, stored: np.uint64) -> int:
    """Return 1 if all slots of a line are taken by smaller tags, 0 otherwise."""
    return int(load_u64(line + 48) - _ONE < stored - _ONE)


@numba.njit(cache=True, nogil=True)
def _step_to_lines(stored: np.ndarray, at: np.ndarray) -> None:
    """Go on to the next line where a slot cannot be in the first, and ask for two then."""
    for i in range(at.size):
        more = _lies_behind(at[i], stored[i]) << 6
        at[i] += more
        prefetch(at[i])
        prefetch(at[i] + more)


@numba.njit(cache=True, nogil=True)
def _look_at_lines(stored: np.ndarray, at: np.ndarray, left: np.ndarray) -> int:
    """Replace lines by payload addresses, 0 where missing, and return how many are missing."""
    count = np.uint64(0)
    for i in range(at.size):
        equal = equal_in_line(at[i], stored[i])
        at[i] += 8 * (lowest_bit(equal | _NONE) + 1) & -np.int64(equal != 0)
        left[count] = i
        count += np.uint64(equal == 0)
    missing = 0
    while count:
        still = np.uint64(0)
        for k in range(count):
            i = left[k]
            on = _lies_behind(at[i], stored[i])
            at[i] = (at[i] + 64) & -on
            prefetch(at[i])
            left[still] = i
            still += np.uint64(on)
        missing += int(count - still)
        count = np.uint64(0)
        for k in range(still):
            i = left[k]
            equal = equal_in_line(at[i], stored[i])
            at[i] += 8 * (lowest_bit(equal | _NONE) + 1) & -np.int64(equal != 0)
            left[count] = i
            count += np.uint64(equal == 0)
    return missing


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
    count = 0
    for i in left:
        h = hashes[i]
        at = home_of(homes, h >> (np.uint64(64) - bits), h << bits, slot * shape[2]) + 2 * slot
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
            on = load_u64(at) - _ONE < tag
            found = (at + 8) & -np.int64(load_u64(at) == tag + _ONE)
            prefetch(at + slot)
            out[i] = found | ((at + slot) & -np.int64(on))
            left[still] = i
            still += on
        count = still


@numba.njit(cache=True, nogil=True)
def _find_in_slots(homes: np.ndarray, shape: np.ndarray, keys: np.ndarray, out: np.ndarray) -> int:
    hashes = np.empty(_BLOCK, np.uint64)
    left = np.empty(_BLOCK, np.int64)
    missing = 0
    for start in range(0, keys.size, _BLOCK):
        part = out[start : min(start + _BLOCK, keys.size)]
        for i in range(part.size):
            hashes[i] = mix64(keys[start + i])
        count = _look_at_slots(homes, shape, hashes, part, left)
        _look_behind(homes, shape, hashes, part, left[:count])
        for i in range(part.size):
            missing += part[i] == 0
    return missing


@numba.njit(cache=True, nogil=True)
def _find_in_lines(homes: np.ndarray, bits: np.uint64, keys: np.ndarray, out: np.ndarray) -> int:
    stored = np.empty((4, VISITED), np.uint64)
    left = np.empty(VISITED, np.int64)
    missing = 0
    for start in range(0, keys.size + 2 * VISITED, VISITED):
        turn = start // VISITED
        block = keys[start : start + VISITED]
        _ask_for_lines(homes, bits, block, stored[turn & 3], out[start : start + VISITED])
        if start >= VISITED:
            _step_to_lines(stored[turn - 1 & 3], out[start - VISITED : start])
        if start >= 2 * VISITED:
            part = out[start - 2 * VISITED : start - VISITED]
            missing += _look_at_lines(stored[turn - 2 & 3], part, left)
    return missing


@numba.njit(cache=True, nogil=True)
def find_rows(homes: np.ndarray, shape: np.ndarray, keys: np.ndarray, out: np.ndarray) -> int:
    """Write the payload address of each key, 0 where missing, and return how many are missing."""
    if shape[1] == 16:
        return _find_in_lines(homes, np.uint64(shape[0]), keys, out)
    return _find_in_slots(homes, shape, keys, out)


@numba.njit(cache=True, nogil=True)
def _visit_lines(
    homes: np.ndarray,
    bits: np.uint64,
    keys: np.ndarray,
    values: np.ndarray,
    parameters: np.ndarray,
    function: int,
) -> int:
    stored = np.empty((4, VISITED), np.uint64)
    at = np.empty((4, VISITED), np.int64)
    left = np.empty(VISITED, np.int64)
    row = values.strides[0]
    for start in range(0, keys.size + 2 * VISITED, VISITED):
        turn = start // VISITED
        _ask_for_lines(homes, bits, keys[start : start + VISITED], stored[turn & 3], at[turn & 3])
        if start >= VISITED:
            size = max(min(keys.size - (start - VISITED), VISITED), 0)
            _step_to_lines(stored[turn - 1 & 3], at[turn - 1 & 3][:size])
        if start >= 2 * VISITED:
            first = start - 2 * VISITED
            size = min(keys.size - first, VISITED)
            found = at[turn - 2 & 3][:size]
            if _look_at_lines(stored[turn - 2 & 3], found, left):
                return first
            call_block(
                function,
                found.ctypes.data,
                size,
                values.ctypes.data + first * row,
                parameters.ctypes.data,
            )
    return keys.size


@numba.njit(cache=True, nogil=True)
def _visit_slots(
    homes: np.ndarray,
    shape: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    parameters: np.ndarray,
    function: int,
) -> int:
    addresses = np.empty(_LONGER_VISITED, np.int64)
    at_once = min(_LONGER_VISITED, max(_FEWEST, _VISITED_BYTES // shape[1]))
    row = values.strides[0]
    for start in range(0, keys.size, at_once):
        block = keys[start : start + at_once]
        if _find_in_slots(homes, shape, block, addresses[: block.size]):
            return start
        call_block(
            function,
            addresses.ctypes.data,
            block.size,
            values.ctypes.data + start * row,
            parameters.ctypes.data,
        )
    return keys.size


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
    if shape[1] == 16:
        bits = np.uint64(shape[0])
        return _visit_lines(homes, bits, keys, values, parameters, function)
    return _visit_slots(homes, shape, keys, values, parameters, function)
