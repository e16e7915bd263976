"""What a run tells while it goes on, and who may end it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Callback", "OnProgress", "Progress", "ProgressCallback"]


class Progress(NamedTuple):
    """How far a run is, every `TrainConfig.progress_steps` steps."""

    epoch: int
    """From 1."""
    epochs: int
    step: int
    """Within the epoch, of each worker."""
    steps: int
    examples_per_second: float
    """Of all workers, over the epoch so far."""
    loss: float
    """Mean loss over the epoch so far."""
    lr_factor: float = 1.0
    """What the schedule multiplies the dense part's learning rate by in the next step."""
    global_step: int = 0
    """Steps that all workers took together since the run's beginning, checkpoints gone on from
    included."""
    global_steps: tuple[np.ndarray, ...] = ()
    """For each worker the global steps, int64 from 1, that its last steps were: their numbers in
    the order in which the server took them, so that each is there once. 0: the server's process
    died before it could say."""


ProgressCallback = Callable[[Progress], None]


class Callback:
    """Called by the thread that trains. An error that it raises ends the run.

    Example:
        >>> class FirstEpochOnly(Callback):
        ...     def on_epoch(self, entry):
        ...         return entry["epoch"] >= 1
    """

    def on_start(self, steps: int) -> None:
        """A run begins, or goes on, that has `steps` steps a worker in all."""

    def on_resume(self, step: int, folder: Path) -> None:
        """The run goes on behind `step` steps a worker, from the checkpoint in `folder`."""

    def on_progress(self, at: Progress) -> bool | None:
        """Some steps were taken; true ends the run as if this were its last epoch's end."""
        return None

    def on_epoch(self, entry: dict[str, Any]) -> bool | None:
        """An epoch was validated: see `TrainResult.history`; true ends the run."""
        return None

    def on_checkpoint(self, folder: Path) -> None:
        """A checkpoint was written."""

    def on_restart(self, error: Exception) -> None:
        """Workers or servers died, and the run goes on from its last checkpoint."""

    def on_resize(self, workers: int) -> None:
        """The run begins with other than `num_workers`, or goes on with other than before."""

    def on_end(self) -> None:
        """The run came to its end, and no error ended it."""


class OnProgress(Callback):
    """Calls a function on progress."""

    def __init__(self, function: ProgressCallback) -> None:
        self._function = function

    def on_progress(self, at: Progress) -> None:
        """See `Callback.on_progress`."""
        self._function(at)
