"""Linear models, whose rows are trained one example after the other."""

from __future__ import annotations

from weiml.models.linear.logistic_regression import LogisticRegression, LogisticRegressionConfig

__all__ = ["LogisticRegression", "LogisticRegressionConfig"]
