"""Compiled loops of `RowStore`: find, insert, delete, move and scan over slots in raw memory.

A slot is ``tag + 1`` (uint64) and the payload behind it. A bucket's slots are sorted by tag, the
hash without the bucket's bits; 0 is an empty slot, as fresh memory is. A slot never lies before its
tag's home, and no slot between the home and it is empty, so the layout follows from the set of tags
and the capacity alone, and a search ends at the first slot that is empty or holds a larger tag:
``load(slot) - 1 >= tag`` in unsigned arithmetic says both (ordered hashing: Amble and Knuth,
"Ordered hash tables", The Computer Journal 17, 1974). Nothing wraps around: behind a bucket's
homes lies a tail for what is displaced beyond them, and behind it one slot that stays empty.

`homes` int64 (buckets, 2): address of the first slot, number of home groups. `fill` int64
(buckets, 3): rows, rows at which the bucket must grow, slots that rows may lie in. `shape` int64
(5,): hash bits that name the bucket, bytes of a slot, slots of a home group, slots looked at
together, bytes from the home on that are asked for ahead.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from weiml.hashing import mix64, unmix64
from weiml.ps.memory import (
    load_u32,
    load_u64,
    move_bytes,
    prefetch,
    store_u32,
    store_u64,
)

__all__ = [
    "buckets_of",
    "copy_payloads",
    "delete_rows",
    "find_rows",
    "insert_rows",
    "keys_in",
    "move_buckets",
    "multiply_high",
    "scan_buckets",
    "set_payloads",
]

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_AHEAD = 64  # keys between asking for a line and looking at it
_RING = 128  # a power of two above it


@intrinsic
def multiply_high(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the upper 64 bits of the 128-bit product of two uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(x, wide) for x in args))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), codegen


_LINE = ir.VectorType(ir.IntType(64), 8)


@intrinsic
def compare_line(typingctx: Any, address: Any, tag: Any) -> Any:
    """Return which of the four 16-byte slots at `address` hold a smaller tag, and which this one.

    The answers are the bits 0, 2, 4 and 6 of two int64. Empty slots are never among either.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        stored = builder.load(builder.inttoptr(args[0], _LINE.as_pointer()), align=8)
        here = builder.sub(stored, ir.Constant(_LINE, [1] * 8))
        one = builder.insert_element(ir.Constant(_LINE, ir.Undefined), args[1], ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
        wanted = builder.shuffle_vector(one, ir.Constant(_LINE, ir.Undefined), zeros)
        byte = ir.IntType(8)
        answers = []
        for relation in ("<", "=="):
            lanes = builder.bitcast(builder.icmp_unsigned(relation, here, wanted), byte)
            # Every other lane is payload.
            answers.append(builder.zext(builder.and_(lanes, byte(0x55)), ir.IntType(64)))
        return context.make_tuple(builder, signature.return_type, answers)

    return types.UniTuple(types.int64, 2)(types.int64, types.uint64), codegen


@intrinsic
def lowest_bit(typingctx: Any, number: Any) -> Any:
    """Return the place of the lowest bit set in an int64 that is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.int64(types.int64), codegen


@numba.njit(inline="always")
def _home(homes: np.ndarray, bucket: np.uint64, rest: np.uint64, stride: int) -> int:
    """Return the address of the home of a hash; `rest` is the hash shifted over its bucket."""
    group = multiply_high(rest, np.uint64(homes[bucket, 1]))
    return homes[bucket, 0] + np.int64(group) * stride


@numba.njit(cache=True, nogil=True)
def find_rows(homes: np.ndarray, shape: np.ndarray, keys: np.ndarray, out: np.ndarray) -> int:
    """Write the payload address of each key, 0 where missing, and return how many are missing."""
    if shape[1] == 16:
        return _find_in_lines(homes, shape, keys, out)
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot, window, reach = shape[1], shape[3], shape[4]
    stride = slot * shape[2]
    tags = np.empty(_RING, np.uint64)
    places = np.empty(_RING, np.int64)
    missing = 0
    for i in range(keys.size + _AHEAD):
        j = i & (_RING - 1)
        if i < keys.size:
            h = mix64(keys[i])
            rest = h << bits
            at = _home(homes, h >> shift, rest, stride)
            for line in range(0, reach, 64):
                prefetch(at + line)
            places[j] = at
            tags[j] = rest >> bits
        if i >= _AHEAD:
            j = (i - _AHEAD) & (_RING - 1)
            tag = tags[j]
            at = places[j]
            smaller = 0
            for k in range(window):  # no branch, for which of them it is cannot be foretold
                smaller += load_u64(at + k * slot) - _ONE < tag
            at += smaller * slot
            found = load_u64(at) - _ONE
            while found < tag:
                at += slot
                found = load_u64(at) - _ONE
            there = found == tag
            out[i - _AHEAD] = at + 8 if there else 0
            missing += not there
    return missing


@numba.njit(cache=True, nogil=True)
def _find_in_lines(homes: np.ndarray, shape: np.ndarray, keys: np.ndarray, out: np.ndarray) -> int:
    """`find_rows` where a home group is a cache line of four slots: two lines at a time."""
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    tags = np.empty(_RING, np.uint64)
    places = np.empty(_RING, np.int64)
    missing = 0
    for i in range(keys.size + _AHEAD):
        j = i & (_RING - 1)
        if i < keys.size:
            h = mix64(keys[i])
            rest = h << bits
            at = _home(homes, h >> shift, rest, 64)
            prefetch(at)
            prefetch(at + 64)
            places[j] = at
            tags[j] = rest >> bits
        if i >= _AHEAD:
            j = (i - _AHEAD) & (_RING - 1)
            tag = tags[j]
            at = places[j]
            _, first = compare_line(at, tag)
            smaller, second = compare_line(at + 64, tag)
            equal = first | second << 8
            while smaller == 0x55:  # even the last of both lines is smaller
                at += 64
                smaller, second = compare_line(at + 64, tag)
                equal |= second << 8
            there = equal != 0
            out[i - _AHEAD] = at + 8 * lowest_bit(equal | 1 << 62) + 8 if there else 0
            missing += not there
    return missing


@numba.njit(cache=True, nogil=True)
def insert_rows(
    homes: np.ndarray,
    fill: np.ndarray,
    shape: np.ndarray,
    keys: np.ndarray,
    which: np.ndarray,
    touched: np.ndarray,
    new: np.ndarray,
    refused: np.ndarray,
) -> tuple[int, int]:
    """Insert ``keys[which]`` that are missing: (how many are new, how many a full bucket refused).

    `new` and `refused` (of the size of `which`) receive their positions in `keys`; ``touched[b]``
    becomes True where rows of bucket b may have moved.
    """
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    stride = slot * shape[2]
    made = failed = 0
    for i in range(which.size + _AHEAD):
        if i < which.size:
            h = mix64(keys[which[i]])
            prefetch(_home(homes, h >> shift, h << bits, stride))
        if i < _AHEAD:
            continue
        position = which[i - _AHEAD]
        h = mix64(keys[position])
        bucket = h >> shift
        tag = (h << bits) >> bits
        at = _home(homes, bucket, h << bits, stride)
        found = load_u64(at) - _ONE
        while found < tag:
            at += slot
            found = load_u64(at) - _ONE
        if found == tag:
            continue
        end = at
        while load_u64(end) != _ZERO:
            end += slot
        # The order matters: a bucket without slots has no memory of its own behind `end`.
        if fill[bucket, 0] >= fill[bucket, 1] or end >= homes[bucket, 0] + fill[bucket, 2] * slot:
            refused[failed] = position
            failed += 1
            continue
        if end > at:
            move_bytes(at + slot, at, end - at)
        store_u64(at, tag + _ONE)
        for k in range(8, slot, 4):
            store_u32(at + k, np.uint32(0))
        fill[bucket, 0] += 1
        touched[bucket] = True
        new[made] = position
        made += 1
    return made, failed


@numba.njit(cache=True, nogil=True)
def delete_rows(
    homes: np.ndarray, fill: np.ndarray, shape: np.ndarray, keys: np.ndarray, out: np.ndarray
) -> None:
    """Delete keys; ``out[i]`` says whether ``keys[i]`` was there. Later slots close the gap."""
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    stride = slot * shape[2]
    for i in range(keys.size):
        h = mix64(keys[i])
        bucket = h >> shift
        tag = (h << bits) >> bits
        at = _home(homes, bucket, h << bits, stride)
        found = load_u64(at) - _ONE
        while found < tag:
            at += slot
            found = load_u64(at) - _ONE
        out[i] = found == tag
        if found != tag:
            continue
        end = at + slot
        while True:
            found = load_u64(end)
            if found == _ZERO or _home(homes, bucket, (found - _ONE) << bits, stride) >= end:
                break
            end += slot
        move_bytes(at, at + slot, end - at - slot)
        store_u64(end - slot, _ZERO)
        fill[bucket, 0] -= 1


@numba.njit(inline="always")
def _copy_slot(target: int, source: int, slot: int) -> None:
    if slot == 16:
        store_u64(target, load_u64(source))
        store_u64(target + 8, load_u64(source + 8))
    elif slot < 64:
        for k in range(0, slot, 4):
            store_u32(target + k, load_u32(source + k))
    else:
        move_bytes(target, source, slot)


@numba.njit(cache=True, nogil=True)
def move_buckets(
    old: np.ndarray,
    fill: np.ndarray,
    shape: np.ndarray,
    buckets: np.ndarray,
    new: np.ndarray,
    room: np.ndarray,
) -> int:
    """Copy `buckets` from where ``old[buckets]`` says to where ``new[i]`` says, in one pass each.

    `new` int64 (n, 2) is as `homes`, ``room[i]`` the slots that rows may lie in there. Returns the
    place in `buckets` of the first that does not fit its tail, or their number.
    """
    bits = np.uint64(shape[0])
    slot = shape[1]
    stride = slot * shape[2]
    for i in range(buckets.size):
        source = old[buckets[i], 0]
        target = new[i, 0]
        end = target + room[i] * slot
        left = fill[buckets[i], 0]
        while left:
            stored = load_u64(source)
            if stored != _ZERO:
                home = _home(new, np.uint64(i), (stored - _ONE) << bits, stride)
                target = max(target, home)
                if target >= end:
                    return i
                _copy_slot(target, source, slot)
                target += slot
                left -= 1
            source += slot
    return buckets.size


@numba.njit(cache=True, nogil=True)
def scan_buckets(
    homes: np.ndarray,
    fill: np.ndarray,
    shape: np.ndarray,
    first: int,
    last: int,
    keys: np.ndarray,
    addresses: np.ndarray,
) -> None:
    """Write key and payload address of every row of the buckets first … last-1, in hash order."""
    bits = np.uint64(shape[0])
    shift = np.uint64(64) - bits
    slot = shape[1]
    done = 0
    for bucket in range(first, last):
        at = homes[bucket, 0]
        upper = np.uint64(bucket) << shift
        for _ in range(fill[bucket, 0]):
            stored = load_u64(at)
            while stored == _ZERO:
                at += slot
                stored = load_u64(at)
            keys[done] = unmix64(upper | (stored - _ONE))
            addresses[done] = at + 8
            done += 1
            at += slot


@numba.njit(cache=True, nogil=True)
def buckets_of(shape: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the bucket of each key: int64 (n,)."""
    shift = np.uint64(64) - np.uint64(shape[0])
    out = np.empty(keys.size, np.int64)
    for i in range(keys.size):
        out[i] = mix64(keys[i]) >> shift
    return out


@numba.njit(cache=True, nogil=True)
def keys_in(flags: np.ndarray, shape: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the positions of the keys whose bucket is flagged: int64 (m,)."""
    shift = np.uint64(64) - np.uint64(shape[0])
    out = np.empty(keys.size, np.int64)
    count = 0
    for i in range(keys.size):
        out[count] = i
        count += flags[mix64(keys[i]) >> shift]
    return out[:count]


@numba.njit(cache=True, nogil=True)
def copy_payloads(addresses: np.ndarray, out: np.ndarray) -> None:
    """Copy the payloads at `addresses` into `out` uint32 (n, words); zeros at address 0."""
    for i in range(addresses.size):
        for k in range(out.shape[1]):
            out[i, k] = load_u32(addresses[i] + 4 * k) if addresses[i] else np.uint32(0)


@numba.njit(cache=True, nogil=True)
def set_payloads(addresses: np.ndarray, payload: np.ndarray) -> None:
    """Overwrite the payloads at `addresses` by the rows of `payload` uint32 (n, words)."""
    for i in range(addresses.size):
        for k in range(payload.shape[1]):
            store_u32(addresses[i] + 4 * k, payload[i, k])
