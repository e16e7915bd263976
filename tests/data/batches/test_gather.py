"""Picking examples from parts equals joining the parts and taking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.batches.gather import Gatherer, has_one_key
from weiml.errors import DataError
from weiml.features import Batch


def batch_of(
    rng: np.random.Generator, B: int, S: int, D: int, T: int, *, ragged: bool, valued: bool
) -> Batch:
    lengths = rng.integers(0, 4, B * S) if ragged else np.ones(B * S, np.int64)
    nnz = int(lengths.sum())
    return Batch(
        labels=rng.random((B, T), np.float32),
        weights=rng.random(B, np.float32),
        dense=rng.random((B, D), np.float32),
        keys=rng.integers(1, 2**64, nnz, np.uint64),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        values=rng.random(nnz, np.float32) if valued else None,
        groups=rng.integers(0, 2**64, B, np.uint64),
        items=rng.integers(0, 2**64, B, np.uint64),
        times=rng.integers(-(2**63), 2**63, B, np.int64),
        slots=tuple(f"s{s}" for s in range(S)),
        dense_names=tuple(f"d{d}" for d in range(D)),
    )


def assert_same(got: Batch, expected: Batch) -> None:
    got.validate()
    for name in ("labels", "weights", "dense", "keys", "offsets", "groups", "items", "times"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), name)
    assert (got.values is None) == (expected.values is None)
    if got.values is not None:
        np.testing.assert_array_equal(got.values, expected.values)


@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    shape=st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(1, 3)),
    ragged=st.lists(st.booleans(), min_size=4, max_size=4),
    valued=st.lists(st.booleans(), min_size=4, max_size=4),
    count=st.integers(0, 100),
)
def test_picking_is_joining_and_taking(
    seed: int,
    sizes: list[int],
    shape: tuple[int, int, int],
    ragged: list[bool],
    valued: list[bool],
    count: int,
) -> None:
    rng = np.random.default_rng(seed)
    S, D, T = shape
    parts = [
        batch_of(rng, B, S, D, T, ragged=ragged[i], valued=valued[i]) for i, B in enumerate(sizes)
    ]
    total = sum(sizes)
    indices = rng.integers(0, total, count if total else 0)
    pick = Gatherer(parts)
    assert pick.num_examples == total
    assert_same(pick.take(indices), Batch.concat(parts).take(indices))
    assert_same(pick.take(np.arange(total)), Batch.concat(parts))


def test_slices_are_picked_from_too() -> None:
    rng = np.random.default_rng(1)
    whole = batch_of(rng, 50, 3, 2, 1, ragged=True, valued=False)
    parts = [whole.slice(10, 30), whole.slice(30, 45)]
    order = rng.permutation(35)
    assert_same(Gatherer(parts).take(order), whole.take(order + 10))


@pytest.mark.parametrize(("ragged", "expected"), [(False, True), (True, False)])
def test_one_key_an_example_is_noticed(ragged: bool, expected: bool) -> None:
    batch = batch_of(np.random.default_rng(0), 20, 3, 0, 1, ragged=ragged, valued=False)
    assert has_one_key(batch) is expected


def test_as_many_keys_as_cells_but_not_one_each() -> None:
    rng = np.random.default_rng(0)
    batch = batch_of(rng, 2, 2, 0, 1, ragged=False, valued=False)
    batch.offsets[1] = 2
    assert not has_one_key(batch)
    assert_same(Gatherer([batch]).take(np.array([1, 0])), batch.take(np.array([1, 0])))


def test_a_part_without_examples_does_not_say_how_many_labels_there_are() -> None:
    rng = np.random.default_rng(2)
    full = batch_of(rng, 6, 2, 1, 3, ragged=True, valued=False)
    empty = Batch.from_arrow(full.slice(0, 0).to_arrow())
    assert empty.labels.shape == (0, 1), "a table of no examples does not keep it"
    order = rng.permutation(6)
    assert_same(Gatherer([empty, full, empty]).take(order), full.take(order))


def test_what_cannot_be_picked() -> None:
    rng = np.random.default_rng(0)
    one = batch_of(rng, 5, 2, 1, 1, ragged=False, valued=False)
    with pytest.raises(DataError, match="got none"):
        Gatherer([])
    with pytest.raises(DataError, match="different columns"):
        Gatherer([one, batch_of(rng, 5, 3, 1, 1, ragged=False, valued=False)])
    wide = batch_of(rng, 5, 2, 1, 2, ragged=False, valued=False)
    with pytest.raises(DataError, match=r"labels float32 \(n, 2\) and float32 \(n, 1\)"):
        Gatherer([wide, one])
    with pytest.raises(DataError, match=r"dense float32 \(n, 1\) and float64 \(n, 1\)"):
        Gatherer([one, replace(one, dense=one.dense.astype(np.float64))])
    for indices in ([5], [-1]):
        with pytest.raises(DataError, match="numbered 0 to 4"):
            Gatherer([one]).take(np.array(indices))
