"""The loops over dot products give the direction of the loops over vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weiml.train.solvers import SolverVectors
from weiml.train.solvers.two_loops import History, direction_coefficients


def classic(s: list[np.ndarray], y: list[np.ndarray], g: np.ndarray) -> np.ndarray:
    """Nocedal and Wright, algorithm 7.4, on vectors."""
    q, alphas = g.copy(), []
    for a, b in zip(reversed(s), reversed(y), strict=True):
        alphas.append(a @ q / (a @ b))
        q -= alphas[-1] * b
    if s:
        q *= s[-1] @ y[-1] / (y[-1] @ y[-1])
    for a, b, alpha in zip(s, y, reversed(alphas), strict=True):
        q += (alpha - b @ q / (a @ b)) * a
    return -q


def pairs(m: int, length: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(length, length))
    hessian = root @ root.T / length + np.eye(length)
    s = [rng.normal(size=length).astype(np.float32).astype(np.float64) for _ in range(m)]
    y = [(hessian @ a).astype(np.float32).astype(np.float64) for a in s]
    return s, y, rng.normal(size=length).astype(np.float32).astype(np.float64)


@given(m=st.integers(0, 8), length=st.integers(1, 40), seed=st.integers(0, 999))
def test_without_vectors_as_with_them(m: int, length: int, seed: int) -> None:
    s, y, g = pairs(m, length, seed)
    stack = np.array([*s, *y, g])
    found = direction_coefficients(stack @ stack.T) @ stack
    expected = classic(s, y, g)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


def test_a_ring_of_pairs_keeps_the_last_ones(
    vectors_of: Callable[..., SolverVectors],
) -> None:
    s, y, g = pairs(7, 30, 1)
    vectors = vectors_of(np.zeros(30))
    vectors.create("g", "d")
    vectors.assign(g, "g")
    history = History(vectors, 3)
    for count in range(8):
        history.direction("g", "d")
        kept = slice(max(0, count - 3), count)
        expected = classic(s[kept], y[kept], g)
        np.testing.assert_allclose(vectors.pull("d"), expected, rtol=2e-5, atol=1e-5)
        # Asked for anew, as after a saved state, the products have the same bits.
        vectors.create("again")
        History(vectors, 3, history.order).direction("g", "again")
        np.testing.assert_array_equal(vectors.pull("again"), vectors.pull("d"))
        if count < 7:
            for name, values in zip(history.spare(), (s[count], y[count]), strict=True):
                vectors.assign(values, name)
            history.keep()
    history.clear()
    history.direction("g", "d")
    np.testing.assert_array_equal(vectors.pull("d"), -g)
