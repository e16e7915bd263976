from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weiml.data import write_batches
from weiml.features import Batch
from weiml.hashing import hash_key


def make_batch(rng: np.random.Generator, size: int) -> Batch:
    """Labels follow a weight per item and one dense column."""
    items = rng.integers(0, 20, size)
    users = rng.integers(0, 50, size)
    dense = rng.normal(size=(size, 1)).astype(np.float32)
    logits = (items - 10) / 4 + dense[:, 0]
    labels = (rng.random(size) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    item_keys = np.array([hash_key("item", int(i)) for i in range(20)], np.uint64)[items]
    user_keys = np.array([hash_key("user", int(u)) for u in range(50)], np.uint64)[users]
    return Batch(
        labels=labels[:, None],
        weights=np.ones(size, np.float32),
        dense=dense,
        keys=np.stack([user_keys, item_keys], axis=1).reshape(-1),
        offsets=np.arange(2 * size + 1, dtype=np.int32),
        groups=user_keys,
        items=item_keys,
        times=np.arange(size, dtype=np.int64),
        slots=("user", "item"),
        dense_names=("x",),
    )


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """Folders of a training and a validation set of 3000 and 1000 examples."""
    train, validation = tmp_path / "data" / "train", tmp_path / "data" / "validation"
    write_batches([make_batch(rng, 3000)], train)
    write_batches([make_batch(rng, 1000)], validation)
    return train, validation
