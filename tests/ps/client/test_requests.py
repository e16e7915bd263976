"""The wider contract, held by both transports: deletion, statistics, functions, the wire, moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from weiml.errors import ParameterServerError
from weiml.ps import (
    ASGD,
    FTRL,
    SGD,
    Adagrad,
    Adam,
    Client,
    Cut,
    ExpiryConfig,
    GroupConfig,
    ParameterServer,
    TableConfig,
    WireConfig,
)
from weiml.ps.shard.following import apply_update, collect_update
from weiml.ps.shard.shard import Shard

Make = Callable[..., ParameterServer]
MANY = np.arange(3000, dtype=np.uint64) * 7919


def pulled(client: Client, table: str, keys: np.ndarray, what: str = "weights") -> np.ndarray:
    return np.asarray(client.pull(table, keys, what).wait())  # type: ignore[arg-type]


def ones(keys: np.ndarray, dim: int = 1) -> np.ndarray:
    return np.ones((len(keys), dim), np.float32)


def test_deleted_rows_start_anew_and_deltas_carry_their_deletion(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    client = ps.client()
    client.push(table, keys, ones(keys))
    first = client.delta(Cut.zero())
    assert first.full
    client.delete(table, keys[:2])
    client.delete(table, np.array([123456], np.uint64))  # a missing one is fine
    delta = client.delta(first.cut)
    assert not delta.full
    assert set(keys[:2].tolist()) <= set(delta.deleted[table].tolist())
    assert len(delta.tables[table][0]) == 0
    assert pulled(client, table, keys)[:, 0].tolist() == [0, 0, -1, -1, -1]
    client.push(table, keys[:1], ones(keys[:1]))
    again = client.delta(delta.cut)
    assert again.tables[table][0].tolist() == keys[:1].tolist()
    assert table not in again.deleted


def test_shows_and_clicks_are_counted_in_rows_that_keep_them(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make()
    kept = TableConfig(table, optimizer=SGD(), statistics=("count", "shows", "clicks"))
    ps.create_table(kept)
    client = ps.client()
    client.push(table, keys, ones(keys))
    client.wait(client.push_statistics(table, keys, ones(keys)[:, 0] * 3, ones(keys)[:, 0]))
    known, present, found = client.call("row_statistics", table, keys=keys).wait()
    assert sorted(known.tolist()) == sorted(keys.tolist())
    assert present.all()
    assert {name: set(values.tolist()) for name, values in found.items()} == {
        "count": {1},
        "shows": {3.0},
        "clicks": {1.0},
    }
    ps.create_table(TableConfig(f"{table}-bare", optimizer=SGD()))
    with pytest.raises(ParameterServerError, match="keeps no shows"):
        client.push_statistics(f"{table}-bare", keys, ones(keys)[:, 0], ones(keys)[:, 0])


def test_counts_and_squares_reach_the_optimizer(make: Make, table: str, keys: np.ndarray) -> None:
    ps = make()
    rule = Adam(lr=0.1)
    ps.create_table(TableConfig(table, dim=2, optimizer=rule))
    client = ps.client()
    before = pulled(client, table, keys, "state")
    grads, counts = ones(keys, 2) * 6, np.full(len(keys), 3, np.float32)
    squares = ones(keys, 2) * 12
    client.wait(client.push(table, keys, grads, counts=counts, squares=squares))
    expected = rule.update(before, grads, counts, squares)
    assert np.array_equal(pulled(client, table, keys, "state"), expected)
    assert not np.array_equal(expected, rule.update(before, grads))
    with pytest.raises(ParameterServerError, match="counts must have shape"):
        client.push(table, keys, grads, counts=counts[:2])


def test_counts_squares_and_gradients_out_of_range_are_refused(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=Adagrad()))
    client = ps.client()
    fine, bad = ones(keys), ones(keys)
    bad[2] = 1e19
    with pytest.raises(ParameterServerError, match=r"key 18446744073709551615.*too large"):
        client.push(table, keys, bad)
    with pytest.raises(ParameterServerError, match="counts must be 1 or more, got 0"):
        client.push(table, keys, fine, counts=np.zeros(5, np.float32))
    with pytest.raises(ParameterServerError, match="squares must be 0 or more, got -1"):
        client.push(table, keys, fine, squares=-fine)
    assert ps.status()["tables"][table] == 0


def test_differences_that_lower_a_sum_of_squares_are_refused(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make()
    client = ps.client()
    ps.create_table(TableConfig(f"{table}-0", dim=2, optimizer=Adagrad()))
    ps.create_table(TableConfig(f"{table}-1", dim=2, optimizer=FTRL()))
    for number in range(2):
        good = np.zeros((len(keys), 4), np.float32)
        good[:, :2] = -5
        client.push(f"{table}-{number}", keys, good, "differences").wait()
        bad = good.copy()
        bad[3, 3] = -5
        with pytest.raises(ParameterServerError, match=r"lower a sum of squares .* by 5 .*2 to 3"):
            client.push(f"{table}-{number}", keys, bad, "differences")
        assert np.isfinite(pulled(client, f"{table}-{number}", keys)).all()


@pytest.mark.parametrize("ahead", [-1, 2, 1.5])
def test_a_pull_is_for_this_tick_or_the_next(
    make: Make, table: str, keys: np.ndarray, ahead: int
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    with pytest.raises(ParameterServerError, match=f"ahead must be 0, or 1 .*got {ahead}"):
        ps.client().pull(table, keys, ahead=ahead)


def test_a_table_that_differs_is_refused_with_what_differs(make: Make, table: str) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    with pytest.raises(ParameterServerError, match=r"exists with dim = 1, not 2; use another"):
        ps.create_table(TableConfig(table, dim=2, optimizer=SGD(lr=1.0)))


def test_an_averaged_row_shows_its_average_or_what_is_trained(
    make: Make, table: str, keys: np.ndarray
) -> None:
    ps = make()
    ps.create_table(TableConfig(table, optimizer=ASGD(lr=1.0, coupling=0.0)))
    client = ps.client()
    for _ in range(3):
        client.push(table, keys, ones(keys))
    assert pulled(client, table, keys, "training")[:, 0].tolist() == [-3.0] * 5
    assert pulled(client, table, keys)[:, 0].tolist() == [-2.0] * 5  # of -1, -2 and -3


def test_dense_tables_hold_rows_by_number(make: Make, table: str) -> None:
    ps = make()
    ps.create_table(TableConfig(table, dim=2, optimizer=SGD(lr=1.0), rows=5000, init_scale=0.1))
    client = ps.client()
    rows = np.array([0, 17, 4999, 2500], np.uint64)
    before = pulled(client, table, rows)
    assert before.std() > 0
    client.wait(client.push(table, rows, ones(rows, 2)))
    np.testing.assert_allclose(pulled(client, table, rows), before - 1, rtol=1e-6)
    with pytest.raises(ParameterServerError, match=r"keys are 0 … 4999; got 5000"):
        client.pull(table, np.array([5000], np.uint64))
    with pytest.raises(ParameterServerError, match="cannot be deleted|is dense"):
        client.delete(table, rows).wait()


def test_functions_run_where_vectors_and_rows_are(
    make: Make, table: str, rng: np.random.Generator
) -> None:
    ps = make()
    client = ps.client()
    x, y = (rng.normal(size=2000).astype(np.float32) for _ in range(2))
    ps.create_vector(f"{table}-x", x)
    ps.create_vector(f"{table}-y", y)
    dot = client.call("dot", f"{table}-x", f"{table}-y").wait()
    assert dot == pytest.approx(float(x.astype(np.float64) @ y.astype(np.float64)), rel=1e-12)
    client.wait(client.call("axpy", 2.0, f"{table}-x", f"{table}-y"))
    got = np.asarray(client.pull_vector(f"{table}-y").wait())
    np.testing.assert_allclose(got, 2 * x + y, rtol=1e-6)
    with pytest.raises(ParameterServerError, match="did you mean 'axpy'"):
        client.call("axpi", 2.0, "x", "y")
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    client.push(table, MANY, ones(MANY))
    assert client.call("count_above", table, 0.5).wait() == len(MANY)


@pytest.mark.parametrize(
    "wire",
    [
        WireConfig(keys="packed", key_cache_mib=4),
        WireConfig(key_cache_mib=4),
    ],
)
def test_key_lists_that_travel_once_change_no_bit(
    make: Make, table: str, wire: WireConfig, rng: np.random.Generator
) -> None:
    ps = make()
    name = table.replace("[", "-").replace("]", "-")
    states = []
    for kind, used in (("plain", None), ("coded", wire)):
        ps.create_table(TableConfig(f"{name}-{kind}", dim=2, optimizer=Adagrad()))
        client = ps.client(wire=used)
        draws = np.random.default_rng(5)
        for _ in range(6):
            keys = np.unique(draws.choice(MANY, 800))
            draws.shuffle(keys)
            rows = pulled(client, f"{name}-{kind}", keys)
            grads = draws.normal(size=rows.shape).astype(np.float32) + rows
            client.push(f"{name}-{kind}", keys, grads)
        client.flush()
        states.append(pulled(client, f"{name}-{kind}", MANY, "state"))
    assert np.array_equal(states[0], states[1])
    assert states[0].any()


def test_what_compression_holds_back_arrives_by_the_end(make: Make, table: str) -> None:
    ps = make(staleness=None)
    ps.create_table(TableConfig(table, dim=4, optimizer=SGD(lr=1.0)))
    wire = WireConfig(push="int8", push_fraction=0.2, pull="bfloat16")
    client = ps.client(wire=wire)
    rng = np.random.default_rng(3)
    total = np.zeros((len(MANY), 4))
    for _ in range(8):
        grads = rng.normal(size=(len(MANY), 4)).astype(np.float32)
        total += grads
        client.push(table, MANY, grads)
    before = np.abs(pulled(ps.client(), table, MANY) + total).max()
    client.flush()
    after = np.abs(pulled(ps.client(), table, MANY) + total).max()
    assert before > 0.5
    assert after < 1e-4
    rounded = pulled(client, table, MANY)
    np.testing.assert_allclose(rounded, -total, rtol=2**-7, atol=1e-4)


def test_a_delta_brings_the_vectors_that_changed_and_these_whole(make: Make, table: str) -> None:
    ps = make()
    client = ps.client()
    names = [f"{table}-{name}" for name in "ab"]
    for name in names:
        ps.create_vector(name, np.arange(9, dtype=np.float32))
    cut = client.delta(Cut.zero()).cut
    assert client.delta(cut).vectors == {}
    client.push_vector(names[1], np.ones(9, np.float32))
    delta = client.delta(cut)
    assert list(delta.vectors) == names[1:]
    assert delta.vectors[names[1]].tolist() == list(range(1, 10))


def test_reads_beyond_the_bound_wait_for_the_oldest_and_none_is_lost(
    make: Make, table: str
) -> None:
    ps = make(num_workers=1, staleness=0)
    ps.create_table(TableConfig(table, optimizer=SGD(lr=1.0)))
    client = ps.client(0, wire=WireConfig(max_outstanding=4))
    client.push(table, MANY, ones(MANY))
    client.tick()
    tickets = [client.pull(table, MANY[i : i + 9]) for i in range(40)]
    for _ in range(4):
        tickets.append(client.pull(table, MANY[:9], ahead=1))
    assert client.counts["waits"] >= 36
    with pytest.raises(ParameterServerError, match="max_outstanding = 4 pulls are under way"):
        client.pull(table, MANY[:9])
    client.tick()
    assert all((np.asarray(ticket.wait()) == -1).all() for ticket in tickets)
    assert pulled(client, table, MANY[:5]).sum() == -5


def test_an_expiry_that_is_asked_again_decays_nothing_twice() -> None:
    expiry = ExpiryConfig(min_score=1.0, decay=0.5)
    config = TableConfig("t", optimizer=SGD(), statistics=("shows", "clicks"), expiry=expiry)
    shard = Shard(GroupConfig(), 0)
    shard.create_table(config)
    many = np.full(5, 300, np.float32)
    shard._sparse("t").push_gradients(MANY[:5], ones(MANY[:5]), 1)
    shard._sparse("t").push_statistics(MANY[:5], many, many, 2)
    standby = Shard(GroupConfig(), 0)
    removed = shard.expire("t", 1, 0.0, "one")
    apply_update(standby, collect_update(shard, 0, 0, copied=True))
    for each in (shard, standby):
        before = each._sparse("t").export_rows(MANY[:5])[0]
        assert each.expire("t", 1, 0.0, "one") == removed == 0
        assert (each._sparse("t").export_rows(MANY[:5])[0] == before).all()
        assert each.expire("t", 1, 0.0, "two") == 0
        assert (each._sparse("t").export_rows(MANY[:5])[0] != before).any()


def test_a_delta_across_a_move_of_buckets_brings_everything(make: Make, table: str) -> None:
    ps = make(num_shards=3, num_workers=1)
    before = ps.status()["num_shards"]
    ps.create_table(TableConfig(table, optimizer=FTRL(alpha=1.0)))
    ps.create_vector(table, np.zeros(9, np.float32))
    client = ps.client()
    client.push(table, MANY, ones(MANY))
    cut = client.delta(0 if before == 1 else Cut.zero()).cut
    ps.rescale(2 if before == 3 else 3)
    client.push(table, MANY[:5], ones(MANY[:5]))
    delta = client.delta(cut)
    assert delta.full
    assert sorted(delta.tables[table][0].tolist()) == sorted(MANY.tolist())
    assert delta.vectors[table].shape == (9,)
    assert delta.cut.total > cut.total
    next_one = client.delta(Cut.from_json(delta.cut.to_json()))
    assert next_one.num_rows == 0
    assert not next_one.full
    ps.rescale(before)
