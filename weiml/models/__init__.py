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
from weiml.models.factorization import Poly2, Poly2Config
from weiml.models.fetch import Fetch, Lookup, Prepared
from weiml.models.folder import ModelFolder, save_model
from weiml.models.linear import (
    LinearConfig,
    LinearModel,
    LinearSVM,
    LinearSVMConfig,
    LogisticRegression,
    LogisticRegressionConfig,
)
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
from weiml.models.registry import (
    MODELS,
    ModelConfig,
    model_class,
    model_config,
    register_model,
)
from weiml.models.scorer import Scorer, load_scorer
from weiml.models.stages import Span, Stages

if TYPE_CHECKING:
    from weiml.models.deep.base import DeepModel
    from weiml.models.deep.dnn import DNN, DNNConfig
    from weiml.models.deep.max_norm_dnn import MaxNormDNN, MaxNormDNNConfig
    from weiml.models.deep.wide_deep import WideDeep, WideDeepConfig
    from weiml.models.factorization.field_aware import FFM, FFMConfig
    from weiml.models.factorization.machine import FM, FMConfig
    from weiml.models.multitask.esmm import ESMM, ESMMConfig
    from weiml.models.multitask.mmoe import MMoE, MMoEConfig
    from weiml.models.multitask.ple import PLE, PLEConfig
    from weiml.models.multitask.shared_bottom import SharedBottom, SharedBottomConfig
    from weiml.models.retrieval.two_tower import TwoTower, TwoTowerConfig
    from weiml.models.sequence.bst import BST, BSTConfig
    from weiml.models.sequence.dien import DIEN, DIENConfig
    from weiml.models.sequence.din import DIN, DINConfig

__all__ = [
    "BST",
    "DENSE_VECTOR",
    "DIEN",
    "DIN",
    "DNN",
    "ESMM",
    "FFM",
    "FM",
    "MODELS",
    "PLE",
    "BSTConfig",
    "Baseline",
    "CalibrationCurve",
    "Columns",
    "DIENConfig",
    "DINConfig",
    "DNNConfig",
    "DeepModel",
    "DenseLogit",
    "ESMMConfig",
    "Estimate",
    "FFMConfig",
    "FMConfig",
    "Fetch",
    "ItemPopularity",
    "LinearConfig",
    "LinearModel",
    "LinearSVM",
    "LinearSVMConfig",
    "LogisticRegression",
    "LogisticRegressionConfig",
    "Lookup",
    "MMoE",
    "MMoEConfig",
    "MaxNormDNN",
    "MaxNormDNNConfig",
    "MetricsAccumulator",
    "Model",
    "ModelConfig",
    "ModelFolder",
    "PLEConfig",
    "Poly2",
    "Poly2Config",
    "Predictor",
    "Prepared",
    "RocCurve",
    "Rows",
    "Scorer",
    "SharedBottom",
    "SharedBottomConfig",
    "Span",
    "Stages",
    "StepResult",
    "TaskMetricsAccumulator",
    "TrainingStep",
    "TwoTower",
    "TwoTowerConfig",
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
    "load_scorer",
    "log_loss",
    "model_class",
    "model_config",
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


# Name -> module that defines it and loads torch.
_HOMES = {
    "BST": "sequence.bst",
    "BSTConfig": "sequence.bst",
    "DIEN": "sequence.dien",
    "DIENConfig": "sequence.dien",
    "DIN": "sequence.din",
    "DINConfig": "sequence.din",
    "DNN": "deep.dnn",
    "DNNConfig": "deep.dnn",
    "DeepModel": "deep.base",
    "FFM": "factorization.field_aware",
    "FFMConfig": "factorization.field_aware",
    "FM": "factorization.machine",
    "FMConfig": "factorization.machine",
    "MaxNormDNN": "deep.max_norm_dnn",
    "MaxNormDNNConfig": "deep.max_norm_dnn",
    "ESMM": "multitask.esmm",
    "ESMMConfig": "multitask.esmm",
    "MMoE": "multitask.mmoe",
    "MMoEConfig": "multitask.mmoe",
    "PLE": "multitask.ple",
    "PLEConfig": "multitask.ple",
    "SharedBottom": "multitask.shared_bottom",
    "SharedBottomConfig": "multitask.shared_bottom",
    "TwoTower": "retrieval.two_tower",
    "TwoTowerConfig": "retrieval.two_tower",
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
