"""Watches the loss of a worker's steps, and says where training left the finite or exploded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from weiml.data import BatchSource
from weiml.errors import DivergedError
from weiml.models import Model, StepResult

__all__ = ["LossGuard", "whereabouts"]

_DECAY = 0.98
_WARM = 10  # steps before a mean means something
_STRIKES = 3
_SHOWN = 64  # numbers of examples in a message


class LossGuard:
    """The mean loss so far, and how many of the last steps were far above it.

    Args:
        explosion: how far above; 0: any finite loss is fine.
        batch_size: a step of less than half of it proves nothing.
    """

    def __init__(self, explosion: float, batch_size: int) -> None:
        self._explosion = explosion
        self._batch_size = batch_size
        self._state = np.zeros(3)  # mean, steps, strikes

    @property
    def state(self) -> np.ndarray:
        """What it remembers: float64 (3,)."""
        return self._state.copy()

    @state.setter
    def state(self, state: np.ndarray) -> None:
        self._state = np.array(state, np.float64)

    def check(
        self, result: StepResult, model: Model, where: str, examples: Callable[[], str]
    ) -> None:
        """Count a step; `examples` says where its examples are.

        Raises:
            DivergedError: its loss is not finite, or it is the third in a row that is far too high.
        """
        if not math.isfinite(result.loss):
            self.diverged(f"the loss is {result.loss}", model, where, examples())
        if not self._explosion or not result.weight or 2 * result.examples < self._batch_size:
            return
        loss = result.loss / result.weight
        mean, steps, strikes = self._state
        if steps >= _WARM and loss > self._explosion * mean:
            self._state[2] = strikes + 1
            if strikes + 1 >= _STRIKES:
                said = (
                    f"the loss is {loss:.4g}, {_STRIKES} steps in a row above explosion = "
                    f"{self._explosion:g} times the mean before, {mean:.4g}"
                )
                self.diverged(said, model, where, examples())
            return
        self._state[:] = self._after(loss)

    def _after(self, loss: float) -> tuple[float, float, float]:
        mean, steps, _ = self._state
        kept = min(_DECAY, steps / (steps + 1))
        return kept * mean + (1 - kept) * loss, steps + 1, 0

    @staticmethod
    def diverged(said: str, model: Model, where: str, examples: str) -> NoReturn:
        """Raise DivergedError."""
        raise DivergedError(
            f"training diverged at {where}: {said}; on {examples}. Look at these examples, or "
            f"lower the learning rates of model {model.name!r}: {model.config}"
        )


def whereabouts(
    source: BatchSource,
    start: int,
    stop: int,
    *,
    batch_size: int,
    seed: int | None,
    epoch: int,
    worker: int,
    num_workers: int,
) -> str:
    """Say where examples `start` to `stop` of a worker's epoch are in the files."""
    locate = getattr(source, "locate", None)
    if locate is None:
        return f"examples {start} to {stop - 1} of the worker's part of {source}"
    found = locate(
        start, stop, batch_size, seed=seed, epoch=epoch, worker=worker, num_workers=num_workers
    )
    parts = [f"{path} rows {_shown(rows)}" for path, rows in found]
    return "; ".join(parts[:5]) + ("; …" if len(parts) > 5 else "")


def _shown(rows: np.ndarray) -> str:
    ordered = np.sort(rows)
    if ordered.size and ordered[-1] - ordered[0] + 1 == ordered.size:
        return f"{ordered[0]} to {ordered[-1]}"
    text = ", ".join(map(str, ordered[:_SHOWN]))
    return text + (f", … ({ordered.size} in all)" if ordered.size > _SHOWN else "")
