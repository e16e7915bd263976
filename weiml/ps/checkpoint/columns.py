"""Rows as Arrow columns and back: a key, its state, and each statistic under its own name."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from weiml.ps.tables.config import STATISTICS, TableConfig

__all__ = ["VALUES", "RowColumns", "values_batch"]

_COUNTED = frozenset({"count", "last_seen"})  # the other statistics are sums: float32
VALUES = "value"


@dataclass(frozen=True)
class RowColumns:
    """The columns of one table's rows.

    ``key`` uint64; ``state`` fixed_size_list<float32>[width], or of uint32 words where the weights
    are stored as bfloat16; then ``count``, ``last_seen`` uint32, ``shows``, ``clicks`` float32, as
    far as the table keeps them.
    """

    config: TableConfig

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema; its metadata names the table."""
        fields = [
            pa.field("key", pa.uint64(), nullable=False),
            pa.field(
                "state",
                pa.list_(
                    pa.field("item", self._state_type, nullable=False), self.config.state_words
                ),
                nullable=False,
            ),
        ]
        for name in self._statistics:
            kind = pa.uint32() if name in _COUNTED else pa.float32()
            fields.append(pa.field(name, kind, nullable=False))
        return pa.schema(fields, {"table": self.config.name})

    def batch(self, keys: np.ndarray, payload: np.ndarray) -> pa.RecordBatch:
        """Return keys uint64 (n,) and payload uint32 (n, words) as one batch; a view if it can."""
        width = self.config.state_words
        words = np.ascontiguousarray(payload[:, :width]).reshape(-1)
        kind = np.uint32 if self._state_type == pa.uint32() else np.float32
        schema = self.schema
        state = pa.FixedSizeListArray.from_arrays(
            pa.array(words.view(kind)), type=schema.field("state").type
        )
        columns = [pa.array(np.ascontiguousarray(keys)), state]
        for at, name in enumerate(self._statistics, start=width):
            column = np.ascontiguousarray(payload[:, at])
            columns.append(pa.array(column if name in _COUNTED else column.view(np.float32)))
        return pa.record_batch(columns, schema=schema)

    def rows(self, batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
        """Return (keys uint64 (n,), payload uint32 (n, words)) of one batch; a view if it can."""
        keys = batch.column("key").to_numpy()
        flat = batch.column("state").flatten().to_numpy().view(np.uint32)
        width = self.config.state_words
        state = flat.reshape(len(keys), width)
        if not self._statistics:
            return keys, state
        payload = np.empty((len(keys), self.config.payload_words), np.uint32)
        payload[:, :width] = state
        for at, name in enumerate(self._statistics, start=width):
            payload[:, at] = batch.column(name).to_numpy().view(np.uint32)
        return keys, payload

    @property
    def _state_type(self) -> pa.DataType:
        return pa.uint32() if self.config.weights == "bfloat16" else pa.float32()

    @property
    def _statistics(self) -> tuple[str, ...]:
        """In the order in which they lie in a row."""
        return tuple(name for name in STATISTICS if name in self.config.statistics)


def values_batch(values: np.ndarray, name: str = VALUES) -> pa.RecordBatch:
    """Return a batch of one column of numbers (n,)."""
    return pa.record_batch([pa.array(np.ascontiguousarray(values))], names=[name])
