"""The log of global steps: which worker took which, and whether all are there once.

It is what distributed TensorFlow printed (local step, global step), kept by a callback.
"""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

from weiml.train.callbacks import Callback, Progress

__all__ = ["StepLog"]


class StepLog(Callback):
    """Keeps each worker's global steps. Not thread-safe.

    When a run goes on from a checkpoint, its steps behind that are forgotten with what they
    learned, and taken again. A log that begins with a run that goes on begins at its checkpoint.

    Example:
        >>> log = StepLog()
        >>> Trainer(config).fit(train, callbacks=[log])  # doctest: +SKIP
        >>> log.faults()
        []
    """

    def __init__(self) -> None:
        self._chunks: list[tuple[np.ndarray, ...]] = []
        self._starts_anew = False
        self._begins = 0
        self.forgotten = 0
        """Steps that were taken again."""

    def on_start(self, steps: int) -> None:
        """See `Callback.on_start`."""
        self._starts_anew = True

    def on_progress(self, at: Progress) -> None:
        """See `Callback.on_progress`."""
        if self._starts_anew:
            self._go_on_from(at.global_step - sum(map(len, at.global_steps)))
            self._starts_anew = False
        self._chunks.append(at.global_steps)

    def by_worker(self) -> list[np.ndarray]:
        """Return for each worker the global steps, int64, that its local steps were, in order."""
        if not self._chunks:
            return []
        none = np.zeros(0, np.int64)  # of a worker that is not there for a while
        return [np.concatenate(parts) for parts in zip_longest(*self._chunks, fillvalue=none)]

    def faults(self) -> list[str]:
        """Return what is wrong: global steps that are missing, repeated or unknown; [] is right."""
        steps = np.concatenate([*self.by_worker(), np.zeros(0, np.int64)])
        known = steps[steps > 0]
        taken, counts = np.unique(known, return_counts=True)
        wanted = np.arange(self._begins + 1, self._begins + steps.size + 1)
        found = {
            "missing": np.setdiff1d(wanted, taken),
            "repeated": taken[counts > 1],
            "out of place": np.setdiff1d(taken, wanted),
        }
        unknown = [f"{steps.size - known.size} steps unknown"] if steps.size > known.size else []
        return unknown + [
            f"{len(which)} steps {fault}, the first {which[0]}"
            for fault, which in found.items()
            if len(which)
        ]

    def _go_on_from(self, step: int) -> None:
        """Forget the chunks behind a global step, at which one ends or the log begins."""
        if not self._chunks:
            self._begins = step
        chunks, self._chunks = self._chunks, []
        end = self._begins
        for chunk in chunks:
            size = sum(map(len, chunk))
            end += size
            if end <= step:
                self._chunks.append(chunk)
            else:
                self.forgotten += size
