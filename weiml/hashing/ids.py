"""The ids of single values: type tags, seeds, and what stands for missing and padding."""

from __future__ import annotations

import functools
from enum import IntEnum

import numba
import numpy as np

from weiml.errors import DataError
from weiml.hashing.mixing import mix64
from weiml.hashing.xxh64 import xxh64

__all__ = ["TypeTag", "feature_seed", "hash_key", "missing_id", "padding_id", "text_id"]

_MISSING = np.uint64(0x9E3779B185EBCA87)  # xxHash's first and second primes
_PADDING = np.uint64(0xC2B2AE3D27D4EB4F)
_ONE = np.uint64(1)
# As of columns: every whole number up to here has a float of its own.
_WHOLE_FLOATS: dict[type, int] = {np.float16: 2**11, np.float32: 2**24}


class TypeTag(IntEnum):
    """The number by which a feature's type enters its ids. Numbers are never given anew."""

    CATEGORICAL = 0
    BINARY = 1
    CONTINUOUS = 2
    """Of a Continuous feature's buckets."""
    TEXT = 3
    SPARSE_BINARY = 4
    SPARSE_CONTINUOUS = 5
    SEQUENCE = 6
    CROSS = 7


@numba.njit(inline="always")
def missing_id(seed: np.uint64) -> np.uint64:
    """Return the id of a missing value: not the hash of any text, empty text included."""
    return max(mix64(seed ^ _MISSING), _ONE)


@numba.njit(inline="always")
def padding_id(seed: np.uint64) -> np.uint64:
    """Return the id that fills up sequences of fixed length."""
    return max(mix64(seed ^ _PADDING), _ONE)


@numba.njit(inline="always")
def text_id(address: int, length: int, seed: np.uint64) -> np.uint64:
    """Return the id of UTF-8 text at an address (int64), for use inside compiled loops.

    `seed` is the feature's `feature_seed`; the memory must stay alive and have all the bytes.
    """
    return max(xxh64(address, length, seed), _ONE)


@numba.njit(nogil=True, cache=True)
def _digest(data: np.ndarray, seed: np.uint64) -> np.uint64:
    return xxh64(data.ctypes.data, data.size, seed)


def _digest_of(text: str, seed: int) -> int:
    # A byte too many, so that empty text has an address too.
    data = np.frombuffer(text.encode() + b"\0", np.uint8)[:-1]
    return int(_digest(data, np.uint64(seed)))


@functools.lru_cache(maxsize=4096)
def feature_seed(feature: str, tag: int = TypeTag.CATEGORICAL) -> np.uint64:
    """Return the seed under which a feature's values are hashed: ``XXH64(name, seed=tag)``.

    It is also the id of the feature itself: of its type and name.
    """
    return np.uint64(_digest_of(feature, tag))


def hash_key(
    feature: str,
    value: str | int | float | np.number | np.bool_ | None,
    tag: int = TypeTag.CATEGORICAL,
) -> int:
    """Return the id of one value, in 1 … 2⁶⁴−1; the same as `hash_values` gives for a column.

    Example:
        >>> hash_key("user_id", 5) == hash_key("user_id", "5") == hash_key("user_id", 5.0)
        True

    Raises:
        DataError: a float that is not a whole number, or beyond those that its type tells apart
            (±2⁵³; ±2²⁴ for numpy's float32); or a value of a type without ids, such as bytes.
    """
    seed = feature_seed(feature, tag)
    if isinstance(value, float | np.floating):
        value = _whole(feature, value)
    if value is None:
        return int(_missing(seed))
    return max(_digest_of(_text(feature, value), int(seed)), 1)


@numba.njit(cache=True)
def _missing(seed: np.uint64) -> np.uint64:
    return missing_id(seed)


def _text(feature: str, value: object) -> str:
    """Return the text whose hash is the id; str() of any object would give ids that no column has.

    Subclasses, such as members of enumerations, count as the plain values that Arrow stores.
    """
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, str):
        return str.__str__(value)
    raise DataError(
        f"feature {feature!r}: a {type(value).__name__} has no id, got {value!r:.100}; categories "
        "must be strings, integers or booleans: decode or cast it"
    )


def _whole(feature: str, value: float | np.floating) -> int | None:
    number = float(value)
    if number != number:
        return None
    limit = _WHOLE_FLOATS.get(type(value), 2**53)
    if not number.is_integer() or abs(number) > limit:
        raise DataError(
            f"feature {feature!r}: the float {number!r} of type {type(value).__name__} has no id; "
            f"categories must be strings, integers or booleans (or floats that are whole, up to "
            f"{limit}): declare the feature Continuous"
        )
    return int(number)
