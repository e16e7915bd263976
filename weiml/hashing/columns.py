"""The ids of Arrow columns, hashed in place in Arrow's buffers."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import DataError
from weiml.hashing.ids import TypeTag, feature_seed, missing_id, text_id
from weiml.hashing.xxh64 import decimal_digest, medium_decimal_digest, short_decimal_digest

__all__ = ["hash_values", "text_form"]

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_SHORT = np.uint64(10**7)  # what `short_decimal_digest` takes
_MEDIUM = np.uint64(10**16)  # what `medium_decimal_digest` takes
_BLOCK = 256
# Every whole number up to here has a float of its own; beyond, ids would melt together.
_WHOLE_FLOATS = {pa.float16(): 2.0**11, pa.float32(): 2.0**24, pa.float64(): 2.0**53}


def hash_values(
    feature: str, values: pa.Array | pa.ChunkedArray, tag: int = TypeTag.CATEGORICAL
) -> np.ndarray:
    """Return the ids of a column's values: uint64 ``(len(values),)``.

    The column holds strings, integers of any width, booleans, or floats that are whole numbers: a
    column of integers with gaps turns into such floats in pandas, and JSON knows one kind of
    number. NaN is missing, like null. Strings are taken as they are: ``"5.0"`` is not ``5``.
    Dictionary-encoded columns are hashed once per distinct value.

    Raises:
        DataError: a float has a fraction, is infinite or beyond the whole numbers that its type
            tells apart; or the column is of a type without an exact text form, such as timestamps.
    """
    seed = feature_seed(feature, tag)
    if isinstance(values, pa.ChunkedArray):
        chunks = [_hash_array(feature, chunk, seed) for chunk in values.chunks]
        return np.concatenate(chunks) if chunks else np.empty(0, np.uint64)
    return _hash_array(feature, values, seed)


def _hash_array(feature: str, values: pa.Array, seed: np.uint64) -> np.ndarray:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _hash_dictionary(feature, values, seed)
    if pa.types.is_null(kind):
        return _hash_strings_of(pa.nulls(len(values), pa.string()), seed)
    if pa.types.is_boolean(kind):
        return _hash_strings_of(values.cast(pa.string()), seed)
    if pa.types.is_integer(kind):
        return _hash_integers_of(values, seed)
    if pa.types.is_floating(kind):
        return _hash_integers_of(_whole(feature, values), seed)
    if pa.types.is_string_view(kind):
        values = values.cast(pa.large_string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(
            f"feature {feature!r}: a column of type {kind} has no ids; categories must be strings, "
            f"integers or booleans: cast it, or declare the feature Continuous"
        )
    return _hash_strings_of(values, seed)


def _hash_strings_of(values: pa.Array, seed: np.uint64) -> np.ndarray:
    width = np.int64 if pa.types.is_large_string(values.type) else np.int32
    validity, offsets, data = values.buffers()
    offset_array = np.frombuffer(offsets, width) if offsets else np.zeros(1, width)
    return np.asarray(
        _hash_strings(
            data.address if data else 0,
            offset_array[values.offset : values.offset + len(values) + 1],
            _bytes(validity if values.null_count else None),
            values.offset,
            seed,
        )
    )


def _hash_integers_of(values: pa.Array, seed: np.uint64) -> np.ndarray:
    unsigned = pa.types.is_unsigned_integer(values.type)
    wide = values.cast(pa.uint64() if unsigned else pa.int64())
    # Zero-copy, with whatever lies under nulls.
    numbers = np.frombuffer(wide.buffers()[1] or b"", np.uint64)
    validity = _bytes(wide.buffers()[0] if wide.null_count else None)
    numbers = numbers[wide.offset : wide.offset + len(wide)]
    return np.asarray(_hash_integers(numbers, unsigned, validity, wide.offset, seed))


def _hash_dictionary(feature: str, values: pa.DictionaryArray, seed: np.uint64) -> np.ndarray:
    known = values.dictionary
    texts = _hash_array(feature, pa.concat_arrays([known, pa.nulls(1, known.type)]), seed)
    indices = values.indices
    if indices.type != pa.int32():
        indices = indices.cast(pa.int64())
    validity, data = indices.buffers()
    width = np.int32 if indices.type == pa.int32() else np.int64
    places = np.frombuffer(data, width)[indices.offset : indices.offset + len(indices)]
    return np.asarray(_pick(texts, places, _bytes(validity), indices.offset))


@numba.njit(nogil=True, cache=True)
def _pick(ids: np.ndarray, places: np.ndarray, validity: np.ndarray, first: int) -> np.ndarray:
    """Return the ids at `places`, the last one where a place is null."""
    keys = np.empty(places.size, np.uint64)
    if validity.size == 0:
        for i in range(places.size):
            keys[i] = ids[np.uint64(places[i])]
        return keys
    missing = np.uint64(ids.size - 1)
    for i in range(places.size):
        # No branch, for which values are missing cannot be guessed; unsigned, so that none looks
        # from the end.
        at = np.uint64(first + i)
        bit = (np.uint64(validity[at >> np.uint64(3)]) >> (at & np.uint64(7))) & _ONE
        keys[i] = ids[missing ^ ((np.uint64(places[i]) ^ missing) & (_ZERO - bit))]
    return keys


def text_form(feature: str, values: pa.Array) -> pa.Array:
    """Return a column as the large_string texts that its ids are hashes of, null where missing.

    Raises:
        DataError: as `hash_values`.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return text_form(feature, values.dictionary_decode())
    if pa.types.is_floating(kind):
        values = _whole(feature, values)
    return values.cast(pa.large_string())


def _whole(feature: str, values: pa.Array) -> pa.Array:
    """Return floats as int64, NaN as null.

    Raises:
        DataError: a number is not whole, or beyond those that the type tells apart.
    """
    limit = _WHOLE_FLOATS[values.type]
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = ~np.isnan(numbers)
    wrong = known & ~((np.abs(numbers) <= limit) & (np.floor(numbers) == numbers))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise DataError(
            f"feature {feature!r}: the number {numbers[at]!r} of a column of type {values.type} "
            f"has no id; categories must be strings, integers or booleans (or floats that are "
            f"whole, up to {limit:.0f}): cast the column, or declare the feature Continuous"
        )
    return pc.if_else(pa.array(known), pa.array(np.where(known, numbers, 0).astype(np.int64)), None)


def _bytes(buffer: pa.Buffer | None) -> np.ndarray:
    return np.frombuffer(buffer, np.uint8) if buffer else np.empty(0, np.uint8)


@numba.njit(inline="always")
def _is_null(validity: np.ndarray, i: int) -> bool:
    return validity.size > 0 and (validity[i >> 3] >> np.uint8(i & 7)) & np.uint8(1) == 0


@numba.njit(nogil=True, cache=True)
def _hash_strings(
    data: int, offsets: np.ndarray, validity: np.ndarray, first: int, seed: np.uint64
) -> np.ndarray:
    """Return the ids of strings that lie at address `data` + offsets."""
    n = offsets.size - 1
    keys = np.empty(n, np.uint64)
    missing = missing_id(seed)
    for i in range(n):
        start = np.int64(offsets[i])
        if _is_null(validity, first + i):
            keys[i] = missing
        else:
            keys[i] = text_id(data + start, np.int64(offsets[i + 1]) - start, seed)
    return keys


@numba.njit(nogil=True, cache=True)
def _hash_integers(
    numbers: np.ndarray, unsigned: bool, validity: np.ndarray, first: int, seed: np.uint64
) -> np.ndarray:
    """Return the ids of numbers, given as their two's complement where they are signed."""
    keys = np.empty(numbers.size, np.uint64)
    for start in range(0, numbers.size, _BLOCK):
        # Slices, because loops that count from 0 have no check for negative places: they vectorise.
        _hash_block(numbers[start : start + _BLOCK], unsigned, seed, keys[start : start + _BLOCK])
    if validity.size:
        missing = missing_id(seed)
        for i in range(numbers.size):
            if _is_null(validity, first + i):
                keys[i] = missing
    return keys


@numba.njit(nogil=True, cache=True)
def _hash_block(numbers: np.ndarray, unsigned: bool, seed: np.uint64, keys: np.ndarray) -> None:
    largest = _ZERO
    for i in range(numbers.size):
        largest = max(largest, numbers[i])
    if largest < _SHORT:
        for i in range(numbers.size):
            keys[i] = max(short_decimal_digest(numbers[i], seed), _ONE)
        return
    for i in range(numbers.size):
        keys[i] = max(medium_decimal_digest(numbers[i], seed), _ONE)
    if largest < _MEDIUM:
        return
    for i in range(numbers.size):
        number = numbers[i]
        if number >= _MEDIUM:
            negative = not unsigned and np.int64(number) < 0
            # In two's complement 0 - x is |x| for every negative x, the smallest included.
            magnitude = _ZERO - number if negative else number
            keys[i] = max(decimal_digest(magnitude, negative, seed), _ONE)
