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
    from weiml.models.deep.autoint import AutoInt, AutoIntConfig
    from weiml.models.deep.dcn_v2 import DCNV2, DCNV2Config
    from weiml.models.deep.deepfm import DeepFM, DeepFMConfig
    from weiml.models.deep.dnn import DNN, DNNConfig
    from weiml.models.deep.fibinet import FiBiNET, FiBiNETConfig
    from weiml.models.deep.final_mlp import FinalMLP, FinalMLPConfig
    from weiml.models.deep.masknet import MaskNet, MaskNetConfig
    from weiml.models.deep.pnn import PNN, PNNConfig
    from weiml.models.deep.wide_deep import WideDeep, WideDeepConfig
    from weiml.models.deep.xdeepfm import XDeepFM, XDeepFMConfig

__all__ = [
    "DCNV2",
    "DENSE_VECTOR",
    "DNN",
    "MODELS",
    "PNN",
    "AutoInt",
    "AutoIntConfig",
    "Baseline",
    "CalibrationCurve",
    "Columns",
    "DCNV2Config",
    "DNNConfig",
    "DeepFM",
    "DeepFMConfig",
    "DenseLogit",
    "Fetch",
    "FiBiNET",
    "FiBiNETConfig",
    "FinalMLP",
    "FinalMLPConfig",
    "ItemPopularity",
    "LogisticRegression",
    "LogisticRegressionConfig",
    "Lookup",
    "MaskNet",
    "MaskNetConfig",
    "Model",
    "ModelConfig",
    "ModelFolder",
    "PNNConfig",
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
    "XDeepFM",
    "XDeepFMConfig",
    "auc",
    "build_model",
    "calibration_curve",
    "calibration_ratio",
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
]


# Name -> module that defines it and loads torch.
_HOMES = {
    "AutoInt": "deep.autoint",
    "AutoIntConfig": "deep.autoint",
    "DCNV2": "deep.dcn_v2",
    "DCNV2Config": "deep.dcn_v2",
    "DNN": "deep.dnn",
    "DNNConfig": "deep.dnn",
    "DeepFM": "deep.deepfm",
    "DeepFMConfig": "deep.deepfm",
    "FiBiNET": "deep.fibinet",
    "FiBiNETConfig": "deep.fibinet",
    "FinalMLP": "deep.final_mlp",
    "FinalMLPConfig": "deep.final_mlp",
    "MaskNet": "deep.masknet",
    "MaskNetConfig": "deep.masknet",
    "PNN": "deep.pnn",
    "PNNConfig": "deep.pnn",
    "WideDeep": "deep.wide_deep",
    "WideDeepConfig": "deep.wide_deep",
    "XDeepFM": "deep.xdeepfm",
    "XDeepFMConfig": "deep.xdeepfm",
}

if not TYPE_CHECKING:  # a type checker shall go by the imports above and find misspellings

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'weiml.models' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"weiml.models.{home}"), name)
        globals()[name] = value
        return value
