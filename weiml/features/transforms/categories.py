"""Categories to numbers: hashed ids, and numbers of a vocabulary."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import ConfigError
from weiml.features.transforms.base import Accumulator
from weiml.features.transforms.columns import (
    column,
    is_category,
    is_list,
    lists,
    plain_type,
    require,
)
from weiml.features.transforms.derived import (
    Counting,
    FittedDerived,
    OneColumn,
    Stateless,
)
from weiml.features.transforms.grouped import GroupedSums
from weiml.features.transforms.key_index import KeyIndex
from weiml.features.transforms.registry import register
from weiml.hashing import hash_values

__all__ = ["FittedVocabulary", "Hashing", "Vocabulary"]


class _CategoryTransform(OneColumn):
    """A transform of categories, or of lists of them, into numbers of one type."""

    @property
    @abstractmethod
    def number_type(self) -> pa.DataType:
        """The type that comes out for one category."""

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return one field of numbers, or of lists of them."""
        kind = self.kind(schema)
        inner = plain_type(kind.value_type) if is_list(kind) else kind
        wanted = "strings, integers, booleans or lists of them"
        require(is_category(inner), self.column, self.name, wanted, kind)
        made = pa.list_(self.number_type) if is_list(kind) else self.number_type
        return (pa.field(self.target, made),)


class _FittedCategories(FittedDerived):
    """Gives each category its number; lists keep their lengths."""

    @abstractmethod
    def number(self, values: pa.Array) -> np.ndarray:
        """Return the numbers of categories ``(n,)``."""

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the numbers."""
        values = column(table, self.of.inputs[0])
        if not is_list(values.type):
            return (pa.array(self.number(values)),)
        apart = lists(values)
        return (apart.with_values(pa.array(self.number(apart.values))),)


@dataclass(frozen=True, eq=False)
class FittedHashing(_FittedCategories):
    """Hashed ids."""

    def number(self, values: pa.Array) -> np.ndarray:
        """Return uint64 ids, or their first bits as int32."""
        assert isinstance(self.of, Hashing)
        keys = hash_values(self.of.feature or self.of.column, values)
        if self.of.bits is None:
            return keys
        return (keys >> np.uint64(64 - self.of.bits)).astype(np.int32)


@register("hashing")
@dataclass(frozen=True)
class Hashing(Stateless, _CategoryTransform):
    """Categories to 64-bit ids (`weiml.hashing`), or to one of 2^bits buckets.

    A missing category has an id of its own. Without `bits` the ids, uint64, are the very keys that
    an encoder makes of the column.
    """

    bits: int | None = field(default=None, kw_only=True)
    """Keep so many bits of the id, 1 … 31, as int32; all 64, as uint64, if left out."""
    feature: str | None = field(default=None, kw_only=True)
    """The feature's name, under which values are hashed; the column's if left out."""

    fitted_type = FittedHashing

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits is not None and not 1 <= self.bits <= 31:
            raise ConfigError(f"Hashing({self.column!r}): bits must be 1 to 31, got {self.bits}")

    @property
    def number_type(self) -> pa.DataType:
        """The type of ids."""
        return pa.uint64() if self.bits is None else pa.int32()


@dataclass(frozen=True, eq=False)
class FittedVocabulary(_FittedCategories):
    """The known values, by falling count."""

    values: pa.Array
    """string ``(size,)``; the text of integers and booleans."""
    error: int
    """By how much counts could be too low; 0 unless memory was bounded."""
    _index: KeyIndex = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", KeyIndex(hash_values("", self.values)))

    def number(self, values: pa.Array) -> np.ndarray:
        """Return the numbers of values: int32."""
        assert isinstance(self.of, Vocabulary)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)  # nulls may stand in the dictionary alone
        keys = hash_values("", values)
        found = self._index.find(keys)
        unknown = 1 + (keys % np.uint64(self.of.oov)).astype(np.int32)
        numbers = np.where(found < 0, unknown, found + np.int32(1 + self.of.oov))
        return np.where(pc.is_null(values).to_numpy(zero_copy_only=False), np.int32(0), numbers)


@register("vocabulary")
@dataclass(frozen=True)
class Vocabulary(_CategoryTransform):
    """Categories to numbers: 0 for missing, then `oov` for unknown, then the known by their count.

    Values of equal count are ordered by their text. Integers and booleans are known by their text,
    so that 5 and "5" are one value. Entries of lists are counted each. Merges are exact, unless
    `max_candidates` bounds the memory.
    """

    min_count: int = field(default=1, kw_only=True)
    """Rarer values are unknown."""
    max_size: int | None = field(default=None, kw_only=True)
    """Keep so many of the most frequent values."""
    oov: int = field(default=1, kw_only=True)
    """How many numbers unknown values share, by their hash."""
    max_candidates: int | None = field(default=None, kw_only=True)
    """Count at most so many values at a time (J. Misra and D. Gries, 1982; merging after Agarwal
    et al., 2012). A count may then be too low, by at most rows / max_candidates."""

    fitted_type = FittedVocabulary

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("min_count", "max_size", "oov", "max_candidates"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 1 << 30:
                raise ConfigError(
                    f"Vocabulary({self.column!r}): {name} must be at least 1 and below 2^30, got "
                    f"{value}"
                )

    @property
    def number_type(self) -> pa.DataType:
        """The type of numbers."""
        return pa.int32()

    def accumulator(self) -> Accumulator:
        """Return an accumulator of counts."""
        return _VocabularySeen(self)


class _VocabularySeen(Counting):
    def __init__(self, transform: Vocabulary) -> None:
        super().__init__(transform)
        self.vocabulary = transform
        self.counts = GroupedSums(pa.schema({"value": pa.large_string()}), ("count",))
        self.candidates = 0
        self.error = 0

    def _see(self, table: pa.Table) -> None:
        values = column(table, self.vocabulary.column)
        if is_list(values.type):
            values = lists(values).values
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        counted = pc.value_counts(values.cast(pa.large_string()).drop_null())
        self.counts.add({"value": counted.field("values"), "count": counted.field("counts")})
        self._bound(len(counted))

    def _join(self, other: Self) -> None:
        self.error += other.error
        self.counts.merge(other.counts)
        self._bound(other.candidates)

    def _bound(self, more: int) -> None:
        """Drop the rarest values once there may be twice as many as memory is meant for."""
        self.candidates += more
        most = self.vocabulary.max_candidates
        if most is not None and self.candidates > 2 * most:
            self._reduce(most)

    def _reduce(self, most: int) -> None:
        table = self.counts.table()
        if table.num_rows > most:
            counts = table.column("count").to_numpy()
            taken = int(np.partition(counts, -most - 1)[-most - 1])
            self.error += taken
            rest = table.set_column(1, "count", pa.array(counts - taken))
            table = rest.filter(pa.array(counts > taken)).combine_chunks()
        self.counts.replace(table)
        self.candidates = table.num_rows

    def _finish(self) -> FittedVocabulary:
        if self.vocabulary.max_candidates is not None:
            self._reduce(self.vocabulary.max_candidates)
        table = self.counts.table()
        known = table.filter(pc.greater_equal(table.column("count"), self.vocabulary.min_count))
        known = known.sort_by([("count", "descending"), ("value", "ascending")])
        if self.vocabulary.max_size is not None:
            known = known.slice(0, self.vocabulary.max_size)
        values = known.column("value").cast(pa.string()).combine_chunks()
        return FittedVocabulary(self.vocabulary, values, self.error)
