"""The hinge loss by FTRL, against plain float64, and what its scores are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.svm import LinearSVC

from weiml.models import LinearSVMConfig, Rows, pulled
from weiml.models.checks import Trained, example_batch, trained
from weiml.models.linear.serial_ftrl import ftrl_pass, row_addresses
from weiml.ps import FTRL, unique_keys

ALPHA, BETA, L1, L2 = SCALARS = (0.3, 1.0, 0.05, 0.5)
KEYS = 12


def weight(z: float, n: float) -> float:
    if abs(z) <= L1:
        return 0.0
    return -(z - math.copysign(L1, z)) / ((BETA + math.sqrt(n)) / ALPHA + L2)


def plain(given: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Train example by example in float64: the bias, then the keys."""
    state = np.zeros((1 + KEYS, 2))
    total = 0.0
    for b, label in enumerate(given["labels"]):
        own = slice(given["starts"][b], given["starts"][b + 1])
        rows = [0, *(1 + given["positions"][own])]
        x = [1.0, *given["values"][own].astype(float)]
        before = [weight(*state[row]) for row in rows]
        t = 2.0 * label - 1.0
        short = 1.0 - t * sum(w * v for w, v in zip(before, x, strict=True))
        if short <= 0:
            continue
        total += float(given["example_weights"][b]) * short
        for row, w, v in zip(rows, before, x, strict=True):
            g = -t * v * float(given["example_weights"][b])
            n = state[row, 1] + g * g
            state[row, 0] += g - (math.sqrt(n) - math.sqrt(state[row, 1])) / ALPHA * w
            state[row, 1] = n
    return state, total


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_pass_is_the_plain_algorithm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 5, 40)
    # Distinct keys of an example: a row that stands twice in one steps twice.
    places = [rng.choice(KEYS, length, replace=False) for length in lengths]
    given = {
        "positions": np.concatenate(places).astype(np.int32),
        "dense": np.empty((40, 0), np.float32),
        "values": rng.uniform(-2, 2, lengths.sum()).astype(np.float32),
        "starts": np.concatenate([[0], np.cumsum(lengths)]),
        "labels": rng.integers(0, 2, 40).astype(np.float32),
        "example_weights": rng.uniform(0, 2, 40).astype(np.float32),
    }
    state = np.zeros((1 + KEYS, 2), np.float32)
    at = row_addresses(state)
    loss = ftrl_pass(at[:1], at[1:], *given.values(), *map(np.float32, SCALARS), True)
    expected, total = plain(given)
    np.testing.assert_allclose(state, expected, rtol=2e-3, atol=2e-3)
    assert math.isclose(loss, total, rel_tol=1e-3, abs_tol=1e-3)


def margins(made: Trained, batch: Any) -> np.ndarray:
    [(name, keys)] = made.model.keys(batch).items()
    distinct, positions = unique_keys(keys)
    rows = Rows(pulled(made.client, made.client.pull(name, distinct)), positions)
    return made.model.logits(batch, {name: rows})


def test_scores_order_as_margins_do_and_lie_between_0_and_1() -> None:
    made = trained(LinearSVMConfig(), [example_batch(500, seed) for seed in range(10)])
    batch = example_batch(300, 99)
    scores, margin = made.score(batch)[:, 0], margins(made, batch)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-margin.astype(float))), rtol=1e-5)
    assert (np.diff(scores[np.argsort(margin)]) >= 0).all()


def test_it_finds_the_margin_that_liblinear_finds() -> None:
    batch = example_batch(400, 3)
    made = trained(LinearSVMConfig(optimizer=FTRL(alpha=0.1, l2=1.0)), [batch] * 300)
    distinct, positions = unique_keys(batch.keys)
    x = np.zeros((400, len(distinct) + 2))
    owner = np.repeat(np.arange(400), np.diff(batch.offsets[::4]))
    np.add.at(x, (owner, positions), 1.0)
    x[:, -2:] = batch.dense
    reference = LinearSVC(loss="hinge", C=1.0, max_iter=200_000, intercept_scaling=1.0)
    reference.fit(x, batch.labels[:, 0], batch.weights)
    t = 2 * batch.labels[:, 0] - 1

    def objective(margin: np.ndarray, norm: float) -> float:
        return norm / 2 + float((batch.weights * np.maximum(0, 1 - t * margin)).sum())

    (_, weights) = made.weights()["linear"]
    ours = objective(margins(made, batch), float((weights**2).sum()))
    norm = float((reference.coef_**2).sum() + (reference.intercept_**2).sum())
    best = objective(reference.decision_function(x), norm)
    assert ours < best * 1.01
