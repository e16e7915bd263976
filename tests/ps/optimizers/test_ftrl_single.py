"""FTRL on rows of one weight against the rule for any dim, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from weiml.ps.optimizers import FTRL
from weiml.ps.optimizers.base import step_arrays
from weiml.ps.optimizers.ftrl import _apply, _read
from weiml.ps.optimizers.ftrl_single import apply_block, apply_single, read_block, read_single
from weiml.ps.optimizers.rows import matrix_addresses
from weiml.ps.rows.store import RowStore

RULE = FTRL(alpha=0.1, beta=1.0, l1=0.5, l2=0.3)


def states(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return rows (z, n) float32 (count, 2), some of them new, some within l1 of 0."""
    state = rng.standard_normal((count, 2)).astype(np.float32)
    state[:, 1] = np.abs(state[:, 1])
    state[::7] = 0
    return state


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.01])
def test_equals_the_rule_for_any_dim(count: int, share: float, rng: np.random.Generator) -> None:
    one = states(rng, count)
    other = one.copy()
    which = rng.permutation(count) % max(int(count * share), 1)  # rows repeat where share < 1
    grads = rng.standard_normal((count, 1)).astype(np.float32)
    addresses, grads, _, _ = step_arrays(matrix_addresses(one)[which], grads, None, None)
    apply_single(addresses, grads, *RULE.scalars)
    expected = step_arrays(matrix_addresses(other)[which], grads, None, None)
    _apply(*expected, *RULE.scalars, np.float32(RULE.coupling))
    assert one.tobytes() == other.tobytes()
    weights = read_single(addresses, *RULE.scalars)
    assert weights.shape == (count, 1)
    assert weights.tobytes() == _read(addresses, 1, *RULE.scalars).tobytes()


def test_visits_rows_as_it_is_called_on_them(rng: np.random.Generator) -> None:
    keys = rng.integers(0, 2**63, 3000).astype(np.uint64)
    store = RowStore(16, 2)
    addresses, _ = store.find_or_insert(keys)
    grads = rng.standard_normal((3000, 1)).astype(np.float32)
    parameters = np.array(RULE.scalars, np.float32)
    expected = RULE.update(np.zeros((3000, 2), np.float32), grads)
    assert store.visit(keys, grads, apply_block(), parameters) == 3000
    assert store.rows(addresses).tobytes() == expected.tobytes()
    out = np.empty((3000, 1), np.float32)
    assert store.visit(keys, out, read_block(), parameters) == 3000
    assert out.tobytes() == RULE.weights(expected).tobytes()


def test_the_same_gradient_twice_for_a_row_is_two_steps() -> None:
    state = np.zeros((2, 2), np.float32)
    both = matrix_addresses(state)[[0, 1, 0]]
    RULE.apply(both, np.ones((3, 1), np.float32))
    once = RULE.update(np.zeros((1, 2), np.float32), np.ones((1, 1), np.float32))
    twice = RULE.update(once, np.ones((1, 1), np.float32))
    assert (state[1] == once[0]).all()
    assert (state[0] == twice[0]).all()
