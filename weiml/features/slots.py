"""The keys of one slot over many examples: out of an Arrow column, of numbers, of other slots."""

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
    "list_lengths",
    "list_slot",
    "text_slot",
    "tokenize",
]

_TOKEN_BREAK = r"[^\pL\pN]+"


@dataclass(frozen=True)
class SlotKeys:
    """The keys of one slot over B examples, in the examples' order. Arrays are not copied."""

    keys: np.ndarray
    """``(n,)`` uint64, never 0."""
    lengths: np.ndarray | None = None
    """``(B,)`` int32, how many keys each example has; None: exactly one each."""
    values: np.ndarray | None = None
    """``(n,)`` float32 that go with the keys; None: all 1."""

    def counts(self) -> np.ndarray:
        """Return `lengths`, also where it is None."""
        return np.ones(self.keys.size, np.int32) if self.lengths is None else self.lengths

    def check(self, name: str, num_examples: int) -> None:
        """Raise DataError unless the arrays fit each other and B; `name` is the slot's."""
        n = self.keys.size
        wanted: list[tuple[str, np.ndarray, type, int]] = [("keys", self.keys, np.uint64, n)]
        if self.lengths is not None:
            wanted.append(("lengths", self.lengths, np.int32, num_examples))
        if self.values is not None:
            wanted.append(("values", self.values, np.float32, n))
        for what, array, dtype, size in wanted:
            if array.dtype != dtype or array.shape != (size,):
                raise DataError(
                    f"slot {name!r}: {what} must be {np.dtype(dtype)} ({size},), got "
                    f"{array.dtype} {array.shape}"
                )
        fits = n == num_examples
        if self.lengths is not None:
            total = int(self.lengths.sum(dtype=np.int64))
            fits = total == n and bool((self.lengths >= 0).all())
        if not fits:
            raise DataError(
                f"slot {name!r} has {n} keys, which its lengths over {num_examples} examples "
                "do not add up to"
            )


def categorical_slot(name: str, column: pa.Array) -> SlotKeys:
    """Return one key an example."""
    return SlotKeys(hash_values(name, column))


def flag_slot(name: str, column: pa.Array) -> SlotKeys:
    """Return one key where a boolean column is true."""
    flags = pc.fill_null(column.cast(pa.bool_()), False)
    lengths = flags.to_numpy(zero_copy_only=False).astype(np.int32)
    key = hash_key(name, True, TypeTag.BINARY)
    return SlotKeys(np.full(lengths.sum(), key, np.uint64), lengths)


def list_slot(name: str, column: pa.Array) -> SlotKeys:
    """Return a key for each entry of a list column; null lists are empty."""
    keys = hash_values(name, pc.list_flatten(column), TypeTag.SPARSE_BINARY)
    return SlotKeys(keys, list_lengths(column))


def list_lengths(column: pa.Array) -> np.ndarray:
    """Return how many entries each list has, int32 ``(B,)``, 0 for null."""
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int32)


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
    keys = hash_values(name, pa.array([*range(boundaries.size + 1), None]), TypeTag.CONTINUOUS)
    bucket = np.searchsorted(boundaries, values, side="right")
    bucket[np.isnan(values)] = boundaries.size + 1
    return SlotKeys(keys[bucket])


def cross_slot(name: str, members: list[SlotKeys]) -> SlotKeys:
    """Return a key for each combination of the members' keys, folded from the cross's own seed.

    A combination's value is the product of its members' values.
    """
    B = members[0].counts().size
    crossed = SlotKeys(np.full(B, feature_seed(name, TypeTag.CROSS), np.uint64))
    for member in members:
        crossed = _times(crossed, member)
    return crossed


def _times(a: SlotKeys, b: SlotKeys) -> SlotKeys:
    if a.lengths is None and b.lengths is None:
        return SlotKeys(cross_keys(a.keys, b.keys), None, _product(a.values, b.values))
    left, right = _pairs(a.counts(), b.counts())
    values = _product(_taken(a.values, left), _taken(b.values, right))
    keys = cross_keys(a.keys[left], b.keys[right])
    return SlotKeys(keys, a.counts() * b.counts(), values)


def _taken(values: np.ndarray | None, places: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[places]


def _product(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    if a is None or b is None:
        return b if a is None else a
    return a * b


@numba.njit(nogil=True, cache=True)
def _pairs(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions, in each side's keys, of every pair within an example."""
    total = 0
    for b in range(left.size):
        total += np.int64(left[b]) * right[b]
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
