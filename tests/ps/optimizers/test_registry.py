"""Rules by name, what their parameters refuse, and another rule that joins them."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pytest

from tests.ps.optimizers.references import RULES
from weiml.config import from_mapping, to_mapping
from weiml.errors import ConfigError
from weiml.ps.optimizers import (
    ASGD,
    FTRL,
    OPTIMIZERS,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    GroupFTRL,
    MatrixOptimizer,
    Momentum,
    Optimizer,
    OptimizerConfig,
    RMSProp,
    optimizer_from_mapping,
    register_optimizer,
    registry,
)
from weiml.ps.optimizers.rows import matrix_addresses


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A configuration with a rule in it, as a TOML file would have it."""

    optimizer: OptimizerConfig


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_configuration_round_trips(rule: Any) -> None:
    assert optimizer_from_mapping(to_mapping(rule)) == rule
    assert from_mapping(Holder, to_mapping(Holder(optimizer=rule))).optimizer == rule


def test_every_rule_is_known_by_its_name_and_has_defaults() -> None:
    assert len(OPTIMIZERS) == 10
    assert set(get_args(OptimizerConfig)) == set(OPTIMIZERS.values())
    assert {type(rule) for rule in RULES} == set(OPTIMIZERS.values()), "all are tested"
    for name, rule in OPTIMIZERS.items():
        assert optimizer_from_mapping({"name": name}) == rule()
        assert rule().name == name


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: FTRL(alpha=0.0), "alpha .* above 0, got 0.0"),
        (lambda: FTRL(l1=-1.0), "l1 .* 0 or more, got -1.0"),
        (lambda: FTRL(beta=0.0), "beta and l2 are both 0"),
        (lambda: GroupFTRL(beta=0.0), "group_ftrl: beta and l2 are both 0"),
        (lambda: GroupFTRL(l21=math.inf), "l21"),
        (lambda: Adagrad(initial_sum=0.0), "initial_sum"),
        (lambda: Adagrad(lr=math.nan), "lr"),
        (lambda: SGD(lr=math.inf), "sgd: lr"),
        (lambda: SGD(coupling=-1.0), "sgd: coupling"),
        (lambda: Momentum(momentum=1.0), "momentum must be at least 0 and below 1, got 1.0"),
        (lambda: RMSProp(rho=-0.1), "rho"),
        (lambda: RMSProp(epsilon=0.0), "epsilon"),
        (lambda: RMSProp(initial_square=-1.0), "initial_square"),
        (lambda: Adam(beta2=1.0), "beta2"),
        (lambda: Adam(beta1=math.nan), "beta1"),
        (lambda: AdamW(weight_decay=-0.1), "weight_decay"),
        (lambda: AdamW(lr=0.5, weight_decay=2.0), "lr times weight_decay must be below 1"),
        (lambda: ASGD(start=-1), "start must be 0 to"),
        (lambda: ASGD(forget=17), "forget must be 0 to 16, got 17"),
        (lambda: optimizer_from_mapping({"name": "ftlr"}), "did you mean 'ftrl'"),
        (lambda: optimizer_from_mapping({}), "unknown optimizer None"),
        (lambda: optimizer_from_mapping({"name": "sgd", "rate": 1.0}), "unknown key 'rate'"),
        (lambda: optimizer_from_mapping({"name": "adam", "lr": -1.0}), "optimizer adam: adam: lr"),
        (lambda: register_optimizer("sgd", FTRL), "registered already"),
    ],
)
def test_wrong_parameters_are_refused(make: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        make()


def test_another_rule_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class SignSGD(MatrixOptimizer):
        name: Literal["sign"] = "sign"
        lr: float = 0.5

        sums: ClassVar[bool] = False
        columns: ClassVar[int] = 1

        def initial_state(self, weights: np.ndarray) -> np.ndarray:
            return weights.copy()

        def update(
            self,
            state: np.ndarray,
            grads: np.ndarray,
            counts: np.ndarray | None = None,
            squares: np.ndarray | None = None,
        ) -> np.ndarray:
            return np.asarray(state - np.float32(self.lr) * np.sign(grads))

    monkeypatch.setattr(registry, "OPTIMIZERS", dict(OPTIMIZERS))
    register_optimizer("sign", SignSGD)
    register_optimizer("sign", SignSGD)  # as when a module is imported in two ways
    rule = optimizer_from_mapping({"name": "sign", "lr": 0.25})
    assert isinstance(rule, Optimizer)
    rows = np.zeros((2, 1), np.float32)
    where = matrix_addresses(rows)
    rule.apply(where[[0, 1, 0]], np.array([[5.0], [-7.0], [1.0]], np.float32))
    assert rule.read(where, 1).tolist() == [[-0.5], [0.25]]


def test_the_guides_rule_works(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(registry, "OPTIMIZERS", dict(OPTIMIZERS))
    guide = (root / "docs" / "optimizers.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "guide"}
    monkeypatch.setitem(sys.modules, "guide", ModuleType("guide"))
    example = guide.split("```python\n")[1].split("```")[0]
    exec(compile(example, "optimizers.md", "exec", dont_inherit=True), names)
    rule = optimizer_from_mapping({"name": "sign_sgd", "lr": 0.5})
    state = rule.update(np.zeros((1, 2), np.float32), np.array([[3.0, -4.0]], np.float32))
    assert state.tolist() == [[-0.5, 0.5]]


def test_the_guide_has_every_rule(root: Path) -> None:
    guide = (root / "docs" / "optimizers.md").read_text(encoding="utf-8")
    for name, rule in OPTIMIZERS.items():
        assert f"| `{name}` | `{rule.__name__}` |" in guide
