"""A dense table: rows 0 … n-1 by number, all there from the start, cut into ranges by bucket.

It answers like a sparse table and its rows are trained by the same rules, at addresses; only that
nothing is inserted, admitted, expired or deleted. Row r lies in the bucket b whose range ``[n·b //
num_buckets, n·(b + 1) // num_buckets)`` holds it. One writer, no locks; it knows one shard's
buckets only.
"""

from __future__ import annotations

import numba
import numpy as np

from weiml.errors import ConfigError, ParameterServerError
from weiml.ps.partition import buckets_of_keys, vector_starts
from weiml.ps.rows.memory import address_of
from weiml.ps.rows.store_kernels import copy_payloads, set_payloads
from weiml.ps.tables.changes import ChangeLog
from weiml.ps.tables.config import TableConfig
from weiml.ps.tables.dense_snapshots import DenseSnapshot
from weiml.ps.tables.layout import RowLayout

__all__ = ["DenseTable"]

_LOG_BYTES = 64 << 20
_CHUNK_ROWS = 1 << 16  # rows that get their first weights at a time


@numba.njit(cache=True, nogil=True)
def _locate(
    keys: np.ndarray, starts: np.ndarray, addresses: np.ndarray, stride: int
) -> tuple[np.ndarray, int]:
    """Return the address of each row, and the first key without one (its index) or -1."""
    out = np.zeros(keys.size, np.int64)
    buckets = starts.size - 1
    rows = starts[buckets]
    scale = buckets / rows
    missing = -1
    for i in range(keys.size):
        if keys[i] < np.uint64(rows):
            row = np.int64(keys[i])
            # The last bucket that starts at most at the row is ⌈(row + 1) · buckets / rows⌉ - 1; in
            # floats that is off by one at most.
            bucket = np.int64((row + 1) * scale)
            bucket -= bucket >= buckets
            while starts[bucket] > row:
                bucket -= 1
            while starts[bucket + 1] <= row:
                bucket += 1
            if addresses[bucket]:
                out[i] = addresses[bucket] + (row - starts[bucket]) * stride
        if out[i] == 0 and missing < 0:
            missing = i
    return out, missing


class DenseTable:
    """Rows 0 … ``config.rows`` - 1, of which those in the shard's buckets are here.

    Keys of a call may repeat; they act in their order.

    Raises:
        ConfigError: the configuration is that of a sparse table.
    """

    def __init__(self, config: TableConfig, num_buckets: int, buckets: np.ndarray) -> None:
        if config.rows is None:
            raise ConfigError(f"table {config.name!r} is sparse: a dense one needs rows")
        self.config = config
        self.num_buckets = num_buckets
        self.changes = ChangeLog(config.change_log_bytes or _LOG_BYTES)
        self.layout = RowLayout(config)
        self._rows = config.rows
        self._starts = vector_starts(self._rows, num_buckets)
        self._blocks: dict[int, np.ndarray] = {}  # bucket -> uint32 (rows of it, payload_words)
        self._addresses = np.zeros(num_buckets, np.int64)  # of each bucket's first row; 0: not here
        self._snapshots: list[DenseSnapshot] = []
        self._buckets = np.empty(0, np.int32)
        self.add_buckets(buckets)

    def __len__(self) -> int:
        return sum(map(len, self._blocks.values()))

    @property
    def nbytes(self) -> int:
        """Bytes of all rows and of the list of changes."""
        return sum(block.nbytes for block in self._blocks.values()) + self.changes.nbytes

    @property
    def buckets(self) -> np.ndarray:
        """int32, ascending: the buckets that are here."""
        return self._buckets

    # Rows

    def pull_weights(self, keys: np.ndarray) -> np.ndarray:
        """Return the served weights of `keys` uint64 (n,): a new float32 (n, dim)."""
        return self.layout.weights(self.locate(keys))

    def pull_state(self, keys: np.ndarray) -> np.ndarray:
        """Return the state of `keys` uint64 (n,): a new float32 (n, width)."""
        return self.layout.state(self.locate(keys))

    def push_gradients(
        self,
        keys: np.ndarray,
        grads: np.ndarray,
        sequence: int,
        *,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
        step: int = 0,
    ) -> None:
        """Apply gradients float32 (n, dim) through the optimizer, in order."""
        addresses = self._to_write(keys, sequence)
        self.layout.learn(addresses, keys, grads, counts, squares, sequence)
        self.layout.note(addresses, counts, step)

    def push_differences(
        self, keys: np.ndarray, differences: np.ndarray, sequence: int, *, step: int = 0
    ) -> None:
        """Add float32 (n, width) to the state of the rows."""
        addresses = self._to_write(keys, sequence)
        self.layout.add(addresses, keys, differences, sequence)
        self.layout.note(addresses, None, step)

    def push_statistics(
        self,
        keys: np.ndarray,
        shows: np.ndarray,
        clicks: np.ndarray,
        sequence: int,
        *,
        step: int = 0,
    ) -> None:
        """Add float32 (n,) to the rows' shows and clicks, as far as the table keeps them."""
        self.layout.add_statistics(self._to_write(keys, sequence), shows, clicks, step)

    def locate(self, keys: np.ndarray) -> np.ndarray:
        """Return the rows' addresses for compiled loops: int64 (n,).

        Raises:
            ParameterServerError: a key is no row of the table, or its bucket is not here.
        """
        flat = np.require(keys, np.uint64, ["C", "W"])
        stride = 4 * self.config.payload_words
        addresses, missing = _locate(flat, self._starts, self._addresses, stride)
        if missing >= 0:
            raise self._missing(int(flat[missing]))
        return np.asarray(addresses)

    def put_state(
        self, keys: np.ndarray, state: np.ndarray, sequence: int, *, step: int = 0
    ) -> None:
        """Set the state of rows to float32 (n, width). Of the statistics only last_seen changes."""
        addresses = self._to_write(keys, sequence)
        self.layout.put(addresses, keys, np.require(state, np.float32, ["C", "W"]), sequence)
        self.layout.see(addresses, step)

    def locate_or_insert(
        self, keys: np.ndarray, sequence: int, step: int = 0, *, insert: bool = True
    ) -> np.ndarray:
        """Return the rows' addresses to change them in place: int64 (n,).

        They count as changed and seen. Nothing is inserted, whatever `insert` says.
        """
        addresses = self._to_write(keys, sequence)
        self.layout.note(addresses, None, step)
        return addresses

    # What changed, and rows as they are

    def changed_keys(self, since: int) -> np.ndarray | None:
        """Return the keys changed after `since`, sorted by hash; None: any may have changed."""
        return self.changes.since(since)

    def export_rows(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (payload uint32 (n, payload_words), all True (n,))."""
        return self._payload(self.locate(keys)), np.ones(len(keys), np.bool_)

    def import_rows(self, keys: np.ndarray, payload: np.ndarray, sequence: int) -> None:
        """Set whole rows; a bucket that was not here is from now on.

        Raises:
            ParameterServerError: a key is no row of the table; then nothing was set.
        """
        flat = np.require(keys, np.uint64, ["C", "W"])
        if flat.size and int(flat.max()) >= self._rows:
            raise self._missing(int(flat.max()))
        self.add_buckets(np.unique(buckets_of_keys(flat, self.num_buckets, self._rows)))
        addresses = self._to_write(flat, sequence)
        set_payloads(addresses, np.require(payload, np.uint32, ["C", "W"]))

    def scan(self, buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (keys uint64 (n,), payload uint32 (n, payload_words)) of buckets, in order."""
        blocks = [self._block(int(bucket)) for bucket in buckets]
        keys = [self.keys_of(int(bucket)) for bucket in buckets]
        return (
            np.concatenate([np.empty(0, np.uint64), *keys]),
            np.concatenate([np.empty((0, self.config.payload_words), np.uint32), *blocks]),
        )

    def begin_snapshot(self) -> DenseSnapshot:
        """Return the table as it is at this moment, to be read while writes go on."""
        snapshot = DenseSnapshot(self._blocks, self.keys_of, self._snapshots.remove)
        self._snapshots.append(snapshot)
        return snapshot

    def keys_of(self, bucket: int) -> np.ndarray:
        """Return the rows of a bucket: uint64 (n,), ascending."""
        return np.arange(self._starts[bucket], self._starts[bucket + 1], dtype=np.uint64)

    # Buckets that come and go

    def add_buckets(self, buckets: np.ndarray) -> None:
        """Hold these buckets from now on; those that were not here start with initial rows."""
        new = [int(bucket) for bucket in buckets if int(bucket) not in self._blocks]
        for bucket in new:
            rows = int(self._starts[bucket + 1] - self._starts[bucket])
            block = np.zeros((rows, self.config.payload_words), np.uint32)
            self._blocks[bucket] = block
            self._addresses[bucket] = address_of(block) if rows else 0
        self._buckets = np.array(sorted(self._blocks), np.int32)
        self._initialise(new)

    def drop_buckets(self, buckets: np.ndarray) -> None:
        """Let the rows of these buckets go, changes included: they live elsewhere now."""
        gone = np.zeros(self.num_buckets, np.bool_)
        gone[buckets] = True
        self.changes.drop(gone, self._rows)
        for bucket in map(int, buckets):
            if self._blocks.pop(bucket, None) is not None:
                self._addresses[bucket] = 0
        self._buckets = np.array(sorted(self._blocks), np.int32)

    def clear(self, sequence: int) -> None:
        """Let every row start anew; all count as changed."""
        self._keep_for_snapshots(list(self._blocks))
        for block in self._blocks.values():
            block[:] = 0
        self._initialise(list(self._blocks))
        self.changes.reset(sequence)

    # What only sparse tables do

    def delete(self, keys: np.ndarray, sequence: int) -> int:
        """Refuse: rows of a dense table are always there."""
        raise self._refusal("its rows cannot be deleted")

    def remove_rows(self, keys: np.ndarray, sequence: int) -> None:
        """Refuse: rows of a dense table are always there."""
        raise self._refusal("its rows cannot be removed")

    def expire(self, sequence: int, *, step: int, now_s: float) -> int:
        """Refuse: rows of a dense table are always there."""
        raise self._refusal("its rows do not expire")

    # Inside

    def _initialise(self, buckets: list[int]) -> None:
        """Give the rows of `buckets` the weights that depend on their keys alone."""
        waiting: list[np.ndarray] = []
        rows = 0
        for place, bucket in enumerate(buckets, 1):
            waiting.append(self.keys_of(bucket))
            rows += len(waiting[-1])
            if rows >= _CHUNK_ROWS or place == len(buckets):
                keys = np.concatenate(waiting)
                self.layout.initialise(self.locate(keys), keys)
                waiting, rows = [], 0

    def _to_write(self, keys: np.ndarray, sequence: int) -> np.ndarray:
        """Return the rows' addresses; snapshots keep what they were, the change is noted."""
        addresses = self.locate(keys)
        self._before_write(keys)
        self.changes.add(sequence, keys)
        return addresses

    def _block(self, bucket: int) -> np.ndarray:
        if bucket not in self._blocks:
            raise ParameterServerError(f"table {self.config.name!r}: bucket {bucket} is not here")
        return self._blocks[bucket]

    def _payload(self, addresses: np.ndarray) -> np.ndarray:
        out = np.empty((len(addresses), self.config.payload_words), np.uint32)
        copy_payloads(addresses, out)
        return out

    def _before_write(self, keys: np.ndarray) -> None:
        if self._snapshots:
            touched = buckets_of_keys(keys, self.num_buckets, self._rows)
            self._keep_for_snapshots(np.unique(touched).tolist())

    def _keep_for_snapshots(self, buckets: list[int]) -> None:
        for snapshot in self._snapshots:
            for bucket in buckets:
                snapshot.before_write(bucket)

    def _missing(self, key: int) -> ParameterServerError:
        if key >= self._rows:
            return ParameterServerError(
                f"table {self.config.name!r} has rows 0 … {self._rows - 1} "
                f"(TableConfig(rows={self._rows})), got key {key}"
            )
        return ParameterServerError(
            f"table {self.config.name!r}: row {key} lies in a bucket that is not here"
        )

    def _refusal(self, what: str) -> ParameterServerError:
        return ParameterServerError(
            f"table {self.config.name!r} is dense (rows = {self._rows}): {what}; use a sparse "
            f"table, without rows"
        )
