"""Optimizers as pure functions of rows: state (n, width) and gradients (n, dim) to new state.

They know neither keys nor shards. Parameters of the rule are float32 inside, as the state is.
A row's state is stored as columns: first all of one quantity, then all of the next, so that FTRL of
dim 2 is (z0, z1, n0, n1). `register_optimizer` adds another rule.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from weiml.config import from_mapping, nearest
from weiml.errors import ConfigError
from weiml.ps import kernels

__all__ = [
    "FTRL",
    "OPTIMIZERS",
    "SGD",
    "Adagrad",
    "Optimizer",
    "OptimizerConfig",
    "optimizer_from_mapping",
    "register_optimizer",
]


class Optimizer(abc.ABC):
    """A rule that turns gradients into new rows. Instances are frozen and hold parameters only."""

    sums: ClassVar[bool]
    """Whether the state is a sum over examples, so that differences of state may be added."""

    columns: ClassVar[int]
    """How many quantities the state keeps per weight: a row is ``columns * dim`` wide."""

    def width(self, dim: int) -> int:
        """Return the number of float32 in the row of a key with `dim` weights."""
        return self.columns * dim

    def weights(self, state: np.ndarray) -> np.ndarray:
        """Return the weights (n, dim), a new array, of state rows (n, width)."""
        return state[:, : state.shape[1] // self.columns].copy()

    @abc.abstractmethod
    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return the state (n, width) of new rows whose weights are `weights` (n, dim)."""

    @abc.abstractmethod
    def apply(self, state: np.ndarray, positions: np.ndarray, grads: np.ndarray) -> None:
        """Apply `grads` (n, dim) to the rows of `state` at `positions` (n,), in place, in order.

        A position that occurs twice gets its gradients one after the other. Rows not named are not
        touched: no decay, no momentum.
        """

    def update(self, state: np.ndarray, grads: np.ndarray) -> np.ndarray:
        """Return the state (n, width) after one gradient (n, dim) per row; inputs stay as is."""
        out = np.array(state, np.float32, order="C")
        rows = np.arange(len(out), dtype=np.int64)
        self.apply(out, rows, np.require(grads, np.float32, ["C", "W"]))
        return out


@dataclass(frozen=True, kw_only=True)
class FTRL(Optimizer):
    """FTRL-proximal with per-coordinate learning rates; state (z, n).

    ``g`` the gradient: ``sigma = (sqrt(n + g²) - sqrt(n)) / alpha``, ``z += g - sigma w``,
    ``n += g²``; the weight is ``0 if |z| <= l1 else -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha
    + l2)``.

    McMahan, Holt, Sculley et al., "Ad click prediction: a view from the trenches", KDD 2013.
    """

    name: Literal["ftrl"] = "ftrl"
    alpha: float = 0.1
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 0.0

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _positive("ftrl", alpha=self.alpha)
        _not_negative("ftrl", beta=self.beta, l1=self.l1, l2=self.l2)
        if self.beta == 0 and self.l2 == 0:
            raise ConfigError(
                "ftrl: beta and l2 are both 0, which divides by zero at a row's first weight; "
                "set beta (1 is usual)"
            )

    @property
    def scalars(self) -> tuple[np.float32, np.float32, np.float32, np.float32]:
        """(alpha, beta, l1, l2) as float32, in the order the ``ftrl_*`` kernels take them."""
        return (
            np.float32(self.alpha),
            np.float32(self.beta),
            np.float32(self.l1),
            np.float32(self.l2),
        )

    def weights(self, state: np.ndarray) -> np.ndarray:
        """Return the weights (n, dim), a new array, of state rows (n, 2·dim)."""
        return np.asarray(
            kernels.ftrl_weights(np.require(state, np.float32, ["C", "W"]), *self.scalars)
        )

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (z, n = 0) such that the rows' weights are `weights`, to a rounding."""
        _, _, l1, _ = self.scalars
        steepness = np.float32(self.beta / self.alpha + self.l2)
        z = -(weights * steepness + np.sign(weights) * l1)
        return np.concatenate([z, np.zeros_like(z)], axis=1, dtype=np.float32)

    def apply(self, state: np.ndarray, positions: np.ndarray, grads: np.ndarray) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        kernels.ftrl_apply(state, positions, grads, *self.scalars)


@dataclass(frozen=True, kw_only=True)
class Adagrad(Optimizer):
    """Adagrad; state (w, s): ``s += g²``, ``w -= lr g / sqrt(s)``, where s starts at `initial_sum`.

    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12, 2011. The state is a sum, so differences of it may be pushed too.
    """

    name: Literal["adagrad"] = "adagrad"
    lr: float = 0.05
    initial_sum: float = 0.1

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _positive("adagrad", lr=self.lr, initial_sum=self.initial_sum)

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (w, initial_sum)."""
        sums = np.full_like(weights, self.initial_sum)
        return np.concatenate([weights, sums], axis=1, dtype=np.float32)

    def apply(self, state: np.ndarray, positions: np.ndarray, grads: np.ndarray) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        kernels.adagrad_apply(state, positions, grads, np.float32(self.lr))


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent; state w: ``w -= lr g`` (Robbins and Monro, 1951)."""

    name: Literal["sgd"] = "sgd"
    lr: float = 0.05

    sums: ClassVar[bool] = True
    columns: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _positive("sgd", lr=self.lr)

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return w."""
        return np.array(weights, np.float32)

    def apply(self, state: np.ndarray, positions: np.ndarray, grads: np.ndarray) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        kernels.sgd_apply(state, positions, grads, np.float32(self.lr))


OptimizerConfig: TypeAlias = FTRL | Adagrad | SGD
"""The rules that a configuration file can name; `name` tells them apart."""

OPTIMIZERS: dict[str, type[Optimizer]] = {"ftrl": FTRL, "adagrad": Adagrad, "sgd": SGD}


def register_optimizer(name: str, optimizer: type[Optimizer]) -> None:
    """Make a frozen dataclass with a field ``name`` known; every process must register it.

    Raises:
        ConfigError: another rule has that name.
    """
    if OPTIMIZERS.setdefault(name, optimizer) is not optimizer:
        raise ConfigError(f"optimizer {name!r} is registered already, as {OPTIMIZERS[name]!r}")


def optimizer_from_mapping(mapping: Mapping[str, Any]) -> Optimizer:
    """Build the optimizer that ``{"name": "ftrl", "alpha": 0.1}`` describes.

    Raises:
        ConfigError: the name or a parameter is unknown, or a value does not fit.
    """
    name = mapping.get("name")
    if name not in OPTIMIZERS:
        raise ConfigError(f"unknown optimizer {name!r}{nearest(str(name), OPTIMIZERS)}")
    return from_mapping(OPTIMIZERS[name], mapping, where=f"optimizer {name}")


def _positive(where: str, **values: float) -> None:
    for knob, value in values.items():
        if not (value > 0 and np.isfinite(value)):
            raise ConfigError(f"{where}: {knob} must be a finite number above 0, got {value!r}")


def _not_negative(where: str, **values: float) -> None:
    for knob, value in values.items():
        if not (value >= 0 and np.isfinite(value)):
            raise ConfigError(f"{where}: {knob} must be a finite number, 0 or more, got {value!r}")
