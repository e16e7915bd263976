"""A sparse table: rows by key that start, learn, are counted, expire and can be told to others.

One writer, no locks; it knows one shard's keys only, and neither workers nor their clock. Rows lie
in a `RowStore`; what their words mean says `RowLayout`. Docs: docs/ps-tables.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import numpy as np

from weiml.errors import ConfigError, ParameterServerError
from weiml.ps.partition import NUM_BUCKETS
from weiml.ps.rows.blocks import Block
from weiml.ps.rows.store import DEVIATIONS, RowStore
from weiml.ps.tables.changes import ChangeLog
from weiml.ps.tables.config import TableConfig, check_name
from weiml.ps.tables.expiry import Expiry
from weiml.ps.tables.intake import Intake
from weiml.ps.tables.layout import RowLayout, row_addresses
from weiml.ps.tables.snapshots import TableSnapshot

__all__ = ["SparseTable", "TableConfig", "check_name"]

_CHUNK_BYTES = 1 << 20  # rows looked up together, so that they are in cache when they are used
_MOST_KEYS = 8192
_FEWEST_KEYS = 256
_LOG_BYTES = 64 << 20
_LOG_SHARE = 32
_SCAN_ROWS = 1 << 16  # rows that expiry looks at together
_FEW_ROWS = 256  # of a bucket, for which no room is made in advance


class SparseTable:
    """Rows by uint64 key. Keys of a call should be distinct; repeated ones act in their order.

    Pulling never inserts: a missing key gives the row that inserting it would start with, or zeros
    in a table with admission. Every write names a sequence number, which must not fall; what was
    written after one can be listed. How a call's keys are cut into chunks changes nothing, except
    which rows make way in a full table.
    """

    def __init__(self, config: TableConfig, num_buckets: int = NUM_BUCKETS) -> None:
        if config.rows is not None:
            raise ConfigError(
                f"table {config.name!r} is dense (rows = {config.rows}); make it a DenseTable"
            )
        self.config = config
        self.num_buckets = num_buckets
        self.store = RowStore(
            num_buckets,
            config.payload_words,
            max_load=config.max_load,
            expected_rows=config.expected_rows,
        )
        self.layout = RowLayout(config)
        self.changes = ChangeLog(config.change_log_bytes or _LOG_BYTES)
        self.clock: Callable[[], float] = time.time
        """Seconds, for a table whose rows expire by them."""
        self.expired = 0
        """Rows that `expire` deleted."""
        self._intake = Intake(self.store, self.layout, self._delete)
        self._expiry = None if config.expiry is None else Expiry(config.expiry, self.layout)
        self._snapshots: list[TableSnapshot] = []
        self._zero_row = self.layout.zero_row()
        chunk = _CHUNK_BYTES // (8 + 4 * config.payload_words)
        self._chunk = min(max(chunk, _FEWEST_KEYS), _MOST_KEYS)

    def __len__(self) -> int:
        return len(self.store)

    @property
    def nbytes(self) -> int:
        """Bytes of rows, change log, admission and open snapshots, room to grow included."""
        admission = self._intake.admission
        filters = admission.nbytes if admission else 0
        copies = sum(snapshot.nbytes for snapshot in self._snapshots)
        return self.store.nbytes + self.changes.nbytes + filters + copies

    @property
    def not_admitted(self) -> int:
        """Occurrences of keys that admission kept out; their gradients were dropped."""
        return self._intake.not_admitted

    @property
    def refused(self) -> int:
        """Occurrences of keys for which there was no room; their gradients were dropped."""
        return self._intake.refused

    @property
    def evicted(self) -> int:
        """Rows that made way for others."""
        return self._intake.evicted

    # Reads

    def pull_weights(self, keys: np.ndarray) -> np.ndarray:
        """Return the served weights of `keys` uint64 (n,): a new float32 (n, dim)."""
        keys = self._keys(keys)
        out = np.empty((keys.size, self.config.dim), np.float32)
        for part in self._not_visited(keys, out, self.layout.weights_block):
            addresses, fresh = self._find(keys[part])
            out[part] = self.layout.weights(addresses)
            del fresh
        return out

    def pull_state(self, keys: np.ndarray) -> np.ndarray:
        """Return the state of `keys` uint64 (n,): a new float32 (n, width).

        A missing key of a table with admission gives the state of a row whose weights are 0.
        """
        keys = self._keys(keys)
        out = np.empty((keys.size, self.config.width), np.float32)
        for part in self._not_visited(keys, out, self.layout.state_block):
            addresses, fresh = self._find(keys[part])
            out[part] = self.layout.state(addresses)
            del fresh
        return out

    def locate(self, keys: np.ndarray) -> np.ndarray:
        """Return the addresses of rows, for reading until the next write: int64 (n,), 0: none."""
        return self.store.find(self._keys(keys))

    # Writes

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
        """Apply gradients float32 (n, dim) through the optimizer; missing keys are inserted.

        `counts` float32 (n,) are the examples behind each gradient and `squares` float32 (n, dim)
        the sums of their squares, for optimizers that use them. `step` is what the rows were last
        seen at; a table whose rows expire by seconds asks its clock instead.

        Raises:
            ParameterServerError: an array has another shape; then nothing was done.
        """
        keys = self._keys(keys)
        grads = self._numbers("gradients", grads, (keys.size, self.config.dim))
        if counts is not None:
            counts = self._numbers("counts", counts, (keys.size,))
        if squares is not None:
            squares = self._numbers("squares", squares, (keys.size, self.config.dim))
        block = self.layout.learn_block if counts is None and squares is None else None
        for part in self._not_visited(keys, grads, block, sequence):
            some, addresses, where = self._open(keys[part], sequence, _at(counts, part))
            some_counts = _at(_at(counts, part), where)
            some_squares = _at(_at(squares, part), where)
            some_grads = grads[part][where]
            self.layout.learn(addresses, some, some_grads, some_counts, some_squares, sequence)
            self.layout.note(addresses, some_counts, self._seen(step))

    def push_differences(
        self, keys: np.ndarray, differences: np.ndarray, sequence: int, *, step: int = 0
    ) -> None:
        """Add float32 (n, width) to the state of rows; missing keys are inserted first.

        Raises:
            ParameterServerError: the optimizer's state is no sum, or the shape is another.
        """
        if not self.config.optimizer.sums:
            raise self._error(
                f"differences cannot be pushed: the state of {self.config.optimizer.name} is not "
                f"a sum over examples; push gradients"
            )
        keys = self._keys(keys)
        differences = self._numbers("differences", differences, (keys.size, self.config.width))
        for part in self._not_visited(keys, differences, self.layout.add_block, sequence):
            some, addresses, where = self._open(keys[part], sequence, None)
            self.layout.add(addresses, some, differences[part][where], sequence)
            self.layout.note(addresses, None, self._seen(step))

    def push_statistics(
        self,
        keys: np.ndarray,
        shows: np.ndarray,
        clicks: np.ndarray,
        sequence: int,
        *,
        step: int = 0,
    ) -> None:
        """Add float32 (n,) to the statistics shows and clicks; those not kept are left out.

        Missing keys are inserted; in a table with admission they are left out instead, and do not
        count as having occurred.
        """
        keys = self._keys(keys)
        shows = self._numbers("shows", shows, (keys.size,))
        clicks = self._numbers("clicks", clicks, (keys.size,))
        for part in self._chunks(keys.size):
            _, addresses, where = self._open(keys[part], sequence, None, offer=False)
            numbers = shows[part][where], clicks[part][where]
            self.layout.add_statistics(addresses, *numbers, self._seen(step))

    def put_state(
        self, keys: np.ndarray, state: np.ndarray, sequence: int, *, step: int = 0
    ) -> None:
        """Set the state of rows to float32 (n, width); missing keys are inserted first.

        Of the statistics only last_seen changes.
        """
        keys = self._keys(keys)
        state = self._numbers("state", state, (keys.size, self.config.width))
        for part in self._chunks(keys.size):
            some, addresses, where = self._open(keys[part], sequence, None)
            self.layout.put(addresses, some, state[part][where], sequence)
            self.layout.see(addresses, self._seen(step))

    def locate_or_insert(
        self, keys: np.ndarray, sequence: int, step: int = 0, *, insert: bool = True
    ) -> np.ndarray:
        """Return the addresses of rows that a function is about to train in place: int64 (n,).

        They hold until the next write, and count as changed and seen. Missing keys are inserted,
        unless admission or capacity keeps them out or `insert` is False: then they have address 0.
        """
        keys = self._keys(keys)
        if not insert:
            addresses = self.store.find(keys)
            self._before_write(keys[addresses != 0], sequence)
            self.layout.note(addresses[addresses != 0], None, self._seen(step))
            return addresses
        if self._intake.open:  # nobody is kept out or makes way, so all at once
            _, addresses, _ = self._open(keys, sequence, None)
            self.layout.note(addresses, None, self._seen(step))
            return addresses
        for part in self._chunks(keys.size):
            _, addresses, _ = self._open(keys[part], sequence, None)
            self.layout.note(addresses, None, self._seen(step))
        return self.store.find(keys)

    def delete(self, keys: np.ndarray, sequence: int) -> int:
        """Delete rows; the keys stay in the list of changes. Return how many rows there were."""
        return self._delete(self._keys(keys), sequence)

    def expire(
        self,
        sequence: int,
        *,
        step: int,
        now_s: float,
        buckets: tuple[int, int] | None = None,
    ) -> int:
        """Delete the rows that the table's `ExpiryConfig` gives up; return how many.

        A time to live counts from `step`, or from `now_s` where its unit is seconds. With
        `buckets` only those from the first to before the second are looked at. Where shows and
        clicks decay, all rows count as changed.
        """
        if self._expiry is None:
            return 0
        decays = self._expiry.rules.decay < 1
        if decays:
            self.changes.reset(sequence)
        now = self._expiry.now(step, now_s)
        gone = 0
        for first, last in self._spans(*(buckets or (0, self.num_buckets))):
            keys, addresses = self.store.scan(first, last)
            if decays:
                self._set_aside(keys)
            gone += self._delete(keys[self._expiry.doomed(addresses, now)], sequence)
        self.expired += gone
        return gone

    # To and from other shards, stand-bys and checkpoints

    def changed_keys(self, since: int) -> np.ndarray | None:
        """Return the distinct keys changed after `since`, sorted by hash: uint64 (n,).

        Those whose rows are gone are among them. None when so old changes are not known any more:
        then any row may have changed or gone.
        """
        return self.changes.since(since)

    def export_rows(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return whole rows uint32 (n, payload_words), and which keys have one: bool (n,)."""
        return self.store.read(self._keys(keys))

    def import_rows(self, keys: np.ndarray, payload: np.ndarray, sequence: int) -> None:
        """Set whole rows to uint32 (n, payload_words), past admission and capacity."""
        self._check_rows(keys, payload)
        self._before_write(self._keys(keys), sequence)
        self.load_rows(keys, payload)

    def load_rows(self, keys: np.ndarray, payload: np.ndarray) -> None:
        """Set whole rows as `import_rows` does, but of a table that nobody has seen yet.

        That they changed is noted nowhere. Both arrays may be read-only.
        """
        self._check_rows(keys, payload)
        # What comes in the order of a scan into buckets without rows, as from a checkpoint or
        # another shard, is not searched for.
        done = self.store.append(keys, payload)
        keys, payload = self._keys(keys[done:]), payload[done:]
        for part in self._chunks(keys.size):
            addresses, _ = self.store.find_or_insert(keys[part])
            self.store.set_rows(addresses, payload[part])

    def expect_rows(self, rows: np.ndarray) -> None:
        """Make room at once for about as many rows as each bucket is to get: (num_buckets,).

        Only worth it for rows that come in the order of a scan: see `RowStore.reserve`.
        """
        # In small buckets chance weighs more, and they grow fast.
        most = np.where(rows < _FEW_ROWS, 0, rows + DEVIATIONS * np.sqrt(rows))
        self.store.reserve(np.ceil(most).astype(np.int64))

    def remove_rows(self, keys: np.ndarray, sequence: int) -> None:
        """Remove rows, as another shard did that this one follows."""
        keys = self._keys(keys)
        self._delete(keys, sequence)
        # Those that were never here too: whoever is told what changed since then may have them.
        self.changes.add(sequence, keys)

    def scan(self, buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return keys uint64 (n,) and rows uint32 (n, payload_words) of `buckets`, in order."""
        parts = [self.store.scan(first, last) for first, last in _runs(buckets)]
        if not parts:
            return np.empty(0, np.uint64), np.empty((0, self.config.payload_words), np.uint32)
        keys = np.concatenate([keys for keys, _ in parts])
        return keys, self.store.rows(np.concatenate([addresses for _, addresses in parts]))

    def drop_buckets(self, buckets: np.ndarray) -> None:
        """Forget all that lies in `buckets`, changes included: it belongs to another shard now."""
        gone = np.zeros(self.num_buckets, np.bool_)
        gone[buckets] = True
        if self._snapshots:
            self._set_aside(self.scan(buckets)[0])
        self.store.clear(np.flatnonzero(gone))
        self.changes.drop(gone)
        if self._intake.admission is not None:
            self._intake.admission.drop_buckets(np.flatnonzero(gone))

    def clear(self, sequence: int) -> None:
        """Forget all rows and what admission knows; anything counts as changed."""
        self.drop_buckets(np.arange(self.num_buckets))
        self.changes.reset(sequence)

    def begin_snapshot(self, keys: np.ndarray | None = None) -> TableSnapshot:
        """Return the rows as they are now, to be read out piece by piece while writes go on.

        All of them, or those of `keys` uint64 (n,), distinct and sorted by hash.
        """
        snapshot = TableSnapshot(self.store, self._snapshots.remove, keys)
        self._snapshots.append(snapshot)
        return snapshot

    # What admission knows

    def extras(self, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return what admission knows of `buckets` int (m,) as named arrays.

        None: of the buckets of which it knows something, so that those of several shards can be
        loaded one after the other.
        """
        admission = self._intake.admission
        return admission.extras(buckets) if admission else {}

    def filter_delta(self, since: int, buckets: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return what admission learnt of `buckets`, or of all, after `since`, for `load_extras`.

        When that is not known any more, all that it knows of them.
        """
        admission = self._intake.admission
        return admission.delta(since, buckets) if admission else {}

    def load_extras(self, extras: Mapping[str, np.ndarray], sequence: int | None = None) -> None:
        """Take over what `extras` or `filter_delta` of another shard tell; the rest stays.

        `sequence` is the number under which that happens, that of the last write if it is None.
        """
        admission = self._intake.admission
        if admission is not None and extras:
            admission.load(extras, self.changes.last if sequence is None else sequence)

    # Inside

    def _open(
        self,
        keys: np.ndarray,
        sequence: int,
        counts: np.ndarray | None,
        *,
        offer: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | slice]:
        """Return the keys of a chunk that have a row now, its address, and their places."""
        where: np.ndarray | slice = slice(None)
        if not self._intake.open:
            where = self._intake.kept(keys, sequence, counts, offer=offer)
            keys = keys[where]
        self._before_write(keys, sequence)
        addresses, new = self.store.find_or_insert(keys)
        if new.size:
            self.layout.initialise(addresses[new], keys[new])
        return keys, addresses, where

    def _before_write(self, keys: np.ndarray, sequence: int) -> None:
        if self._snapshots:
            self._set_aside(keys)
        if self.config.change_log_bytes is None:
            self.changes.max_bytes = max(_LOG_BYTES, self.store.nbytes // _LOG_SHARE)
        self.changes.add(sequence, keys)

    def _seen(self, step: int) -> int:
        """Return what rows are last seen at: the step, or the time where that is what counts."""
        rules = self.config.expiry
        return int(self.clock()) if rules is not None and rules.unit == "seconds" else step

    def _set_aside(self, keys: np.ndarray) -> None:
        for snapshot in self._snapshots:
            snapshot.before_write(keys)

    def _delete(self, keys: np.ndarray, sequence: int) -> int:
        there = keys[self.store.find(keys) != 0]
        if not there.size:
            return 0
        self._before_write(there, sequence)
        return int(self.store.delete(there).sum())

    def _find(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return addresses, those of missing keys in a matrix of fresh rows, which is returned."""
        addresses = self.store.find(keys)
        missing = np.flatnonzero(addresses == 0)
        if not missing.size:
            return addresses, None
        if self._intake.admission is not None or self.config.init_scale == 0:
            addresses[missing] = row_addresses(self._zero_row)[0]
            return addresses, None
        fresh = self.layout.fresh_rows(keys[missing])
        addresses[missing] = row_addresses(fresh)
        return addresses, fresh

    def _chunks(self, n: int, first: int = 0) -> Iterator[slice]:
        for start in range(first, n, self._chunk):
            yield slice(start, min(start + self._chunk, n))

    def _not_visited(
        self,
        keys: np.ndarray,
        values: np.ndarray,
        block: Block | None,
        sequence: int | None = None,
    ) -> Iterator[slice]:
        """Run `block` on rows that are there, with their `values` (n, m); yield the other chunks.

        With a sequence number the block writes. It is run in the order of keys, on those before a
        chunk before that chunk is yielded.
        """
        if block is None or (sequence is not None and self._snapshots):
            # A snapshot sets rows aside before they are written, as keys come.
            yield from self._chunks(keys.size)
            return
        start = 0
        while start < keys.size:
            stop = start + self.store.visit(keys[start:], values[start:], *block)
            if sequence is not None:
                for part in self._chunks(stop, start):
                    self._before_write(keys[part], sequence)
            start = min(stop + self._chunk, keys.size)
            if stop < start:
                yield slice(stop, start)

    def _spans(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield runs of buckets with a bounded number of rows together."""
        counts = np.cumsum(self.store.bucket_counts()[first:last])
        cuts = np.flatnonzero(np.diff(counts // _SCAN_ROWS)) + 1
        edges = [first, *(first + cuts).tolist(), last]
        yield from pairwise(edges)

    def _keys(self, keys: np.ndarray) -> np.ndarray:
        return np.require(keys, np.uint64, ["C", "W"])

    def _check_rows(self, keys: np.ndarray, payload: np.ndarray) -> None:
        if payload.shape != (keys.size, self.config.payload_words):
            raise self._error(
                f"rows of shape {payload.shape} do not fit {keys.size} keys with "
                f"{self.config.payload_words} words each; they are of another configuration"
            )

    def _numbers(self, what: str, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if numbers.shape != shape:
            raise self._error(f"{what} must have shape {shape}, got {numbers.shape}")
        return np.ascontiguousarray(numbers, np.float32)

    def _error(self, what: str) -> ParameterServerError:
        return ParameterServerError(f"table {self.config.name!r}: {what}")


def _at(numbers: np.ndarray | None, where: np.ndarray | slice) -> np.ndarray | None:
    return None if numbers is None else numbers[where]


def _runs(buckets: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the maximal runs (first, last + 1) of neighbours in `buckets`."""
    numbers = np.unique(np.asarray(buckets, np.int64))
    for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
        if run.size:
            yield int(run[0]), int(run[-1]) + 1
