"""The linear support vector machine: the hinge loss of a linear model's margin.

    loss = max(0, 1 - t margin), t = 2 y - 1
    score = sigmoid(margin)

(Cortes and Vapnik, "Support-vector networks", Machine Learning 20, 1995; trained on single
examples as in Shalev-Shwartz, Singer and Srebro, "Pegasos", ICML 2007, but by FTRL-proximal, whose
l2 is the regulariser; see `weiml.models.linear.base`.)

The margin is no log-odds: examples that it separates push it to ±1 and then leave it alone. The
score orders examples as the margin does, and lies between 0 and 1, but is no estimate of a rate;
where rates are needed, a calibration that is fitted on held-out scores belongs behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from weiml.models.linear.base import LinearConfig, LinearModel
from weiml.models.registry import register_model

__all__ = ["LinearSVM", "LinearSVMConfig"]


@dataclass(frozen=True, kw_only=True)
class LinearSVMConfig(LinearConfig):
    """See `LinearConfig`."""

    name: Literal["svm"] = "svm"


@register_model
class LinearSVM(LinearModel):
    """See the module."""

    name = "svm"
    config_class = LinearSVMConfig
    config: LinearSVMConfig
    hinge = True
