"""Between Ray Tune and the journal: Tune's events as ask and tell.

Ray's own Optuna searcher tells a trial that a scheduler stopped as complete, with a value from an
early step; leaves what a crash cut short running for ever; and joins searches of the default name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from weiml.search.journal import Journal
from weiml.search.result import TrialRecord

__all__ = ["FINAL", "JournalSearcher"]

FINAL = "weiml_final"
"""Key of a trial's last report: without it, a trial that ends was stopped early."""


class JournalSearcher(Searcher):
    """Suggests what the journal asks, and tells it how each trial ended.

    A trial's reports are ``{"step": int, "value": float, "metrics": {...}}``; the last also has
    `FINAL`, and ``"failed": str`` in place of a value where the objective raised. Tune's driver
    calls it from one thread.
    """

    def __init__(
        self, journal: Journal, on_finished: Callable[[TrialRecord], None] | None = None
    ) -> None:
        super().__init__()
        self._journal = journal
        self._on_finished = on_finished
        self._numbers: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its arguments to a file, for a restore that we don't use."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Start a trial."""
        number, params = self._journal.ask()
        self._numbers[trial_id] = number
        return {"number": number, "params": params}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Note an intermediate value."""
        if not result.get(FINAL) and trial_id in self._numbers:
            self._report(self._numbers[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """End a trial: complete, pruned or failed."""
        if trial_id not in self._numbers:
            return
        number = self._numbers.pop(trial_id)
        if error or not result:
            self._journal.fail(number, "its worker process died")
        elif result.get("failed"):
            self._journal.fail(number, str(result["failed"]))
        elif result.get(FINAL):
            self._journal.complete(number, _metrics(result))
        else:
            # Tune hides from on_trial_result the very report at which a trial was stopped.
            self._report(number, result)
            self._journal.prune(number, _metrics(result))
        if self._on_finished is not None:
            self._on_finished(self._journal.record(number))

    def save(self, checkpoint_path: str) -> None:
        """Write down only that there is nothing to write: the journal is the state."""
        Path(checkpoint_path).write_text(json.dumps({"state": "journal.log"}), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal was opened with the search."""

    def _report(self, number: int, result: Mapping[str, Any]) -> None:
        if "step" in result and "value" in result:
            self._journal.report(number, int(result["step"]), float(result["value"]))


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Undo Tune's flattening of ``metrics`` into keys with a slash."""
    return {
        key.removeprefix("metrics/"): float(value)
        for key, value in result.items()
        if key.startswith("metrics/")
    }
