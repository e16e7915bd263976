"""Models: what is trained and scored, their metrics, baselines and saved form."""

from __future__ import annotations

from weiml.models.base import (
    MODELS,
    Columns,
    Model,
    Rows,
    StepResult,
    TrainingStep,
    build_model,
    pulled,
    register_model,
)
from weiml.models.baselines import Baseline, DenseLogit, ItemPopularity, UserItemMean
from weiml.models.fetch import Fetch, Prepared
from weiml.models.folder import ModelFolder, save_model
from weiml.models.logistic_regression import LogisticRegression, LogisticRegressionConfig
from weiml.models.metrics import (
    CalibrationCurve,
    Estimate,
    MetricsAccumulator,
    RocCurve,
    TaskMetricsAccumulator,
    auc,
    calibration_curve,
    calibration_ratio,
    evaluate_scores,
    evaluate_tasks,
    expected_calibration_error,
    gauc,
    log_loss,
    mrr,
    ndcg_at_k,
    normalized_entropy,
    precision_at_k,
    recalibrated_ne,
    relative_cross_entropy,
    roc_curve,
)
from weiml.models.predictor import DENSE_VECTOR, Predictor
from weiml.models.stages import Stages
from weiml.models.wide_deep import WideDeep, WideDeepConfig

__all__ = [
    "DENSE_VECTOR",
    "MODELS",
    "Baseline",
    "CalibrationCurve",
    "Columns",
    "DenseLogit",
    "Estimate",
    "Fetch",
    "ItemPopularity",
    "LogisticRegression",
    "LogisticRegressionConfig",
    "MetricsAccumulator",
    "Model",
    "ModelFolder",
    "Predictor",
    "Prepared",
    "RocCurve",
    "Rows",
    "Stages",
    "StepResult",
    "TaskMetricsAccumulator",
    "TrainingStep",
    "UserItemMean",
    "WideDeep",
    "WideDeepConfig",
    "auc",
    "build_model",
    "calibration_curve",
    "calibration_ratio",
    "evaluate_scores",
    "evaluate_tasks",
    "expected_calibration_error",
    "gauc",
    "log_loss",
    "mrr",
    "ndcg_at_k",
    "normalized_entropy",
    "precision_at_k",
    "pulled",
    "recalibrated_ne",
    "register_model",
    "relative_cross_entropy",
    "roc_curve",
    "save_model",
]
