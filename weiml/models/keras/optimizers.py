"""Optimizers of one flat vector, on numpy arrays: the rules that torch networks have.

AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019. Adagrad: Duchi,
Hazan and Singer, JMLR 2011. Steps are compiled loops over the vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import numba
import numpy as np

from weiml.errors import ConfigError, DataError

__all__ = ["FlatOptimizer"]

_BUFFERS = {"adam": ("exp_avg", "exp_avg_sq"), "adagrad": ("sum",), "sgd": ("momentum_buffer",)}


class FlatOptimizer:
    """One rule and its memory. Not thread-safe.

    Args:
        name: "adam" (AdamW), "adagrad" or "sgd".
        lr: the learning rate.
        weight_decay: decoupled for adam; added to the gradient for the others.
        momentum: of sgd; beta_1 of adam, whose default None means 0.9.
        clip_norm: longest gradient that is stepped along; 0: any.
    """

    def __init__(
        self,
        name: str,
        *,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float | None = None,
        clip_norm: float = 0.0,
    ) -> None:
        if name not in _BUFFERS:
            raise ConfigError(f"optimizer must be one of {', '.join(_BUFFERS)}, got {name!r}")
        self._name = name
        self._lr = lr
        self._factor = 1.0
        self._decay = weight_decay
        self._momentum = momentum
        self._clip_norm = clip_norm
        self._steps = 0
        self._buffers: dict[str, np.ndarray] = {}

    def step(self, vector: np.ndarray, gradient: np.ndarray) -> None:
        """Move `vector` float32 (P,), in place, along `gradient` float32 (P,)."""
        along = np.ascontiguousarray(gradient, np.float32)
        if self._clip_norm:
            norm = float(np.sqrt(np.square(along, dtype=np.float64).sum()))
            along = along * np.float32(min(1.0, self._clip_norm / max(norm, 1e-12)))
        if not self._buffers:
            self._buffers = {name: np.zeros_like(vector) for name in _BUFFERS[self._name]}
        self._steps += 1
        lr, decay, buffers = self._lr * self._factor, self._decay, list(self._buffers.values())
        if self._name == "adam":
            beta = 0.9 if self._momentum is None else self._momentum
            _adam(vector, along, *buffers, self._steps, lr, decay, beta)
        elif self._name == "adagrad":
            _adagrad(vector, along, *buffers, lr, decay)
        else:
            _sgd(vector, along, *buffers, lr, decay, self._momentum or 0.0)

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate for good."""
        self._lr *= factor
        self._factor = 1.0

    def schedule_lr(self, factor: float) -> None:
        """Set the factor on the learning rate that holds until the next call."""
        self._factor = factor

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of the memory; empty before the first step."""
        if not self._buffers:
            return {}
        steps = np.array(self._steps, np.float32)
        return {"step": steps} | {n: b.copy() for n, b in self._buffers.items()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Set what `state` gave.

        Raises:
            DataError: it is of another rule.
        """
        own = {name: array for name, array in state.items() if name != "step"}
        if own and set(own) != set(_BUFFERS[self._name]):
            raise DataError(f"optimizer {self._name!r} has no memory {sorted(own)}")
        self._steps = int(state["step"]) if own else 0
        names = _BUFFERS[self._name] if own else ()
        self._buffers = {name: np.array(own[name], np.float32) for name in names}


@numba.njit(cache=True, nogil=True)
def _adam(
    vector: np.ndarray,
    gradient: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    steps: int,
    lr: float,
    decay: float,
    beta: float,
) -> None:
    first = 1.0 - beta**steps
    second = np.sqrt(1.0 - 0.999**steps)
    kept, other = np.float32(beta), np.float32(1.0 - beta)
    for i in range(vector.size):
        g = gradient[i]
        mean[i] = kept * mean[i] + other * g
        square[i] = np.float32(0.999) * square[i] + np.float32(0.001) * g * g
        away = lr / first * mean[i] / (np.sqrt(square[i]) / second + 1e-8)
        vector[i] = vector[i] * (1.0 - lr * decay) - away


@numba.njit(cache=True, nogil=True)
def _adagrad(
    vector: np.ndarray, gradient: np.ndarray, total: np.ndarray, lr: float, decay: float
) -> None:
    for i in range(vector.size):
        g = gradient[i] + decay * vector[i]
        total[i] += g * g
        vector[i] -= lr * g / (np.sqrt(total[i]) + 1e-10)


@numba.njit(cache=True, nogil=True)
def _sgd(
    vector: np.ndarray,
    gradient: np.ndarray,
    speed: np.ndarray,
    lr: float,
    decay: float,
    momentum: float,
) -> None:
    for i in range(vector.size):
        speed[i] = momentum * speed[i] + gradient[i] + decay * vector[i]
        vector[i] -= lr * speed[i]
