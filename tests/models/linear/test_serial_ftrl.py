"""The pass in vectors equals the plain algorithm to the bit, and the paper's in float64."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest

from weiml.models.linear.serial_ftrl import (
    OthersShare,
    ftrl_pass,
    joint_differences,
    row_addresses,
    settling_count,
)
from weiml.ps.kernels import ftrl_step, ftrl_weight
from weiml.ps.rows.store import RowStore

SCALARS = tuple(np.float32(v) for v in (0.1, 1.0, 0.2, 0.5))
NUM_ROWS = 40


def examples(rng: np.random.Generator, count: int = 300, longest: int = 30) -> dict[str, Any]:
    """Return examples over rows 0 … 2 of their own and rows of keys, many of them repeated."""
    lengths = rng.integers(0, longest + 1, count)
    nnz = int(lengths.sum())
    return {
        "positions": rng.integers(0, NUM_ROWS, nnz).astype(np.int32),
        "dense": rng.standard_normal((count, 2)).astype(np.float32),
        "values": rng.uniform(-2, 2, nnz).astype(np.float32),
        "starts": np.concatenate([[0], np.cumsum(lengths)]),
        "labels": rng.integers(0, 2, count).astype(np.float32),
        "example_weights": rng.uniform(0.5, 2, count).astype(np.float32),
    }


def run(own: np.ndarray, rows: np.ndarray, given: dict[str, Any]) -> float:
    return float(ftrl_pass(own, rows, *given.values(), *SCALARS))


def run_on_copies(given: dict[str, Any]) -> tuple[np.ndarray, float]:
    state = np.zeros((3 + NUM_ROWS, 2), np.float32)
    at = row_addresses(state)
    loss = run(at[:3], at[3:], given)
    return state, loss


@numba.njit
def one_by_one(
    state: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    label: np.float32,
    weight: np.float32,
    alpha: np.float32,
    beta: np.float32,
    l1: np.float32,
    l2: np.float32,
) -> float:
    """Train on one example, row by row."""
    one, zero = np.float32(1), np.float32(0)
    before = np.empty(rows.size, np.float32)
    logit = zero
    for j in range(rows.size):
        before[j] = ftrl_weight(state[rows[j], 0], state[rows[j], 1], alpha, beta, l1, l2)
        logit += before[j] * values[j]
    e = math.exp(-abs(logit))
    p = one / (one + e) if logit >= zero else e / (one + e)
    for j in range(rows.size):
        g = (p - label) * weight * values[j]
        z, n = ftrl_step(state[rows[j], 0], state[rows[j], 1], before[j], g, alpha)
        state[rows[j], 0] = z
        state[rows[j], 1] = n
    return float(weight * (max(logit, zero) - label * logit + math.log1p(e)))


def as_lists(given: dict[str, Any]) -> list[tuple[np.ndarray, np.ndarray, float, float]]:
    """Return (rows, values, label, weight) of each example, its own rows first."""
    found = []
    for b, label in enumerate(given["labels"]):
        keys = slice(given["starts"][b], given["starts"][b + 1])
        rows = np.concatenate([[0, 1, 2], 3 + given["positions"][keys]])
        values = np.concatenate([[1], given["dense"][b], given["values"][keys]])
        found.append((rows, values.astype(np.float32), label, given["example_weights"][b]))
    return found


def test_every_bit_is_that_of_one_row_after_the_other(rng: np.random.Generator) -> None:
    given = examples(rng)
    expected = np.zeros((3 + NUM_ROWS, 2), np.float32)
    losses = [one_by_one(expected, *example, *SCALARS) for example in as_lists(given)]
    state, loss = run_on_copies(given)
    np.testing.assert_array_equal(state, expected)
    assert state[3:].any(axis=1).all()
    assert loss == pytest.approx(sum(losses), rel=1e-9)


def test_it_is_the_papers_algorithm(rng: np.random.Generator) -> None:
    given = examples(rng, 60, 6)
    state, loss = run_on_copies(given)
    expected = np.zeros((3 + NUM_ROWS, 2))
    expected_loss = 0.0
    for rows, values, label, weight in as_lists(given):
        w = {}
        for row in rows:
            z, n = expected[row]
            shrunk = z - math.copysign(0.2, z)
            w[row] = 0.0 if abs(z) <= 0.2 else -shrunk / ((1 + math.sqrt(n)) / 0.1 + 0.5)
        logit = sum(w[row] * float(x) for row, x in zip(rows, values, strict=True))
        p = 1 / (1 + math.exp(-logit))
        expected_loss -= weight * (label * math.log(p) + (1 - label) * math.log(1 - p))
        for row, x in zip(rows, values, strict=True):
            g = (p - label) * weight * float(x)
            z, n = expected[row]
            sigma = (math.sqrt(n + g * g) - math.sqrt(n)) / 0.1
            expected[row] = z + g - sigma * w[row], n + g * g
    np.testing.assert_allclose(state, expected, rtol=1e-3, atol=1e-4)
    assert loss == pytest.approx(expected_loss, rel=1e-4)


def test_rows_of_a_store_train_in_place(rng: np.random.Generator) -> None:
    given = examples(rng)
    state, loss = run_on_copies(given)
    store = RowStore(4, 2)
    at, _ = store.find_or_insert(rng.permutation(3 + NUM_ROWS).astype(np.uint64))
    assert run(at[:3], at[3:], given) == loss
    np.testing.assert_array_equal(store.rows(at).view(np.float32), state)


def test_values_of_one_may_be_left_out(rng: np.random.Generator) -> None:
    given = examples(rng)
    ones = run_on_copies(given | {"values": np.ones_like(given["values"])})
    none = run_on_copies(given | {"values": None})
    np.testing.assert_array_equal(ones[0], none[0])
    assert ones[1] == none[1]


def test_a_key_may_have_the_row_of_the_bias(rng: np.random.Generator) -> None:
    given = examples(rng, 50, 5)
    state = np.zeros((3, 2), np.float32)
    at = row_addresses(state)
    run(at, np.repeat(at[:1], NUM_ROWS), given)
    expected = np.zeros((3, 2), np.float32)
    for rows, values, label, weight in as_lists(given):
        one_by_one(expected, np.where(rows < 3, rows, 0), values, label, weight, *SCALARS)
    np.testing.assert_array_equal(state, expected)


def test_no_examples_change_nothing(rng: np.random.Generator) -> None:
    state, loss = run_on_copies(examples(rng, 0))
    assert loss == 0
    assert not state.any()


def trained(rng: np.random.Generator, rows: int = 50) -> tuple[np.ndarray, np.ndarray]:
    before = np.stack([rng.standard_normal(rows) * 3, rng.uniform(0, 50, rows)], axis=1)
    grown = np.stack([rng.standard_normal(rows), rng.uniform(0, 20, rows)], axis=1)
    return before.astype(np.float32), (before + grown).astype(np.float32)


def weight_of(row: np.ndarray) -> float:
    return float(ftrl_weight(np.float32(row[0]), np.float32(row[1]), *SCALARS))


def pushed(before: np.ndarray, after: np.ndarray, counts: np.ndarray, workers: int) -> np.ndarray:
    """Return what a worker pushes that takes all workers to have the rows alike."""
    others = np.full(len(before), workers - 1, np.float32)
    settling = np.float32(settling_count(0.1, workers))
    return np.asarray(joint_differences(before, after, counts, others, settling, *SCALARS))


@pytest.mark.parametrize("workers", [2, 5])
def test_joint_differences_are_what_the_equation_says(
    workers: int, rng: np.random.Generator
) -> None:
    before, after = trained(rng)
    counts = rng.integers(0, 1000, len(before))
    found = pushed(before, after, counts, workers)
    alpha = 0.1
    for i, ((z, n), (new_z, new_n)) in enumerate(
        zip(before.astype(float).tolist(), after.astype(float).tolist(), strict=True)
    ):
        repeats = max(int(counts[i]) - 1, 0)
        others = (workers - 1) * repeats / (repeats + 240 / alpha / workers**1.5)
        if weight_of(before[i]) == weight_of(after[i]) == 0:
            others = 0.0
        joint_n = n + (1 + others) * (new_n - n)
        drift = weight_of(after[i]) * (math.sqrt(joint_n) - math.sqrt(new_n)) / alpha
        expected = ((new_z - drift - z) / (1 + others), new_n - n)
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-4)


def test_keys_that_occur_once_are_pushed_as_they_changed(rng: np.random.Generator) -> None:
    before, after = trained(rng)
    found = pushed(before, after, np.ones(len(before), int), 4)
    np.testing.assert_array_equal(found, after - before)


def test_weights_that_stay_zero_are_pushed_as_they_changed() -> None:
    before = np.array([[0.0, 4.0], [0.1, 4.0]], np.float32)
    after = np.array([[0.15, 9.0], [-0.15, 9.0]], np.float32)  # l1 is 0.2
    found = pushed(before, after, np.array([10**6, 10**6]), 16)
    np.testing.assert_array_equal(found, after - before)


def test_what_all_workers_found_alike_stays_where_each_found_it(rng: np.random.Generator) -> None:
    before, after = trained(rng)
    workers = 8
    found = pushed(before, after, np.full(len(before), 10**6), workers)
    together = before + workers * found
    plainly = before + workers * (after - before)
    moved = 0
    for i in range(len(before)):
        there, apart = weight_of(after[i]), weight_of(before[i])
        assert together[i, 1] == pytest.approx(plainly[i, 1], rel=1e-6)
        if there or apart:
            moved += 1
            assert abs(weight_of(together[i]) - there) <= 0.1 * abs(there - apart) + 0.02
    assert moved > 20
    far = np.abs([weight_of(p) - weight_of(a) for p, a in zip(plainly, after, strict=True)])
    assert far.max() > 0.2  # the sum of plain differences does go beyond


def test_few_occurrences_settle_nothing_however_many_workers_there_are() -> None:
    assert settling_count(0.1, 2) == pytest.approx(240 / 0.1 / 2**1.5)
    assert settling_count(10.0, 64) == 30


def test_others_share_is_told_from_what_rows_have_more_than_they_were_left_with() -> None:
    others = OthersShare(4)
    keys = np.array([9, 5, 7], np.uint64)
    n = np.array([10.0, 20.0, 30.0])
    shares = []
    for step in range(12):
        before = np.stack([np.zeros(3), n], axis=1).astype(np.float32)
        after = before + np.array([0, 2], np.float32)
        order = np.random.default_rng(step).permutation(3)
        share = np.empty(3, np.float32)
        share[order] = others.observe(keys[order], before[order], after[order])
        shares.append(share)
        n += [2, 2 + 6, 2 + 2]  # alone; with three others alike; with one of them
    np.testing.assert_array_equal(shares[0], [3, 3, 3])
    np.testing.assert_allclose(shares[-1], [0, 3, 1], atol=0.01)
    assert others.observe(np.empty(0, np.uint64), before[:0], after[:0]).size == 0


def test_a_key_that_only_one_worker_has_is_held_back_in_its_first_batch_only(
    rng: np.random.Generator,
) -> None:
    scalars = tuple(np.float32(v) for v in (0.1, 1.0, 0.0, 0.0))
    count, workers = 4096, 8
    nothing = np.empty(0, np.int64)
    others = OthersShare(workers)
    row = np.zeros((1, 2), np.float32)
    found = []
    for _ in range(8):
        labels = (rng.random(count) < 0.05).astype(np.float32)
        after = row.copy()
        ftrl_pass(
            row_addresses(after),
            nothing,
            np.empty(0, np.int32),
            np.empty((count, 0), np.float32),
            None,
            np.zeros(count + 1, np.int64),
            labels,
            np.ones(count, np.float32),
            *scalars,
        )
        share = others.observe(np.array([7], np.uint64), row, after)
        settling = np.float32(settling_count(0.1, workers))
        row = row + joint_differences(row, after, np.array([count]), share, settling, *scalars)
        found.append(float(ftrl_weight(row[0, 0], row[0, 1], *scalars)))
    assert abs(found[0] - math.log(0.05 / 0.95)) > 1  # it is taken that the others move it too
    assert found[-1] == pytest.approx(math.log(0.05 / 0.95), abs=0.3)
