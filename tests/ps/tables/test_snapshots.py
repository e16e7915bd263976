"""Snapshots against deep copies, with all kinds of writes between their pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from weiml.ps.optimizers import SGD, Adagrad
from weiml.ps.tables import snapshots
from weiml.ps.tables.admission import AdmissionConfig
from weiml.ps.tables.changes import hash_keys
from weiml.ps.tables.expiry import ExpiryConfig
from weiml.ps.tables.snapshots import TableSnapshot
from weiml.ps.tables.sparse import SparseTable, TableConfig

NUM_BUCKETS = 16
Rows = dict[int, list[int]]


def everything(table: SparseTable) -> Rows:
    keys, rows = table.scan(np.arange(NUM_BUCKETS))
    return dict(zip(keys.tolist(), rows.tolist(), strict=True))


class Copy:
    """A snapshot, what it is to hold, and what has been read of it."""

    def __init__(self, table: SparseTable, some: list[int] | None = None) -> None:
        self.expected = everything(table)
        self.missing: set[int] = set()
        keys = None
        if some is not None:
            keys = np.unique(np.array(some, np.uint64))
            keys = keys[np.argsort(hash_keys(keys))]
            self.missing = set(some) - self.expected.keys()
            self.expected = {k: row for k, row in self.expected.items() if k in some}
        self.snapshot = table.begin_snapshot(keys)
        self.read: Rows = {}
        self.last_hash = -1

    def next(self) -> bool:
        """Read a piece; False at the end."""
        piece = self.snapshot.next_chunk()
        if piece is None:
            assert self.read == self.expected
            assert self.snapshot.rows == len(self.expected) + len(self.missing)
            missing = self.snapshot.missing().tolist()
            assert set(missing) == self.missing
            assert len(missing) == len(self.missing)
            return False
        keys, rows = piece
        for key, h, row in zip(keys.tolist(), hash_keys(keys).tolist(), rows.tolist(), strict=True):
            assert self.last_hash < h, "pieces are sorted by hash"
            self.last_hash = h
            self.read[key] = row
        return True


some_keys = st.lists(st.integers(0, 60), max_size=25)


class SnapshotsUnderWrites(RuleBasedStateMachine):
    """Writes of every kind between the pieces of up to three snapshots."""

    @initialize(weights=st.sampled_from(["float32", "bfloat16"]), limit=st.sampled_from([None, 48]))
    def start(self, weights: str, limit: int | None) -> None:
        config = TableConfig(
            "t",
            dim=2,
            optimizer=Adagrad(),
            weights=weights,  # type: ignore[arg-type]
            statistics=("last_seen", "shows", "clicks"),
            expiry=ExpiryConfig(ttl=6, min_score=0.01, decay=0.9),
            capacity=limit,
            capacity_policy="oldest",
        )
        self.table = SparseTable(config, NUM_BUCKETS)
        self.copies: list[Copy] = []
        self.sequence = 0

    def write(self, keys: list[int]) -> tuple[np.ndarray, np.ndarray, int]:
        self.sequence += 1
        flat = np.array(keys, np.uint64)
        numbers = np.random.default_rng(self.sequence).normal(size=(len(keys), 4))
        return flat, abs(numbers.astype(np.float32)), self.sequence

    @rule(keys=some_keys)
    def push(self, keys: list[int]) -> None:
        flat, numbers, sequence = self.write(keys)
        self.table.push_gradients(flat, numbers[:, :2], sequence, step=sequence)

    @rule(keys=some_keys)
    def add(self, keys: list[int]) -> None:
        flat, numbers, sequence = self.write(keys)
        self.table.push_differences(flat, numbers, sequence, step=sequence)
        self.table.push_statistics(flat, numbers[:, 0], numbers[:, 1], sequence, step=sequence)

    @rule(keys=some_keys)
    def put(self, keys: list[int]) -> None:
        flat, numbers, sequence = self.write(keys)
        self.table.put_state(flat, numbers, sequence, step=sequence)

    @rule(keys=some_keys)
    def take_over(self, keys: list[int]) -> None:
        flat, _, sequence = self.write(keys)
        words = self.table.config.payload_words
        rows = np.random.default_rng(sequence).integers(0, 9, (len(keys), words), np.uint32)
        self.table.import_rows(flat, rows, sequence)

    @rule(keys=some_keys, insert=st.booleans())
    def train_in_place(self, keys: list[int], insert: bool) -> None:
        flat, _, sequence = self.write(keys)
        at = self.table.locate_or_insert(flat, sequence, sequence, insert=insert)
        payload = self.table.store.rows(at[at != 0])
        self.table.store.set_rows(at[at != 0], payload + np.uint32(1))

    @rule(keys=some_keys)
    def delete(self, keys: list[int]) -> None:
        flat, _, sequence = self.write(keys)
        self.table.delete(flat, sequence)

    @rule()
    def expire(self) -> None:
        _, _, sequence = self.write([])
        self.table.expire(sequence, step=sequence, now_s=0.0)

    @rule(buckets=st.lists(st.integers(0, NUM_BUCKETS - 1), max_size=4))
    def drop(self, buckets: list[int]) -> None:
        self.table.drop_buckets(np.array(buckets, np.int32))

    @precondition(lambda self: len(self.copies) < 3)
    @rule()
    def begin(self) -> None:
        self.copies.append(Copy(self.table))

    @precondition(lambda self: len(self.copies) < 3)
    @rule(keys=some_keys)
    def begin_of_some(self, keys: list[int]) -> None:
        self.copies.append(Copy(self.table, keys))

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        copy = data.draw(st.sampled_from(self.copies))
        if not copy.next():
            self.copies.remove(copy)

    @invariant()
    def writes_cost_nothing_once_all_is_read(self) -> None:
        if hasattr(self, "copies") and not self.copies:
            assert not self.table._snapshots

    def teardown(self) -> None:
        for copy in getattr(self, "copies", []):
            while copy.next():
                pass


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> object:
    """Make pieces of a few rows, so that small tables have many."""
    before = snapshots._PIECE_BYTES
    snapshots._PIECE_BYTES = 128
    yield
    snapshots._PIECE_BYTES = before


TestSnapshotsUnderWrites = SnapshotsUnderWrites.TestCase
TestSnapshotsUnderWrites.settings = settings(max_examples=60, stateful_step_count=30)


def make(rows: int) -> TableSnapshot:
    table = SparseTable(TableConfig("t", optimizer=SGD()), NUM_BUCKETS)
    keys = np.arange(rows, dtype=np.uint64)
    table.push_gradients(keys, np.ones((rows, 1), np.float32), 1)
    return table.begin_snapshot()


def test_an_empty_table_has_an_empty_snapshot() -> None:
    assert all(keys.size == 0 for keys, _ in iter(make(0).next_chunk, None))


def test_a_bucket_larger_than_a_piece_comes_in_several() -> None:
    pieces = list(iter(make(1000).next_chunk, None))
    assert sum(keys.size for keys, _ in pieces) == 1000
    assert max(keys.size for keys, _ in pieces) <= 128 // 12
    assert all(len(keys) == len(rows) for keys, rows in pieces)


def test_a_snapshot_that_is_given_up_costs_writes_nothing() -> None:
    table = SparseTable(TableConfig("t", optimizer=SGD()), NUM_BUCKETS)
    keys = np.arange(100, dtype=np.uint64)
    table.push_gradients(keys, np.ones((100, 1), np.float32), 1)
    with table.begin_snapshot() as snapshot:
        table.delete(keys, 2)
        assert snapshot.nbytes > 100 * 12
        assert table.nbytes > snapshot.nbytes
    assert snapshot.next_chunk() is None
    snapshot.close()
    table.push_gradients(keys, np.ones((100, 1), np.float32), 3)
    assert snapshot.nbytes == 0


def test_rows_that_change_often_are_set_aside_once() -> None:
    table = SparseTable(TableConfig("t", optimizer=SGD()), NUM_BUCKETS)
    keys = np.arange(500, dtype=np.uint64)
    table.push_gradients(keys, np.ones((500, 1), np.float32), 1)
    snapshot = table.begin_snapshot()
    sizes = set()
    for sequence in range(2, 12):
        table.push_gradients(keys, np.ones((500, 1), np.float32), sequence)
        sizes.add(snapshot.nbytes)
    assert len(sizes) == 1


def test_a_snapshot_of_a_table_with_admission_holds_admitted_rows_only() -> None:
    config = TableConfig("t", optimizer=SGD(lr=1.0), admission=AdmissionConfig(min_count=2))
    table = SparseTable(config, NUM_BUCKETS)
    first, both = np.array([1], np.uint64), np.array([1, 2], np.uint64)
    table.push_gradients(first, np.ones((1, 1), np.float32), 1)
    table.push_gradients(both, np.ones((2, 1), np.float32), 2)
    snapshot = table.begin_snapshot()
    table.push_gradients(both, np.ones((2, 1), np.float32), 3)
    pieces = list(iter(snapshot.next_chunk, None))
    assert np.concatenate([keys for keys, _ in pieces]).tolist() == [1]


@pytest.mark.parametrize("some", [0, 1, 300])
def test_a_snapshot_of_some_keys_sets_aside_no_others(some: int) -> None:
    table = SparseTable(TableConfig("t", optimizer=SGD()), NUM_BUCKETS)
    keys = np.arange(20_000, dtype=np.uint64)
    table.push_gradients(keys, np.ones((20_000, 1), np.float32), 1)
    chosen = keys[7 : 7 + some]
    snapshot = table.begin_snapshot(chosen[np.argsort(hash_keys(chosen))])
    table.push_gradients(keys, np.ones((20_000, 1), np.float32), 2)
    assert len(snapshot._aside) == some
    assert snapshot.nbytes < 4096 + 64 * some
