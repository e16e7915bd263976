"""Batches as trees see them: a matrix of numbers and codes, by a fitted vocabulary.

Trees split numbers by size and categories by sets; neither can read a 64-bit key. So a slot becomes

- one column of codes, if no example of the training set has more than one key of it and all values
  are 1: the most frequent keys are told apart, all others are one code, no key is missing;
- else a column of how many keys there are, and one for each of the most frequent keys with its
  value (the sum of its values if it comes more than once), 0 where it is absent.

Dense columns stay as they are; what is not finite is missing (NaN).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numba
import numpy as np

from weiml.errors import DataError
from weiml.features import Batch
from weiml.models.trees.counts import KeyCounts

__all__ = ["SlotVocabulary", "TreeColumns"]


@dataclass(frozen=True, eq=False)
class SlotVocabulary:
    """The keys of one slot that trees tell apart."""

    slot: str
    several: bool
    """Whether it is a column a key, or one column of codes."""
    keys: np.ndarray
    """uint64 (n,), the most frequent first: a key's place is its code, n is that of all others."""

    @property
    def width(self) -> int:
        """How many columns it makes."""
        return 1 + len(self.keys) if self.several else 1


class _Plan(NamedTuple):
    """Vocabularies as the compiled loop reads them."""

    several: np.ndarray
    """bool (S,)."""
    columns: np.ndarray
    """int64 (S,): each slot's first column."""
    starts: np.ndarray
    """int64 (S + 1,): where each slot's keys start below."""
    keys: np.ndarray
    """uint64, rising within a slot."""
    codes: np.ndarray
    """int64, the place of each in the vocabulary."""


@dataclass(frozen=True, eq=False)
class TreeColumns:
    """How batches with these slots and dense columns become a matrix. Thread-safe; picklable."""

    dense_names: tuple[str, ...]
    vocabularies: tuple[SlotVocabulary, ...]

    @classmethod
    def fit(
        cls,
        slots: Sequence[str],
        dense_names: Sequence[str],
        counts: Sequence[KeyCounts],
        *,
        max_categories: int,
        max_multi_hot: int,
    ) -> Self:
        """Choose the keys that are told apart, given the counts of each slot."""
        vocabularies = []
        for slot, counted in zip(slots, counts, strict=True):
            several = counted.most_in_example > 1 or counted.valued
            most = max_multi_hot if several else max_categories
            vocabularies.append(SlotVocabulary(slot, several, counted.most_frequent(most)))
        return cls(tuple(dense_names), tuple(vocabularies))

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots."""
        return tuple(vocabulary.slot for vocabulary in self.vocabularies)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for each column: ``age``, ``city``, ``tags (count)``, ``tags 00c0ffee00c0ffee``.

        The last is a key in hexadecimal digits; `weiml.features.KeyNames` tells what it stands for.
        """
        names = list(self.dense_names)
        for vocabulary in self.vocabularies:
            if vocabulary.several:
                names.append(f"{vocabulary.slot} (count)")
                names += [f"{vocabulary.slot} {int(key):016x}" for key in vocabulary.keys]
            else:
                names.append(vocabulary.slot)
        return tuple(names)

    @cached_property
    def categorical(self) -> tuple[int, ...]:
        """The columns that hold codes."""
        return tuple(
            int(column)
            for column, vocabulary in zip(self._plan.columns, self.vocabularies, strict=True)
            if not vocabulary.several
        )

    def matrix(self, batch: Batch) -> np.ndarray:
        """Return float64 (B, C).

        Of a slot with one key in training, an example's first key counts.

        Raises:
            DataError: the batch has other slots or dense columns.
        """
        if (batch.slots, batch.dense_names) != (self.slots, self.dense_names):
            raise DataError(
                f"the trees were grown on slots {self.slots} and dense columns "
                f"{self.dense_names}, the batch has {batch.slots} and {batch.dense_names}; encode "
                "it with the model's own encoder"
            )
        out = np.empty((len(batch), len(self.names)))
        dense = np.ascontiguousarray(batch.dense)
        _fill(dense, batch.keys, batch.values, batch.offsets, *self._plan, out)
        return out

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data for JSON; keys are 16 hexadecimal digits."""
        slots = [
            {"slot": v.slot, "several": v.several, "keys": [f"{int(key):016x}" for key in v.keys]}
            for v in self.vocabularies
        ]
        return {"dense_names": list(self.dense_names), "slots": slots}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read what `to_mapping` gave; KeyError, TypeError or ValueError if it is damaged."""
        vocabularies = []
        for slot in mapping["slots"]:
            keys = np.array([int(key, 16) for key in slot["keys"]], np.uint64)
            vocabularies.append(SlotVocabulary(str(slot["slot"]), bool(slot["several"]), keys))
        return cls(tuple(mapping["dense_names"]), tuple(vocabularies))

    @cached_property
    def _plan(self) -> _Plan:
        vocabularies = self.vocabularies
        widths = [len(self.dense_names), *(v.width for v in vocabularies)]
        orders = [np.argsort(v.keys) for v in vocabularies]
        return _Plan(
            several=np.array([v.several for v in vocabularies], np.bool_),
            columns=np.cumsum(widths)[: len(vocabularies)],
            starts=np.cumsum([0, *(len(v.keys) for v in vocabularies)]),
            keys=np.concatenate(
                [np.empty(0, np.uint64), *(v.keys[o] for v, o in zip(vocabularies, orders))]  # noqa: B905
            ),
            codes=np.concatenate([np.empty(0, np.int64), *orders]),
        )


@numba.njit(nogil=True, cache=True)
def _find(keys: np.ndarray, start: int, stop: int, key: np.uint64) -> int:
    """Return the place of a key among rising ones, −1 if it is not there."""
    low, high = start, stop
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < stop and keys[low] == key else -1


@numba.njit(nogil=True, cache=True)
def _fill(
    dense: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    several: np.ndarray,
    columns: np.ndarray,
    starts: np.ndarray,
    known: np.ndarray,
    codes: np.ndarray,
    out: np.ndarray,
) -> None:
    num_slots = several.size
    for b in range(out.shape[0]):
        for d in range(dense.shape[1]):
            out[b, d] = dense[b, d] if np.isfinite(dense[b, d]) else np.nan
        for s in range(num_slots):
            first, last = offsets[b * num_slots + s], offsets[b * num_slots + s + 1]
            size = starts[s + 1] - starts[s]
            at = columns[s]
            if not several[s]:
                if first == last:
                    out[b, at] = np.nan
                    continue
                place = _find(known, starts[s], starts[s + 1], keys[first])
                out[b, at] = codes[place] if place >= 0 else size
                continue
            out[b, at] = last - first
            out[b, at + 1 : at + 1 + size] = 0
            for j in range(first, last):
                place = _find(known, starts[s], starts[s + 1], keys[j])
                if place >= 0:
                    out[b, at + 1 + codes[place]] += 1.0 if values is None else values[j]
