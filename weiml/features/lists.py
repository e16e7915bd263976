"""The slots of lists: of named numbers, and of histories of ids."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import DataError
from weiml.features.numbers import floats_of
from weiml.features.slots import SlotKeys, list_lengths
from weiml.features.types import Feature, Sequence, SparseContinuous
from weiml.hashing import TypeTag, feature_seed, hash_values, padding_id

__all__ = ["entries_of", "feature_keys", "padding_key", "sequence_slot", "sparse_continuous_slot"]


def sparse_continuous_slot(
    feature: SparseContinuous, column: pa.Array, numbers: pa.Array | None
) -> SlotKeys:
    """Return a key and its value for each entry whose number is finite in float32.

    Args:
        feature: the spec.
        column: of maps, of lists of (key, value), or of lists of keys.
        numbers: of the lists of numbers, if `column` has the keys only.

    Raises:
        DataError: the types do not fit, or a list of keys has not as many numbers.
    """
    keys, values, lengths = entries_of(feature, column, numbers)
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
        raise DataError(f"feature {feature.name!r}: values must be numbers, got {kind}")
    wide = floats_of(values)
    with np.errstate(over="ignore"):
        x = wide.astype(np.float32)
    kept = np.isfinite(x)
    ids = feature_keys(feature, keys)
    if kept.all():
        return SlotKeys(ids, lengths, x)
    owners = np.repeat(np.arange(lengths.size), lengths)[kept]
    fewer = np.bincount(owners, minlength=lengths.size).astype(np.int32)
    return SlotKeys(ids[kept], fewer, x[kept])


def entries_of(
    feature: SparseContinuous, column: pa.Array, numbers: pa.Array | None
) -> tuple[pa.Array, pa.Array, np.ndarray]:
    """Return all entries' keys and numbers in a row, and how many each example has, int32 ``(B,)``.

    Raises:
        DataError: as `sparse_continuous_slot`.
    """
    kind = column.type
    if feature.values is not None:
        return _parallel(feature, column, numbers)
    if pa.types.is_map(kind):
        entry = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        column = column.cast(pa.list_(entry))
    elif not _is_entry(kind.value_type):
        raise DataError(
            f"feature {feature.name!r}: the entries of {kind} are not (key, value), structs of "
            "these two fields; where the numbers are lists of another column, name it with values="
        )
    entries = pc.list_flatten(column)
    parts = dict(zip(entries.type.names, entries.flatten(), strict=True))
    return parts["key"], parts["value"], list_lengths(column)


def _is_entry(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and sorted(kind.names) == ["key", "value"]


def _parallel(
    feature: SparseContinuous, column: pa.Array, numbers: pa.Array | None
) -> tuple[pa.Array, pa.Array, np.ndarray]:
    listed = numbers is not None and (
        pa.types.is_list(numbers.type)
        or pa.types.is_large_list(numbers.type)
        or pa.types.is_fixed_size_list(numbers.type)
    )
    if numbers is None or not listed or pa.types.is_map(column.type):
        raise DataError(
            f"feature {feature.name!r}: with values={feature.values!r} both columns must be lists, "
            f"got {column.type} and {None if numbers is None else numbers.type}"
        )
    lengths, others = list_lengths(column), list_lengths(numbers)
    if not np.array_equal(lengths, others):
        at = int(np.argmax(lengths != others))
        raise DataError(
            f"feature {feature.name!r}: row {at} has {lengths[at]} keys but {others[at]} numbers "
            f"in {feature.values!r}"
        )
    return pc.list_flatten(column), pc.list_flatten(numbers), lengths


def feature_keys(feature: Feature, values: pa.Array) -> np.ndarray:
    """Return the keys of single values (entries, tokens, buckets) of a feature: uint64 ``(n,)``."""
    if isinstance(feature, Sequence) and feature.ids_of is not None:
        return hash_values(feature.ids_of, values, TypeTag.CATEGORICAL)
    return hash_values(feature.name, values, feature.tag)


def padding_key(feature: Sequence) -> int:
    """Return the key that fills up a sequence of fixed length: its own, whatever `ids_of`."""
    return int(_padding(feature_seed(feature.name, TypeTag.SEQUENCE)))


def sequence_slot(feature: Sequence, column: pa.Array) -> SlotKeys:
    """Return the keys of the entries that are kept, in their order, filled up where asked for."""
    keys = feature_keys(feature, pc.list_flatten(column))
    fixed = feature.length is not None
    limit = feature.max_length if feature.length is None else feature.length
    padding = np.uint64(padding_key(feature))
    return SlotKeys(
        *_window(keys, list_lengths(column), limit, feature.keep == "last", fixed, padding)
    )


@numba.njit(cache=True)
def _padding(seed: np.uint64) -> np.uint64:
    return padding_id(seed)


@numba.njit(nogil=True, cache=True)
def _window(
    keys: np.ndarray, lengths: np.ndarray, limit: int, last: bool, fixed: bool, padding: np.uint64
) -> tuple[np.ndarray, np.ndarray]:
    """Return keys and lengths cut to `limit`; if `fixed`, all lengths are `limit`."""
    B = lengths.size
    kept_lengths = np.minimum(lengths, np.int32(limit))
    new_lengths = np.full(B, limit, np.int32) if fixed else kept_lengths
    out = np.empty(new_lengths.astype(np.int64).sum(), np.uint64)
    at = start = 0
    for b in range(B):
        kept = np.int64(kept_lengths[b])
        first = start + lengths[b] - kept if last else start
        if fixed:
            for _ in range(limit - kept):
                out[at] = padding
                at += 1
        for j in range(first, first + kept):
            out[at] = keys[j]
            at += 1
        start += lengths[b]
    return out, new_lengths
