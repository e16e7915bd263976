"""Vowpal Wabbit beside us: one pass of logistic regression over its own cache.

As its documentation advises for speed and for sparse, hashed logs: the binary cache of an earlier
run instead of text, one namespace, a table with many more slots than keys (``-b``). It reads and
learns in two threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["VowpalWabbit"]

FTRL = "--ftrl --ftrl_alpha 0.1 --ftrl_beta 1"
SGD = ""  # its default: adaptive, normalized and invariant


@dataclass
class VowpalWabbit:
    """One set of options; call it to train once from the cache."""

    name: str
    options: str
    text: Path
    loss: float = float("nan")
    """Progressive log-loss of the last call."""

    @classmethod
    def contestants(cls, text: Path, bits: int) -> list[VowpalWabbit]:
        """Return FTRL with our parameters, and the default."""
        return [
            cls(f"VW --ftrl -b {bits}", f"-b {bits} {FTRL}", text),
            cls(f"VW -b {bits}", f"-b {bits} {SGD}", text),
        ]

    def __call__(self) -> None:
        """Train on the cache, which the first call makes from the text."""
        cache = self.text.with_suffix(".cache")
        options = f"--loss_function logistic {self.options} -d {self.text} --cache_file {cache}"
        workspace = _workspace(f"{options} --quiet")
        self.loss = workspace.get_sum_loss() / workspace.get_weighted_examples()
        workspace.finish()


def _workspace(options: str) -> Any:
    try:
        from vowpalwabbit import Workspace
    except ImportError:
        raise SystemExit(
            "error: this benchmark needs vowpalwabbit: run it by make bench, or "
            "pip install -c constraints.txt '.[bench]'"
        ) from None
    return Workspace(options)
