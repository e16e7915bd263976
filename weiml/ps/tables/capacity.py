"""Room for new rows in a table of limited size: which newcomers fit, and which rows make way.

Each bucket has an equal share of the capacity, so that the limit moves with its buckets and making
room never looks at more than one of them. It knows keys and scores, neither tables nor words.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from weiml.errors import ConfigError
from weiml.hashing import mix64

__all__ = ["evicted_at_once", "fitting", "lowest", "needed_rooms", "share_of"]

_EVICTED_SHARE = 0.05


@numba.njit(cache=True, nogil=True)
def _first_places(keys: np.ndarray) -> np.ndarray:
    """Return where each key occurs first: int64 (n,)."""
    slots = 4
    while slots < 2 * keys.size:
        slots *= 2
    mask = np.uint64(slots - 1)
    places = np.full(slots, -1, np.int64)
    out = np.empty(keys.size, np.int64)
    for i in range(keys.size):
        slot = mix64(keys[i]) & mask
        while places[slot] >= 0 and keys[places[slot]] != keys[i]:
            slot = (slot + np.uint64(1)) & mask
        if places[slot] < 0:
            places[slot] = i
        out[i] = places[slot]
    return out


@numba.njit(cache=True, nogil=True)
def _needed(keys: np.ndarray, buckets: np.ndarray, num_buckets: int) -> np.ndarray:
    first = _first_places(keys)
    out = np.zeros(num_buckets, np.int64)
    for i in range(keys.size):
        out[buckets[i]] += first[i] == i
    return out


@numba.njit(cache=True, nogil=True)
def _fitting(keys: np.ndarray, buckets: np.ndarray, rooms: np.ndarray) -> np.ndarray:
    first = _first_places(keys)
    out = np.empty(keys.size, np.bool_)
    for i in range(keys.size):
        if first[i] < i:
            out[i] = out[first[i]]
        else:
            out[i] = rooms[buckets[i]] > 0
            rooms[buckets[i]] -= 1
    return out


def share_of(name: str, capacity: int, num_buckets: int) -> int:
    """Return the most rows that a bucket may have.

    Raises:
        ConfigError: there are more buckets than rows.
    """
    if capacity < num_buckets:
        raise ConfigError(
            f"table {name!r}: capacity = {capacity} is less than a row for each of the "
            f"num_buckets = {num_buckets} buckets that share it; raise it, or lower num_buckets"
        )
    return capacity // num_buckets


def evicted_at_once(share: int) -> int:
    """Return how many rows make way together, so that not every newcomer looks for one."""
    return math.ceil(share * _EVICTED_SHARE)


def needed_rooms(keys: np.ndarray, buckets: np.ndarray, num_buckets: int) -> np.ndarray:
    """Return how many different `keys` uint64 (n,) are new in each bucket: int64 (num_buckets,)."""
    return np.asarray(_needed(keys, buckets, num_buckets))


def fitting(keys: np.ndarray, buckets: np.ndarray, rooms: np.ndarray) -> np.ndarray:
    """Return which new `keys` uint64 (n,) find one of the `rooms` of their bucket: bool (n,).

    The first come first; a key that repeats has the answer of its first place.
    """
    return np.asarray(_fitting(keys, buckets, rooms.copy()))


def lowest(scores: np.ndarray, number: int) -> np.ndarray:
    """Return the places of the `number` lowest scores, of equal ones the first: int64 (number,)."""
    if number >= scores.size:
        return np.arange(scores.size)
    limit = np.partition(scores, number - 1)[number - 1]
    below = np.flatnonzero(scores < limit)
    equal = np.flatnonzero(scores == limit)
    return np.sort(np.concatenate([below, equal[: number - below.size]]))
