"""Sums by group that are gathered table by table, with Arrow's grouping."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["GroupedSums"]

_LEAST = 1 << 16


class GroupedSums:
    """Sums of int64 columns by groups. Not thread-safe; picklable.

    Partial sums are put together whenever their list has doubled, so memory stays within about
    twice the number of groups.
    """

    def __init__(self, groups: pa.Schema, sums: tuple[str, ...]) -> None:
        self._groups = groups.names
        self._sums = sums
        fields = [*groups, *(pa.field(name, pa.int64()) for name in sums)]
        self._table = pa.schema(fields).empty_table()
        self._limit = _LEAST

    def add(self, columns: dict[str, pa.Array]) -> None:
        """Take in rows of groups and numbers, as arrays of one length."""
        self._append(pa.table(columns, schema=self._table.schema))

    def merge(self, other: GroupedSums) -> None:
        """Take in what another has seen."""
        self._append(other._table)

    def table(self) -> pa.Table:
        """Return one row a group, in no particular order."""
        grouped = self._table.group_by(self._groups, use_threads=False)
        summed = grouped.aggregate([(name, "sum") for name in self._sums])
        names = [name.removesuffix("_sum") for name in summed.schema.names]
        return summed.rename_columns(names).select(self._table.schema.names).combine_chunks()

    def replace(self, table: pa.Table) -> None:
        """Go on with other sums, one row a group."""
        self._table = table.cast(self._table.schema)
        self._limit = 2 * table.num_rows + _LEAST

    def _append(self, rows: pa.Table) -> None:
        self._table = pa.concat_tables([self._table, rows])
        if self._table.num_rows > self._limit:
            self.replace(self.table())
