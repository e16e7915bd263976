"""That big batches with hot keys converge like small ones, once examples are counted."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ps.optimizers.references import RULES
from weiml.ps.optimizers import (
    ASGD,
    FTRL,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    GroupFTRL,
    Momentum,
    Optimizer,
    RMSProp,
)
from weiml.ps.optimizers.rows import matrix_addresses

SLOTS, PER_SLOT, EXAMPLES, HELD_OUT = 3, 300, 65_536, 16_384
KEYS = SLOTS * PER_SLOT + 1  # and a bias, which every example holds
Told: TypeAlias = Literal["sum", "counts", "squares"]


def coupling(rule: Any) -> float:
    return float(getattr(rule, "coupling", 0.0))


@cache
def click_log() -> tuple[np.ndarray, np.ndarray]:
    """Return keys (examples, slots and bias), Zipf by slot, and labels of a true linear model."""
    rng = np.random.default_rng(12)
    odds = 1 / np.arange(1, PER_SLOT + 1) ** 1.1
    odds /= odds.sum()
    count = EXAMPLES + HELD_OUT
    slots = [rng.choice(PER_SLOT, count, p=odds) + s * PER_SLOT for s in range(SLOTS)]
    keys = np.stack([*slots, np.full(count, KEYS - 1)], axis=1)
    weights = rng.normal(0, 0.8, KEYS)
    weights[-1] = -1.5
    chances = 1 / (1 + np.exp(-weights[keys].sum(axis=1)))
    return keys, (rng.random(count) < chances).astype(np.float64)


def log_loss(weights: np.ndarray, keys: np.ndarray, labels: np.ndarray) -> float:
    logits = weights[keys].sum(axis=1)
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def train(rule: Optimizer, batch: int, told: Told) -> float:
    """Train one pass of logistic regression; return the log-loss of the served weights."""
    keys, labels = click_log()
    state = rule.initial_state(np.zeros((KEYS, 1), np.float32))
    rows = matrix_addresses(state)
    for first in range(0, EXAMPLES, batch):
        some, truth = keys[first : first + batch], labels[first : first + batch]
        weights = rule.training_weights(state)[:, 0].astype(np.float64)
        slopes = 1 / (1 + np.exp(-np.clip(weights[some].sum(axis=1), -500, 500))) - truth
        slopes_of_keys = np.repeat(slopes, some.shape[1])
        counts = np.bincount(some.ravel(), minlength=KEYS)
        grads = np.bincount(some.ravel(), slopes_of_keys, KEYS)
        squares = np.bincount(some.ravel(), slopes_of_keys**2, KEYS)
        hit = np.flatnonzero(counts)
        push: list[Any] = [grads[hit, None]]
        if told != "sum":
            push.append(counts[hit])
        if told == "squares":
            push.append(squares[hit, None])
        rule.apply(rows[hit], *(array.astype(np.float32) for array in push))
    return log_loss(
        rule.weights(state)[:, 0].astype(np.float64), keys[EXAMPLES:], labels[EXAMPLES:]
    )


LEARNERS: list[Optimizer] = [
    SGD(lr=0.05),
    Momentum(lr=0.005),
    Momentum(lr=0.005, nesterov=True),
    Adagrad(lr=0.1),
    RMSProp(lr=0.005),
    Adam(lr=0.005),
    AdamW(lr=0.005),
    FTRL(alpha=0.1),
    GroupFTRL(alpha=0.1, l21=0.5),
    ASGD(lr=0.05, forget=2),
]


@pytest.mark.parametrize("rule", LEARNERS, ids=repr)
def test_big_batches_learn_like_small_ones_when_examples_are_counted(rule: Optimizer) -> None:
    small = train(rule, 16, "sum")
    summed = train(rule, 4096, "sum")
    counted = train(rule, 4096, "squares")
    # Guessing the share of clicks gives 0.48, the true weights 0.33. What the sum loses is 0.05 for
    # the rules whose rates adapt and without bound for the others.
    assert 0.33 < small < 0.352
    assert counted < small + 0.021
    assert summed > small + 0.045
    assert counted - small < 0.5 * (summed - small)


@pytest.mark.parametrize("rule", [SGD(lr=0.05), Adagrad(lr=0.1), Adam(lr=0.005)], ids=repr)
def test_counting_changes_little_where_batches_are_small(rule: Optimizer) -> None:
    assert train(rule, 16, "squares") == pytest.approx(train(rule, 16, "sum"), abs=0.002)


@pytest.mark.parametrize("rule", [SGD(lr=0.05), Momentum(lr=0.005), Adam(lr=0.005)], ids=repr)
def test_without_coupling_all_keys_overshoot_together(rule: Any) -> None:
    """The squares alone do not do it: frozen steps go too far, one key's and all keys'."""
    assert train(replace(rule, coupling=0.0), 4096, "squares") > 1.0
    assert train(replace(rule, coupling=4.0), 4096, "squares") < 0.36


@pytest.mark.parametrize("rule", [rule for rule in RULES if coupling(rule)], ids=repr)
@given(
    count=st.integers(2, 10_000),
    mean=st.floats(-1, 1, width=32),
    spread=st.floats(0, 1, width=32),
)
def test_however_many_examples_move_a_weight_by_a_share_of_a_newton_step_at_most(
    rule: Optimizer, count: int, mean: float, spread: float
) -> None:
    """Newton's step is G / Q, by Fisher's estimate of the curvature, Q / c."""
    mean_square = mean * mean + spread * spread + 1e-6
    state = rule.update(
        rule.initial_state(np.zeros((1, 1), np.float32)),
        np.array([[mean * count]], np.float32),
        np.array([count], np.float32),
        np.array([[mean_square * count]], np.float32),
    )
    moved = abs(float(rule.training_weights(state)[0, 0]))
    newton = abs(mean) / mean_square
    assert moved <= newton / coupling(rule) * count / (count - 1) * 1.001


@pytest.mark.parametrize(
    "rule",
    [
        SGD(lr=0.1, coupling=0.0),
        Momentum(lr=0.1, coupling=0.0),
        Momentum(lr=0.1, nesterov=True, coupling=0.0),
        ASGD(lr=0.1, coupling=0.0),
        ASGD(lr=0.1, start=4, coupling=0.0),
    ],
    ids=repr,
)
@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_without_coupling_c_examples_are_exactly_c_steps_with_their_mean(
    rule: Optimizer, counts: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    at_once = one_by_one = rule.initial_state(np.zeros((1, 2), np.float32))
    for count in counts:
        mean = rng.normal(size=(1, 2)).astype(np.float32)
        at_once = rule.update(at_once, mean * np.float32(count), np.array([count], np.float32))
        for _ in range(count):
            one_by_one = rule.update(one_by_one, mean)
    np.testing.assert_allclose(at_once, one_by_one, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("rule", [RMSProp(coupling=0.0), Adam(coupling=0.0)], ids=repr)
def test_without_coupling_averages_forget_as_in_c_steps(rule: Any) -> None:
    """All of the state but the weight, whose rate is that of the last step."""
    rng = np.random.default_rng(13)
    at_once = one_by_one = rule.initial_state(np.zeros((1, 3), np.float32))
    for count in (1, 7, 2, 40):
        mean = rng.normal(size=(1, 3)).astype(np.float32)
        at_once = rule.update(at_once, mean * np.float32(count), np.array([count], np.float32))
        for _ in range(count):
            one_by_one = rule.update(one_by_one, mean)
    np.testing.assert_allclose(at_once[:, 3:], one_by_one[:, 3:], rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_sum_of_squares_that_lost_its_bits_does_no_harm(rule: Optimizer) -> None:
    """It counts as what it is at least, (sum of gradients)² / count."""
    state = rule.initial_state(np.zeros((1, 2), np.float32))
    grads, counts = np.array([[3.0, -0.1]], np.float32), np.array([5.0], np.float32)
    lost = rule.update(state, grads, counts, np.zeros((1, 2), np.float32))
    assert np.array_equal(lost, rule.update(state, grads, counts))
    assert np.abs(rule.training_weights(lost)).max() < 10
