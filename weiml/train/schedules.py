"""Schedules of the dense part's learning rate: a factor for each step, or by how epochs went.

Rows keep rates of their own: Adagrad's and FTRL's fall by themselves, key by key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from weiml.errors import ConfigError

__all__ = ["Constant", "Cosine", "Linear", "Plateau", "Schedule", "Stairs"]


@dataclass(frozen=True, kw_only=True)
class Constant:
    """1 after `warmup_steps` in which it rises from 0 in a line."""

    name: Literal["constant"] = "constant"
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps must not be negative, got {self.warmup_steps}")

    def factor(self, step: int, steps: int, losses: Sequence[float] = ()) -> float:
        """Return the factor of step 0 … steps - 1, after epochs of these validation losses."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        left = max(steps - self.warmup_steps, 1)
        return self._after(min((step - self.warmup_steps) / left, 1.0), losses)

    def _after(self, share: float, losses: Sequence[float]) -> float:
        """Return the factor when `share` of the steps after the warm-up are done."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Linear(Constant):
    """Falls in a line from 1 to `final` at the last step."""

    name: Literal["linear"] = "linear"  # type: ignore[assignment]
    final: float = 0.0

    def _after(self, share: float, losses: Sequence[float]) -> float:
        return 1.0 - (1.0 - self.final) * share


@dataclass(frozen=True, kw_only=True)
class Cosine(Linear):
    """Half a cosine from 1 to `final` (Loshchilov and Hutter, "SGDR", ICLR 2017)."""

    name: Literal["cosine"] = "cosine"  # type: ignore[assignment]

    def _after(self, share: float, losses: Sequence[float]) -> float:
        return self.final + (1.0 - self.final) * (1.0 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True, kw_only=True)
class Stairs(Constant):
    """Times `by` at each of `at`, shares of the steps after the warm-up."""

    name: Literal["stairs"] = "stairs"  # type: ignore[assignment]
    at: tuple[float, ...] = (0.5, 0.75)
    by: float = 0.1

    def _after(self, share: float, losses: Sequence[float]) -> float:
        return self.by ** sum(share >= place for place in self.at)


@dataclass(frozen=True, kw_only=True)
class Plateau(Constant):
    """Times `by` whenever `patience` epochs in a row had no better validation metric."""

    name: Literal["plateau"] = "plateau"  # type: ignore[assignment]
    by: float = 0.1
    patience: int = 1
    least: float = 1e-3
    """The factor falls no lower."""

    def _after(self, share: float, losses: Sequence[float]) -> float:
        factor, best, waited = 1.0, math.inf, 0
        for loss in losses:
            waited = 0 if loss < best else waited + 1
            best = min(best, loss)
            if waited >= self.patience:
                factor, waited = factor * self.by, 0
        return max(factor, self.least)


Schedule: TypeAlias = Constant | Linear | Cosine | Stairs | Plateau
"""Told apart by `name`."""
