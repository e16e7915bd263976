"""Every rule once more, in float64 and plain loops over one row, and the rules that are tested."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

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

RULES: list[Optimizer] = [
    SGD(lr=0.1),
    SGD(lr=0.1, coupling=0.0),
    Momentum(lr=0.05, momentum=0.8),
    Momentum(lr=0.05, momentum=0.9, nesterov=True, coupling=2.0),
    Adagrad(lr=0.2, initial_sum=0.3),
    RMSProp(lr=0.02, rho=0.9),
    RMSProp(lr=0.02, rho=0.95, epsilon=1e-3, initial_square=1.0, coupling=3.0),
    Adam(lr=0.02),
    Adam(lr=0.02, beta1=0.5, beta2=0.9, epsilon=1e-4, coupling=1.0),
    AdamW(lr=0.02, beta2=0.99, weight_decay=0.5),
    FTRL(alpha=0.3, beta=0.7, l1=0.2, l2=0.1),
    FTRL(alpha=1.0, beta=1.0, coupling=1.0),
    GroupFTRL(alpha=0.3, beta=0.7, l1=0.1, l21=0.4, l2=0.1),
    GroupFTRL(alpha=0.5, l21=0.0),
    ASGD(lr=0.1),
    ASGD(lr=0.1, start=3, forget=2, coupling=2.0),
    Maximum(),
]


@dataclass
class Push:
    """What one push says of a row: the gradients of its examples, (examples, dim)."""

    examples: np.ndarray

    @property
    def count(self) -> float:
        return float(len(self.examples))

    @property
    def grad(self) -> np.ndarray:
        return np.asarray(self.examples.sum(axis=0))

    @property
    def squares(self) -> np.ndarray:
        return np.asarray((self.examples**2).sum(axis=0))


@dataclass
class Row:
    """The row of one key in float64."""

    rule: Optimizer
    w: np.ndarray
    steps: float = 0.0
    """Examples so far."""
    kept: dict[str, np.ndarray] = field(default_factory=dict)

    def get(self, name: str, start: float = 0.0) -> np.ndarray:
        return self.kept.get(name, np.full(len(self.w), start))

    def push(self, g: np.ndarray, c: float, q: np.ndarray) -> None:
        """Apply the sum `g` of c examples' gradients and `q` of their squares."""
        steps: dict[type, Callable[..., None]] = {
            SGD: self._sgd,
            ASGD: self._asgd,
            Momentum: self._momentum,
            Adagrad: self._adagrad,
            RMSProp: self._rmsprop,
            Adam: self._adam,
            AdamW: self._adam,
            FTRL: self._ftrl,
            GroupFTRL: self._ftrl,
            Maximum: self._maximum,
        }
        steps[type(self.rule)](self.rule, g, c, q)
        self.steps += c

    @property
    def served(self) -> np.ndarray:
        return self.get("mean") if isinstance(self.rule, ASGD) and self.steps else self.w

    def _temper(self, g: np.ndarray, c: float, q: np.ndarray, rate: np.ndarray) -> np.ndarray:
        coupling = self.rule.coupling  # type: ignore[attr-defined]
        return np.asarray(g / (1 + coupling * (c - 1) * rate * q / c))

    def _sgd(self, rule: SGD | ASGD, g: np.ndarray, c: float, q: np.ndarray) -> None:
        self.w = self.w - rule.lr * self._temper(g, c, q, np.array(rule.lr))

    def _maximum(self, rule: Maximum, g: np.ndarray, c: float, q: np.ndarray) -> None:
        self.w = np.array([max(w, value) for w, value in zip(self.w, g, strict=True)])

    def _asgd(self, rule: ASGD, g: np.ndarray, c: float, q: np.ndarray) -> None:
        """Every one of the c weights on the way counts with the weight that its number gives it.

        Those of one push count alike among themselves.
        """
        old = self.w
        self._sgd(rule, g, c, q)
        counted = [j for j in range(1, int(c) + 1) if self.steps + j > rule.start]
        if not counted:
            self.kept["mean"] = self.w
            return
        rest = 1.0
        for j in counted:
            rest *= 1 - (1 + rule.forget) / (self.steps + j - rule.start + rule.forget)
        on_the_way = [old + (self.w - old) * j / c for j in counted]
        self.kept["mean"] = rest * self.get("mean") + (1 - rest) * np.mean(on_the_way, axis=0)

    def _momentum(self, rule: Momentum, g: np.ndarray, c: float, q: np.ndarray) -> None:
        """C single steps, one after the other, with the mean of the tempered gradient."""
        mean = self._temper(g, c, q, np.array(rule.lr / (1 - rule.momentum))) / c
        for _ in range(int(c)):
            v = rule.momentum * self.get("v") + mean
            self.kept["v"] = v
            self.w = self.w - rule.lr * (mean + rule.momentum * v if rule.nesterov else v)

    def _adagrad(self, rule: Adagrad, g: np.ndarray, c: float, q: np.ndarray) -> None:
        total = self.get("s", rule.initial_sum) + q
        rate = rule.lr / np.sqrt(total)
        self.w = self.w - rate * self._temper(g, c, q, rate)
        self.kept["s"] = total

    def _rmsprop(self, rule: RMSProp, g: np.ndarray, c: float, q: np.ndarray) -> None:
        v = self.get("v", rule.initial_square)
        for _ in range(int(c)):
            v = rule.rho * v + (1 - rule.rho) * q / c
        rate = rule.lr / (np.sqrt(v) + rule.epsilon)
        self.w = self.w - rate * self._temper(g, c, q, rate)
        self.kept["v"] = v

    def _adam(self, rule: Adam | AdamW, g: np.ndarray, c: float, q: np.ndarray) -> None:
        """The moments' c single steps are taken one by one; the rate is that of the last."""
        decay = rule.weight_decay if isinstance(rule, AdamW) else 0.0
        m, v = self.get("m"), self.get("v")
        for _ in range(int(c)):
            v = rule.beta2 * v + (1 - rule.beta2) * q / c
        rate = rule.lr / (np.sqrt(v / (1 - rule.beta2 ** (self.steps + c))) + rule.epsilon)
        mean = self._temper(g, c, q, rate) / c
        moments, corrections = np.zeros(len(m)), 0.0
        for j in range(1, int(c) + 1):
            m = rule.beta1 * m + (1 - rule.beta1) * mean
            moments = moments + m
            corrections += 1 - rule.beta1 ** (self.steps + j)
            self.w = self.w * (1 - rule.lr * decay)
        self.w = self.w - rate * c * moments / corrections
        self.kept.update(m=m, v=v)

    def _ftrl(self, rule: FTRL | GroupFTRL, g: np.ndarray, c: float, q: np.ndarray) -> None:
        z, n = self.get("z"), self.get("n")
        sigma = (np.sqrt(n + q) - np.sqrt(n)) / rule.alpha
        rate = 1 / ((rule.beta + np.sqrt(n + q)) / rule.alpha + rule.l2)
        z = z + self._temper(g, c, q, rate) - sigma * self.w
        n = n + q
        self.kept.update(z=z, n=n)
        self.w = ftrl_weights(rule, z, n)


def ftrl_weights(rule: FTRL | GroupFTRL, z: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the weights of a row of (z, n), both (dim,)."""
    shrunk = [0.0 if abs(x) <= rule.l1 else x - math.copysign(rule.l1, x) for x in z]
    left = 1.0
    if isinstance(rule, GroupFTRL):
        norm, most = math.hypot(*shrunk), rule.l21 * math.sqrt(len(z))
        left = 0.0 if norm <= most else 1 - most / norm
    steepness = (rule.beta + np.sqrt(n)) / rule.alpha + rule.l2
    return np.asarray(-left * np.array(shrunk) / steepness)
