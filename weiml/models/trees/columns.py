"""Batches as trees see them: a matrix of numbers and codes, by a fitted vocabulary.

Trees split numbers by size and categories by sets; neither can read a 64-bit key. So a slot becomes

- one column of codes, if no example of the training set has more than one key of it and all values
  are 1: the most frequent keys are told apart, all others are one code, no key is missing;
- else a column of how many keys there are, and one for each of the most frequent keys with its
  value (the sum of its values if it comes more than once), 0 where it is absent.

Dense columns stay as they are; what is not finite is missing (NaN). Slots and dense columns may be
left out: crosses and buckets, which linear models need, tell trees nothing new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import numba
import numpy as np

from weiml.config import nearest
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.trees.counts import KeyCounts

__all__ = ["SlotKind", "SlotVocabulary", "TreeColumns"]

SlotKind = Literal["one", "several", "out"]
_ONE, _SEVERAL = 0, 1
_KINDS: dict[SlotKind, int] = {"one": _ONE, "several": _SEVERAL, "out": 2}


@dataclass(frozen=True, eq=False)
class SlotVocabulary:
    """The keys of one slot that trees tell apart."""

    slot: str
    kind: SlotKind
    """One column of codes, a column a key, or none."""
    keys: np.ndarray
    """uint64 (n,), the most frequent first: a key's place is its code, n is that of all others."""

    @property
    def width(self) -> int:
        """How many columns it makes."""
        return {"one": 1, "several": 1 + len(self.keys), "out": 0}[self.kind]


class _Plan(NamedTuple):
    """Vocabularies as the compiled loop reads them."""

    dense: np.ndarray
    """int64: the dense columns that are not left out."""
    kinds: np.ndarray
    """int8 (S,): `_KINDS`."""
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
    """Of the batches, those left out too."""
    dense_out: tuple[str, ...]
    """The dense columns that are left out."""
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
        without: Sequence[str] = (),
    ) -> Self:
        """Choose the keys that are told apart, given the counts of each slot.

        Raises:
            ConfigError: `without` names what is neither a slot nor a dense column.
        """
        for name in without:
            if name not in (*slots, *dense_names):
                raise ConfigError(
                    f"without names {name!r}, which is neither a slot nor a dense column"
                    f"{nearest(name, (*slots, *dense_names))}"
                )
        most = {"one": max_categories, "several": max_multi_hot, "out": 0}
        vocabularies = []
        for slot, counted in zip(slots, counts, strict=True):
            several = counted.most_in_example > 1 or counted.valued
            kind: SlotKind = "out" if slot in without else "several" if several else "one"
            keys = counted.most_frequent(most[kind])
            vocabularies.append(SlotVocabulary(slot, kind, keys))
        out = tuple(name for name in dense_names if name in without)
        return cls(tuple(dense_names), out, tuple(vocabularies))

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots."""
        return tuple(vocabulary.slot for vocabulary in self.vocabularies)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name for each column: ``age``, ``city``, ``tags (count)``, ``tags 00c0ffee00c0ffee``.

        The last is a key in hexadecimal digits; `weiml.features.KeyNames` tells what it stands for.
        """
        names = [name for name in self.dense_names if name not in self.dense_out]
        for vocabulary in self.vocabularies:
            if vocabulary.kind == "several":
                names.append(f"{vocabulary.slot} (count)")
                names += [f"{vocabulary.slot} {int(key):016x}" for key in vocabulary.keys]
            elif vocabulary.kind == "one":
                names.append(vocabulary.slot)
        return tuple(names)

    @cached_property
    def categorical(self) -> tuple[int, ...]:
        """The columns that hold codes."""
        return tuple(
            int(column)
            for column, vocabulary in zip(self._plan.columns, self.vocabularies, strict=True)
            if vocabulary.kind == "one"
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
            {"slot": v.slot, "kind": v.kind, "keys": [f"{int(key):016x}" for key in v.keys]}
            for v in self.vocabularies
        ]
        dense = {"dense_names": list(self.dense_names), "dense_out": list(self.dense_out)}
        return {**dense, "slots": slots}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read what `to_mapping` gave; KeyError, TypeError or ValueError if it is damaged."""
        vocabularies = []
        for slot in mapping["slots"]:
            keys = np.array([int(key, 16) for key in slot["keys"]], np.uint64)
            if slot["kind"] not in _KINDS:
                raise ValueError(f"unknown kind of slot {slot['kind']!r}")
            vocabularies.append(SlotVocabulary(str(slot["slot"]), slot["kind"], keys))
        dense = tuple(mapping["dense_names"]), tuple(mapping["dense_out"])
        return cls(*dense, tuple(vocabularies))

    @cached_property
    def _plan(self) -> _Plan:
        vocabularies = self.vocabularies
        dense = [i for i, name in enumerate(self.dense_names) if name not in self.dense_out]
        widths = [len(dense), *(v.width for v in vocabularies)]
        orders = [np.argsort(v.keys) for v in vocabularies]
        rising = [v.keys[order] for v, order in zip(vocabularies, orders, strict=True)]
        return _Plan(
            dense=np.array(dense, np.int64),
            kinds=np.array([_KINDS[v.kind] for v in vocabularies], np.int8),
            columns=np.cumsum(widths)[: len(vocabularies)],
            starts=np.cumsum([0, *(len(v.keys) for v in vocabularies)]),
            keys=np.concatenate([np.empty(0, np.uint64), *rising]),
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
    dense_places: np.ndarray,
    kinds: np.ndarray,
    columns: np.ndarray,
    starts: np.ndarray,
    known: np.ndarray,
    codes: np.ndarray,
    out: np.ndarray,
) -> None:
    num_slots = kinds.size
    for b in range(out.shape[0]):
        for d in range(dense_places.size):
            value = dense[b, dense_places[d]]
            out[b, d] = value if np.isfinite(value) else np.nan
        for s in range(num_slots):
            first, last = offsets[b * num_slots + s], offsets[b * num_slots + s + 1]
            size = starts[s + 1] - starts[s]
            at = columns[s]
            if kinds[s] == _ONE:
                if first == last:
                    out[b, at] = np.nan
                    continue
                place = _find(known, starts[s], starts[s + 1], keys[first])
                out[b, at] = codes[place] if place >= 0 else size
                continue
            if kinds[s] != _SEVERAL:
                continue
            out[b, at] = last - first
            out[b, at + 1 : at + 1 + size] = 0
            for j in range(first, last):
                place = _find(known, starts[s], starts[s + 1], keys[j])
                if place >= 0:
                    out[b, at + 1 + codes[place]] += 1.0 if values is None else values[j]
