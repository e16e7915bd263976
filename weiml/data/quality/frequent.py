"""The most frequent values with their counts, in bounded memory.

Up to `CAPACITY` different values all are counted exactly. Above, it is the summary of Misra and
Gries (1982) in the mergeable form of P. K. Agarwal et al., "Mergeable summaries", PODS 2012: the
count of the value that no longer fits is taken off all others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["CAPACITY", "Frequent"]

CAPACITY = 4096


class Frequent:
    """Counts of the most frequent values, as text.

    A true count lies between the one given and that plus `error`, which is 0 while all values fit,
    and at most 1 / `CAPACITY` of all values. Not thread-safe.
    """

    def __init__(self) -> None:
        self._counts = pa.table(
            {"value": pa.array([], pa.string()), "count": pa.array([], pa.int64())}
        )
        self.error = 0

    @property
    def exact(self) -> bool:
        """Whether all values fit, so that all counts are true."""
        return self.error == 0

    def add(self, values: pa.Array) -> None:
        """Take in text without nulls."""
        counted = pc.value_counts(values)
        parts = [counted.field("values").cast(pa.string()), counted.field("counts")]
        self._join(pa.table(parts, ["value", "count"]), 0)

    def merge(self, other: Frequent) -> None:
        """Take in what another one has seen."""
        self._join(other._counts, other.error)

    def _join(self, more: pa.Table, error: int) -> None:
        both = (
            pa.concat_tables([self._counts, more]).group_by("value").aggregate([("count", "sum")])
        )
        counts = both["count_sum"].to_numpy()
        self.error += error
        if len(counts) > CAPACITY:
            over = int(np.partition(counts, len(counts) - CAPACITY - 1)[len(counts) - CAPACITY - 1])
            self.error += over
            counts = counts - over
            both = both.filter(pa.array(counts > 0))
            counts = counts[counts > 0]
        self._counts = pa.table({"value": both["value"].combine_chunks(), "count": counts})

    def top(self, n: int) -> list[tuple[str, int]]:
        """Return the `n` most frequent values with their counts; of equal ones by value."""
        ordered = self._counts.sort_by([("count", "descending"), ("value", "ascending")]).slice(
            0, n
        )
        return list(zip(ordered["value"].to_pylist(), ordered["count"].to_pylist(), strict=True))

    def to_mapping(self) -> dict[str, Any]:
        """Return the state."""
        return {"error": self.error, "values": [list(pair) for pair in self.top(CAPACITY)]}

    @classmethod
    def from_mapping(cls, mapping: dict[str, Any]) -> Frequent:
        """Return the one whose `to_mapping` is given."""
        made = cls()
        values, counts = zip(*mapping["values"], strict=True) if mapping["values"] else ((), ())
        made._counts = pa.table(
            {"value": pa.array(values, pa.string()), "count": pa.array(counts, pa.int64())}
        )
        made.error = int(mapping["error"])
        return made
