"""Hashed examples in Parquet: a column of 64-bit keys a slot, read row group by row group.

What feature pipelines write with `weiml.hashing.hash_values`. It decodes a bounded number of
examples at a time, so files may be larger than memory. It knows no encoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa

from weiml.data.batches.in_order import InOrder, ahead_of
from weiml.data.batches.row_groups import kind_of, read_blocks, read_footer
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.ps.rows.memory import address_of, load_u64

__all__ = ["ParquetKeys"]

_BLOCK = 1 << 15  # examples decoded at a time
_TILE = 32  # examples whose keys are put in place together: a cache line of each column, four times


class ParquetKeys(InOrder):
    """Examples in Parquet files, in the order of the files and their rows; a `BatchSource`.

    Args:
        paths: one file or several.
        label: the column of labels, any number or bool.
        slots: the columns of keys, uint64; by default all uint64 columns.
        dense: columns of numbers.
        weight: a column of the examples' weights; by default all weigh 1.
        threads: how many decode; one by default, since the others train.

    Raises:
        ConfigError: `threads` is less than 1.
        DataError: a file is missing, is no Parquet, or lacks a column.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        label: str = "label",
        slots: Sequence[str] | None = None,
        dense: Sequence[str] = (),
        weight: str | None = None,
        threads: int = 1,
    ) -> None:
        given = [paths] if isinstance(paths, (str, Path)) else list(paths)
        self.paths = tuple(Path(path).resolve() for path in given)
        if threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        self.threads = threads
        self.label = label
        self.weight = weight
        metadata = [read_footer(path) for path in self.paths]
        if not metadata:
            raise DataError("ParquetKeys needs at least one file, got an empty list of paths")
        schema = metadata[0].schema.to_arrow_schema()
        if slots is None:
            slots = [field.name for field in schema if field.type == pa.uint64()]
        self._slots = tuple(slots)
        self._dense = tuple(dense)
        for path, about in zip(self.paths, metadata, strict=True):
            self._check(path, about.schema.to_arrow_schema())
        self._sizes = tuple(about.num_rows for about in metadata)

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return sum(self._sizes)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the sparse slots."""
        return self._slots

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Names of the dense columns."""
        return self._dense

    def _pieces_of(self, worker: int, num_workers: int) -> Iterator[Batch]:
        share = self.num_examples // num_workers
        blocks = read_blocks(
            self.paths,
            self._columns,
            worker * share,
            (worker + 1) * share,
            rows_per_block=_BLOCK,
            use_threads=self.threads > 1,
        )
        return map(self._batch, ahead_of(blocks, self.threads))

    @property
    def _columns(self) -> list[str]:
        weight = [] if self.weight is None else [self.weight]
        return [self.label, *weight, *self._dense, *self._slots]

    def _batch(self, block: pa.RecordBatch) -> Batch:
        count = block.num_rows
        weights = np.ones(count, np.float32)
        if self.weight is not None:
            weights = self._numbers(block, self.weight)
        dense = [self._numbers(block, name) for name in self._dense]
        return Batch(
            labels=self._numbers(block, self.label)[:, None],
            weights=weights,
            dense=np.stack(dense, axis=1) if dense else np.empty((count, 0), np.float32),
            keys=self._keys(block),
            offsets=np.arange(count * len(self._slots) + 1, dtype=np.int32),
            groups=np.zeros(count, np.uint64),
            items=np.zeros(count, np.uint64),
            times=np.zeros(count, np.int64),
            slots=self._slots,
            dense_names=self._dense,
        )

    def _keys(self, block: pa.RecordBatch) -> np.ndarray:
        """Return the block's keys, example by example: uint64 (examples · S,)."""
        columns = [self._column(block, name).to_numpy() for name in self._slots]
        addresses = np.array([address_of(column) for column in columns], np.int64)
        return np.asarray(_by_example(addresses, block.num_rows))

    def _numbers(self, block: pa.RecordBatch, name: str) -> np.ndarray:
        column = self._column(block, name).to_numpy(zero_copy_only=False)
        return np.ascontiguousarray(column, np.float32)

    def _column(self, block: pa.RecordBatch, name: str) -> pa.Array:
        column = block.column(name)
        if column.null_count:
            raise DataError(
                f"column {name!r} of {self} has {column.null_count} missing "
                f"values among {block.num_rows}: give what is missing a value, or a key, of its own"
            )
        return column

    def _check(self, path: Path, schema: pa.Schema) -> None:
        missing = [name for name in self._columns if name not in schema.names]
        if missing:
            raise DataError(f"{path} has no column {missing[0]!r}; it has {schema.names}")
        for name in self._slots:
            if schema.field(name).type != pa.uint64():
                raise DataError(
                    f"column {name!r} of {path} holds {schema.field(name).type}, not keys: make "
                    f"uint64 of it with weiml.hashing.hash_values({name!r}, column)"
                )
        for name in self._columns[: -len(self._slots) or None]:
            if kind_of(schema.field(name).type) != "number":
                raise DataError(
                    f"column {name!r} of {path} holds {schema.field(name).type}, not numbers"
                )


@numba.njit(cache=True, nogil=True)
def _by_example(columns: np.ndarray, count: int) -> np.ndarray:
    """Return uint64 (count · S,): for each example the numbers of the columns at these addresses.

    `columns` int64 (S,) are the addresses of the first number of each.
    """
    out = np.empty(count * columns.size, np.uint64)
    for first in range(0, count, _TILE):
        last = min(first + _TILE, count)
        for s in range(columns.size):
            at = columns[s]
            for b in range(first, last):
                out[b * columns.size + s] = load_u64(at + 8 * b)
    return out
