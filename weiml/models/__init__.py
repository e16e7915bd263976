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
    RocCurve,
    auc,
    calibration_curve,
    calibration_ratio,
    evaluate_scores,
    gauc,
    log_loss,
    ndcg_at_k,
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
    "Fetch",
    "ItemPopularity",
    "LogisticRegression",
    "LogisticRegressionConfig",
    "Model",
    "ModelFolder",
    "Predictor",
    "Prepared",
    "RocCurve",
    "Rows",
    "Stages",
    "StepResult",
    "TrainingStep",
    "UserItemMean",
    "WideDeep",
    "WideDeepConfig",
    "auc",
    "build_model",
    "calibration_curve",
    "calibration_ratio",
    "evaluate_scores",
    "gauc",
    "log_loss",
    "ndcg_at_k",
    "pulled",
    "register_model",
    "roc_curve",
    "save_model",
]
