"""The contract of a parameter server, held by both transports."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from weiml.errors import ConfigError, ParameterServerError
from weiml.ps import FTRL, SGD, Adagrad, Client, Cut, GroupConfig, ParameterServer, TableConfig
from weiml.ps.base import Ticket
from weiml.ps.server import ShardedParameterServer
from weiml.ps.shard.transfer import Stamp

Make = Callable[..., ParameterServer]


def answer(ticket: Ticket) -> np.ndarray:
    values = ticket.wait()
    assert isinstance(values, np.ndarray)
    return values


def weights(client: Client, table: str, keys: np.ndarray) -> np.ndarray:
    return answer(client.pull(table, keys))


def ones(keys: np.ndarray, width: int = 1) -> np.ndarray:
    return np.ones((len(keys), width), np.float32)


# What is pushed can be pulled


def test_pushes_add_up(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make()
    ps.create_table(TableConfig(table, dim=2, optimizer=SGD(lr=0.5)))
    client = ps.client()
    for _ in range(4):
        client.wait(client.push(table, keys, ones(keys, 2)))
    assert np.array_equal(weights(client, table, keys), np.full((5, 2), -2.0))


def test_a_pull_sees_the_clients_own_earlier_pushes_without_waiting(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make(staleness=None)
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    client = ps.client()
    for n in range(1, 30):
        client.push(table, keys, ones(keys))
        assert (weights(client, table, keys) == -n).all()


def test_a_missing_row_is_pulled_as_it_would_start_and_not_inserted(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make()
    config = TableConfig(table, dim=3, optimizer=Adagrad(), init_scale=0.1, seed=5)
    ps.create_table(config)
    client = ps.client()
    before = weights(client, table, keys)
    assert ps.status()["tables"][table] == 0
    client.wait(client.push(table, keys, np.zeros((5, 3), np.float32)))
    assert ps.status()["tables"][table] == 5
    assert np.array_equal(weights(client, table, keys), before)
    assert before.std() > 0


def test_answers_belong_to_the_caller(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    client = ps.client()
    many = np.arange(100_000, dtype=np.uint64)  # large enough to travel in shared memory
    client.wait(client.push(table, many, ones(many)))
    first = weights(client, table, many)
    first += 5
    assert (weights(client, table, many) == -1).all()


def test_read_only_arrays_may_be_sent(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=FTRL(alpha=1.0)))
    client = ps.client()
    grads = ones(keys)
    grads.flags.writeable = keys.flags.writeable = False
    client.wait(client.push(table, keys, grads))
    assert (weights(client, table, keys) < 0).all()


def test_empty_requests_are_answered(make: Make, table: str) -> None:
    ps = make()
    ps.create_table(TableConfig(table, dim=3, optimizer=FTRL()))
    client = ps.client()
    none = np.empty(0, np.uint64)
    client.wait(client.push(table, none, np.empty((0, 3), np.float32)))
    assert weights(client, table, none).shape == (0, 3)
    assert answer(client.pull(table, none, "state")).shape == (0, 6)


def test_differences_of_state_are_added(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make()
    optimizer = FTRL(alpha=0.5, l1=0.1)
    ps.create_table(TableConfig(table, dim=2, optimizer=optimizer))
    client = ps.client()
    state = answer(client.pull(table, keys, "state"))
    after = optimizer.update(state, ones(keys, 2))
    client.wait(client.push(table, keys, after - state, "differences"))
    assert np.array_equal(answer(client.pull(table, keys, "state")), after)
    assert np.array_equal(weights(client, table, keys), optimizer.weights(after))


def test_rows_do_not_depend_on_the_number_of_shards(
    make: Make, table: str, rng: np.random.Generator
) -> None:
    keys = rng.integers(0, 2**64 - 1, 300, np.uint64)
    grads = rng.normal(size=(300, 4)).astype(np.float32)
    rows = []
    for num_shards in (1, 2):
        ps = make(num_shards=num_shards)
        ps.create_table(TableConfig(table, dim=4, optimizer=Adagrad(), init_scale=1.0))
        client = ps.client()
        client.wait(client.push(table, keys, grads))
        rows.append(answer(client.pull(table, keys, "state")))
    assert np.array_equal(rows[0], rows[1])


# Tables and vectors


def test_creating_an_equal_table_twice_is_harmless(make: Make, table: str) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=FTRL(alpha=0.1)))
    ps.create_table(TableConfig(table, optimizer=FTRL(alpha=0.1)))
    with pytest.raises(ParameterServerError, match=rf"{table}.*'alpha': 0.1.*not.*'alpha': 0.2"):
        ps.create_table(TableConfig(table, optimizer=FTRL(alpha=0.2)))


@pytest.mark.parametrize("length", [0, 1, 5, 1000])
def test_vectors_of_any_length_add_up(make: Make, table: str, length: int) -> None:
    ps = make()
    start = np.arange(length, dtype=np.float32)
    ps.create_vector(table, start)
    client = ps.client()
    client.wait(client.push_vector(table, start))
    assert np.array_equal(answer(client.pull_vector(table)), 2 * start)
    ps.create_vector(table, start)  # one of that length stays as it is
    assert np.array_equal(answer(client.pull_vector(table)), 2 * start)
    with pytest.raises(ParameterServerError, match=f"length {length}, got {length + 1}"):
        ps.create_vector(table, np.zeros(length + 1, np.float32))


# What is refused, and that refusing changes nothing


def test_an_unknown_name_is_refused_with_the_nearest(make: Make, table: str) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD()))
    client = ps.client()
    with pytest.raises(ParameterServerError, match=f"did you mean '{table}'"):
        client.pull(table[:-1], np.empty(0, np.uint64))
    with pytest.raises(ParameterServerError, match="no vector 'x'"):
        client.pull_vector("x")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.ones((5, 2)), "float32 array, got float64"),
        (np.ones((5, 3), np.float32), r"shape \(5, 2\), got \(5, 3\)"),
        (np.ones((4, 2), np.float32), r"shape \(5, 2\), got \(4, 2\)"),
        (np.ones(10, np.float32), r"shape \(5, 2\), got \(10,\)"),
    ],
)
def test_wrong_values_are_refused(
    make: Make, table: str, keys: np.ndarray, values: np.ndarray, what: str
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, dim=2, optimizer=SGD()))
    with pytest.raises(ParameterServerError, match=what):
        ps.client().push(table, keys, values)
    assert ps.status()["tables"][table] == 0


def test_wrong_keys_are_refused(make: Make, table: str) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD()))
    with pytest.raises(ParameterServerError, match=r"uint64 .* got int64 of shape \(3,\)"):
        ps.client().pull(table, np.arange(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_table_key_and_worker(
    make: Make, table: str, keys: np.ndarray, bad: float
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, dim=2, optimizer=SGD()))
    ps.create_vector(table, np.zeros(3, np.float32))
    grads = ones(keys, 2)
    grads[3, 1] = bad
    worker = ps.client(1)
    with pytest.raises(ParameterServerError, match=rf"'{table}'.*worker 1.*key 77"):
        worker.push(table, keys, grads)
    with pytest.raises(ParameterServerError, match=rf"'{table}'.*observer.*place 2"):
        ps.client().push_vector(table, np.array([0, 0, bad], np.float32))
    assert ps.status()["tables"][table] == 0


def test_a_worker_out_of_range_is_refused(make: Make) -> None:
    with pytest.raises(ParameterServerError, match=r"worker must be 0 … 1 \(num_workers = 2\)"):
        make().client(2)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"num_shards": 0}, "num_shards"),
        ({"num_shards": 2000}, "num_buckets = 1024"),
        ({"num_workers": 0}, "num_workers"),
        ({"staleness": -1}, "staleness"),
        ({"wait_timeout_s": 0.0}, "wait_timeout_s"),
        ({"call_timeout_s": 10.0}, "wait_timeout_s = 300"),
        ({"name": "a/b"}, "'a/b'"),
    ],
)
def test_a_wrong_configuration_names_the_knob(fields: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        GroupConfig(**fields)  # type: ignore[arg-type]


# The clock


def test_bsp_holds_pushes_until_all_workers_have_ticked(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    ps.create_vector(table, np.zeros(3, np.float32))
    observer, first, second = ps.client(), ps.client(0), ps.client(1)
    for worker in (first, second):
        worker.wait(worker.push(table, keys, ones(keys)))
        worker.wait(worker.push_vector(table, np.ones(3, np.float32)))
        assert (weights(worker, table, keys) == 0).all()  # not even its own
    first.wait(first.tick())
    assert (weights(observer, table, keys) == 0).all()
    later = first.pull(table, keys)  # waits for the second worker's tick
    second.wait(second.tick())
    assert (answer(later) == -2).all()
    assert (answer(second.pull_vector(table)) == 2).all()
    assert (weights(observer, table, keys) == -2).all()
    first.finish()
    second.finish()


def test_held_pushes_do_not_see_later_changes_of_the_callers_arrays(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make(num_shards=1)  # one shard gets the very arrays, several get copies of parts
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    grads = ones(keys)
    workers = [ps.client(worker) for worker in range(2)]
    for worker in workers:
        worker.wait(worker.push(table, keys, grads))
    grads[:] = 100
    for worker in workers:
        worker.finish()
    assert (weights(ps.client(), table, keys) == -2).all()


def test_held_pushes_act_in_the_order_of_the_workers_whoever_is_first(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make()
    optimizer = Adagrad(lr=1.0)  # the order of gradients shows in w
    ps.create_table(TableConfig(table, optimizer=optimizer))
    state = np.array([[0.0, optimizer.initial_sum]] * 5, np.float32)
    for worker in range(2):
        state = optimizer.update(state, ones(keys) * (worker + 1))
    clients = [ps.client(worker) for worker in range(2)]
    for client in reversed(clients):
        client.wait(client.push(table, keys, ones(keys) * ((client.worker or 0) + 1)))
        client.wait(client.tick())
    assert np.array_equal(answer(ps.client().pull(table, keys, "state")), state)
    for client in clients:
        client.finish()


def test_a_workers_delta_waits_for_no_clock(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD()))
    ahead, behind = ps.client(0), ps.client(1)
    ahead.wait(ahead.tick())  # a pull would now wait for the other's tick
    assert len(ahead.delta(0).tables[table][0]) == 0
    ahead.finish()
    behind.finish()


def test_a_later_tick_tells_of_a_push_that_nobody_waited_for(
    make: Make, table: str, keys: np.ndarray, tmp_path: Path
) -> None:
    ps = make()
    ps.save(str(tmp_path / "without"))
    ps.create_table(TableConfig(table, optimizer=SGD()))
    worker = ps.client(0)
    worker.pull(table, keys).wait()
    ps.load(str(tmp_path / "without"))
    worker.push(table, keys, ones(keys))
    worker.tick()
    with pytest.raises(ParameterServerError, match=f"has no table '{table}'"):
        worker.tick()
    for n in range(2):
        ps.client(n).finish()


def test_asp_neither_waits_nor_holds(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make(staleness=None)
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    first, second = ps.client(0), ps.client(1)
    for n in range(5):
        assert (weights(first, table, keys) == -n).all()
        first.wait(first.push(table, keys, ones(keys)))
        first.wait(first.tick())
    assert (weights(second, table, keys) == -5).all()
    first.finish()
    second.finish()


def test_ssp_lets_a_worker_run_ahead_by_the_staleness_only(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make(staleness=1)
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    fast, slow = ps.client(0), ps.client(1)
    fast.tick()
    slow.push(table, keys, ones(keys))
    slow.wait(slow.pull(table, keys))
    assert (weights(fast, table, keys) == -1).all()  # one tick ahead: no wait, applied at once
    fast.tick()
    too_far = fast.pull(table, keys)  # two ahead: not before the slow one ticks
    slow.push(table, keys, ones(keys))
    slow.tick()
    assert (answer(too_far) == -2).all()
    fast.finish()
    slow.finish()


def test_a_worker_that_finished_holds_nobody_up_and_may_come_back(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    for round_ in range(2):  # the second round is like the first
        first, second = ps.client(0), ps.client(1)
        second.push(table, keys, ones(keys))
        second.finish()
        second.finish()
        first.wait(first.tick())
        assert (weights(first, table, keys) == -1 - round_).all()
        first.finish()
    with pytest.raises(ParameterServerError, match="worker 1 has finished"):
        second.push(table, keys, ones(keys))
    with pytest.raises(ParameterServerError, match="outside the clock"):
        ps.client().tick()


# Once and in order


def stamp(client: str, seq: int) -> Stamp:
    return Stamp(client=client, seq=seq, worker=None, tick=0)


def test_a_request_delivered_twice_acts_once(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make(num_shards=1)
    assert isinstance(ps, ShardedParameterServer)
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    ps.create_vector(table, np.zeros(2, np.float32))
    send, result = ps._transport.send, ps._transport.result
    before = ps.status()["duplicates"]
    grads = ones(keys)
    for _ in range(3):
        result(0, send(0, "push", stamp(table, 1), table, keys, grads, "gradients"))
        both = np.arange(2)
        result(0, send(0, "push_vector", stamp(table, 2), table, both, np.ones(2, np.float32)))
    assert (weights(ps.client(), table, keys) == -1).all()
    assert (answer(ps.client().pull_vector(table)) == 1).all()
    assert ps.status()["duplicates"] == before + 4


def test_requests_act_in_the_clients_order_however_they_arrive(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make(num_shards=1)
    assert isinstance(ps, ShardedParameterServer)
    optimizer = Adagrad(lr=1.0)
    ps.create_table(TableConfig(table, optimizer=optimizer))
    transport = ps._transport
    grads = {seq: np.full((5, 1), seq, np.float32) for seq in (1, 2, 3)}
    handles = [
        transport.send(0, "push", stamp(table, seq), table, keys, grads[seq], "gradients")
        for seq in (3, 1, 2)
    ]
    for handle in (handles[1], handles[2], handles[0]):
        transport.result(0, handle)
    state = np.array([[0.0, optimizer.initial_sum]] * 5, np.float32)
    for seq in (1, 2, 3):
        state = optimizer.update(state, grads[seq])
    assert np.array_equal(answer(ps.client().pull(table, keys, "state")), state)


# Deltas


def test_deltas_bring_a_copy_up_to_date(make: Make, table: str, rng: np.random.Generator) -> None:
    ps = make(staleness=None)
    ps.create_table(TableConfig(table, dim=2, optimizer=FTRL(alpha=1.0)))
    ps.create_vector(table, np.zeros(7, np.float32))
    client = ps.client()
    copy: dict[int, list[float]] = {}
    cut = Cut.zero()
    universe = rng.integers(0, 2**64 - 1, 100, np.uint64)
    for n in range(5):
        touched = np.unique(rng.choice(universe, 20))
        client.push(table, touched, rng.normal(size=(len(touched), 2)).astype(np.float32))
        if n == 3:
            client.push_vector(table, np.ones(7, np.float32))
        delta = client.delta(cut)
        changed, values = delta.tables[table]
        assert sorted(changed.tolist()) == sorted(touched.tolist())
        assert (table in delta.vectors) == (n in (0, 3))
        copy.update(zip(changed.tolist(), values.tolist(), strict=True))
        assert delta.cut.total == delta.sequence > cut.total
        cut = Cut.from_json(delta.cut.to_json())
    known = np.array(list(copy), np.uint64)
    assert np.array_equal(weights(client, table, known), np.array(list(copy.values()), np.float32))
    assert (delta.vectors.get(table, np.ones(7)) == 1).all()
    assert client.delta(cut).num_rows == 0
    everything = client.delta(0)
    assert set(everything.tables[table][0].tolist()) == set(copy)


def test_a_cut_that_does_not_fit_is_refused(make: Make, table: str) -> None:
    ps = make()
    client = ps.client()
    with pytest.raises(ParameterServerError, match=r"needs a Cut"):
        client.delta(5)
    with pytest.raises(ParameterServerError, match="cut of 3 shards does not fit a group of 2"):
        client.delta(Cut((0, 0, 0)))
    with pytest.raises(ParameterServerError, match="since 1000000000 was asked for"):
        client.delta(Cut((10**9, 0)))


def test_one_shards_numbers_may_be_plain(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make(num_shards=1)
    ps.create_table(TableConfig(table, optimizer=SGD()))
    client = ps.client()
    before = ps.sequence
    client.wait(client.push(table, keys, ones(keys)))
    assert ps.sequence == before + 1
    assert sorted(client.delta(before).tables[table][0].tolist()) == sorted(keys.tolist())


# Status and checkpoints


def test_status_is_json_and_counts(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make()
    before = ps.status()
    ps.create_table(TableConfig(table, optimizer=SGD()))
    client = ps.client()
    client.wait(client.push(table, keys, ones(keys)))
    client.wait(client.pull(table, keys))
    after = ps.status()
    json.dumps(after)
    assert after["rows"] - before["rows"] == 5
    assert after["keys"] - before["keys"] == 10
    assert after["sequence"] == sum(after["cut"]) == ps.sequence > before["sequence"]
    assert set(after["clocks"]) == {0, 1}
    assert [shard["shard"] for shard in after["shards"]] == [0, 1]
    assert sum(shard["tables"][table] for shard in after["shards"]) == 5


def test_a_checkpoint_saved_here_loads_here_as_of_its_time(
    make: Make, table: str, keys: np.ndarray, tmp_path: Path
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, dim=2, optimizer=Adagrad(), init_scale=0.5))
    ps.create_vector(table, np.arange(9, dtype=np.float32))
    client = ps.client()
    client.wait(client.push(table, keys, ones(keys, 2)))
    state = answer(client.pull(table, keys, "state"))
    path = tmp_path / "checkpoints" / "one"
    ps.save(str(path))
    cut = ps.cut
    client.wait(client.push(table, keys, ones(keys, 2)))
    client.wait(client.push_vector(table, np.ones(9, np.float32)))
    ps.load(str(path))
    client = ps.client()
    assert np.array_equal(answer(client.pull(table, keys, "state")), state)
    assert np.array_equal(answer(client.pull_vector(table)), np.arange(9))
    assert len(client.delta(cut).tables[table][0]) == 5  # everything counts as changed
    assert [entry.name for entry in path.parent.iterdir()] == ["one"]
    with pytest.raises(ParameterServerError, match="exists already"):
        ps.save(str(path))


def test_nothing_is_loaded_while_a_tick_is_under_way(
    make: Make, table: str, keys: np.ndarray, tmp_path: Path
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    ps.save(str(tmp_path / "one"))
    worker = ps.client(0)
    ps.client(1).finish()
    worker.wait(worker.push(table, keys, ones(keys)))
    with pytest.raises(ParameterServerError, match="a tick is under way"):
        ps.load(str(tmp_path / "one"))
    worker.finish()
    assert (weights(ps.client(), table, keys) == -1).all()
