"""Profiles: what is known of users or items by id, joined onto many rows; and the time's columns.

A profile table fits in memory and is carried to wherever the rows are (a broadcast join), both in
the offline job and in serving. Ids without a profile get nulls.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from weiml.config import nearest
from weiml.errors import DataError
from weiml.hashing import hash_values

__all__ = ["Profiles", "time_columns"]

_DAY_S, _HOUR_S = 86_400, 3_600
_THURSDAY = 3  # the first of January 1970; Monday is 0


class Profiles:
    """A table with one row an id, ready to be joined. Immutable, so safe to share.

    Raises:
        DataError: there is no column `on`, or an id comes twice.
    """

    def __init__(self, table: pa.Table, on: str) -> None:
        if on not in table.column_names:
            raise DataError(f"profiles have no column {on!r}{nearest(on, table.column_names)}")
        keys = hash_values(on, table[on])
        order = np.argsort(keys, kind="stable")
        self.on = on
        self.table = table.take(order).combine_chunks()
        self._keys = keys[order]
        twice = np.flatnonzero(self._keys[1:] == self._keys[:-1])
        if len(twice):
            again = self.table[on][int(twice[0])].as_py()
            raise DataError(f"profiles by {on!r} must be unique, but {again!r} comes twice")

    @property
    def names(self) -> list[str]:
        """The columns that `join` adds."""
        return [name for name in self.table.column_names if name != self.on]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def ids(self) -> pa.Array:
        """Return all ids, in an order of no meaning."""
        return self.table[self.on].combine_chunks()

    def find(self, ids: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Return the profiles of `ids`, in their order, without the id; nulls where unknown."""
        keys = hash_values(self.on, ids)
        at = np.minimum(np.searchsorted(self._keys, keys), max(len(self) - 1, 0))
        known = self._keys[at] == keys if len(self) else np.zeros(len(keys), dtype=np.bool_)
        return self.table.select(self.names).take(pa.array(at, mask=~known))

    def join(self, rows: pa.Table) -> pa.Table:
        """Return `rows` with the profiles' columns appended.

        Raises:
            DataError: the rows have no id column, or have one of the profiles' columns already.
        """
        if self.on not in rows.column_names:
            raise DataError(f"rows have no column {self.on!r}{nearest(self.on, rows.column_names)}")
        found = self.find(rows[self.on])
        for name, column in zip(found.column_names, found.columns, strict=True):
            if name in rows.column_names:
                raise DataError(f"both the rows and the profiles by {self.on!r} have {name!r}")
            rows = rows.append_column(name, column)
        return rows


def time_columns(timestamps: pa.ChunkedArray | pa.Array) -> dict[str, pa.Array]:
    """Return ``hour`` (0-23) and ``weekday`` (0 = Monday), UTC, int32, of seconds since 1970."""
    seconds = (
        timestamps.to_numpy(zero_copy_only=False)
        if isinstance(timestamps, pa.Array)
        else (timestamps.to_numpy())
    )
    hour = seconds % _DAY_S // _HOUR_S
    weekday = (seconds // _DAY_S + _THURSDAY) % 7
    return {
        "hour": pa.array(hour.astype(np.int32)),
        "weekday": pa.array(weekday.astype(np.int32)),
    }
