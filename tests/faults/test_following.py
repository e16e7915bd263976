"""A stand-by that follows by updates is its shard, bit for bit, whatever happened in between.

Plain shards without processes: what an update leaves out shows at once.
"""

from __future__ import annotations

import pickle
from dataclasses import astuple
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.ps import FTRL, SGD, Adagrad, GroupConfig, Partition, TableConfig
from weiml.ps.shard.content import ShardContent
from weiml.ps.shard.following import (
    apply_update,
    begin_copy,
    collect_update,
    copy_start,
    forget_news,
    take_rows,
)
from weiml.ps.shard.shard import Shard
from weiml.ps.shard.transfer import Stamp
from weiml.ps.tables.admission import AdmissionConfig
from weiml.ps.tables.dense import DenseTable
from weiml.ps.tables.expiry import ExpiryConfig
from weiml.ps.tables.sparse import SparseTable

BUCKETS = 8
BEFORE = Partition(2, BUCKETS)
AFTER = BEFORE.rescaled(1)
MOVING = np.setdiff1d(AFTER.buckets_at(0), BEFORE.buckets_at(0)).astype(np.int32)
GROUP = GroupConfig(num_shards=2, num_workers=2, num_buckets=BUCKETS)
LENGTH = 21
TABLES = [
    TableConfig("sums", optimizer=FTRL(alpha=0.3, l1=0.01)),
    TableConfig("count", optimizer=SGD(), admission=AdmissionConfig(min_count=2)),
    TableConfig(
        "bloom", optimizer=SGD(), admission=AdmissionConfig(kind="bloom", expected_keys=16)
    ),
    TableConfig("chance", optimizer=SGD(), admission=AdmissionConfig(kind="probability")),
    TableConfig("half", dim=3, optimizer=Adagrad(), init_scale=0.1, weights="bfloat16"),
    TableConfig(
        "few",
        optimizer=Adagrad(),
        statistics=("count", "last_seen", "shows", "clicks"),
        capacity=3 * BUCKETS,
        capacity_policy="oldest",
        expiry=ExpiryConfig(ttl=3, min_score=0.3, decay=0.9),
        admission=AdmissionConfig(min_count=2),
        change_log_bytes=1024,  # it soon forgets, so that all rows are told
    ),
    TableConfig("rows", dim=2, optimizer=Adagrad(), rows=30),
]
LATE = TableConfig("late", optimizer=SGD())


def write(shards: list[Shard], worker: int | None, verb: str, *arguments: Any) -> None:
    """Let a worker's client, or an observer, write the same on equal shards, if it may."""
    first = shards[0]
    client = "observer" if worker is None else first.writers.owners.get(worker)
    if client is None:
        return
    seq = first.writers.last(client) + 1
    tick = 0 if worker is None else first.clock.ticks[worker]
    stamp = Stamp(client, seq, worker, tick, first.partition.version)
    if {shard.blocked(verb, stamp) for shard in shards} == {None}:
        for shard in shards:
            shard.serve(verb, stamp, *arguments)


class Histories:
    """What may happen on shard 0 while it is followed; the same on several equal shards."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.donor = Shard(GROUP, 1, BEFORE)
        self.moved_at = 0  # of before buckets moved nothing but all is told
        self.found([self.donor])
        for config in TABLES:
            self.push([self.donor], None, config)

    def found(self, shards: list[Shard]) -> None:
        """Create what there is from the start."""
        for shard in shards:
            for config in TABLES:
                shard.create_table(config)
            places = BEFORE.vector_index(LENGTH, shard.index)
            shard.create_vector("v", LENGTH, places.astype(np.float32))
            for worker in range(2):
                shard.join(worker, f"w{worker}")

    def keys(self, shard: Shard, config: TableConfig) -> np.ndarray:
        keys = np.unique(self.rng.integers(0, config.rows or 60, 12)).astype(np.uint64)
        return np.asarray(keys[shard.partition.shards_of(keys, config.rows) == shard.index])

    def worker(self) -> int:
        return int(self.rng.integers(2))

    def push(self, shards: list[Shard], worker: int | None, config: TableConfig) -> None:
        keys = self.keys(shards[0], config)
        values = self.rng.normal(size=(len(keys), config.dim)).astype(np.float32)
        write(shards, worker, "push", config.name, keys, values, "gradients")

    def table(self, shard: Shard) -> TableConfig:
        configs = [table.config for table in shard.tables.values()]
        return configs[int(self.rng.integers(len(configs)))]

    def sparse(self, shard: Shard) -> TableConfig:
        configs = [t.config for t in shard.tables.values() if isinstance(t, SparseTable)]
        return configs[int(self.rng.integers(len(configs)))]

    # One method for each thing that may happen

    def worker_push(self, shards: list[Shard]) -> None:
        self.push(shards, self.worker(), self.table(shards[0]))

    def observer_push(self, shards: list[Shard]) -> None:
        self.push(shards, None, self.table(shards[0]))

    def vector_push(self, shards: list[Shard]) -> None:
        if "v" in shards[0].vectors:
            places = shards[0].partition.vector_index(LENGTH, 0)
            values = self.rng.normal(size=len(places)).astype(np.float32)
            write(shards, self.worker(), "push_vector", "v", places, values)

    def tick(self, shards: list[Shard]) -> None:
        for worker in range(2):
            write(shards, worker, "tick")

    def one_tick(self, shards: list[Shard]) -> None:
        write(shards, self.worker(), "tick")

    def finish(self, shards: list[Shard]) -> None:
        write(shards, self.worker(), "finish")

    def join(self, shards: list[Shard]) -> None:
        worker, again = self.worker(), self.rng.integers(2)
        for shard in shards:
            shard.join(worker, f"w{worker}-{again}")

    def die(self, shards: list[Shard]) -> None:
        worker = self.worker()
        for shard in shards:
            shard.declare_dead(worker)

    def delete(self, shards: list[Shard]) -> None:
        config = self.sparse(shards[0])
        write(shards, None, "delete", config.name, self.keys(shards[0], config))

    def statistics(self, shards: list[Shard]) -> None:
        if "few" in shards[0].tables:
            keys = self.keys(shards[0], TABLES[5])
            ones = np.ones(len(keys), np.float32)
            write(shards, None, "push_statistics", "few", keys, ones, ones)

    def expire(self, shards: list[Shard]) -> None:
        for shard in shards:
            if "few" in shard.tables:
                shard.expire("few", 0, 0.0)

    def call(self, shards: list[Shard]) -> None:
        if "v" in shards[0].vectors:
            buckets = shards[0].partition.buckets_at(0)
            write(shards, None, "update", "scale", None, buckets, (1.5, "v"))

    def create(self, shards: list[Shard]) -> None:
        for shard in shards:
            shard.create_table(LATE)

    def drop_vector(self, shards: list[Shard]) -> None:
        for shard in shards:
            shard.drop_vector("v")

    def create_vector(self, shards: list[Shard]) -> None:
        for shard in shards:
            ones = np.ones(len(shard.partition.vector_index(LENGTH, 0)), np.float32)
            shard.create_vector("v", LENGTH, ones)

    def load(self, shards: list[Shard]) -> None:
        if shards[0].held:
            return
        for shard in shards:
            content = ShardContent(GROUP, 0, shard.partition)
            content.create_table(TABLES[0])
            content.create_table(TABLES[6])
            keys = np.arange(20, dtype=np.uint64)
            keys = keys[shard.partition.shards_of(keys) == 0]
            content.tables["sums"].import_rows(keys, np.ones((len(keys), 2), np.uint32), 1)
            shard.stage(content)
            shard.commit(None)  # type: ignore[arg-type]  # it is staged

    def arrive(self, shards: list[Shard]) -> None:
        if shards[0].partition.version == 0:
            self.push([self.donor], None, self.table(self.donor))
            some = self.rng.permutation(MOVING)[:2]
            rows = pickle.dumps(self.donor.export_buckets(np.sort(some)))
            for shard in shards:
                shard.import_rows(pickle.loads(rows))

    def meet(self, shards: list[Shard]) -> None:
        for shard in shards:
            shard.set_barrier(shard.latest_tick() + 1)

    def freeze(self, shards: list[Shard]) -> None:
        for shard in shards:
            shard.freeze()

    def thaw(self, shards: list[Shard]) -> None:
        for shard in shards:
            shard.thaw()

    def switch(self, shards: list[Shard]) -> None:
        if shards[0].partition.version == 0:
            rows = pickle.dumps(self.donor.export_changes(0, MOVING))
            for shard in shards:
                shard.import_rows(pickle.loads(rows))
                shard.switch(AFTER, 5)
            self.moved_at = shards[0].sequence

    def retire(self, shards: list[Shard]) -> None:
        for shard in shards:
            shard.retire(1, 1, {"observer": 3})


OFTEN = ["worker_push", "observer_push", "vector_push", "tick", "arrive", "thaw"]
SELDOM = [
    *("one_tick", "finish", "join", "die", "delete", "statistics", "expire", "call", "create"),
    *("drop_vector", "create_vector", "load", "meet", "freeze", "switch", "retire"),
]


class Follower:
    """Copies a shard and follows it, as the shards' processes do it, piece by piece."""

    def __init__(self, leader: Shard, pieces: int) -> None:
        self.shard = Shard(GROUP, 0, BEFORE)
        self.follows = False
        start = copy_start(leader)
        self._start = start[1]
        begin_copy(self.shard, sent(start))
        self._left = np.array_split(np.arange(BUCKETS, dtype=np.int32), pieces)

    def go_on(self, leader: Shard, since: int) -> None:
        """Take the next piece, or the end of the copy, or what happened after `since`."""
        if self._left:
            piece, *self._left = self._left
            take_rows(self.shard, sent(leader.export_buckets(piece, arriving=True)))
        elif self.follows:
            apply_update(self.shard, sent(collect_update(leader, since, 0)))
        else:
            apply_update(self.shard, sent(collect_update(leader, self._start, 0, copied=True)))
            forget_news(leader)
            self.follows = True


def sent(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def content(shard: Shard) -> dict[str, Any]:
    """Return all that a shard knows, fit to be compared."""
    tables = {}
    for name, table in shard.tables.items():
        every = table.buckets if isinstance(table, DenseTable) else np.arange(BUCKETS)
        keys, rows = table.scan(every)
        extras = {} if isinstance(table, DenseTable) else table.extras()
        filters = {n: (a.shape, a.tobytes()) for n, a in extras.items()}
        tables[name] = (table.config, keys.tolist(), rows.tobytes(), filters)
    parts = {"": shard.vectors, "arriving ": shard._arriving}
    vectors = {
        kind + name: (part.length, part.buckets.tolist(), part.values.tobytes())
        for kind, own in parts.items()
        for name, part in own.items()
        if kind == "" or len(part.buckets)
    }
    held = [
        (tick, worker, [v.tobytes() if isinstance(v, np.ndarray) else v for v in astuple(push)])
        for tick, worker, push in shard.held.all()
    ]
    return {
        "tables": tables,
        "vectors": vectors,
        "held": held,
        "clock": (shard.clock.ticks, shard.clock.live),
        "clients": (shard.writers.applied, shard.writers.owners),
        "sequence": (shard.sequence, shard.partition.version),
        "rescale": shard.rescale.state(whole=True),
        "counts": shard.counts,
    }


def assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name in theirs:
        assert ours[name] == theirs[name], name


def assert_tells_as_much(follower: Shard, leader: Shard, first: int) -> None:
    """A delta from any moment must bring what changed, though the shard was lost since."""
    for since in range(first, leader.sequence + 1):
        for name, table in leader.tables.items():
            known, told = table.changed_keys(since), follower.tables[name].changed_keys(since)
            if told is not None:
                assert known is not None, (name, since)
                own = leader.owned(table, known)
                assert set(own.tolist()) <= set(told.tolist()), (name, since)
        for name, part in leader.vectors.items():
            assert part.touched <= since or follower.vectors[name].touched > since


events = st.sampled_from([*OFTEN * 3, *SELDOM, *["tell"] * 12, "follow"])


@settings(max_examples=300)
@given(
    st.lists(events, min_size=15, max_size=60),
    st.lists(events, max_size=20),
    st.integers(0, 2**32),
    st.integers(1, 3),
)
def test_a_follower_is_its_shard_bit_for_bit(
    before: list[str], after: list[str], seed: int, pieces: int
) -> None:
    histories = Histories(seed)
    leader = Shard(GROUP, 0, BEFORE)
    histories.found([leader])
    follower: Follower | None = None
    since = 0

    def tell() -> None:
        nonlocal since
        assert follower is not None
        follower.go_on(leader, since)
        if follower.follows:
            since = leader.sequence
            assert_equal(content(follower.shard), content(leader))

    for event in before:
        if event == "follow":
            follower = Follower(leader, pieces)
        elif event != "tell":
            getattr(histories, event)([leader])
        elif follower is not None:
            tell()
    if follower is None:
        follower = Follower(leader, pieces)
    while not follower.follows:
        tell()
    tell()
    assert_tells_as_much(follower.shard, leader, histories.moved_at)
    # It takes over: the same requests leave both the same, by what they know unseen, too.
    for event in after:
        if event not in ("tell", "follow"):
            getattr(histories, event)([leader, follower.shard])
    assert_equal(content(follower.shard), content(leader))
