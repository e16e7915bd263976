"""Adam with decoupled weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from weiml.errors import ConfigError
from weiml.ps.optimizers.adam import adam_apply, adam_state
from weiml.ps.optimizers.base import (
    Optimizer,
    check_fraction,
    check_not_negative,
    check_positive,
    step_arrays,
)

__all__ = ["AdamW"]


@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam (see `Adam`) whose weights first decay: ``w = (1 - lr weight_decay) w``.

    Lazily: a row decays once for each of its gradients, ``(1 - lr weight_decay)^c`` with those of
    c examples, and not at all while no push names it. A rare row so decays as much per example as
    a frequent one.

    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    name: Literal["adamw"] = "adamw"
    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    coupling: float = 8.0
    """How many weights of an example move together when a push comes with counts."""

    sums: ClassVar[bool] = False
    columns: ClassVar[int] = 3
    extras: ClassVar[int] = 2
    multiplicity: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("adamw", lr=self.lr, epsilon=self.epsilon)
        check_fraction("adamw", beta1=self.beta1, beta2=self.beta2)
        check_not_negative("adamw", weight_decay=self.weight_decay, coupling=self.coupling)
        if self.lr * self.weight_decay >= 1:
            raise ConfigError(
                f"adamw: lr times weight_decay must be below 1, or a step turns weights round; "
                f"got {self.lr!r} and {self.weight_decay!r}"
            )

    def initial_state(self, weights: np.ndarray) -> np.ndarray:
        """Return (w, 0, 0) and (0, 0)."""
        return adam_state(weights)

    def apply(
        self,
        addresses: np.ndarray,
        grads: np.ndarray,
        counts: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """Apply gradients in place; see `Optimizer.apply`."""
        adam_apply(
            *step_arrays(addresses, grads, counts, squares),
            np.float32(self.lr),
            np.float32(self.beta1),
            np.float32(self.beta2),
            np.float32(self.epsilon),
            np.float32(1 - self.lr * self.weight_decay),
            np.float32(self.coupling),
        )
