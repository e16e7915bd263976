"""Logistic regression: the log-loss of a linear model's margin.

    p = sigmoid(bias + Σ_s Σ_{k in slot s} w_k x_k + Σ_d w_d dense_d)

How it is trained, see `weiml.models.linear.base`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from weiml.models.linear.base import LinearConfig, LinearModel
from weiml.models.registry import register_model

__all__ = ["LogisticRegression", "LogisticRegressionConfig"]


@dataclass(frozen=True, kw_only=True)
class LogisticRegressionConfig(LinearConfig):
    """See `LinearConfig`."""

    name: Literal["lr"] = "lr"


@register_model
class LogisticRegression(LinearModel):
    """Sparse logistic regression."""

    name = "lr"
    config_class: ClassVar[type[LogisticRegressionConfig]] = LogisticRegressionConfig
    config: LogisticRegressionConfig
