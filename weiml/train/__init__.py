"""Training: the loop over workers and servers, one pass over a stream, learning online."""

from __future__ import annotations

from weiml.train.callbacks import Callback, Progress, ProgressCallback
from weiml.train.checkpoints import Checkpoint, Checkpoints
from weiml.train.config import TrainConfig
from weiml.train.evaluate import Evaluation, evaluate_model, evaluate_tasks_of, score_dataset
from weiml.train.fitting import Trained, train_recipe
from weiml.train.online import OnlineTrainer, ProgressiveMetrics
from weiml.train.recipes import Recipe, load_recipe, read_recipe
from weiml.train.schedules import Constant, Cosine, Linear, Plateau, Schedule, Stairs
from weiml.train.step_log import StepLog
from weiml.train.stream import StreamResult, StreamTrainer
from weiml.train.telling import Teller
from weiml.train.trainer import Trainer, TrainResult, make_server

__all__ = [
    "Callback",
    "Checkpoint",
    "Checkpoints",
    "Constant",
    "Cosine",
    "Evaluation",
    "Linear",
    "OnlineTrainer",
    "Plateau",
    "Progress",
    "ProgressCallback",
    "ProgressiveMetrics",
    "Recipe",
    "Schedule",
    "Stairs",
    "StepLog",
    "StreamResult",
    "StreamTrainer",
    "Teller",
    "TrainConfig",
    "TrainResult",
    "Trained",
    "Trainer",
    "evaluate_model",
    "evaluate_tasks_of",
    "load_recipe",
    "make_server",
    "read_recipe",
    "score_dataset",
    "train_recipe",
]
