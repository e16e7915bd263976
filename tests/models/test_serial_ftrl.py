"""The pass in vectors equals the plain algorithm to the bit, and the paper's in float64."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest

from weiml.models.serial_ftrl import ftrl_pass, row_addresses
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
