"""Cuts of a parameter server's history, and the rows that changed between two of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weiml.errors import DataError
from weiml.ps.partition import Partition

__all__ = ["Cut", "Delta", "lacks_numbers", "merge_deltas"]


@dataclass(frozen=True)
class Cut:
    """A point in a group's history: how many pushes each shard had applied.

    Shards count on their own, so one number cannot say what a cut of several contains; `total` is
    their sum, which only grows and is fit to be shown, stored as a version and compared.
    """

    shards: tuple[int, ...]
    """The sequence number of each shard; empty: before everything, on any number of shards."""
    version: int = 0
    """Of the partition: once buckets have moved, shards' numbers mean something else."""

    @classmethod
    def zero(cls) -> Cut:
        """Return the cut before everything."""
        return cls(())

    @property
    def total(self) -> int:
        """The sum over shards: a version number that only grows."""
        return sum(self.shards)

    def to_json(self) -> str:
        """Return the shards' numbers as a JSON list; beside the version where that is not 0."""
        numbers = list(self.shards)
        return json.dumps({"version": self.version, "shards": numbers} if self.version else numbers)

    @classmethod
    def from_json(cls, text: str) -> Cut:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is something else.
        """
        try:
            body = json.loads(text)
        except json.JSONDecodeError:
            body = None
        if not isinstance(body, dict):
            body = {"version": 0, "shards": body}
        shards: Any = body.get("shards")
        version: Any = body.get("version")
        numbers = [*shards, version] if isinstance(shards, list) else [None]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise DataError(f"a cut is a JSON list of sequence numbers, got {text!r}")
        return cls(tuple(shards), version)

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
    deleted: dict[str, np.ndarray] = field(default_factory=dict)
    """Tables with rows that are gone: their keys uint64 (n,)."""
    full: bool = False
    """Whether this is all there is: rows of a copy that are not in it are gone too. A delta is full
    from ``Cut.zero()`` on, when the shards do not remember as far back as `since`, and when buckets
    have moved since."""

    @property
    def sequence(self) -> int:
        """The version that this delta brings a copy to: ``cut.total``."""
        return self.cut.total

    @property
    def num_rows(self) -> int:
        """Changed rows over all tables."""
        return sum(len(keys) for keys, _ in self.tables.values())


def lacks_numbers(parts: Sequence[dict[str, Any]]) -> bool:
    """Return whether some shards left out numbers of a vector that changed on others."""
    found: dict[str, list[tuple[Any, bool, int]]] = {}
    for part in parts:
        for name, vector in part["vectors"].items():
            found.setdefault(name, []).append(vector)
    return any(
        any(changed for _, changed, _ in pieces) and any(values is None for values, _, _ in pieces)
        for pieces in found.values()
    )


def merge_deltas(since: Cut, parts: Sequence[dict[str, Any]], partition: Partition) -> Delta:
    """Put the shards' answers together, in the order of the shards.

    A table or vector that some shards do not know yet was created meanwhile: the next delta has it.
    """
    tables = {
        name: (
            np.concatenate([part["tables"][name][0] for part in parts]),
            np.concatenate([part["tables"][name][1] for part in parts]),
        )
        for name in parts[0]["tables"]
        if all(name in part["tables"] for part in parts)
    }
    vectors = {}
    for name, (_, _, length) in parts[0]["vectors"].items():
        found = [part["vectors"].get(name) for part in parts]
        if all(found) and any(changed for _, changed, _ in found):
            vectors[name] = np.empty(length, np.float32)
            for shard, (values, _, _) in enumerate(found):
                vectors[name][partition.vector_index(length, shard)] = values
    gone = {n: np.concatenate([part["deleted"][n] for part in parts]) for n in tables}
    return Delta(
        since=since,
        cut=Cut(tuple(part["sequence"] for part in parts), partition.version),
        tables=tables,
        vectors=vectors,
        deleted={name: keys for name, keys in gone.items() if len(keys)},
        full=any(part["full"] for part in parts),
    )
