"""Compiled loops against numpy and plain Python in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from weiml.features import Batch
from weiml.models import kernels

BatchOf = Callable[..., Batch]


def cells(batch: Batch, b: int, s: int) -> range:
    at = b * len(batch.slots) + s
    return range(batch.offsets[at], batch.offsets[at + 1])


def value(batch: Batch, j: int) -> float:
    return 1.0 if batch.values is None else float(batch.values[j])


@pytest.fixture(params=[False, True], ids=["ones", "values"])
def batch(request: pytest.FixtureRequest, batch_of: BatchOf) -> Batch:
    made: Batch = batch_of(23, values=request.param)
    return made


@pytest.fixture
def rows(batch: Batch, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Five weights a row; some keys have no row."""
    weights = rng.standard_normal((12, 5)).astype(np.float32)
    positions = rng.integers(-1, 12, batch.keys.size)
    return weights, positions


def test_sigmoid_is_exact_and_never_overflows() -> None:
    x = np.array([-1e4, -88.0, -1.5, 0.0, 2.0, 1e4], np.float32)
    expected = [0.0, math.exp(-88), 1 / (1 + math.exp(1.5)), 0.5, 1 / (1 + math.exp(-2)), 1.0]
    np.testing.assert_allclose(kernels.sigmoid(x), expected, rtol=1e-6)


@pytest.mark.parametrize("mean", [False, True])
def test_pooling(batch: Batch, rows: tuple[np.ndarray, np.ndarray], mean: bool) -> None:
    weights, positions = rows
    out = np.full((len(batch), 3 * 5 + 2), np.nan, np.float32)
    kernels.pool(weights, positions, batch.values, batch.offsets, mean, out)
    for b in range(len(batch)):
        for s in range(3):
            own = cells(batch, b, s)
            total = sum(
                (
                    weights[positions[j]].astype(np.float64) * value(batch, j)
                    for j in own
                    if positions[j] >= 0
                ),
                start=np.zeros(5),
            )
            expected = total / max(len(own), 1) if mean else total
            np.testing.assert_allclose(out[b, s * 5 : s * 5 + 5], expected, atol=1e-5)
    assert np.isnan(out[:, 15:]).all(), "the columns behind belong to others"


@pytest.mark.parametrize("mean", [False, True])
def test_pooled_gradients_are_the_transpose_of_pooling(
    batch: Batch, rng: np.random.Generator, mean: bool
) -> None:
    positions = rng.integers(0, 12, batch.keys.size)
    weights = rng.standard_normal((12, 5)).astype(np.float32)
    slopes = rng.standard_normal((len(batch), 15)).astype(np.float32)
    out = np.zeros((len(batch), 15), np.float32)
    kernels.pool(weights, positions, batch.values, batch.offsets, mean, out)
    gradients = kernels.pool_gradients(slopes, positions, batch.values, batch.offsets, mean, 12, 5)
    assert np.vdot(out, slopes) == pytest.approx(np.vdot(weights, gradients), rel=1e-4)


def test_linear_sums_and_their_gradients(
    batch: Batch, rows: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> None:
    weights, positions = rows
    starts = batch.offsets[::3]
    sums = kernels.linear_sums(weights[:, :1].copy(), positions, batch.values, starts)
    for b in range(len(batch)):
        expected = sum(
            float(weights[positions[j], 0]) * value(batch, j)
            for j in range(starts[b], starts[b + 1])
            if positions[j] >= 0
        )
        assert sums[b] == pytest.approx(expected, abs=1e-5)
    known = np.maximum(positions, 0)
    slopes = rng.standard_normal(len(batch)).astype(np.float32)
    gradients = kernels.linear_gradients(slopes, known, batch.values, starts, 12)
    sums = kernels.linear_sums(weights[:, :1].copy(), known, batch.values, starts)
    assert np.vdot(sums, slopes) == pytest.approx(np.vdot(weights[:, :1], gradients), rel=1e-4)


def test_key_counts() -> None:
    counts = kernels.key_counts(np.array([2, 0, 2, 2], np.int32), 4)
    assert counts.tolist() == [1, 0, 3, 0]
