"""Assembling: what was read of each column, and what was fitted, to a batch.

It knows no Arrow: `RawColumns` may come from `read_columns` or from a reader that hashes by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numba
import numpy as np

from weiml.config import nearest
from weiml.errors import DataError
from weiml.features.batch import Batch
from weiml.features.columns import RawColumns
from weiml.features.crosses import with_crosses
from weiml.features.scales import Scale, transformed
from weiml.features.slots import SlotKeys, bucket_slot
from weiml.features.spec import FeatureSpec
from weiml.features.types import Continuous
from weiml.hashing.memory import load_f32, load_f64, load_i32, load_u64

__all__ = ["assemble", "interleave"]

T = TypeVar("T")
_ONE = np.float32(1)
_ZERO = np.float32(0)
_TILE = 32  # examples whose keys are put in place together: a cache line of each slot, four times
_BLOCK_CELLS = 2048  # keys of one block of examples; they stay in the first-level cache


def assemble(spec: FeatureSpec, columns: RawColumns, scales: Mapping[str, Scale]) -> Batch:
    """Return the batch of what was read, in the examples' order.

    Args:
        spec: names and orders slots and dense columns.
        columns: a slot of keys for each feature but the `Continuous` ones, numbers for those.
        scales: fitted, by name, one for each `Continuous`.

    Raises:
        DataError: a feature is missing in `columns`, or its arrays are of other sizes.
    """
    B = columns.num_examples
    numbers = {
        feature.name: transformed(feature, _numbers(columns, feature.name))
        for feature in spec.features
        if isinstance(feature, Continuous)
    }
    slots = _slots(spec, columns, numbers, scales)
    keys, offsets, values = interleave(list(slots.values()), B)
    batch = Batch(
        labels=np.zeros((B, 1), np.float32) if columns.labels is None else columns.labels,
        weights=np.ones(B, np.float32),
        dense=_dense([numbers[name] for name in spec.dense], [scales[n] for n in spec.dense], B),
        keys=keys,
        offsets=offsets,
        values=values,
        groups=np.zeros(B, np.uint64) if columns.groups is None else columns.groups,
        items=np.zeros(B, np.uint64) if columns.items is None else columns.items,
        times=np.zeros(B, np.int64) if columns.times is None else columns.times,
        slots=tuple(slots),
        dense_names=spec.dense,
    )
    return with_crosses(batch, spec.all_crosses)


def interleave(
    slots: Sequence[SlotKeys], num_examples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return ``(keys, offsets, values)`` of a batch, example-major, from its slots in order.

    Values are None unless a slot has some; they are 1 for the slots that have none.

    Raises:
        DataError: the batch would hold 2³¹ keys or more.
    """
    total = sum(slot.keys.size for slot in slots)
    if total >= 2**31:
        raise DataError(f"a batch holds fewer than 2^31 keys, got {total}: use smaller ones")
    parts = [np.ascontiguousarray(slot.keys) for slot in slots]
    lengths = [_contiguous(slot.lengths) for slot in slots]
    if all(length is None for length in lengths):
        offsets = np.arange(num_examples * len(slots) + 1, dtype=np.int32)
    else:
        offsets = _offsets(_addresses(lengths), num_examples)
    keys = np.empty(total, np.uint64)
    if all(length is None for length in lengths):
        _transpose_keys(_addresses(parts), num_examples, keys)
    else:
        _scatter_keys(_addresses(parts), offsets, keys)
    values = None
    if any(slot.values is not None for slot in slots):
        given = [_contiguous(slot.values) for slot in slots]
        values = np.empty(total, np.float32)
        _scatter_values(_addresses(given), offsets, values)
    return keys, offsets, values


def _slots(
    spec: FeatureSpec,
    columns: RawColumns,
    numbers: Mapping[str, np.ndarray],
    scales: Mapping[str, Scale],
) -> dict[str, SlotKeys]:
    """Return the slots in the spec's order, checked: compiled loops trust them."""
    by_name: dict[str, SlotKeys] = {}
    for feature in spec.features:
        name = feature.name
        if not isinstance(feature, Continuous):
            by_name[name] = _known(columns.slots, name)
            by_name[name].check(name, columns.num_examples)
        elif feature.buckets:
            boundaries = np.asarray(scales[name].boundaries)
            by_name[name] = bucket_slot(name, numbers[name], boundaries)
    return by_name


def _numbers(columns: RawColumns, name: str) -> np.ndarray:
    found = _known(columns.numbers, name)
    if found.shape != (columns.num_examples,):
        raise DataError(
            f"feature {name!r} needs numbers ({columns.num_examples},), got {found.shape}"
        )
    return found


def _known(read: Mapping[str, T], name: str) -> T:
    if name not in read:
        raise DataError(f"nothing was read of feature {name!r}{nearest(name, read)}")
    return read[name]


def _dense(columns: list[np.ndarray], scales: list[Scale], num_examples: int) -> np.ndarray:
    """Return the standardised columns: float32 ``(B, D)``, 0 where NaN or beyond float32."""
    out = np.empty((num_examples, len(columns)), np.float32)
    arrays = [np.ascontiguousarray(column, np.float64) for column in columns]
    means = np.array([scale.mean for scale in scales], np.float64)
    deviations = np.array([scale.deviation for scale in scales], np.float64)
    _standardise(_addresses(arrays), means, deviations, out)
    return out


def _contiguous(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.ascontiguousarray(array)


def _addresses(arrays: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return where arrays begin, int64, 0 for None; the caller keeps them alive."""
    # A third of what `ctypes.data` takes, which counts for small batches.
    pointers = [0 if a is None else a.__array_interface__["data"][0] for a in arrays]
    return np.array(pointers, np.int64)


@numba.njit(nogil=True, cache=True)
def _offsets(lengths: np.ndarray, num_examples: int) -> np.ndarray:
    """Return the offsets of cells whose lengths lie at addresses, one a slot, 0: all 1."""
    S = lengths.size
    offsets = np.empty(num_examples * S + 1, np.int32)
    offsets[0] = at = 0
    for b in range(num_examples):
        for s in range(S):
            at += load_i32(lengths[s] + 4 * b) if lengths[s] else 1
            offsets[b * S + s + 1] = at
    return offsets


@numba.njit(nogil=True, cache=True)
def _transpose_keys(addresses: np.ndarray, num_examples: int, out: np.ndarray) -> None:
    """Copy one key an example from each slot, which lie at an address, to its cell."""
    S = addresses.size
    for first in range(0, num_examples, _TILE):
        last = min(first + _TILE, num_examples)
        for s in range(S):
            address = addresses[s]
            for b in range(first, last):
                out[b * S + s] = load_u64(address + 8 * b)


@numba.njit(nogil=True, cache=True)
def _scatter_keys(addresses: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
    """Copy each slot's keys, which lie at an address, to their cells, by blocks of examples."""
    S = addresses.size
    at = addresses.copy()
    block = max(_BLOCK_CELLS // max(S, 1), 8) * S
    for first in range(0, offsets.size - 1, max(block, 1)):
        last = min(first + block, offsets.size - 1)
        for s in range(S):
            address = at[s]
            for cell in range(first + s, last, S):
                for j in range(offsets[cell], offsets[cell + 1]):
                    out[j] = load_u64(address)
                    address += 8
            at[s] = address


@numba.njit(nogil=True, cache=True)
def _scatter_values(addresses: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
    """Like `_scatter_keys` for float32 values; address 0 stands for values of 1."""
    S = addresses.size
    for s in range(S):
        address = addresses[s]
        for cell in range(s, offsets.size - 1, S):
            for j in range(offsets[cell], offsets[cell + 1]):
                out[j] = load_f32(address) if address else _ONE
                if address:
                    address += 4


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _standardise(
    addresses: np.ndarray, means: np.ndarray, deviations: np.ndarray, out: np.ndarray
) -> None:
    """Write (x - mean) / deviation of float64 columns that lie at addresses."""
    D = addresses.size
    block = max(_BLOCK_CELLS // max(D, 1), 8)
    for first in range(0, out.shape[0], block):
        last = min(first + block, out.shape[0])
        for d in range(D):
            address, mean, deviation = addresses[d], means[d], deviations[d]
            for b in range(first, last):
                x = (load_f64(address + 8 * b) - mean) / deviation
                y = np.float32(x)
                # NaN and what is beyond float32 minus itself is no 0.
                out[b, d] = y if y - y == _ZERO else _ZERO
