"""Statistics of one column, by what its type has: numbers, values, lengths, parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.quality.distinct import Distinct, hashes_of
from weiml.data.quality.frequent import Frequent
from weiml.data.quality.moments import NumberStatistics
from weiml.errors import DataError

__all__ = ["ColumnStatistics", "type_text"]


class ColumnStatistics:
    """What one column is like. Not thread-safe.

    NaN counts as missing. A list has the statistics of its lengths, and those of all its items
    under ``item``; a struct those of its fields; a map those of its ``key`` and ``value``.
    """

    def __init__(self, kind: str) -> None:
        self.type = kind
        """The type, as `type_text` says it."""
        self.count = 0
        """Values, missing ones among them."""
        self.missing = 0
        self.numbers: NumberStatistics | None = None
        self.values: Frequent | None = None
        self.distinct: Distinct | None = None
        self.lengths: NumberStatistics | None = None
        self.parts: dict[str, ColumnStatistics] = {}

    @property
    def missing_share(self) -> float:
        """Missing values among all, 0 if there are none."""
        return self.missing / self.count if self.count else 0.0

    @property
    def zero_share(self) -> float:
        """Zeros among all values, 0 if there are none or they are no numbers."""
        return self.numbers.zeros / self.count if self.numbers and self.count else 0.0

    def add(self, column: pa.Array | pa.ChunkedArray) -> None:
        """Take in values.

        Raises:
            DataError: they are of another type than those before.
        """
        if type_text(column.type) != self.type:
            raise DataError(f"is {type_text(column.type)}, but was {self.type} before")
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        for chunk in chunks:
            self._add(chunk)

    def _add(self, array: pa.Array) -> None:
        array = _without_view(array)
        present = array.drop_null()
        if pa.types.is_floating(array.type):
            present = present.filter(pc.invert(pc.is_nan(present)))
        self.count += len(array)
        self.missing += len(array) - len(present)
        kind = array.type
        if pa.types.is_dictionary(kind):
            present, kind = present.cast(kind.value_type), kind.value_type
        if pa.types.is_map(kind):
            # Offsets, not the whole child arrays: those hold what lies outside of a slice too.
            first, last = present.offsets[0].as_py(), present.offsets[-1].as_py()
            inside = (part.slice(first, last - first) for part in (present.keys, present.items))
            self._add_list(present, dict(zip(("key", "value"), inside, strict=True)))
        elif _is_list(kind):
            self._add_list(present, {"item": present.flatten()})
        elif pa.types.is_struct(kind):
            for field, part in zip(kind, present.flatten(), strict=True):
                self._part(field.name, part)
        elif not pa.types.is_null(kind):
            self._add_plain(present, kind)

    def _add_plain(self, present: pa.Array, kind: pa.DataType) -> None:
        self.distinct = self.distinct or Distinct()
        self.distinct.add(hashes_of(present))
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind):
            self.numbers = self.numbers or NumberStatistics()
            self.numbers.add(_numbers(present))
        if not (pa.types.is_temporal(kind) or _is_bytes(kind)):
            self.values = self.values or Frequent()
            self.values.add(present.cast(pa.string()))

    def _add_list(self, present: pa.Array, parts: dict[str, pa.Array]) -> None:
        self.lengths = self.lengths or NumberStatistics()
        self.lengths.add(_lengths(present))
        for name, part in parts.items():
            self._part(name, part)

    def _part(self, name: str, part: pa.Array) -> None:
        if name not in self.parts:
            self.parts[name] = ColumnStatistics(type_text(part.type))
        self.parts[name].add(part)

    def merge(self, other: ColumnStatistics) -> None:
        """Take in what another one has seen.

        Raises:
            DataError: it is of a column of another type.
        """
        if other.type != self.type:
            raise DataError(f"is {other.type}, but was {self.type} before")
        self.count += other.count
        self.missing += other.missing
        if other.numbers:
            self.numbers = self.numbers or NumberStatistics()
            self.numbers.merge(other.numbers)
        if other.values:
            self.values = self.values or Frequent()
            self.values.merge(other.values)
        if other.distinct:
            self.distinct = self.distinct or Distinct()
            self.distinct.merge(other.distinct)
        if other.lengths:
            self.lengths = self.lengths or NumberStatistics()
            self.lengths.merge(other.lengths)
        for name, part in other.parts.items():
            self.parts.setdefault(name, ColumnStatistics(part.type)).merge(part)

    def to_mapping(self) -> dict[str, Any]:
        """Return the state as plain dictionaries, lists and numbers."""
        tree: dict[str, Any] = {"type": self.type, "count": self.count, "missing": self.missing}
        if self.numbers:
            tree["numbers"] = self.numbers.to_mapping()
        if self.values:
            tree["values"] = self.values.to_mapping()
        if self.distinct:
            about = {"count": self.distinct.count(), "exact": self.distinct.exact}
            tree["distinct"] = about | self.distinct.to_mapping()
        if self.lengths:
            tree["lengths"] = self.lengths.to_mapping()
        if self.parts:
            tree["parts"] = {name: part.to_mapping() for name, part in self.parts.items()}
        return tree

    @classmethod
    def from_mapping(cls, tree: dict[str, Any]) -> ColumnStatistics:
        """Return the one whose `to_mapping` is given."""
        made = cls(str(tree["type"]))
        made.count, made.missing = int(tree["count"]), int(tree["missing"])
        if "numbers" in tree:
            made.numbers = NumberStatistics.from_mapping(tree["numbers"])
        if "values" in tree:
            made.values = Frequent.from_mapping(tree["values"])
        if "distinct" in tree:
            made.distinct = Distinct.from_mapping(tree["distinct"])
        if "lengths" in tree:
            made.lengths = NumberStatistics.from_mapping(tree["lengths"])
        parts = tree.get("parts", {})
        made.parts = {name: cls.from_mapping(part) for name, part in parts.items()}
        return made


def type_text(kind: pa.DataType) -> str:
    """Return a type without what is only its form: dictionary, names of items, offsets or views."""
    if pa.types.is_dictionary(kind):
        return type_text(kind.value_type)
    if _is_list(kind):
        return f"list<{type_text(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{type_text(kind.key_type)}, {type_text(kind.item_type)}>"
    if pa.types.is_struct(kind):
        parts = ", ".join(f"{field.name}: {type_text(field.type)}" for field in kind)
        return f"struct<{parts}>"
    return str(kind).removeprefix("large_").removesuffix("_view")


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _without_view(array: pa.Array) -> pa.Array:
    """Return views as what they are views of: few of Arrow's kernels take them."""
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pa.types.is_binary_view(array.type) else array


def _lengths(lists: pa.Array) -> np.ndarray:
    if pa.types.is_map(lists.type):
        return np.diff(lists.offsets.to_numpy()).astype(np.float64)
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, np.float64)


def _numbers(present: pa.Array) -> np.ndarray:
    if pa.types.is_temporal(present.type):
        present = present.view(pa.int32() if present.type.bit_width == 32 else pa.int64())
    return np.asarray(present.to_numpy(zero_copy_only=False), np.float64)
