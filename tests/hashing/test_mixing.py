"""Mixing is a bijection; ids of pairs."""

from __future__ import annotations

import numba
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weiml.hashing import cross_keys, mix64, unmix64


def test_crosses_depend_on_order_and_are_never_zero(rng: np.random.Generator) -> None:
    a = rng.integers(1, 2**63, 1000).astype(np.uint64)
    b = rng.integers(1, 2**63, 1000).astype(np.uint64)
    assert (cross_keys(a, b) != cross_keys(b, a)).all()
    assert np.unique(cross_keys(a, b)).size == 1000
    assert (cross_keys(a, b) > 0).all()


@numba.njit
def mixed_and_back(x: np.uint64) -> tuple[np.uint64, np.uint64, np.uint64]:
    return mix64(x), unmix64(mix64(x)), mix64(unmix64(x))


@given(st.integers(0, 2**64 - 1))
def test_unmixing_undoes_mixing(number: int) -> None:
    mixed, back, forth = mixed_and_back(np.uint64(number))
    assert back == forth == number
    assert mixed != number or number == 0
