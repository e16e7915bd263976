"""The columnar batch: what a model trains on and scores. It knows nothing of raw columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
import pyarrow as pa

from weiml.errors import DataError

__all__ = ["Batch"]

_METADATA_KEY = b"weiml.batch"


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """B examples with T labels, D dense columns and S sparse slots, as contiguous arrays.

    The sparse part is compressed by (example, slot), example-major: slot s of example b holds
    ``keys[offsets[b * S + s] : offsets[b * S + s + 1]]``, so that a range of examples is a slice.
    Arrays are shared, not copied: treat them as read-only.
    """

    labels: np.ndarray
    """``(B, T)`` float32."""
    weights: np.ndarray
    """``(B,)`` float32, importance of each example."""
    dense: np.ndarray
    """``(B, D)`` float32."""
    keys: np.ndarray
    """``(nnz,)`` uint64, never 0."""
    offsets: np.ndarray
    """``(B * S + 1,)`` int32, from 0 to nnz."""
    values: np.ndarray | None = None
    """``(nnz,)`` float32, or None where every value is 1."""
    groups: np.ndarray
    """``(B,)`` uint64, the id by which rankings are grouped (the user)."""
    items: np.ndarray
    """``(B,)`` uint64, the id of what is ranked."""
    times: np.ndarray
    """``(B,)`` int64, seconds."""
    slots: tuple[str, ...]
    dense_names: tuple[str, ...]

    @property
    def num_examples(self) -> int:
        """B, the number of examples."""
        return int(self.weights.shape[0])

    def __len__(self) -> int:
        return self.num_examples

    def slice(self, start: int, stop: int) -> Batch:
        """Return examples ``start`` to ``stop``; only the offsets are copied."""
        stop = min(stop, self.num_examples)
        S = len(self.slots)
        offsets = self.offsets[start * S : stop * S + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        return replace(
            self,
            labels=self.labels[start:stop],
            weights=self.weights[start:stop],
            dense=self.dense[start:stop],
            keys=self.keys[first:last],
            offsets=offsets - offsets[0],
            values=None if self.values is None else self.values[first:last],
            groups=self.groups[start:stop],
            items=self.items[start:stop],
            times=self.times[start:stop],
        )

    def take(self, indices: np.ndarray) -> Batch:
        """Return the examples at `indices` ``(n,)`` integers from 0, in that order, copied.

        Raises:
            DataError: an index is out of range, or they are no integers (a mask, say).
        """
        _check_indices(indices, self.num_examples)
        indices = np.ascontiguousarray(indices, np.int64)
        positions, offsets = _gather_positions(self.offsets, indices, len(self.slots))
        return replace(
            self,
            labels=self.labels[indices],
            weights=self.weights[indices],
            dense=self.dense[indices],
            keys=self.keys[positions],
            offsets=offsets,
            values=None if self.values is None else self.values[positions],
            groups=self.groups[indices],
            items=self.items[indices],
            times=self.times[indices],
        )

    def packed(self) -> Batch:
        """Return the batch with its dense numbers as bytes, for storage: `unpacked` undoes it.

        A packed batch can be sliced, joined, taken from and written, no more.

        Raises:
            DataError: one of them is no whole number from 0 to 255.
        """
        if self.dense.dtype == np.uint8:
            return self
        with np.errstate(invalid="ignore"):
            small = self.dense.astype(np.uint8)
        if not np.array_equal(small, self.dense):
            b, d = np.argwhere(small != self.dense)[0]
            raise DataError(
                f"dense numbers are packed as whole numbers from 0 to 255, column "
                f"{self.dense_names[d]!r} holds {self.dense[b, d]}"
            )
        return replace(self, dense=small)

    def unpacked(self) -> Batch:
        """Return the batch with dense numbers as float32, as all that compute need them."""
        if self.dense.dtype != np.uint8:
            return self
        return replace(self, dense=self.dense.astype(np.float32))

    @staticmethod
    def concat(batches: Sequence[Batch]) -> Batch:
        """Join batches of the same columns.

        Raises:
            DataError: there are none, their slots or dense columns differ, or they would hold 2³¹
                keys or more together.
        """
        if not batches:
            raise DataError("cannot join an empty list of batches")
        first = batches[0]
        for batch in batches:
            if (batch.slots, batch.dense_names) != (first.slots, first.dense_names):
                raise DataError(
                    f"batches with different columns cannot be joined: slots {first.slots} and "
                    f"{batch.slots}, dense {first.dense_names} and {batch.dense_names}"
                )
        sizes = np.cumsum([0] + [batch.keys.size for batch in batches])
        if sizes[-1] >= 2**31:
            raise DataError(f"a batch holds fewer than 2^31 keys, got {sizes[-1]}: join fewer")
        offsets = [b.offsets[:-1] + n for b, n in zip(batches, sizes[:-1], strict=True)]
        valued = any(batch.values is not None for batch in batches)
        return replace(
            first,
            labels=np.concatenate([batch.labels for batch in batches]),
            weights=np.concatenate([batch.weights for batch in batches]),
            dense=np.concatenate([batch.dense for batch in batches]),
            keys=np.concatenate([batch.keys for batch in batches]),
            offsets=np.concatenate([*offsets, sizes[-1:]]).astype(np.int32),
            values=np.concatenate([_values(batch) for batch in batches]) if valued else None,
            groups=np.concatenate([batch.groups for batch in batches]),
            items=np.concatenate([batch.items for batch in batches]),
            times=np.concatenate([batch.times for batch in batches]),
        )

    def to_arrow(self) -> pa.Table:
        """Return the batch as an Arrow table, one row an example; `from_arrow` reads it back.

        Columns: ``label`` (a fixed-size list where T is not 1), ``weight``, ``dense``
        (fixed-size list), ``keys`` and ``values`` (lists over all slots), ``lengths`` (keys of each
        slot), ``group``, ``item``, ``time``. Names of slots and dense columns are in the metadata.
        """
        B, S, T = self.num_examples, len(self.slots), self.labels.shape[1]
        per_example = pa.array(self.offsets[:: max(S, 1)][: B + 1] if S else np.zeros(B + 1, "i4"))
        columns = {
            "label": pa.array(self.labels[:, 0]) if T == 1 else _fixed(self.labels),
            "weight": pa.array(self.weights),
            "dense": _fixed(self.dense),
            "keys": pa.ListArray.from_arrays(per_example, pa.array(self.keys)),
            "lengths": _fixed(np.diff(self.offsets).reshape(B, S)),
            "group": pa.array(self.groups),
            "item": pa.array(self.items),
            "time": pa.array(self.times),
        }
        if self.values is not None:
            columns["values"] = pa.ListArray.from_arrays(per_example, pa.array(self.values))
        names = {"slots": self.slots, "dense": self.dense_names}
        table = pa.table(columns)
        return table.replace_schema_metadata({_METADATA_KEY: json.dumps(names).encode()})

    @staticmethod
    def from_arrow(table: pa.Table, *, packed: bool = False) -> Batch:
        """Read a table written by `to_arrow`; contiguous columns are not copied.

        The column ``lengths`` may be left out where every slot has exactly one key. The table of a
        packed batch is unpacked, unless `packed` says that it may stay so.

        Raises:
            DataError: the table has no batch metadata, or its columns contradict each other.
        """
        metadata = table.schema.metadata or {}
        if _METADATA_KEY not in metadata:
            raise DataError(
                f"a table with columns {table.column_names} is not a batch: its schema has no "
                f"{_METADATA_KEY.decode()!r} metadata; encode it with FeatureEncoder first"
            )
        names = json.loads(metadata[_METADATA_KEY])
        slots, dense_names = tuple(names["slots"]), tuple(names["dense"])
        B = table.num_rows
        offsets = _offsets(table, len(slots))
        labels = _flat(table, "label")
        batch = Batch(
            labels=labels.reshape(B, -1) if B else labels.reshape(0, 1),
            weights=_flat(table, "weight"),
            dense=_flat(table, "dense").reshape(B, len(dense_names)),
            keys=_flat(table, "keys"),
            offsets=offsets,
            values=_flat(table, "values") if "values" in table.column_names else None,
            groups=_flat(table, "group"),
            items=_flat(table, "item"),
            times=_flat(table, "time"),
            slots=slots,
            dense_names=dense_names,
        )
        batch = batch if packed else batch.unpacked()
        batch.validate(packed=packed)
        return batch

    def validate(self, *, packed: bool = False) -> None:
        """Check shapes, types and offsets; the batch may be `packed` only if that is said.

        Raises:
            DataError: an array has another shape or dtype than documented, naming the array.
        """
        B, S, D, nnz = len(self), len(self.slots), len(self.dense_names), self.keys.size
        dense = np.uint8 if packed and self.dense.dtype == np.uint8 else np.float32
        expected: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
            "labels": ((B, self.labels.shape[-1]), np.float32),
            "weights": ((B,), np.float32),
            "dense": ((B, D), dense),
            "keys": ((nnz,), np.uint64),
            "offsets": ((B * S + 1,), np.int32),
            "groups": ((B,), np.uint64),
            "items": ((B,), np.uint64),
            "times": ((B,), np.int64),
        }
        if self.values is not None:
            expected["values"] = ((nnz,), np.float32)
        for name, (shape, dtype) in expected.items():
            array: np.ndarray = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise DataError(
                    f"batch array {name!r} must be {np.dtype(dtype)} {shape}, "
                    f"got {array.dtype} {array.shape}"
                )
        if self.offsets[0] != 0 or self.offsets[-1] != nnz or _falls(self.offsets):
            raise DataError(f"batch offsets must rise from 0 to the number of keys, {nnz}")


@numba.njit(nogil=True, cache=True)
def _gather_positions(
    offsets: np.ndarray, indices: np.ndarray, num_slots: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the keys of the chosen examples, and their new offsets."""
    new_offsets = np.zeros(indices.size * num_slots + 1, np.int32)
    for i in range(indices.size):
        for s in range(num_slots):
            cell = indices[i] * num_slots + s
            length = offsets[cell + 1] - offsets[cell]
            new_offsets[i * num_slots + s + 1] = new_offsets[i * num_slots + s] + length
    positions = np.empty(new_offsets[-1], np.int64)
    for i in range(indices.size):
        start = offsets[indices[i] * num_slots]
        at = new_offsets[i * num_slots]
        for j in range(new_offsets[(i + 1) * num_slots] - at):
            positions[at + j] = start + j
    return positions, new_offsets


@numba.njit(nogil=True, cache=True)
def _falls(offsets: np.ndarray) -> bool:
    falls = False
    for i in range(offsets.size - 1):
        falls |= offsets[i + 1] < offsets[i]
    return falls


def _offsets(table: pa.Table, num_slots: int) -> np.ndarray:
    """Return the offsets of a batch's table: int32 ``(B * S + 1,)``."""
    cells = table.num_rows * num_slots
    if "lengths" not in table.column_names:
        return np.arange(cells + 1, dtype=np.int32)
    lengths = _flat(table, "lengths")
    if lengths.size != cells:
        raise DataError(
            f"column 'lengths' holds {lengths.size} numbers for {table.num_rows} examples of "
            f"{num_slots} slots"
        )
    offsets = np.zeros(cells + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _check_indices(indices: np.ndarray, num_examples: int) -> None:
    """Raise DataError unless a compiled loop may use `indices` unchecked."""
    if indices.size and not np.issubdtype(indices.dtype, np.integer):
        raise DataError(f"examples are taken by integers, got {indices.dtype}")
    if indices.size and not (indices.min() >= 0 and indices.max() < num_examples):
        raise DataError(
            f"examples are numbered 0 to {num_examples - 1}, got indices from {indices.min()} to "
            f"{indices.max()}"
        )


def _values(batch: Batch) -> np.ndarray:
    return np.ones(batch.keys.size, np.float32) if batch.values is None else batch.values


def _fixed(matrix: np.ndarray) -> pa.FixedSizeListArray:
    """Return an ``(n, k)`` matrix as a column of lists of k; Arrow allows k = 0 only with nulls."""
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    if matrix.shape[1] == 0:
        kind = pa.list_(flat.type, 0)
        return pa.Array.from_buffers(kind, matrix.shape[0], [None], children=[flat])
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _flat(table: pa.Table, name: str) -> np.ndarray:
    """Return a column's numbers, lists flattened, as one contiguous array."""
    if name not in table.column_names:
        raise DataError(f"a batch table needs column {name!r}, got {table.column_names}")
    column = table.column(name)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False)
