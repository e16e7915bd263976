"""Examples for trees: interactions of numbers and categories, missing values, several keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from weiml.data import BatchDataset, write_batches
from weiml.features import Batch
from weiml.models.trees import GBDTConfig

SLOTS = ("city", "tags")
DENSE = ("x", "y")


def make_examples(count: int, seed: int = 0) -> Batch:
    """Return examples whose log-odds are x·y and the city's; x has gaps, tags are 0 to 3 keys."""
    rng = np.random.default_rng(seed)
    city = (rng.zipf(1.5, count) % 30).astype(np.uint64)
    tag_counts = rng.integers(0, 4, count)
    lengths = np.column_stack([np.ones(count, int), tag_counts]).reshape(-1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    keys = np.empty(offsets[-1], np.uint64)
    keys[offsets[0:-1:2]] = city + np.uint64(100)
    in_tags = np.repeat(np.arange(count * 2) % 2 == 1, lengths)
    keys[in_tags] = rng.integers(1000, 1006, in_tags.sum()).astype(np.uint64)
    dense = rng.standard_normal((count, 2)).astype(np.float32)
    logit = 2 * dense[:, 0] * dense[:, 1] + np.sin(city * 1.7) + 0.3 * (tag_counts - 1.5)
    dense[rng.random(count) < 0.1, 0] = np.nan
    labels = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return Batch(
        labels=labels[:, None],
        weights=rng.uniform(0.5, 1.5, count).astype(np.float32),
        dense=dense,
        keys=keys,
        offsets=offsets,
        groups=city,
        items=city,
        times=np.arange(count, dtype=np.int64),
        slots=SLOTS,
        dense_names=DENSE,
    )


ExamplesOf = Callable[..., Batch]


@pytest.fixture(scope="session")
def examples_of() -> ExamplesOf:
    return make_examples


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[BatchDataset, BatchDataset]:
    """A training set of four parts, and a validation set."""
    folder: Path = tmp_path_factory.mktemp("trees")
    train = write_batches([make_examples(4000, 1)], folder / "train", examples_per_part=1100)
    validation = write_batches([make_examples(1500, 2)], folder / "validation")
    return train, validation


@pytest.fixture
def small() -> GBDTConfig:
    """A few small trees."""
    return GBDTConfig(rounds=12, learning_rate=0.2, num_leaves=8, progress_rounds=4)
