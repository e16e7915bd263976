"""What a function sees of a shard: its tables and vectors, with every write marked as a change.

A view lives for one call. It knows plain tables and vectors, no clock and no other shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from weiml.config import nearest
from weiml.errors import ParameterServerError
from weiml.ps.partition import buckets_of_keys
from weiml.ps.shard.vectors import VectorPart
from weiml.ps.tables.layout import RowLayout, row_addresses

if TYPE_CHECKING:
    from weiml.ps.tables.dense import DenseTable
    from weiml.ps.tables.sparse import SparseTable

__all__ = ["ShardView", "Table"]

Table: TypeAlias = "SparseTable | DenseTable"

_SCAN_ROWS = 1 << 18  # about as many rows are copied out at a time


class ShardView:
    """Shard `index` as one call of a function sees it.

    Functions read anything, and write through `write_vector`, `write_rows`, `rows_to_train` and
    `delete_rows`. All that a function over everything may touch lies in `buckets`; they are fewer
    than the shard's when a request is made up for on buckets that moved here.
    """

    def __init__(
        self,
        index: int,
        tables: Mapping[str, Table],
        vectors: Mapping[str, VectorPart],
        sequence: int,
        num_buckets: int,
        buckets: np.ndarray,
        step: int = 0,
    ) -> None:
        self.index = index
        self.sequence = sequence
        """The shard's sequence number: that of this call, if it writes."""
        self.num_buckets = num_buckets
        self.buckets = np.asarray(buckets, np.int32)
        """int32, ascending: the buckets that the call is about."""
        self.step = step
        """What the last-seen statistic of rows trained in place is set to."""
        self.written_tables: set[str] = set()
        self.written_vectors: set[str] = set()
        self._tables = tables
        self._vectors = vectors
        self._restricted: dict[str, VectorPart] = {}

    def table(self, name: str) -> Table:
        """Return a table.

        Raises:
            ParameterServerError: there is none of that name.
        """
        if name not in self._tables:
            raise ParameterServerError(f"there is no table {name!r}{nearest(name, self._tables)}")
        return self._tables[name]

    # Vectors

    def vector(self, name: str) -> VectorPart:
        """Return the part of a vector that lies in `buckets`; its values are for reading.

        Raises:
            ParameterServerError: there is none of that name.
        """
        if name not in self._vectors:
            raise ParameterServerError(f"there is no vector {name!r}{nearest(name, self._vectors)}")
        part = self._vectors[name]
        if np.array_equal(part.buckets, self.buckets):
            return part
        if name not in self._restricted:
            self._restricted[name] = part.with_buckets(self.buckets)
        return self._restricted[name]

    def read_vector(self, name: str) -> np.ndarray:
        """Return the local numbers of a vector: float32 (local,), not writeable."""
        values = self.vector(name).values.view()
        values.flags.writeable = False
        return values

    def write_vector(self, name: str) -> np.ndarray:
        """Return the local numbers of a vector to be changed in place: float32 (local,)."""
        part = self.vector(name)
        part.touched = self._vectors[name].touched = self.sequence
        self.written_vectors.add(name)
        return part.values

    def check_lengths(self, *names: str) -> None:
        """Raise ParameterServerError unless the vectors are of one length."""
        lengths = {name: self.vector(name).length for name in names}
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
            raise ParameterServerError(f"vectors must be of one length: {found}")

    # Rows

    def read_rows(self, table: str, keys: np.ndarray) -> np.ndarray:
        """Return the state of `keys` uint64 (n,): a new float32 (n, width).

        A missing key gives the row that it would start with.
        """
        return self.table(table).pull_state(keys)

    def write_rows(self, table: str, keys: np.ndarray, state: np.ndarray) -> None:
        """Set the state of distinct `keys` to float32 (n, width); missing rows are inserted.

        Statistics stay as they are. Rows that the table's admission keeps out stay out.

        Raises:
            ParameterServerError: wrong shape, or a number that is not finite.
        """
        rows = self.table(table)
        self.check_state(table, keys, state)
        payload, present = rows.export_rows(keys)
        if not present.all():
            rows.locate_or_insert(keys[~present], self.sequence, self.step)
            payload, present = rows.export_rows(keys)
        kept, new = keys[present], np.require(state[present], np.float32, ["C", "W"])
        payload = np.ascontiguousarray(payload[present])
        RowLayout(rows.config).put(row_addresses(payload), kept, new, self.sequence)
        rows.import_rows(kept, payload, self.sequence)
        self.written_tables.add(table)

    def find_rows(self, table: str, keys: np.ndarray) -> np.ndarray:
        """Return the addresses of rows for compiled loops: int64 (n,), 0 where there is none."""
        return self.table(table).locate(keys)

    def rows_to_train(self, table: str, keys: np.ndarray, *, insert: bool = True) -> np.ndarray:
        """Return the addresses of rows to be changed in place, all marked as changed: int64 (n,).

        Missing rows are inserted, or have address 0 (as do those that admission or capacity keeps
        out). The rows' statistics count it as a push.
        """
        self.written_tables.add(table)
        rows = self.table(table)
        return rows.locate_or_insert(keys, self.sequence, self.step, insert=insert)

    def delete_rows(self, table: str, keys: np.ndarray) -> int:
        """Remove rows, deltas carry it; return how many there were."""
        self.written_tables.add(table)
        return self.table(table).delete(keys, self.sequence)

    def scan_rows(self, table: str) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (bucket, keys uint64 (n,), state float32 (n, width)) of all rows in `buckets`.

        Bucket by bucket, within one in a fixed order; n is 0 in an empty one. States are copies.
        """
        rows = self.table(table)
        layout = RowLayout(rows.config)
        per_bucket = len(rows) // max(len(self.buckets), 1) + 1
        step = max(1, _SCAN_ROWS // per_bucket)
        for first in range(0, len(self.buckets), step):
            chunk = self.buckets[first : first + step]
            keys, payload = rows.scan(chunk)
            state = layout.state(row_addresses(np.ascontiguousarray(payload)))
            own = buckets_of_keys(keys, self.num_buckets, rows.config.rows)
            starts = np.searchsorted(own, chunk, "left").tolist()
            stops = np.searchsorted(own, chunk, "right").tolist()
            for bucket, start, stop in zip(chunk.tolist(), starts, stops, strict=True):
                yield bucket, keys[start:stop], state[start:stop]

    def settle(self) -> None:
        """Put back what was written of vectors of which the view shows some buckets only."""
        for name, part in self._restricted.items():
            if name in self.written_vectors:
                self._vectors[name].put(part.buckets, part.values)

    def check_state(self, table: str, keys: np.ndarray, state: np.ndarray) -> None:
        """Raise ParameterServerError unless `state` is finite and (len(keys), width)."""
        width = self.table(table).config.width
        if not isinstance(state, np.ndarray) or state.shape != (len(keys), width):
            got = state.shape if isinstance(state, np.ndarray) else type(state).__name__
            raise ParameterServerError(
                f"table {table!r}: the state of {len(keys)} rows must have shape "
                f"({len(keys)}, {width}), got {got}"
            )
        finite = np.isfinite(state).all(axis=1)
        if not finite.all():
            raise ParameterServerError(
                f"table {table!r}: the new state of key {int(keys[~finite][0])} is not finite; "
                f"no state of this call's was stored"
            )
