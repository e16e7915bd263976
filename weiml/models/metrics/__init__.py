"""Metrics of ranking and calibration with standard errors, at once or in parts that merge."""

from __future__ import annotations

from weiml.models.metrics.accumulator import MetricsAccumulator
from weiml.models.metrics.auc import RocCurve, auc, auc_estimate, roc_curve
from weiml.models.metrics.calibration import (
    CalibrationCurve,
    calibration_curve,
    calibration_ratio,
    calibration_ratio_estimate,
    expected_calibration_error,
    expected_calibration_error_estimate,
)
from weiml.models.metrics.cross_entropy import (
    log_loss,
    log_loss_estimate,
    normalized_entropy,
    normalized_entropy_estimate,
    recalibrated_ne,
    recalibrated_ne_estimate,
    relative_cross_entropy,
)
from weiml.models.metrics.estimate import Estimate
from weiml.models.metrics.evaluate import (
    TaskMetricsAccumulator,
    evaluate_scores,
    evaluate_tasks,
)
from weiml.models.metrics.ranking import (
    gauc,
    gauc_estimate,
    mrr,
    mrr_estimate,
    ndcg_at_k,
    ndcg_at_k_estimate,
    precision_at_k,
    precision_at_k_estimate,
)

__all__ = [
    "CalibrationCurve",
    "Estimate",
    "MetricsAccumulator",
    "RocCurve",
    "TaskMetricsAccumulator",
    "auc",
    "auc_estimate",
    "calibration_curve",
    "calibration_ratio",
    "calibration_ratio_estimate",
    "evaluate_scores",
    "evaluate_tasks",
    "expected_calibration_error",
    "expected_calibration_error_estimate",
    "gauc",
    "gauc_estimate",
    "log_loss",
    "log_loss_estimate",
    "mrr",
    "mrr_estimate",
    "ndcg_at_k",
    "ndcg_at_k_estimate",
    "normalized_entropy",
    "normalized_entropy_estimate",
    "precision_at_k",
    "precision_at_k_estimate",
    "recalibrated_ne",
    "recalibrated_ne_estimate",
    "relative_cross_entropy",
    "roc_curve",
]
