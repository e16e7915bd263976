"""Each rule against the same equations in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ps.optimizers.references import RULES, Push, Row
from weiml.ps.optimizers import Optimizer


def gradients(seed: int, pushes: int, dim: int, scale: float, most: int) -> list[Push]:
    """Return what some batches say of one row: noise about a drifting mean, 1 … most examples."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=dim) * scale
    return [
        Push((mean + rng.normal(size=(rng.integers(1, most + 1), dim)) * scale).astype(np.float32))
        for _ in range(pushes)
    ]


def close(got: np.ndarray, expected: np.ndarray, moved: float) -> bool:
    """Whether float32 sums came as near as they can; `moved` is the way that the weights went."""
    assert got.dtype == np.float32
    return bool(np.allclose(got, expected, rtol=1e-4, atol=2e-5 * (0.1 + moved)))


histories = st.tuples(
    st.integers(0, 2**32), st.integers(1, 25), st.integers(1, 8), st.sampled_from([0.01, 0.3, 3.0])
)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(history=histories)
@settings(max_examples=20)
def test_a_rule_follows_its_equations(
    rule: Optimizer, history: tuple[int, int, int, float]
) -> None:
    pushes = gradients(*history, most=1)
    row = Row(rule, np.zeros(history[2]))
    state = rule.initial_state(np.zeros((1, history[2]), np.float32))
    moved = 0.0
    for push in pushes:
        before = row.w
        row.push(push.grad.astype(np.float64), 1.0, push.grad.astype(np.float64) ** 2)
        state = rule.update(state, push.grad[None].astype(np.float32))
        moved += float(np.abs(row.w - before).max())
        assert close(rule.weights(state)[0], row.served, moved)
        assert close(rule.training_weights(state)[0], row.w, moved)


@pytest.mark.parametrize("with_squares", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(history=histories)
@settings(max_examples=20)
def test_many_examples_at_once_follow_the_equations_for_them(
    rule: Optimizer, with_squares: bool, history: tuple[int, int, int, float]
) -> None:
    pushes = gradients(*history, most=40)
    row = Row(rule, np.zeros(history[2]))
    state = rule.initial_state(np.zeros((1, history[2]), np.float32))
    moved = 0.0
    for push in pushes:
        before = row.w
        grad = push.grad.astype(np.float32)
        squares = push.squares.astype(np.float32) if with_squares else None
        state = rule.update(
            state,
            grad[None],
            np.array([push.count], np.float32),
            None if squares is None else squares[None],
        )
        exact = grad.astype(np.float64)
        q = exact**2 / push.count if squares is None else squares.astype(np.float64)
        row.push(exact, push.count, np.maximum(q, exact**2 / push.count))
        moved += float(np.abs(row.w - before).max())
        assert close(rule.weights(state)[0], row.served, moved)
        assert close(rule.training_weights(state)[0], row.w, moved)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.adds], ids=repr)
def test_rows_that_start_away_from_zero_follow_the_equations_too(rule: Optimizer) -> None:
    weights = np.array([[0.5, -0.25, 0.0], [1e-3, -2.0, 3.0]], np.float32)
    state = rule.initial_state(weights)
    assert state.shape == (2, rule.width(3))
    assert np.allclose(rule.weights(state), weights, rtol=1e-5, atol=1e-7)
    assert np.allclose(rule.training_weights(state), weights, rtol=1e-5, atol=1e-7)
    grads = np.full((2, 3), 0.5, np.float32)
    after = rule.training_weights(rule.update(state, grads))
    # The gradients of FTRL's first step move z by g + sigma |w|, all other rules' by what they do
    # to a row that starts at zero.
    fresh = rule.update(rule.initial_state(np.zeros((2, 3), np.float32)), grads)
    if rule.stores_weights and rule.name != "adamw":
        assert np.allclose(after - weights, rule.training_weights(fresh), rtol=1e-3, atol=1e-6)
    assert (after < weights + 1e-7).all()
