"""Undoing the down-sampling of negatives, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from weiml.errors import ConfigError
from weiml.models.calibration.base import Calibration
from weiml.models.calibration.scaling import FittedScaling

__all__ = ["Downsampling"]


@dataclass(frozen=True, kw_only=True)
class Downsampling(Calibration):
    """``p r / (1 − p + r p)``, where training kept each negative with probability r.

    Keeping a share r of negatives, and all positives, divides the odds by r: a model of what was
    kept says ``p / (1 − p) = q / (1 − q) / r`` of the true q. Solved for q, that is the formula; in
    log-odds it adds log r. It needs no data. Where the kept negatives were weighted by 1 / r, the
    odds are right already.

    He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014.
    """

    name: Literal["downsampling"] = "downsampling"
    keep_rate: float
    """r: the share of negatives that was kept, over that of positives."""

    def __post_init__(self) -> None:
        if not (self.keep_rate > 0 and math.isfinite(self.keep_rate)):
            raise ConfigError(
                "calibration downsampling: keep_rate must be a finite number above 0, "
                f"got {self.keep_rate!r}"
            )

    def _fit(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> FittedScaling:
        return FittedScaling(1.0, math.log(self.keep_rate))
