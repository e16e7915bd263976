"""Small batches with known structure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from weiml.features import Batch

SLOTS = ("user", "item", "tags")
DENSE = ("age", "price")


def make_batch(count: int, seed: int = 0, *, values: bool = False, users: int = 30) -> Batch:
    """Return examples whose label depends on user, item and price; tags are 0 to 3 keys."""
    rng = np.random.default_rng(seed)
    user = rng.integers(1, users + 1, count).astype(np.uint64)
    item = rng.integers(1, 21, count).astype(np.uint64)
    tag_counts = rng.integers(0, 4, count)
    dense = rng.standard_normal((count, 2)).astype(np.float32)
    lengths = np.column_stack([np.ones(count, int), np.ones(count, int), tag_counts]).reshape(-1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    keys = np.empty(offsets[-1], np.uint64)
    keys[offsets[0:-1:3]] = user + np.uint64(1000)
    keys[offsets[1:-1:3]] = item + np.uint64(2000)
    tags = np.repeat(np.arange(count * 3) % 3 == 2, lengths)
    keys[tags] = rng.integers(3000, 3010, tags.sum()).astype(np.uint64)
    logit = np.sin(user * 1.7) + np.cos(item * 2.3) + 0.8 * dense[:, 1]
    labels = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return Batch(
        labels=labels[:, None],
        weights=rng.uniform(0.5, 1.5, count).astype(np.float32),
        dense=dense,
        keys=keys,
        values=rng.uniform(0.5, 2, len(keys)).astype(np.float32) if values else None,
        offsets=offsets,
        groups=user,
        items=item,
        times=np.arange(count, dtype=np.int64),
        slots=SLOTS,
        dense_names=DENSE,
    )


@pytest.fixture
def batch_of() -> Callable[..., Batch]:
    return make_batch
