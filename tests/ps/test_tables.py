"""A table against a dictionary of float64 rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.errors import ConfigError
from weiml.ps import FTRL, SGD, Adagrad, SparseTable, TableConfig

pushes = st.lists(
    st.dictionaries(
        st.integers(0, 2**64 - 1) | st.integers(0, 10), st.floats(-1, 1, width=32), max_size=12
    ),
    max_size=8,
)


@given(pushes=pushes)
@settings(max_examples=100, deadline=None)
def test_pushes_add_up_as_in_a_dictionary(pushes: list[dict[int, float]]) -> None:
    table = SparseTable(TableConfig("t", optimizer=SGD(lr=0.5)))
    rows: dict[int, float] = {}
    touched: dict[int, int] = {}
    for sequence, push in enumerate(pushes, 1):
        keys = np.array(list(push), np.uint64)
        grads = np.array(list(push.values()), np.float32).reshape(-1, 1)
        table.push_gradients(keys, grads, sequence)
        for key, grad in push.items():
            rows[key] = rows.get(key, 0.0) - 0.5 * grad
            touched[key] = sequence
    keys = np.array([*rows, 12345], np.uint64)
    assert np.allclose(table.pull_weights(keys)[:, 0], [*rows.values(), 0.0], atol=1e-5)
    assert len(table) == len(rows)
    for since in range(len(pushes) + 1):
        changed, _ = table.changed(since)
        assert set(changed.tolist()) == {k for k, last in touched.items() if last > since}


def test_new_rows_depend_on_seed_key_and_column_only() -> None:
    config = TableConfig("t", dim=4, optimizer=Adagrad(), init_scale=0.2, seed=9)
    keys = np.random.default_rng(0).integers(0, 2**64 - 1, 4000, np.uint64)
    first = SparseTable(config).pull_weights(keys)
    again = SparseTable(config)
    again.push_gradients(keys[::-1][:3000], np.zeros((3000, 4), np.float32), 1)
    assert np.array_equal(again.pull_weights(keys), first)
    other = SparseTable(TableConfig("t", dim=4, optimizer=Adagrad(), init_scale=0.2, seed=10))
    assert (other.pull_weights(keys) != first).mean() > 0.99
    assert len(np.unique(first)) > 0.9 * first.size
    assert abs(first.mean()) < 0.005
    assert first.std() == pytest.approx(0.2, rel=0.03)
    assert np.abs(np.corrcoef(first.T) - np.eye(4)).max() < 0.06


def test_growth_keeps_rows_and_their_last_change(rng: np.random.Generator) -> None:
    table = SparseTable(TableConfig("t", dim=3, optimizer=FTRL(), init_scale=0.1))
    keys = rng.permutation(30_000).astype(np.uint64)
    grads = rng.normal(size=(30_000, 3)).astype(np.float32)
    for sequence, part in enumerate(np.array_split(np.arange(30_000), 10), 1):
        table.push_gradients(keys[part], grads[part], sequence)
    alone = SparseTable(table.config)
    alone.push_gradients(keys, grads, 1)
    assert np.array_equal(table.pull_state(keys), alone.pull_state(keys))
    assert table.changed(7)[0].tolist() == keys[21_000:].tolist()
    assert table.nbytes > 30_000 * 6 * 4


def test_repeated_keys_of_a_push_act_in_order() -> None:
    table = SparseTable(TableConfig("t", optimizer=SGD(lr=1.0)))
    keys = np.array([5, 6, 5], np.uint64)
    table.push_gradients(keys, np.array([[1], [2], [3]], np.float32), 1)
    assert table.pull_weights(keys).tolist() == [[-4.0], [-2.0], [-4.0]]
    assert len(table) == 2


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"name": "a/b"}, "'a/b'"),
        ({"name": ""}, "''"),
        ({"name": ".x"}, "not start with"),
        ({"dim": 0}, "dim"),
        ({"optimizer": "ftrl"}, "got 'ftrl'"),
        ({"init_scale": -1.0}, "init_scale"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_wrong_configuration_is_refused(fields: dict[str, object], what: str) -> None:
    good: dict[str, object] = {"name": "t", "optimizer": SGD()}
    with pytest.raises(ConfigError, match=what):
        TableConfig(**(good | fields))  # type: ignore[arg-type]
