"""Cuts of a parameter server's history, and the rows that changed between two of them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from weiml.errors import DataError

__all__ = ["Cut", "Delta"]


@dataclass(frozen=True)
class Cut:
    """A point in a group's history: how many pushes each shard had applied.

    Shards count on their own, so one number cannot say what a cut of several contains; `total` is
    their sum, which only grows and is fit to be shown, stored as a version and compared.
    """

    shards: tuple[int, ...]
    """The sequence number of each shard; empty: before everything, on any number of shards."""

    @classmethod
    def zero(cls) -> Cut:
        """Return the cut before everything."""
        return cls(())

    @property
    def total(self) -> int:
        """The sum over shards: a version number that only grows."""
        return sum(self.shards)

    def to_json(self) -> str:
        """Return the cut as a JSON list of the shards' numbers."""
        return json.dumps(list(self.shards))

    @classmethod
    def from_json(cls, text: str) -> Cut:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is something else.
        """
        try:
            shards = json.loads(text)
        except json.JSONDecodeError:
            shards = None
        if not isinstance(shards, list) or not all(type(n) is int and n >= 0 for n in shards):
            raise DataError(f"a cut is a JSON list of sequence numbers, got {text!r}")
        return cls(tuple(shards))

    def __str__(self) -> str:
        return str(self.total)


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What changed after `since` and up to `cut`: values, not differences, so applying is a set.

    Each shard's part is one atomic cut of that shard. Under BSP all parts show the same tick when
    no worker is between two ticks at the time.
    """

    since: Cut
    cut: Cut
    """Ask for the next delta with it."""
    tables: dict[str, tuple[np.ndarray, np.ndarray]]
    """Every table: (keys uint64 (n,), weights float32 (n, dim)), n = 0 where nothing changed."""
    vectors: dict[str, np.ndarray]
    """The vectors that changed: all of their values, float32."""

    @property
    def sequence(self) -> int:
        """The version that this delta brings a copy to: ``cut.total``."""
        return self.cut.total

    @property
    def num_rows(self) -> int:
        """Changed rows over all tables."""
        return sum(len(keys) for keys, _ in self.tables.values())
