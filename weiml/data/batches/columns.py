"""What batches must have in common to be joined, mixed, or kept in one data set."""

from __future__ import annotations

from typing import Any

from weiml.errors import DataError
from weiml.features import Batch

__all__ = ["check_columns"]

_ARRAYS = ("labels", "weights", "dense", "keys", "offsets", "groups", "items", "times")


def check_columns(first: Batch, other: Batch) -> None:
    """Raise DataError unless the examples of both can stand in one batch.

    How many labels a batch without examples has says nothing: its table does not keep that. Where
    only one has values, those of the other are 1.
    """
    mine, theirs = _columns(first), _columns(other)
    for name in mine:
        if name == "labels" and not (first.num_examples and other.num_examples):
            continue
        if mine[name] != theirs[name]:
            raise DataError(
                f"batches with different columns cannot be joined: {name} {mine[name]} and "
                f"{theirs[name]}"
            )


def _columns(batch: Batch) -> dict[str, Any]:
    """Return the names of slots and dense columns, and of each array what its rows are."""
    columns: dict[str, Any] = {"slots": batch.slots, "dense_names": batch.dense_names}
    for name in _ARRAYS:
        array = getattr(batch, name)
        columns[name] = f"{array.dtype} (n{''.join(f', {size}' for size in array.shape[1:])})"
    return columns
