"""Functions of one number that learn nothing: logarithms, powers, limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from weiml.errors import ConfigError
from weiml.features.transforms.columns import from_numbers, numbers
from weiml.features.transforms.derived import (
    FittedDerived,
    FittedNumber,
    NumberTransform,
    OneColumn,
    Stateless,
)
from weiml.features.transforms.registry import register

__all__ = ["Clip", "Log1p", "Powers", "SignedLog", "Sqrt", "Square"]


@dataclass(frozen=True, eq=False)
class FittedElementwise(FittedNumber):
    """A function of one number."""

    def compute(self, x: np.ndarray) -> np.ndarray:
        """Return the function of each number."""
        return np.asarray(self.of.function(x))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class _Elementwise(Stateless, NumberTransform):
    fitted_type = FittedElementwise

    def function(self, x: np.ndarray) -> np.ndarray:
        raise AssertionError("a subclass has it")


@register("log1p")
@dataclass(frozen=True)
class Log1p(_Elementwise):
    """``log(1 + x)``; numbers of −1 and below come out missing."""

    def function(self, x: np.ndarray) -> np.ndarray:
        """Return the logarithms."""
        return np.log1p(x)


@register("signed_log")
@dataclass(frozen=True)
class SignedLog(_Elementwise):
    """``sign(x) · log(1 + |x|)``, for numbers of any sign (the-algorithm-ml's DoubleNormLog)."""

    def function(self, x: np.ndarray) -> np.ndarray:
        """Return the signed logarithms."""
        return np.copysign(np.log1p(np.abs(x)), x)


@register("square")
@dataclass(frozen=True)
class Square(_Elementwise):
    """``x²``; missing where it is no double."""

    def function(self, x: np.ndarray) -> np.ndarray:
        """Return the squares."""
        return x * x


@register("sqrt")
@dataclass(frozen=True)
class Sqrt(_Elementwise):
    """``√x``; numbers below 0 come out missing."""

    def function(self, x: np.ndarray) -> np.ndarray:
        """Return the roots."""
        return np.sqrt(x)


@register("clip")
@dataclass(frozen=True)
class Clip(_Elementwise):
    """Limits numbers to [low, high]; a limit that is left out does not limit."""

    low: float | None = field(default=None, kw_only=True)
    high: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low is None and self.high is None:
            raise ConfigError(f"Clip({self.column!r}) needs low, high or both")
        limits = [limit for limit in (self.low, self.high) if limit is not None]
        if not np.isfinite(limits).all() or limits != sorted(limits):
            raise ConfigError(
                f"Clip({self.column!r}): low must not be above high and both finite, got "
                f"low = {self.low}, high = {self.high}"
            )

    def function(self, x: np.ndarray) -> np.ndarray:
        """Return the limited numbers."""
        return np.clip(x, self.low, self.high)


@dataclass(frozen=True, eq=False)
class FittedPowers(FittedDerived):
    """Squares and roots."""

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the square and the root."""
        x = numbers(table, self.of.inputs[0])
        with np.errstate(all="ignore"):
            return from_numbers(x * x), from_numbers(np.sqrt(x))


@register("powers")
@dataclass(frozen=True)
class Powers(Stateless, OneColumn):
    """Adds ``<output>_square`` = x² and ``<output>_sqrt`` = √x beside a column.

    With them a linear layer sees a number bent either way (Covington et al., "Deep neural networks
    for YouTube recommendations", 2016). Best after a scaling to [0, 1], as `MinMax` or `CDF`.
    """

    fitted_type = FittedPowers

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns that are added."""
        return f"{self.target}_square", f"{self.target}_sqrt"

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return two fields of float64."""
        self.check_number(schema)
        return tuple(pa.field(name, pa.float64()) for name in self.outputs)
