"""Examples for deep models: 26 slots of Zipf-like ids below 100,000, 13 numbers, labels to learn.

Ids follow `benchmarks.zipf.STEEP` or are uniform. A label is drawn from a logistic model with a
weight for each slot and id, slopes of the numbers, and products of pairs of ids' hidden factors, so
that a network has something to find that a linear model has not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.zipf import STEEP
from weiml.data import BatchDataset, write_batches
from weiml.features import Batch
from weiml.hashing import hash_values

__all__ = ["DENSE", "IDS", "SLOTS", "Examples", "make_examples"]

SLOTS = 26
IDS = 100_000
DENSE = 13


@dataclass(frozen=True)
class Examples:
    """The same examples in every contestant's form."""

    ids: np.ndarray
    """int64 (n, 26): below 100,000 in each slot."""
    dense: np.ndarray
    """float32 (n, 13)."""
    labels: np.ndarray
    """float32 (n,)."""

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Examples:
        """Return examples start to stop."""
        return Examples(self.ids[start:stop], self.dense[start:stop], self.labels[start:stop])

    @property
    def places(self) -> np.ndarray:
        """int64 (n, 26): rows of one table of 2.6 million."""
        return self.ids + np.arange(SLOTS) * IDS

    def batch(self) -> Batch:
        """Return them as a batch: a hashed key for each slot and id."""
        n = len(self)
        names = pa.array(np.arange(IDS))
        keys = np.empty((n, SLOTS), np.uint64)
        for slot in range(SLOTS):
            keys[:, slot] = hash_values(f"c{slot}", names)[self.ids[:, slot]]
        nobody = np.zeros(n, np.uint64)
        return Batch(
            labels=self.labels[:, None],
            weights=np.ones(n, np.float32),
            dense=self.dense,
            keys=keys.reshape(-1),
            offsets=np.arange(n * SLOTS + 1, dtype=np.int32),
            groups=nobody,
            items=nobody,
            times=np.zeros(n, np.int64),
            slots=tuple(f"c{slot}" for slot in range(SLOTS)),
            dense_names=tuple(f"i{column}" for column in range(DENSE)),
        )

    def write(self, folder: Path) -> BatchDataset:
        """Write them as batches."""
        return write_batches([self.batch()], folder)


def make_examples(count: int, *, uniform: bool = False, seed: int = 0) -> Examples:
    """Draw examples."""
    rng = np.random.default_rng(seed)
    shape = (count, SLOTS)
    ids = rng.integers(0, IDS, shape) if uniform else STEEP.draw(rng, shape) % IDS
    dense = rng.random((count, DENSE)).astype(np.float32)
    world = np.random.default_rng(7)
    weights = 0.35 * world.standard_normal((SLOTS, 1000))
    factors = world.standard_normal((SLOTS, 1000, 4))
    few = ids % 1000
    logit = dense @ (world.standard_normal(DENSE)) - 1.5
    for slot in range(SLOTS):
        logit += weights[slot, few[:, slot]]
    for slot in range(0, SLOTS - 1, 2):
        pair = factors[slot, few[:, slot]] * factors[slot + 1, few[:, slot + 1]]
        logit += 0.15 * pair.sum(1)
    labels = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return Examples(ids, dense, labels)
