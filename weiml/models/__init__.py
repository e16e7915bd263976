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
    from weiml.models.deep.autoint import AutoInt, AutoIntConfig
    from weiml.models.deep.base import DeepModel
    from weiml.models.deep.dcn_v2 import DCNV2, DCNV2Config
    from weiml.models.deep.deepfm import DeepFM, DeepFMConfig
    from weiml.models.deep.dnn import DNN, DNNConfig
    from weiml.models.deep.fibinet import FiBiNET, FiBiNETConfig
    from weiml.models.deep.final_mlp import FinalMLP, FinalMLPConfig
    from weiml.models.deep.masknet import MaskNet, MaskNetConfig
    from weiml.models.deep.max_norm_dnn import MaxNormDNN, MaxNormDNNConfig
    from weiml.models.deep.pnn import PNN, PNNConfig
    from weiml.models.deep.wide_deep import WideDeep, WideDeepConfig
    from weiml.models.deep.xdeepfm import XDeepFM, XDeepFMConfig
    from weiml.models.factorization.field_aware import FFM, FFMConfig
    from weiml.models.factorization.machine import FM, FMConfig
    from weiml.models.image.cnn import CNN, CNNConfig
    from weiml.models.image.dpn import DPN, DPNConfig
    from weiml.models.image.resnet import ResNet, ResNetConfig
    from weiml.models.multitask.esmm import ESMM, ESMMConfig
    from weiml.models.multitask.mmoe import MMoE, MMoEConfig
    from weiml.models.multitask.ple import PLE, PLEConfig
    from weiml.models.multitask.shared_bottom import SharedBottom, SharedBottomConfig
    from weiml.models.retrieval.two_tower import TwoTower, TwoTowerConfig
    from weiml.models.sequence.bst import BST, BSTConfig
    from weiml.models.sequence.dien import DIEN, DIENConfig
    from weiml.models.sequence.din import DIN, DINConfig
    from weiml.models.trees.gbdt_lr import GBDTLogisticRegression, GBDTLogisticRegressionConfig

__all__ = [
    "BST",
    "CNN",
    "DCNV2",
    "DENSE_VECTOR",
    "DIEN",
    "DIN",
    "DNN",
    "DPN",
    "ESMM",
    "FFM",
    "FM",
    "MODELS",
    "PLE",
    "PNN",
    "AutoInt",
    "AutoIntConfig",
    "BSTConfig",
    "Baseline",
    "CNNConfig",
    "CalibrationCurve",
    "Columns",
    "DCNV2Config",
    "DIENConfig",
    "DINConfig",
    "DNNConfig",
    "DPNConfig",
    "DeepFM",
    "DeepFMConfig",
    "DeepModel",
    "DenseLogit",
    "ESMMConfig",
    "Estimate",
    "FFMConfig",
    "FMConfig",
    "Fetch",
    "FiBiNET",
    "FiBiNETConfig",
    "FinalMLP",
    "FinalMLPConfig",
    "GBDTLogisticRegression",
    "GBDTLogisticRegressionConfig",
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
    "MaskNet",
    "MaskNetConfig",
    "MaxNormDNN",
    "MaxNormDNNConfig",
    "MetricsAccumulator",
    "Model",
    "ModelConfig",
    "ModelFolder",
    "PLEConfig",
    "PNNConfig",
    "Poly2",
    "Poly2Config",
    "Predictor",
    "Prepared",
    "ResNet",
    "ResNetConfig",
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
    "XDeepFM",
    "XDeepFMConfig",
    "accuracy",
    "auc",
    "build_model",
    "calibration_curve",
    "calibration_ratio",
    "class_log_loss",
    "evaluate_classes",
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
    "top_k_accuracy",
]


# Name -> module that defines it and loads torch.
_HOMES = {
    "AutoInt": "deep.autoint",
    "AutoIntConfig": "deep.autoint",
    "BST": "sequence.bst",
    "BSTConfig": "sequence.bst",
    "CNN": "image.cnn",
    "CNNConfig": "image.cnn",
    "DCNV2": "deep.dcn_v2",
    "DCNV2Config": "deep.dcn_v2",
    "DIEN": "sequence.dien",
    "DIENConfig": "sequence.dien",
    "DIN": "sequence.din",
    "DINConfig": "sequence.din",
    "DNN": "deep.dnn",
    "DNNConfig": "deep.dnn",
    "DPN": "image.dpn",
    "DPNConfig": "image.dpn",
    "DeepFM": "deep.deepfm",
    "DeepFMConfig": "deep.deepfm",
    "DeepModel": "deep.base",
    "ESMM": "multitask.esmm",
    "ESMMConfig": "multitask.esmm",
    "FFM": "factorization.field_aware",
    "FFMConfig": "factorization.field_aware",
    "FM": "factorization.machine",
    "FMConfig": "factorization.machine",
    "FiBiNET": "deep.fibinet",
    "FiBiNETConfig": "deep.fibinet",
    "FinalMLP": "deep.final_mlp",
    "FinalMLPConfig": "deep.final_mlp",
    "GBDTLogisticRegression": "trees.gbdt_lr",
    "GBDTLogisticRegressionConfig": "trees.gbdt_lr",
    "MMoE": "multitask.mmoe",
    "MMoEConfig": "multitask.mmoe",
    "MaskNet": "deep.masknet",
    "MaskNetConfig": "deep.masknet",
    "MaxNormDNN": "deep.max_norm_dnn",
    "MaxNormDNNConfig": "deep.max_norm_dnn",
    "PLE": "multitask.ple",
    "PLEConfig": "multitask.ple",
    "PNN": "deep.pnn",
    "PNNConfig": "deep.pnn",
    "ResNet": "image.resnet",
    "ResNetConfig": "image.resnet",
    "SharedBottom": "multitask.shared_bottom",
    "SharedBottomConfig": "multitask.shared_bottom",
    "TwoTower": "retrieval.two_tower",
    "TwoTowerConfig": "retrieval.two_tower",
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
