"""A run told in words: where it is, when it resumes and restarts, how the rate goes."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from weiml.data import BatchDataset
from weiml.models import model_class
from weiml.train.callbacks import Callback, Progress
from weiml.train.config import TrainConfig
from weiml.train.schedules import Schedule

__all__ = ["Teller", "TellingCallback", "told_at_start"]


class Teller(Protocol):
    """Who is told; called by the thread that trains."""

    def progress(self, text: str, done: float, total: float) -> None:
        """Show how far it is; each call takes the place of the one before."""

    def note(self, text: str, *, routine: bool = False) -> None:
        """Show a line that stays; one that is `routine` says what `progress` and the end do too."""


class TellingCallback(Callback):
    """Puts what happens to a run of `config` into words."""

    def __init__(self, config: TrainConfig, tell: Teller) -> None:
        self._config = config
        self._tell = tell
        self._scheduled = _is_scheduled(config)
        self._steps = 0

    def on_start(self, steps: int) -> None:
        """See `Callback.on_start`."""
        self._steps = steps

    def on_resume(self, step: int, folder: Path) -> None:
        """See `Callback.on_resume`."""
        self._tell.note(f"resuming behind step {step} from {folder}")

    def on_progress(self, at: Progress) -> None:
        """See `Callback.on_progress`."""
        text = (
            f"{self._config.model_config.name}: epoch {at.epoch}/{at.epochs}, loss {at.loss:.4f}, "
            f"{at.examples_per_second:,.0f} examples/s"
        )
        if self._scheduled:
            text += f", learning rate × {at.lr_factor:.3g}"
        self._tell.progress(text, at.step, at.steps)

    def on_epoch(self, entry: dict[str, Any]) -> None:
        """See `Callback.on_epoch`."""
        name = f"validation_{self._config.early_stopping_metric}"
        text = f"epoch {entry['epoch']}/{self._config.epochs}, loss {entry['train_loss']:.4f}"
        if name in entry:
            best = " (best)" if entry["best"] else ""
            text += f", {name.replace('_', ' ', 1)} {entry[name]:.4f}{best}"
        self._tell.note(f"{text}, {entry['examples_per_second']:,.0f} examples/s", routine=True)

    def on_restart(self, error: Exception) -> None:
        """See `Callback.on_restart`."""
        self._tell.note(
            f"restarting from the last checkpoint after: {' '.join(str(error).split())}"
        )

    def on_resize(self, workers: int) -> None:
        """See `Callback.on_resize`."""
        wished = self._config.num_workers
        self._tell.note(f"going on with {workers} workers in place of {wished}, the same steps")


def told_at_start(config: TrainConfig, train: BatchDataset) -> str:
    """Return what a run will do, in a line."""
    workers = f" on {config.num_workers} workers" if config.num_workers > 1 else ""
    batches = f"batches of {config.batch_size:,}"
    if config.accumulate > 1:
        batches = f"{config.accumulate} {batches} a step"
    text = (
        f"{config.model_config.name}: up to {config.epochs} epochs of {train.num_examples:,} "
        f"examples, {batches}{workers}"
    )
    if _is_scheduled(config):
        text += f"; learning rate of the dense part: {_told(config.lr_schedule)}"
    return text


def _is_scheduled(config: TrainConfig) -> bool:
    """Whether the learning rate of a dense part changes."""
    plain = (
        type(config.lr_schedule)() == config.lr_schedule and config.lr_schedule.name == "constant"
    )
    return not plain and model_class(config.model_config.name).has_dense


def _told(schedule: Schedule) -> str:
    knobs = [f.name for f in fields(schedule) if f.name != "name"]
    return f"{schedule.name} ({', '.join(f'{k} = {getattr(schedule, k)}' for k in knobs)})"
