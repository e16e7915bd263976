"""No calibration: probabilities as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np

from weiml.models.calibration.base import Calibration, FittedCalibration

__all__ = ["FittedIdentity", "Identity"]


class FittedIdentity(FittedCalibration):
    """``p``."""

    name: ClassVar[str] = "identity"

    def _map(self, scores: np.ndarray) -> np.ndarray:
        return scores

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Make it."""
        return cls()


@dataclass(frozen=True, kw_only=True)
class Identity(Calibration):
    """Leaves probabilities as they are; it needs no data."""

    name: Literal["identity"] = "identity"

    def _fit(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> FittedIdentity:
        return FittedIdentity()
