"""Each rule against the same equations in float64, and what its parameters refuse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.config import from_mapping, to_mapping
from weiml.errors import ConfigError, ParameterServerError
from weiml.ps import (
    FTRL,
    OPTIMIZERS,
    SGD,
    Adagrad,
    EmbeddedParameterServer,
    Optimizer,
    OptimizerConfig,
    TableConfig,
    optimizer_from_mapping,
    optimizers,
    register_optimizer,
)

RULES: list[OptimizerConfig] = [
    FTRL(alpha=0.3, beta=0.7, l1=0.2, l2=0.1),
    FTRL(alpha=1.0, beta=1.0),
    Adagrad(lr=0.2, initial_sum=0.3),
    SGD(lr=0.1),
]


def ftrl_weight(rule: FTRL, z: float, n: float) -> float:
    if abs(z) <= rule.l1:
        return 0.0
    return -(z - math.copysign(rule.l1, z)) / ((rule.beta + math.sqrt(n)) / rule.alpha + rule.l2)


def reference(rule: OptimizerConfig, grads: list[float]) -> float:
    """Return the weight after the gradients, in float64, from a weight of 0."""
    z = n = w = 0.0
    total = rule.initial_sum if isinstance(rule, Adagrad) else 0.0
    for g in grads:
        if isinstance(rule, FTRL):
            sigma = (math.sqrt(n + g * g) - math.sqrt(n)) / rule.alpha
            z += g - sigma * ftrl_weight(rule, z, n)
            n += g * g
        elif isinstance(rule, Adagrad):
            total += g * g
            w -= rule.lr * g / math.sqrt(total)
        else:
            w -= rule.lr * g
    return ftrl_weight(rule, z, n) if isinstance(rule, FTRL) else w


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(
    grads=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=40),
    dim=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_a_rule_follows_its_equations(rule: OptimizerConfig, grads: list[float], dim: int) -> None:
    state = rule.initial_state(np.zeros((2, dim), np.float32))
    for g in grads:
        before = state.copy()
        after = rule.update(state, np.full((2, dim), g, np.float32))
        assert np.array_equal(state, before)  # pure
        state = after
    got = rule.weights(state)
    assert got.dtype == state.dtype == np.float32
    # FTRL divides by alpha, so errors of z's float32 sum grow with the sum of |g|.
    tolerance = 2e-6 * (1 + sum(map(abs, grads)) * 4)
    assert np.allclose(got, reference(rule, grads), rtol=1e-4, atol=tolerance)


def test_ftrl_first_steps_by_hand() -> None:
    rule = FTRL(alpha=0.5, beta=1.0, l1=1.0, l2=0.0)
    state = rule.initial_state(np.zeros((1, 1), np.float32))
    state = rule.update(state, np.array([[1.0]], np.float32))
    assert state.tolist() == [[1.0, 1.0]]  # sigma = 2 but the weight was 0
    assert rule.weights(state).tolist() == [[0.0]]  # |z| <= l1
    state = rule.update(state, np.array([[2.0]], np.float32))
    assert state.tolist() == [[3.0, 5.0]]
    assert rule.weights(state)[0, 0] == pytest.approx(-2 / ((1 + math.sqrt(5)) / 0.5))


def test_ftrl_with_l1_keeps_rare_weights_at_zero() -> None:
    rule = FTRL(alpha=0.1, l1=5.0)
    grads = np.random.default_rng(1).normal(size=(1000, 1)).astype(np.float32)
    state = rule.update(rule.initial_state(np.zeros((1000, 1), np.float32)), grads)
    assert (rule.weights(state) == 0).all()


def test_columns_do_not_mix() -> None:
    rule = FTRL(alpha=0.3)
    state = rule.update(
        rule.initial_state(np.zeros((1, 2), np.float32)), np.array([[1, 0]], np.float32)
    )
    assert state.tolist() == [[1.0, 0.0, 1.0, 0.0]]  # (z0, z1, n0, n1)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_new_rows_have_the_weights_they_were_given(rule: OptimizerConfig) -> None:
    weights = np.array([[0.5, -0.25, 0.0], [1e-3, -2.0, 3.0]], np.float32)
    state = rule.initial_state(weights)
    assert state.shape == (2, rule.width(3))
    assert np.allclose(rule.weights(state), weights, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_repeated_position_takes_its_gradients_in_turn(rule: OptimizerConfig) -> None:
    once = rule.initial_state(np.zeros((1, 1), np.float32))
    grads = np.array([[0.5], [-1.0], [0.25]], np.float32)
    together = once.copy()
    rule.apply(together, np.zeros(3, np.int64), grads)
    for grad in grads:
        once = rule.update(once, grad[None])
    assert np.array_equal(together, once)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_configuration_round_trips(rule: OptimizerConfig) -> None:
    assert optimizer_from_mapping(to_mapping(rule)) == rule
    table = TableConfig("t", dim=2, optimizer=rule, init_scale=0.1, seed=3)
    assert TableConfig.from_mapping(table.to_mapping()) == table
    assert from_mapping(TableConfig, table.to_mapping()) == table  # as a TOML file would have it


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: FTRL(alpha=0.0), "alpha .* above 0, got 0.0"),
        (lambda: FTRL(l1=-1.0), "l1 .* 0 or more, got -1.0"),
        (lambda: FTRL(beta=0.0), "beta and l2 are both 0"),
        (lambda: Adagrad(initial_sum=0.0), "initial_sum"),
        (lambda: Adagrad(lr=math.nan), "lr"),
        (lambda: SGD(lr=math.inf), "lr"),
        (lambda: optimizer_from_mapping({"name": "ftlr"}), "did you mean 'ftrl'"),
        (lambda: optimizer_from_mapping({"name": "sgd", "rate": 1.0}), "unknown key 'rate'"),
        (lambda: register_optimizer("sgd", FTRL), "registered already"),
    ],
)
def test_wrong_parameters_are_refused(make: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        make()


def test_another_rule_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class SignSGD(Optimizer):
        name: Literal["sign"] = "sign"
        lr: float = 0.5

        sums: ClassVar[bool] = False
        columns: ClassVar[int] = 1

        def initial_state(self, weights: np.ndarray) -> np.ndarray:
            return weights.copy()

        def apply(self, state: np.ndarray, positions: np.ndarray, grads: np.ndarray) -> None:
            state[positions] -= np.float32(self.lr) * np.sign(grads)

    monkeypatch.setattr(optimizers, "OPTIMIZERS", dict(OPTIMIZERS))
    register_optimizer("sign", SignSGD)
    rule: Any = optimizer_from_mapping({"name": "sign", "lr": 0.25})
    ps = EmbeddedParameterServer()
    ps.create_table(TableConfig("t", optimizer=rule))
    client = ps.client()
    keys = np.array([3, 4], np.uint64)
    client.push("t", keys, np.array([[5.0], [-7.0]], np.float32))
    values = client.pull("t", keys).wait()
    assert values is not None
    assert values.tolist() == [[-0.25], [0.25]]
    with pytest.raises(ParameterServerError, match="SignSGD is not a sum"):
        client.push("t", keys, np.ones((2, 1), np.float32), "differences")
