"""Linear models, whose rows are trained one example after the other."""

from __future__ import annotations

from weiml.models.linear.base import LinearConfig, LinearModel
from weiml.models.linear.logistic_regression import LogisticRegression, LogisticRegressionConfig
from weiml.models.linear.svm import LinearSVM, LinearSVMConfig

__all__ = [
    "LinearConfig",
    "LinearModel",
    "LinearSVM",
    "LinearSVMConfig",
    "LogisticRegression",
    "LogisticRegressionConfig",
]
