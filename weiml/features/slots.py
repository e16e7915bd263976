"""Raw Arrow columns to the keys of one slot, and slots to a batch's example-major layout."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import DataError
from weiml.hashing import TypeTag, cross_keys, feature_seed, hash_key, hash_values

__all__ = [
    "SlotKeys",
    "bucket_slot",
    "categorical_slot",
    "cross_slot",
    "flag_slot",
    "interleave",
    "list_slot",
    "text_slot",
    "tokenize",
]

_TOKEN_BREAK = r"[^\pL\pN]+"


@dataclass(frozen=True)
class SlotKeys:
    """The keys of one slot over B examples: keys uint64 ``(n,)``, lengths int32 ``(B,)``."""

    keys: np.ndarray
    lengths: np.ndarray


def categorical_slot(name: str, column: pa.Array) -> SlotKeys:
    """Return one key an example."""
    return SlotKeys(hash_values(name, column), np.ones(len(column), np.int32))


def flag_slot(name: str, column: pa.Array) -> SlotKeys:
    """Return one key where a boolean column is true."""
    lengths = pc.fill_null(column, False).to_numpy(zero_copy_only=False).astype(np.int32)
    return SlotKeys(
        np.full(lengths.sum(), hash_key(name, True, TypeTag.BINARY), np.uint64), lengths
    )


def list_slot(name: str, column: pa.Array) -> SlotKeys:
    """Return a key for each entry of a list column; null lists are empty."""
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    return SlotKeys(
        hash_values(name, pc.list_flatten(column), TypeTag.SPARSE_BINARY),
        lengths.to_numpy(zero_copy_only=False).astype(np.int32),
    )


def text_slot(name: str, column: pa.Array, max_tokens: int) -> SlotKeys:
    """Return a key for each of the first `max_tokens` tokens of a string column."""
    tokens, lengths = tokenize(column, max_tokens)
    return SlotKeys(hash_values(name, tokens, TypeTag.TEXT), lengths)


def tokenize(column: pa.Array, max_tokens: int) -> tuple[pa.Array, np.ndarray]:
    """Return all tokens in a row, and how many belong to each example, int32 ``(B,)``."""
    lists = pc.split_pattern_regex(pc.utf8_lower(column), _TOKEN_BREAK)
    words = pc.list_flatten(lists)
    owner = pc.list_parent_indices(lists)
    kept = pc.not_equal(words, "")
    words, owners = words.filter(kept), owner.filter(kept).to_numpy()
    # Owners rise, so a token's rank within its example is its position past the owner's first.
    rank = np.arange(owners.size) - np.searchsorted(owners, owners)
    first = rank < max_tokens
    lengths = np.bincount(owners[first], minlength=len(column)).astype(np.int32)
    return words.filter(pa.array(first)), lengths


def bucket_slot(name: str, values: np.ndarray, boundaries: np.ndarray) -> SlotKeys:
    """Return the key of each number's bucket; NaN has the key of a missing value.

    Bucket i holds ``boundaries[i - 1] <= x < boundaries[i]``; its key is that of the integer i.
    """
    keys = hash_values(name, pa.array(np.arange(boundaries.size + 1)), TypeTag.CONTINUOUS)
    keys = np.append(keys, np.uint64(hash_key(name, None, TypeTag.CONTINUOUS)))
    bucket = np.searchsorted(boundaries, values, side="right")
    bucket[np.isnan(values)] = boundaries.size + 1
    return SlotKeys(keys[bucket], np.ones(values.size, np.int32))


def cross_slot(name: str, members: list[SlotKeys]) -> SlotKeys:
    """Return a key for each combination of the members' keys, folded from the cross's own seed."""
    B = members[0].lengths.size
    crossed = SlotKeys(
        np.full(B, feature_seed(name, TypeTag.CROSS), np.uint64), np.ones(B, np.int32)
    )
    for member in members:
        left, right = _pairs(crossed.lengths, member.lengths)
        keys = cross_keys(crossed.keys[left], member.keys[right])
        crossed = SlotKeys(keys, crossed.lengths * member.lengths)
    return crossed


def interleave(slots: list[SlotKeys], num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(keys, offsets)`` of a batch, example-major, from its slots in order.

    Raises:
        DataError: the batch would hold 2³¹ keys or more.
    """
    S = len(slots)
    lengths = np.empty((num_examples, S), np.int32)
    for s, slot in enumerate(slots):
        lengths[:, s] = slot.lengths
    offsets = np.zeros(num_examples * S + 1, np.int64)
    np.cumsum(lengths.reshape(-1), out=offsets[1:])
    if offsets[-1] >= 2**31:
        raise DataError(f"a batch holds fewer than 2^31 keys, got {offsets[-1]}: use smaller ones")
    offsets = offsets.astype(np.int32)
    keys = np.empty(offsets[-1], np.uint64)
    for s, slot in enumerate(slots):
        _scatter(keys, offsets, s, S, slot.keys)
    return keys, offsets


@numba.njit(nogil=True, cache=True)
def _pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions, in each side's keys, of every pair within an example."""
    total = 0
    for b in range(left.size):
        total += left[b] * right[b]
    lefts = np.empty(total, np.int64)
    rights = np.empty(total, np.int64)
    at = i0 = j0 = 0
    for b in range(left.size):
        for i in range(left[b]):
            for j in range(right[b]):
                lefts[at] = i0 + i
                rights[at] = j0 + j
                at += 1
        i0 += left[b]
        j0 += right[b]
    return lefts, rights


@numba.njit(nogil=True, cache=True)
def _scatter(
    out: np.ndarray, offsets: np.ndarray, slot: int, num_slots: int, keys: np.ndarray
) -> None:
    read = 0
    for cell in range(slot, offsets.size - 1, num_slots):
        for at in range(offsets[cell], offsets[cell + 1]):
            out[at] = keys[read]
            read += 1
