"""Training: the loop over workers and servers, one pass over a stream, learning online."""

from __future__ import annotations

from weiml.train.config import TrainConfig
from weiml.train.evaluate import evaluate_model, score_dataset
from weiml.train.online import OnlineTrainer, ProgressiveMetrics
from weiml.train.stream import StreamResult, StreamTrainer
from weiml.train.trainer import Progress, ProgressCallback, Trainer, TrainResult, make_server

__all__ = [
    "OnlineTrainer",
    "Progress",
    "ProgressCallback",
    "ProgressiveMetrics",
    "StreamResult",
    "StreamTrainer",
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "evaluate_model",
    "make_server",
    "score_dataset",
]
