"""Models: what is trained and scored, their metrics, baselines and saved form.

Models that torch computes are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from weiml.models.base import (
    Columns,
    Model,
    Rows,
    StepResult,
    TrainingStep,
    build_model,
    pulled,
)
from weiml.models.baselines import Baseline, DenseLogit, ItemPopularity, UserItemMean
from weiml.models.class_metrics import (
    accuracy,
    class_log_loss,
    evaluate_classes,
    top_k_accuracy,
)
from weiml.models.fetch import Fetch, Lookup, Prepared
from weiml.models.folder import ModelFolder, save_model
from weiml.models.linear import LogisticRegression, LogisticRegressionConfig
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
from weiml.models.registry import (
    MODELS,
    ModelConfig,
    model_class,
    model_config,
    register_model,
)
from weiml.models.stages import Stages

if TYPE_CHECKING:
    from weiml.models.deep.dnn import DNN, DNNConfig
    from weiml.models.deep.wide_deep import WideDeep, WideDeepConfig
    from weiml.models.image.cnn import CNN, CNNConfig
    from weiml.models.image.dpn import DPN, DPNConfig
    from weiml.models.image.resnet import ResNet, ResNetConfig

__all__ = [
    "CNN",
    "DENSE_VECTOR",
    "DNN",
    "DPN",
    "MODELS",
    "Baseline",
    "CNNConfig",
    "CalibrationCurve",
    "Columns",
    "DNNConfig",
    "DPNConfig",
    "DenseLogit",
    "Fetch",
    "ItemPopularity",
    "LogisticRegression",
    "LogisticRegressionConfig",
    "Lookup",
    "Model",
    "ModelConfig",
    "ModelFolder",
    "Predictor",
    "Prepared",
    "ResNet",
    "ResNetConfig",
    "RocCurve",
    "Rows",
    "Stages",
    "StepResult",
    "TrainingStep",
    "UserItemMean",
    "WideDeep",
    "WideDeepConfig",
    "accuracy",
    "auc",
    "build_model",
    "calibration_curve",
    "calibration_ratio",
    "class_log_loss",
    "evaluate_classes",
    "evaluate_scores",
    "gauc",
    "log_loss",
    "model_class",
    "model_config",
    "ndcg_at_k",
    "pulled",
    "register_model",
    "roc_curve",
    "save_model",
    "top_k_accuracy",
]


# Name -> module that defines it and loads torch.
_HOMES = {
    "CNN": "image.cnn",
    "CNNConfig": "image.cnn",
    "DNN": "deep.dnn",
    "DNNConfig": "deep.dnn",
    "DPN": "image.dpn",
    "DPNConfig": "image.dpn",
    "ResNet": "image.resnet",
    "ResNetConfig": "image.resnet",
    "WideDeep": "deep.wide_deep",
    "WideDeepConfig": "deep.wide_deep",
}

if not TYPE_CHECKING:  # a type checker shall go by the imports above and find misspellings

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'weiml.models' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"weiml.models.{home}"), name)
        globals()[name] = value
        return value
