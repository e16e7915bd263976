"""Training: the loop over workers and servers, one pass over a stream, learning online."""

from __future__ import annotations

from weiml.train.callbacks import Callback, Progress, ProgressCallback
from weiml.train.checkpoints import Checkpoint, Checkpoints
from weiml.train.config import TrainConfig
from weiml.train.evaluate import evaluate_model, score_dataset
from weiml.train.online import OnlineTrainer, ProgressiveMetrics
from weiml.train.schedules import Constant, Cosine, Linear, Plateau, Schedule, Stairs
from weiml.train.step_log import StepLog
from weiml.train.stream import StreamResult, StreamTrainer
from weiml.train.trainer import Trainer, TrainResult, make_server

__all__ = [
    "Callback",
    "Checkpoint",
    "Checkpoints",
    "Constant",
    "Cosine",
    "Linear",
    "OnlineTrainer",
    "Plateau",
    "Progress",
    "ProgressCallback",
    "ProgressiveMetrics",
    "Schedule",
    "Stairs",
    "StepLog",
    "StreamResult",
    "StreamTrainer",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "evaluate_model",
    "make_server",
    "score_dataset",
]
