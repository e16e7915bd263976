"""First steps worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from weiml.ps.optimizers import (
    ASGD,
    FTRL,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    GroupFTRL,
    Maximum,
    Momentum,
    Optimizer,
    RMSProp,
)


def after(rule: Optimizer, *grads: float, start: float = 0.0) -> list[float]:
    """Return the state of a row of one weight after the gradients."""
    state = rule.initial_state(np.array([[start]], np.float32))
    for grad in grads:
        state = rule.update(state, np.array([[grad]], np.float32))
    return [float(x) for x in state[0]]


def served(rule: Optimizer, state: list[float]) -> float:
    return float(rule.weights(np.array([state], np.float32))[0, 0])


def test_sgd() -> None:
    assert after(SGD(lr=0.5), 1.0, -3.0, start=2.0) == [3.0]


def test_momentum_carries_half_of_its_velocity_on() -> None:
    # v = 1, then 0.5 + 2 = 2.5; w = -0.25 - 0.625.
    assert after(Momentum(lr=0.25, momentum=0.5), 1.0, 2.0) == [-0.875, 2.5]


def test_nesterov_looks_ahead() -> None:
    # w = -0.25 (1 + 0.5) = -0.375, then - 0.25 (2 + 0.5 · 2.5) = -1.1875.
    assert after(Momentum(lr=0.25, momentum=0.5, nesterov=True), 1.0, 2.0) == [-1.1875, 2.5]


def test_maximum() -> None:
    assert after(Maximum(), 1.5, -3.0, 1.0) == [1.5]
    assert after(Maximum(), -3.0) == [0.0]


def test_adagrad() -> None:
    # s = 0 → 9 → 25 (with a starting sum of 2⁻⁴⁰, too small to be seen).
    rule = Adagrad(lr=1.0, initial_sum=2.0**-40)
    assert after(rule, 3.0) == [-1.0, 9.0]
    assert after(rule, 3.0, 4.0) == pytest.approx([-1.8, 25.0])


def test_rmsprop() -> None:
    # v = 0.75 · 0 + 0.25 · 16 = 4, then 3 + 0.25 · 4 = 4.
    rule = RMSProp(lr=1.0, rho=0.75, epsilon=1e-12)
    assert after(rule, 4.0) == [-2.0, 4.0]
    assert after(rule, 4.0, 2.0) == [-3.0, 4.0]


def test_the_first_step_of_adam_is_lr_whatever_the_gradient() -> None:
    for grad in (1e-4, 1.0, 1e4):
        state = after(Adam(lr=0.25, epsilon=1e-12), grad)
        assert state[0] == pytest.approx(-0.25, rel=1e-5)
        assert state[3:] == pytest.approx([0.1, 0.001], rel=1e-4)  # 1 - beta, a float32


def test_the_second_step_of_adam() -> None:
    # m = 0.5, then 0.25 + 1.5 = 1.75, over 1 - 1/4; v = 0.25, then 0.1875 + 2.25 = 2.4375, over
    # 1 - 9/16.
    state = after(Adam(lr=1.0, beta1=0.5, beta2=0.75, epsilon=1e-12), 1.0, 3.0)
    first, second = 1.75 / 0.75, 2.4375 / 0.4375
    assert state == pytest.approx([-1 - first / math.sqrt(second), 1.75, 2.4375, 0.75, 0.4375])


def test_adamw_decays_the_weight_before_the_step() -> None:
    rule = AdamW(lr=0.25, weight_decay=2.0, epsilon=1e-12)
    assert after(rule, 1.0, start=4.0)[0] == pytest.approx(4 * 0.5 - 0.25)


def test_ftrl() -> None:
    rule = FTRL(alpha=0.5, beta=1.0, l1=1.0, l2=0.0)
    state = after(rule, 1.0)
    assert state == [1.0, 1.0]  # sigma = 2 but the weight was 0
    assert served(rule, state) == 0.0  # |z| <= l1
    state = after(rule, 1.0, 2.0)
    assert state == [3.0, 5.0]
    w = -2 / ((1 + math.sqrt(5)) / 0.5)
    assert served(rule, state) == pytest.approx(w)
    sigma = (3 - math.sqrt(5)) / 0.5  # n goes on to 9
    assert after(rule, 1.0, 2.0, 2.0) == pytest.approx([3 + 2 - sigma * w, 9.0])


def test_ftrl_with_l1_keeps_rare_weights_at_zero() -> None:
    rule = FTRL(alpha=0.1, l1=5.0)
    grads = np.random.default_rng(1).normal(size=(1000, 1)).astype(np.float32)
    state = rule.update(rule.initial_state(np.zeros((1000, 1), np.float32)), grads)
    assert (rule.weights(state) == 0).all()


def test_a_group_goes_to_zero_as_a_whole() -> None:
    # z = (3, 4), of norm 5; n = (9, 16). The limit is l21 √2.
    grads = np.array([[3.0, 4.0]], np.float32)
    weights = {}
    for l21 in (0.0, 2.0, 3.5, 3.6):
        rule = GroupFTRL(alpha=1.0, beta=1.0, l21=l21)
        state = rule.update(rule.initial_state(np.zeros((1, 2), np.float32)), grads)
        assert state.tolist() == [[3.0, 4.0, 9.0, 16.0]]
        weights[l21] = rule.weights(state)[0]
    assert weights[0.0] == pytest.approx([-3 / 4, -4 / 5])
    left = 1 - 2 * math.sqrt(2) / 5
    assert weights[2.0] == pytest.approx([-left * 3 / 4, -left * 4 / 5])
    assert (weights[3.5] != 0).all()
    assert (weights[3.6] == 0).all()


def test_group_lasso_drops_rows_of_noise_and_keeps_those_that_matter() -> None:
    rng = np.random.default_rng(3)
    rule = GroupFTRL(alpha=0.1, l21=18.0)
    state = rule.initial_state(np.zeros((400, 8), np.float32))
    for _ in range(50):
        grads = rng.normal(size=(400, 8)).astype(np.float32)
        grads[::2] -= 1.0
        state = rule.update(state, grads)
    alive = (rule.weights(state) != 0).any(axis=1)
    assert alive[::2].all()
    assert not alive[1::2].any()


def test_asgd_serves_the_mean_of_the_weights() -> None:
    # w = -1, -3, -3.5; mean -2.5.
    assert after(ASGD(lr=1.0), 1.0, 2.0, 0.5) == [-3.5, -2.5, 3.0]
    # Without the first: mean of -3 and -3.5.
    assert after(ASGD(lr=1.0, start=1), 1.0, 2.0, 0.5) == [-3.5, -3.25, 3.0]
    # The t-th counts t times: (1 + 2 · 3 + 3 · 3.5) / 6.
    assert after(ASGD(lr=1.0, forget=1), 1.0, 2.0, 0.5) == pytest.approx([-3.5, -17.5 / 6, 3.0])


def test_asgd_averages_the_noise_away() -> None:
    rng = np.random.default_rng(4)
    rule = ASGD(lr=0.5)
    state = rule.initial_state(np.zeros((200, 1), np.float32))
    for _ in range(400):
        # A parabola about 1 with noisy slopes, taken at the last weight.
        noise = rng.normal(size=(200, 1))
        grads = (rule.training_weights(state) - 1 + noise).astype(np.float32)
        state = rule.update(state, grads)
    spread_of_mean = float(np.abs(rule.weights(state) - 1).mean())
    spread_of_last = float(np.abs(rule.training_weights(state) - 1).mean())
    assert spread_of_mean < 0.15 * spread_of_last
