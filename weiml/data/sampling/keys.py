"""One 64-bit key a row, of several columns: for drawing by hash and for finding equal rows."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import pyarrow as pa

from weiml.data.sampling.counts import column_of
from weiml.errors import DataError
from weiml.features.numbers import floats_of
from weiml.features.transforms.columns import is_list, lists
from weiml.hashing import cross_keys, hash_values, mix64

__all__ = ["row_keys", "share_of"]

_NAN = np.uint64(0x7FF8000000000000)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_UNITS = frozenset(
    kind.id for kind in (pa.timestamp("s"), pa.duration("s"), pa.time32("s"), pa.time64("us"))
)


def row_keys(table: pa.Table, columns: Sequence[str], decimals: int | None = None) -> np.ndarray:
    """Return a key of each row's values in `columns`, uint64 ``(n,)``; their order counts.

    Equal rows have equal keys; others have different ones but for collisions of 64-bit hashes. A
    whole number has the same key as an integer, as a float and as text (``5``); a time has it in
    any unit. Nulls are equal to nulls, NaN to NaN.

    Args:
        table: any rows.
        columns: of numbers, text, flags, times, and lists or structs of these.
        decimals: floats that are equal when rounded to so many places are equal; all bits count if
            None.

    Raises:
        DataError: a column is missing or of another type.
    """
    keys = np.zeros(table.num_rows, np.uint64)
    for name in columns:
        try:
            keys = cross_keys(keys, _keys(name, column_of(table, name, "key"), decimals))
        except DataError as error:
            raise DataError(f"column {name!r}: {error}") from None
    return keys


def share_of(keys: np.ndarray, seed: int) -> np.ndarray:
    """Return a number in [0, 1) that key and seed decide, evenly spread: float64 ``(n,)``."""
    return np.asarray(_shares(keys, np.uint64(seed & (2**64 - 1))))


def _keys(name: str, array: pa.Array, decimals: int | None) -> np.ndarray:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _keys(name, array.cast(kind.value_type), decimals)
    if is_list(kind):
        apart = lists(array)
        lengths = np.where(apart.null, -1, apart.lengths)
        return np.asarray(_folded(_keys(name, apart.values, decimals), lengths))
    if pa.types.is_struct(kind):
        keys = np.asarray(array.is_valid(), np.uint64)
        for field, part in zip(kind, array.flatten(), strict=True):
            keys = cross_keys(keys, _keys(f"{name}.{field.name}", part, decimals))
        return keys
    if pa.types.is_floating(kind):
        return _float_keys(name, array, decimals)
    if pa.types.is_date(kind):
        return hash_values(name, array.cast(pa.date32(), safe=False).view(pa.int32()))
    if kind.id in _UNITS:
        return _time_keys(name, array)
    return hash_values(name, array)


def _float_keys(name: str, array: pa.Array, decimals: int | None) -> np.ndarray:
    """Return the keys of floats: whole ones have those of integers, the others of their bits."""
    numbers = floats_of(array.fill_null(0.0))
    if decimals is not None:
        with np.errstate(over="ignore"):
            rounded = np.round(numbers, decimals)
        numbers = np.where(np.isfinite(rounded), rounded, numbers)  # beyond all places as it is
    keys = _mixed(np.where(np.isnan(numbers), _NAN, numbers.view(np.uint64)))
    whole = (np.floor(numbers) == numbers) & (np.abs(numbers) < 2.0**63)
    valid = np.asarray(array.is_valid(), bool)
    as_integers = np.flatnonzero(whole | ~valid)
    integers = pa.array(numbers[as_integers].astype(np.int64), mask=~valid[as_integers])
    keys[as_integers] = hash_values(name, integers)
    return keys


def _time_keys(name: str, array: pa.Array) -> np.ndarray:
    """Return the keys of times and durations: of what they are, not of their units."""
    per = _PER_SECOND[array.type.unit]
    wide = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64()).cast(pa.int64())
    numbers = wide.fill_null(0).to_numpy(zero_copy_only=False)
    seconds = pa.array(numbers // per, mask=~np.asarray(array.is_valid(), bool))
    rest = (numbers % per * (1_000_000_000 // per)).astype(np.uint64)
    return cross_keys(hash_values(name, seconds), rest)


@numba.njit(nogil=True, cache=True)
def _mixed(bits: np.ndarray) -> np.ndarray:
    """Return `mix64` of each uint64."""
    out = np.empty(bits.size, np.uint64)
    for i in range(bits.size):
        out[i] = mix64(bits[i])
    return out


@numba.njit(nogil=True, cache=True)
def _folded(inner: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return a key of each list from its items' keys and its length; -1 stands for null."""
    keys = np.empty(lengths.size, np.uint64)
    at = 0
    for i in range(lengths.size):
        key = mix64(np.uint64(lengths[i] + 1))
        for _ in range(lengths[i]):
            key = mix64(key + inner[at])
            at += 1
        keys[i] = key
    return keys


@numba.njit(nogil=True, cache=True)
def _shares(keys: np.ndarray, seed: np.uint64) -> np.ndarray:
    start = mix64(seed + np.uint64(0x9E3779B97F4A7C15))
    out = np.empty(keys.size, np.float64)
    for i in range(keys.size):
        out[i] = np.float64(mix64(keys[i] ^ start) >> np.uint64(11)) * (1.0 / 9007199254740992.0)
    return out
