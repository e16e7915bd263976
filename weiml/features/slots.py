"""The keys of one slot over many examples: out of an Arrow column or of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import DataError
from weiml.features.transforms.ngrams import code_classes, word_ngrams
from weiml.features.transforms.text import normalised
from weiml.hashing import TypeTag, hash_key, hash_values

__all__ = [
    "SlotKeys",
    "bucket_slot",
    "categorical_slot",
    "flag_slot",
    "list_lengths",
    "list_slot",
    "text_slot",
    "tokenize",
]


@dataclass(frozen=True)
class SlotKeys:
    """The keys of one slot over B examples, in the examples' order. Arrays are not copied."""

    keys: np.ndarray
    """``(n,)`` uint64, never 0."""
    lengths: np.ndarray | None = None
    """``(B,)`` int32, how many keys each example has; None: exactly one each."""
    values: np.ndarray | None = None
    """``(n,)`` float32 that go with the keys; None: all 1."""

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
    tokens, lengths = tokenize(name, column, max_tokens)
    return SlotKeys(hash_values(name, tokens, TypeTag.TEXT), lengths)


def tokenize(name: str, column: pa.Array, max_tokens: int) -> tuple[pa.Array, np.ndarray]:
    """Return all tokens in a row, and how many belong to each example, int32 ``(B,)``.

    Tokens are those of the transform `Tokens`, runs of Han characters kept whole.

    Raises:
        DataError: a text is not valid UTF-8, or all together are longer than 2³¹ bytes.
    """
    text = normalised(column, name)
    lists = word_ngrams(text, classes=code_classes(False), most=1, han_bigrams=False)
    words, lengths = pc.list_flatten(lists), list_lengths(lists)
    kept = np.minimum(lengths, np.int32(max_tokens))
    if kept.sum(dtype=np.int64) == len(words):
        return words, lengths
    first = np.cumsum(lengths) - lengths
    rank = np.arange(len(words)) - np.repeat(first, lengths)
    return words.filter(pa.array(rank < max_tokens)), kept


def bucket_slot(name: str, values: np.ndarray, boundaries: np.ndarray) -> SlotKeys:
    """Return the key of each number's bucket; NaN has the key of a missing value.

    Bucket i holds ``boundaries[i - 1] <= x < boundaries[i]``; its key is that of the integer i.
    """
    keys = hash_values(name, pa.array([*range(boundaries.size + 1), None]), TypeTag.CONTINUOUS)
    bucket = np.searchsorted(boundaries, values, side="right")
    bucket[np.isnan(values)] = boundaries.size + 1
    return SlotKeys(keys[bucket])
