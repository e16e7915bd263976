"""A worker's batches: how many steps they make, a first batch cut into growing ones, and checks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from weiml.errors import DataError
from weiml.features import Batch

__all__ = ["check_inputs", "growing", "growing_sizes", "steps_of"]


def steps_of(
    examples: int,
    batch_size: int,
    first_batch_size: int | None,
    epoch: int,
    accumulate: int = 1,
) -> int:
    """Return the steps in which each worker takes its `examples` of an epoch."""
    batches = -(-examples // batch_size)
    if epoch == 0 and examples:
        batches += len(growing_sizes(min(examples, batch_size), first_batch_size)) - 1
    return -(-batches // accumulate)


def growing(batches: Iterator[Batch], first: int | None) -> Iterator[Batch]:
    """Cut the first batch into growing ones."""
    for batch in itertools.islice(batches, 1):
        start = 0
        for size in growing_sizes(len(batch), first):
            yield batch.slice(start, start + size)
            start += size
    yield from batches


def growing_sizes(whole: int, first: int | None) -> list[int]:
    """Return ``first, first, 2 first, 4 first`` and so on, together `whole`."""
    sizes = []
    done = 0
    while first is not None and max(done, first) < whole - done:
        sizes.append(max(done, first))
        done += sizes[-1]
    return [*sizes, whole - done]


def check_inputs(batch: Batch, where: str) -> None:
    """Raise DataError if the batch has dense numbers or values of keys that are not finite."""
    if batch.values is not None and not np.isfinite(batch.values).all():
        at = int(np.argmin(np.isfinite(batch.values)))
        slot = batch.slots[
            (int(np.searchsorted(batch.offsets, at, "right")) - 1) % len(batch.slots)
        ]
        raise DataError(
            f"{where}: slot {slot!r} holds values that are not finite; fix them where the features "
            "are made"
        )
    if np.isfinite(batch.dense).all():
        return
    for name, column in zip(batch.dense_names, batch.dense.T, strict=True):
        if not np.isfinite(column).all():
            raise DataError(
                f"{where}: dense column {name!r} holds values that are not finite; fix them where "
                f"the features are made"
            )
