"""Feature ids: one documented 64-bit hash, the same for every way a value can arrive.

The id of value ``v`` of feature ``f`` is ``XXH64(utf8(v), seed=XXH64(utf8(f), seed=0))``, where
integers are written in decimal and booleans as ``true`` or ``false``, so that the integer 5 of a
JSON request, the text ``5`` of a CSV file and an Arrow int64 column all give the same id. A missing
value has an id of its own. Id 0 means "empty" in tables and is never given out.

XXH64 is Yann Collet's xxHash, 64-bit form (xxHash fast digest algorithm, specification 0.2).
"""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa

from weiml.errors import DataError

__all__ = ["cross_keys", "feature_seed", "hash_key", "hash_values", "mix64", "unmix64"]

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_M1 = np.uint64(0xFF51AFD7ED558CCD)
_M2 = np.uint64(0xC4CEB9FE1A85EC53)
# Their inverses modulo 2⁶⁴.
_M1_INVERSE = np.uint64(pow(0xFF51AFD7ED558CCD, -1, 2**64))
_M2_INVERSE = np.uint64(pow(0xC4CEB9FE1A85EC53, -1, 2**64))
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@numba.njit(inline="always")
def mix64(x: np.uint64) -> np.uint64:
    """Return the 64-bit finaliser of MurmurHash3 of `x`: a bijection in which every bit counts."""
    x ^= x >> np.uint64(33)
    x *= _M1
    x ^= x >> np.uint64(33)
    x *= _M2
    x ^= x >> np.uint64(33)
    return x


@numba.njit(inline="always")
def unmix64(x: np.uint64) -> np.uint64:
    """Return the number whose `mix64` is `x`."""
    x ^= x >> np.uint64(33)
    x *= _M2_INVERSE
    x ^= x >> np.uint64(33)
    x *= _M1_INVERSE
    x ^= x >> np.uint64(33)
    return x


@numba.njit(inline="always")
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@numba.njit(inline="always")
def _round(accumulator: np.uint64, lane: np.uint64) -> np.uint64:
    return _rotate(accumulator + lane * _P2, 31) * _P1


@numba.njit(inline="always")
def _read64(data: np.ndarray, at: int) -> np.uint64:
    word = np.uint64(0)
    for i in range(8):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


@numba.njit(inline="always")
def _read32(data: np.ndarray, at: int) -> np.uint64:
    word = np.uint64(0)
    for i in range(4):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


@numba.njit(nogil=True, cache=True)
def _xxh64(data: np.ndarray, start: int, stop: int, seed: np.uint64) -> np.uint64:
    """Return XXH64 of ``data[start:stop]`` (uint8)."""
    length = stop - start
    at = start
    if length >= 32:
        v1 = seed + _P1 + _P2
        v2 = seed + _P2
        v3 = seed
        v4 = seed - _P1
        while at + 32 <= stop:
            v1 = _round(v1, _read64(data, at))
            v2 = _round(v2, _read64(data, at + 8))
            v3 = _round(v3, _read64(data, at + 16))
            v4 = _round(v4, _read64(data, at + 24))
            at += 32
        h = _rotate(v1, 1) + _rotate(v2, 7) + _rotate(v3, 12) + _rotate(v4, 18)
        h = (h ^ _round(_ZERO, v1)) * _P1 + _P4
        h = (h ^ _round(_ZERO, v2)) * _P1 + _P4
        h = (h ^ _round(_ZERO, v3)) * _P1 + _P4
        h = (h ^ _round(_ZERO, v4)) * _P1 + _P4
    else:
        h = seed + _P5
    h += np.uint64(length)
    while at + 8 <= stop:
        h = _rotate(h ^ _round(_ZERO, _read64(data, at)), 27) * _P1 + _P4
        at += 8
    if at + 4 <= stop:
        h = _rotate(h ^ (_read32(data, at) * _P1), 23) * _P2 + _P3
        at += 4
    while at < stop:
        h = _rotate(h ^ (np.uint64(data[at]) * _P5), 11) * _P1
        at += 1
    h ^= h >> np.uint64(33)
    h *= _P2
    h ^= h >> np.uint64(29)
    h *= _P3
    return h ^ (h >> np.uint64(32))


@numba.njit(inline="always")
def _missing(seed: np.uint64) -> np.uint64:
    """Return the id of a missing value: not the hash of any text, empty text included."""
    return max(mix64(seed ^ _P1), _ONE)


@numba.njit(inline="always")
def _is_null(validity: np.ndarray, i: int) -> bool:
    return validity.size > 0 and (validity[i >> 3] >> np.uint8(i & 7)) & np.uint8(1) == 0


@numba.njit(nogil=True, cache=True)
def _hash_strings(
    data: np.ndarray, offsets: np.ndarray, validity: np.ndarray, first: int, seed: np.uint64
) -> np.ndarray:
    n = offsets.size - 1
    keys = np.empty(n, np.uint64)
    for i in range(n):
        if _is_null(validity, first + i):
            keys[i] = _missing(seed)
        else:
            keys[i] = max(_xxh64(data, offsets[i], offsets[i + 1], seed), _ONE)
    return keys


@numba.njit(nogil=True, cache=True)
def _hash_integers(
    magnitudes: np.ndarray,
    negative: np.ndarray,
    validity: np.ndarray,
    first: int,
    seed: np.uint64,
) -> np.ndarray:
    n = magnitudes.size
    keys = np.empty(n, np.uint64)
    text = np.empty(20, np.uint8)
    for i in range(n):
        if _is_null(validity, first + i):
            keys[i] = _missing(seed)
            continue
        rest = magnitudes[i]
        at = 20
        while True:
            at -= 1
            text[at] = np.uint8(48) + np.uint8(rest % np.uint64(10))
            rest //= np.uint64(10)
            if rest == _ZERO:
                break
        if negative[i]:
            at -= 1
            text[at] = np.uint8(45)
        keys[i] = max(_xxh64(text, at, 20, seed), _ONE)
    return keys


@numba.njit(nogil=True, cache=True)
def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    keys = np.empty(a.size, np.uint64)
    for i in range(a.size):
        keys[i] = max(mix64(mix64(a[i]) * _P3 + b[i]), _ONE)
    return keys


def feature_seed(feature: str) -> np.uint64:
    """Return the seed under which the values of `feature` are hashed: ``XXH64(name, 0)``."""
    name = np.frombuffer(feature.encode(), np.uint8)
    return np.uint64(_xxh64(name, 0, name.size, _ZERO))


def hash_key(feature: str, value: str | int | bool | None) -> int:
    """Return the id of one value, in 1 … 2⁶⁴−1; the same as `hash_values` gives for a column.

    Example:
        >>> hash_key("user_id", 5) == hash_key("user_id", "5")
        True
    """
    seed = feature_seed(feature)
    if value is None:
        return int(_missing(seed))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    data = np.frombuffer(text.encode(), np.uint8)
    return max(int(_xxh64(data, 0, data.size, seed)), 1)


def hash_values(feature: str, values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the ids of a column of strings, integers or booleans: uint64 ``(len(values),)``.

    Strings are hashed in place in Arrow's buffers; dictionary-encoded columns are hashed once per
    distinct value.

    Raises:
        DataError: the column is of a type without an exact text form, such as floats.
    """
    if isinstance(values, pa.ChunkedArray):
        chunks = [hash_values(feature, chunk) for chunk in values.chunks]
        return np.concatenate(chunks) if chunks else np.empty(0, np.uint64)
    seed = feature_seed(feature)
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _hash_dictionary(feature, values, seed)
    if pa.types.is_null(kind):
        return np.full(len(values), _missing(seed), np.uint64)
    if pa.types.is_boolean(kind):
        values = values.cast(pa.string())
    elif pa.types.is_integer(kind):
        return _hash_integer_array(values, seed)
    elif pa.types.is_string_view(kind):
        values = values.cast(pa.large_string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(
            f"feature {feature!r}: a column of type {kind} has no ids; categories must be strings, "
            f"integers or booleans: cast it, or declare the feature Continuous"
        )
    width = np.int64 if pa.types.is_large_string(values.type) else np.int32
    validity, offsets, data = values.buffers()
    offset_array = np.frombuffer(offsets, width) if offsets else np.zeros(1, width)
    return np.asarray(
        _hash_strings(
            _bytes(data),
            offset_array[values.offset : values.offset + len(values) + 1],
            _bytes(validity),
            values.offset,
            seed,
        )
    )


def cross_keys(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the ids of pairs, elementwise: uint64 ``(n,)`` from two uint64 ``(n,)``; order counts.

    ``mix64(mix64(a) · P3 + b)`` with xxHash's third prime; longer crosses fold from the left.
    """
    return np.asarray(_cross(np.ascontiguousarray(a), np.ascontiguousarray(b)))


def _hash_dictionary(feature: str, values: pa.DictionaryArray, seed: np.uint64) -> np.ndarray:
    distinct = np.append(hash_values(feature, values.dictionary), np.uint64(_missing(seed)))
    indices = values.indices.cast(pa.int64()).fill_null(len(values.dictionary))
    return distinct[indices.to_numpy(zero_copy_only=False)]


def _hash_integer_array(values: pa.Array, seed: np.uint64) -> np.ndarray:
    filled = values.fill_null(0).to_numpy(zero_copy_only=False)
    negative = filled < 0
    magnitudes = filled.astype(np.uint64)
    # In two's complement 0 - x is |x| for every negative x, the smallest included.
    np.subtract(np.uint64(0), magnitudes, out=magnitudes, where=negative)
    validity = values.buffers()[0] if values.null_count else None
    return np.asarray(_hash_integers(magnitudes, negative, _bytes(validity), values.offset, seed))


def _bytes(buffer: pa.Buffer | None) -> np.ndarray:
    return np.frombuffer(buffer, np.uint8) if buffer else np.empty(0, np.uint8)
