"""Train-serve skew: features as they were logged when served, against the same ones recomputed.

Distributions can agree while every single row differs; so rows are joined by their ids and compared
one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.config import nearest
from weiml.data.quality.columns import type_text
from weiml.data.quality.findings import Finding
from weiml.errors import ConfigError, DataError
from weiml.features.transforms.columns import is_list

__all__ = ["FeatureSkew", "Skew", "compare_rows"]

_SERVED, _OFFLINE = "__served__", "__offline__"


@dataclass(frozen=True, kw_only=True)
class FeatureSkew:
    """How one feature differs between the two sides."""

    feature: str
    differing: int
    """Rows in which it differs by more than the tolerance, or is missing on one side only."""
    share: float
    """Differing rows among those compared."""
    largest: float
    """Largest difference of numbers; NaN if there is none to take."""
    examples: tuple[Any, ...]
    """Ids of the first rows that differ, at most five."""


@dataclass(frozen=True, kw_only=True)
class Skew:
    """The two sides row by row."""

    compared: int
    """Rows that both sides have."""
    only_served: int
    only_offline: int
    features: tuple[FeatureSkew, ...]
    """The greatest share first."""

    def check(self, max_share: float) -> list[Finding]:
        """Return the features that differ in more than `max_share` of the rows."""
        return [
            Finding(
                feature=skew.feature,
                measure="skew",
                value=skew.share,
                threshold=max_share,
                detail=f"{skew.differing} of {self.compared} rows differ, such as {skew.examples}",
            )
            for skew in self.features
            if skew.share > max_share
        ]


def compare_rows(
    served: pa.Table,
    offline: pa.Table,
    *,
    by: Sequence[str],
    features: Sequence[str] | None = None,
    tolerance: float = 1e-6,
    relative: float = 1e-6,
) -> Skew:
    """Join two tables by the columns `by` and compare their features row by row.

    Numbers differ if |served − offline| > tolerance + relative · |offline|; two NaN are equal, NaN
    and null are not. Lists are compared in their order, structs and maps by parts, all else by
    equality. Forms of one type (dictionaries, views, wide offsets, fixed lengths) do not count.

    Args:
        served: features as they were logged.
        offline: the same features, recomputed.
        by: the columns of the rows' ids; an id stands once on each side, and is never null.
        features: what to compare; all columns that both have if None.
        tolerance: absolute, of numbers.
        relative: of numbers.

    Raises:
        DataError: an id is null or repeats, a feature is not on both sides or not of one type.
        ConfigError: a tolerance is negative.
    """
    if tolerance < 0 or relative < 0:
        raise ConfigError(f"tolerances must not be negative, got {tolerance} and {relative}")
    for side, table in (("served", served), ("offline", offline)):
        _check_ids(table, by, side)
    left, right = _pairs(served, offline, by)
    names = _features(served, offline, by, features)
    skews = []
    for name in names:
        a = _whole(served[name]).take(pa.array(left))
        b = _whole(offline[name]).take(pa.array(right))
        differs, largest = _differs(a, b, tolerance, relative)
        rows = np.flatnonzero(differs)
        ids = served.select(list(by)).take(pa.array(left[rows[:5]])).to_pylist()
        shown = tuple(next(iter(one.values())) if len(by) == 1 else one for one in ids)
        skews.append(
            FeatureSkew(
                feature=name,
                differing=len(rows),
                share=len(rows) / len(left) if len(left) else 0.0,
                largest=largest,
                examples=shown,
            )
        )
    return Skew(
        compared=len(left),
        only_served=served.num_rows - len(left),
        only_offline=offline.num_rows - len(left),
        features=tuple(sorted(skews, key=lambda skew: (-skew.share, skew.feature))),
    )


def _check_ids(table: pa.Table, by: Sequence[str], side: str) -> None:
    if not by:
        raise ConfigError("by must name at least one column")
    for name in by:
        if name not in table.column_names:
            raise DataError(
                f"the {side} rows have no column {name!r}{nearest(name, table.column_names)}"
            )
        if table[name].null_count:
            raise DataError(f"the {side} rows have {table[name].null_count} null ids in {name!r}")
    different = table.select(list(by)).group_by(list(by)).aggregate([]).num_rows
    if different != table.num_rows:
        raise DataError(
            f"the {side} rows have {table.num_rows - different} ids of {list(by)} that repeat; "
            "remove duplicates first"
        )


def _pairs(served: pa.Table, offline: pa.Table, by: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the rows that both sides have, in the served order."""
    names = list(by)
    ids = pa.table({name: _whole(served[name]) for name in names})
    left = ids.append_column(_SERVED, pa.array(np.arange(served.num_rows)))
    right = pa.table({name: _whole(offline[name]) for name in names}).cast(ids.schema)
    right = right.append_column(_OFFLINE, pa.array(np.arange(offline.num_rows)))
    joined = left.join(right, names, join_type="inner").sort_by(_SERVED)
    return joined[_SERVED].to_numpy(), joined[_OFFLINE].to_numpy()


def _features(
    served: pa.Table, offline: pa.Table, by: Sequence[str], wanted: Sequence[str] | None
) -> list[str]:
    both = [name for name in served.column_names if name in offline.column_names]
    names = [name for name in both if name not in by] if wanted is None else list(wanted)
    for name in names:
        if name not in both:
            raise DataError(f"feature {name!r} is not on both sides{nearest(name, both)}")
        kinds = served.schema.field(name).type, offline.schema.field(name).type
        if type_text(kinds[0]) != type_text(kinds[1]) and not all(map(_is_number, kinds)):
            raise DataError(f"feature {name!r} is {kinds[0]} when served, {kinds[1]} offline")
    return names


def _is_number(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    return _plain(array)


def _plain(array: pa.Array) -> pa.Array:
    """Return dictionaries and views as plain arrays of what they hold."""
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_string_view(array.type):
        return array.cast(pa.large_string())
    return array.cast(pa.large_binary()) if pa.types.is_binary_view(array.type) else array


def _differs(
    a: pa.Array, b: pa.Array, tolerance: float, relative: float
) -> tuple[np.ndarray, float]:
    """Return which values differ, bool ``(n,)``, and the largest difference of numbers."""
    a, b = _plain(a), _plain(b)
    present = _mask(a.is_valid()), _mask(b.is_valid())
    both = present[0] & present[1]
    differs = present[0] != present[1]
    a, b = a.filter(pa.array(both)), b.filter(pa.array(both))
    if _is_number(a.type):
        inner, largest = _numbers_differ(a, b, tolerance, relative)
    elif pa.types.is_struct(a.type):
        inner, largest = np.zeros(len(a), bool), float("nan")
        for x, y in zip(a.flatten(), b.flatten(), strict=True):
            part, size = _differs(x, y, tolerance, relative)
            inner |= part
            largest = float(np.fmax(largest, size))
    elif pa.types.is_map(a.type):
        inner, largest = _lists_differ(_entries(a), _entries(b), tolerance, relative)
    elif is_list(a.type):
        inner, largest = _lists_differ(a, b, tolerance, relative)
    elif pa.types.is_null(a.type):
        inner, largest = np.zeros(len(a), bool), float("nan")
    else:
        inner, largest = _mask(pc.not_equal(a, b.cast(a.type))), float("nan")
    differs[both] |= inner
    return differs, largest


def _entries(maps: pa.MapArray) -> pa.Array:
    return maps.cast(pa.list_(pa.struct([maps.type.key_field, maps.type.item_field])))


def _mask(array: pa.Array) -> np.ndarray:
    return np.array(array.to_numpy(zero_copy_only=False), bool)


def _numbers_differ(
    a: pa.Array, b: pa.Array, tolerance: float, relative: float
) -> tuple[np.ndarray, float]:
    x = np.asarray(a.to_numpy(zero_copy_only=False), np.float64)
    y = np.asarray(b.to_numpy(zero_copy_only=False), np.float64)
    with np.errstate(invalid="ignore"):  # infinity minus itself
        gap = np.abs(x - y)
        differs = ~(gap <= tolerance + relative * np.abs(y))
    differs &= ~((x == y) | (np.isnan(x) & np.isnan(y)))
    finite = gap[np.isfinite(gap)]
    return differs, float(finite.max()) if len(finite) else float("nan")


def _lists_differ(
    a: pa.Array, b: pa.Array, tolerance: float, relative: float
) -> tuple[np.ndarray, float]:
    lengths = [np.asarray(pc.list_value_length(side), np.int64) for side in (a, b)]
    differs = lengths[0] != lengths[1]
    same = pa.array(~differs)
    inner, largest = _differs(
        a.filter(same).flatten(), b.filter(same).flatten(), tolerance, relative
    )
    owners = np.repeat(np.flatnonzero(~differs), lengths[0][~differs])
    differs[owners[inner]] = True
    return differs, largest
