"""The arrays of a graph's inputs, from a batch; whole columns at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from weiml.config import nearest
from weiml.errors import ConfigError
from weiml.features import Batch
from weiml.models.base import Columns
from weiml.models.deep.cells import Cells, cells_of_slots
from weiml.models.onnx.config import OnnxInput

__all__ = ["array_of", "check_input"]


def check_input(given: OnnxInput, columns: Columns) -> None:
    """Raise ConfigError where an input names a column that batches do not have."""
    if given.slot and given.slot not in columns.slots:
        raise ConfigError(
            f"input {given.name!r}: {given.slot!r} is no slot{nearest(given.slot, columns.slots)}"
        )
    for name in given.columns:
        if name not in columns.dense_names:
            raise ConfigError(
                f"input {given.name!r}: {name!r} is no dense column"
                f"{nearest(name, columns.dense_names)}"
            )


def array_of(given: OnnxInput, batch: Batch, dtype: Any) -> np.ndarray:
    """Return the array of an input that is made of columns; see `OnnxInput.source`."""
    if given.source == "dense":
        if not given.columns:
            return batch.dense.astype(dtype)
        places = [batch.dense_names.index(name) for name in given.columns]
        return batch.dense[:, places].astype(dtype)
    cells = cells_of_slots(batch, (given.slot,))
    if given.source == "offsets":
        return cells.offsets[:-1].astype(dtype)
    if given.source == "values":
        none = cells.values is None
        return np.ones(len(cells.keys), dtype) if none else np.asarray(cells.values).astype(dtype)
    ids = _ids(cells.keys, given.buckets)
    return (_padded(ids, cells, given.length) if given.source == "padded" else ids).astype(dtype)


def _ids(keys: np.ndarray, buckets: int) -> np.ndarray:
    return (keys % np.uint64(buckets) if buckets else keys).view(np.int64)


def _padded(ids: np.ndarray, cells: Cells, length: int) -> np.ndarray:
    lengths = np.diff(cells.offsets)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(ids)) - cells.offsets[owners]
    kept = places < length
    found = np.zeros((len(lengths), length), np.int64)
    found[owners[kept], places[kept]] = ids[kept] + 1
    return found
