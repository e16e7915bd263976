"""A batch's keys cell by cell, of all its slots or of some. A cell is one slot of one example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np

from weiml.features import Batch

__all__ = ["Cells", "cells_of_slots"]


class Cells(NamedTuple):
    """Keys of chosen slots, example by example, slot by slot."""

    keys: np.ndarray
    """uint64 (n,)."""
    values: np.ndarray | None
    """float32 (n,), or None where all are 1."""
    offsets: np.ndarray
    """int32 (B * S + 1,)."""


def cells_of_slots(batch: Batch, slots: Sequence[str]) -> Cells:
    """Return the cells of `slots`, in that order; the batch's own arrays if those are all."""
    if tuple(slots) == batch.slots:
        return Cells(batch.keys, batch.values, batch.offsets)
    places = np.array([batch.slots.index(slot) for slot in slots], np.int64)
    offsets = _offsets(batch.offsets, places, len(batch.slots), len(batch))
    keys = np.empty(offsets[-1], np.uint64)
    _copy(batch.keys, batch.offsets, places, len(batch.slots), offsets, keys)
    values = None
    if batch.values is not None:
        values = np.empty(offsets[-1], np.float32)
        _copy(batch.values, batch.offsets, places, len(batch.slots), offsets, values)
    return Cells(keys, values, offsets)


@numba.njit(cache=True, nogil=True)
def _offsets(
    offsets: np.ndarray, places: np.ndarray, num_slots: int, num_examples: int
) -> np.ndarray:
    out = np.zeros(num_examples * places.size + 1, np.int32)
    for b in range(num_examples):
        for s in range(places.size):
            cell = b * num_slots + places[s]
            at = b * places.size + s
            out[at + 1] = out[at] + offsets[cell + 1] - offsets[cell]
    return out


@numba.njit(cache=True, nogil=True)
def _copy(
    source: np.ndarray,
    offsets: np.ndarray,
    places: np.ndarray,
    num_slots: int,
    new_offsets: np.ndarray,
    out: np.ndarray,
) -> None:
    for at in range(new_offsets.size - 1):
        cell = (at // places.size) * num_slots + places[at % places.size]
        first = offsets[cell]
        for j in range(new_offsets[at + 1] - new_offsets[at]):
            out[new_offsets[at] + j] = source[first + j]
