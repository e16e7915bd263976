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
from weiml.ps import kernels
from weiml.ps.changes import ChangeLog
from weiml.ps.memory import address_of, floats
from weiml.ps.partition import buckets_of_keys, vector_starts
from weiml.ps.row_store_kernels import copy_payloads, set_payloads
from weiml.ps.tables import TableConfig

__all__ = ["DenseSnapshot", "DenseTable"]

_INIT_ROWS = 1 << 16  # rows that get their first weights at a time


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
            bucket = np.int64(row * scale)  # a guess, off by the roundings
            if bucket >= buckets:
                bucket = buckets - 1
            while starts[bucket] > row:
                bucket -= 1
            while starts[bucket + 1] <= row:
                bucket += 1
            if addresses[bucket]:
                out[i] = addresses[bucket] + (row - starts[bucket]) * stride
        if out[i] == 0 and missing < 0:
            missing = i
    return out, missing


@numba.njit(cache=True, nogil=True)
def _add(addresses: np.ndarray, differences: np.ndarray) -> None:
    width = differences.shape[1]
    for i in range(addresses.size):
        row = floats(addresses[i], width)
        for c in range(width):
            row[c] += differences[i, c]


class DenseTable:
    """Rows 0 … ``config.rows`` - 1, of which those in the shard's buckets are here.

    Keys of a call may repeat; they act in their order.

    Raises:
        ConfigError: the configuration is not that of a dense table, or asks for what only sparse
            tables have.
    """

    def __init__(self, config: TableConfig, num_buckets: int, buckets: np.ndarray) -> None:
        _check(config)
        self.config = config
        self.num_buckets = num_buckets
        self.changes = ChangeLog()
        self._rows = int(config.rows or 0)
        self._starts = vector_starts(self._rows, num_buckets)
        self._blocks: dict[int, np.ndarray] = {}  # bucket -> uint32 (rows of it, payload_words)
        self._addresses = np.zeros(num_buckets, np.int64)  # of each bucket's first row; 0: not here
        self._snapshots: list[DenseSnapshot] = []
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
        return np.array(sorted(self._blocks), np.int32)

    # Rows

    def pull_weights(self, keys: np.ndarray) -> np.ndarray:
        """Return the served weights of `keys` uint64 (n,): a new float32 (n, dim)."""
        return self.config.optimizer.read(self.locate(keys), self.config.dim)

    def pull_state(self, keys: np.ndarray) -> np.ndarray:
        """Return the state of `keys` uint64 (n,): a new float32 (n, width)."""
        return self._payload(self.locate(keys)).view(np.float32)

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
        addresses = self.locate_or_insert(keys, sequence, step)
        self.config.optimizer.apply(addresses, grads, counts, squares)

    def push_differences(
        self, keys: np.ndarray, differences: np.ndarray, sequence: int, *, step: int = 0
    ) -> None:
        """Add float32 (n, width) to the state of the rows."""
        _add(self.locate_or_insert(keys, sequence, step), np.require(differences, np.float32, "C"))

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

    def locate_or_insert(self, keys: np.ndarray, sequence: int, step: int = 0) -> np.ndarray:
        """Return the rows' addresses to change them in place, marked as changed: int64 (n,)."""
        addresses = self.locate(keys)
        self._before_write(keys)
        self.changes.add(sequence, keys)
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
        addresses = self.locate_or_insert(flat, sequence)
        set_payloads(addresses, np.require(payload, np.uint32, ["C", "W"]))

    def scan(self, buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (keys uint64 (n,), payload uint32 (n, payload_words)) of buckets, in order."""
        blocks = [self._block(int(bucket)) for bucket in buckets]
        keys = [self._keys(int(bucket)) for bucket in buckets]
        return (
            np.concatenate([np.empty(0, np.uint64), *keys]),
            np.concatenate([np.empty((0, self.config.payload_words), np.uint32), *blocks]),
        )

    def begin_snapshot(self) -> DenseSnapshot:
        """Return the table as it is at this moment, to be read while writes go on."""
        snapshot = DenseSnapshot(self, list(self._blocks))
        self._snapshots.append(snapshot)
        return snapshot

    # Buckets that come and go

    def add_buckets(self, buckets: np.ndarray) -> None:
        """Hold these buckets from now on; those that were not here start with initial rows."""
        new = [int(bucket) for bucket in buckets if int(bucket) not in self._blocks]
        for bucket in new:
            rows = int(self._starts[bucket + 1] - self._starts[bucket])
            block = np.zeros((rows, self.config.payload_words), np.uint32)
            self._blocks[bucket] = block
            self._addresses[bucket] = address_of(block) if rows else 0
        self._initialise(new)

    def drop_buckets(self, buckets: np.ndarray) -> None:
        """Let the rows of these buckets go: they live elsewhere now."""
        for bucket in map(int, buckets):
            self._keep_for_snapshots([bucket])
            if self._blocks.pop(bucket, None) is not None:
                self._addresses[bucket] = 0

    def clear(self, sequence: int) -> None:
        """Let every row start anew; all count as changed."""
        self._keep_for_snapshots(list(self._blocks))
        self._initialise(list(self._blocks))
        self.changes.reset(sequence)

    # What only sparse tables do

    def push_statistics(
        self,
        keys: np.ndarray,
        shows: np.ndarray,
        clicks: np.ndarray,
        sequence: int,
        *,
        step: int = 0,
    ) -> None:
        """Refuse: rows of a dense table keep no statistics."""
        raise self._refusal("keeps no statistics")

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
        config = self.config
        waiting: list[np.ndarray] = []
        for place, bucket in enumerate(buckets):
            waiting.append(self._keys(bucket))
            if sum(map(len, waiting)) < _INIT_ROWS and place + 1 < len(buckets):
                continue
            keys = np.concatenate(waiting)
            waiting = []
            weights = kernels.initial_weights(
                keys, config.dim, np.uint64(config.seed), float(config.init_scale)
            )
            config.optimizer.init(self.locate(keys), weights)

    def _keys(self, bucket: int) -> np.ndarray:
        return np.arange(self._starts[bucket], self._starts[bucket + 1], dtype=np.uint64)

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
                snapshot.keep(bucket)

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


class DenseSnapshot:
    """A dense table as it was at one moment. Made by `DenseTable.begin_snapshot`.

    A bucket's rows are copied only if they are written before they were read.
    """

    def __init__(self, table: DenseTable, buckets: list[int]) -> None:
        self._table = table
        self._pending = dict.fromkeys(sorted(buckets))
        self._kept: dict[int, np.ndarray] = {}

    def keep(self, bucket: int) -> None:
        """Copy the rows of a bucket that is about to change, if they were not read yet."""
        if bucket in self._pending and bucket not in self._kept:
            self._kept[bucket] = self._table._blocks[bucket].copy()

    def next_chunk(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return (keys uint64 (n,), payload uint32 (n, payload_words)) or None when all is read."""
        keys: list[np.ndarray] = []
        blocks: list[np.ndarray] = []
        while self._pending and sum(map(len, blocks)) < _INIT_ROWS:
            bucket = next(iter(self._pending))
            del self._pending[bucket]
            block = self._kept.pop(bucket, None)
            blocks.append(self._table._blocks[bucket] if block is None else block)
            keys.append(self._table._keys(bucket))
        if not blocks:
            return None
        return np.concatenate(keys), np.concatenate(blocks)

    def close(self) -> None:
        """Let go what was kept; idempotent."""
        self._pending = {}
        self._kept = {}
        if self in self._table._snapshots:
            self._table._snapshots.remove(self)


def _check(config: TableConfig) -> None:
    if config.rows is None:
        raise ConfigError(f"table {config.name!r} is sparse: a dense one needs rows")
    for knob in ("admission", "expiry", "capacity", "statistics"):
        if getattr(config, knob):
            raise ConfigError(
                f"table {config.name!r}: {knob} is for sparse tables; leave it or rows out"
            )
