"""What a shard holds: its part of every table and vector, and how that leaves and comes in.

One writer. It knows its buckets, but no clients, no clock and no other shard.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.base import GroupConfig
from weiml.ps.partition import Partition
from weiml.ps.shard.transfer import ShardRows
from weiml.ps.shard.vectors import VectorPart
from weiml.ps.tables.dense import DenseTable
from weiml.ps.tables.sparse import SparseTable, TableConfig

__all__ = ["ShardContent", "Table"]

Table: TypeAlias = SparseTable | DenseTable


class ShardContent:
    """Tables and vectors of the buckets that `partition` gives to shard `index`.

    `sequence` counts the changes; each table remembers for a while which keys changed when.
    """

    def __init__(self, config: GroupConfig, index: int, partition: Partition | None = None) -> None:
        self.config = config
        self.index = index
        self.partition = partition or Partition(config.num_shards, config.num_buckets)
        self.sequence = 0
        self.tables: dict[str, Table] = {}
        self.born: dict[tuple[str, str], int] = {}
        """("table" or "vector", name): the sequence number at which it was created or loaded."""
        self.vectors: dict[str, VectorPart] = {}
        self._arriving: dict[str, VectorPart] = {}
        """Numbers of buckets that are on their way here: readers must not see them yet. Rows that
        are on their way lie in the tables, where nobody asks for them."""

    def create_table(self, config: TableConfig) -> None:
        """Create a table, or confirm that an equal one exists."""
        table = self.tables.get(config.name)
        if table is None:
            self.tables[config.name] = self._make_table(config)
            self.born["table", config.name] = self.sequence
        elif table.config != config:
            theirs, ours = table.config.to_mapping(), config.to_mapping()
            knobs = [knob for knob in theirs | ours if theirs.get(knob) != ours.get(knob)]
            differ = ", ".join(f"{k} = {theirs.get(k)!r}, not {ours.get(k)!r}" for k in knobs)
            raise ParameterServerError(
                f"{self._where}: table {config.name!r} exists with {differ}; use another name or "
                f"the same configuration"
            )

    def create_vector(self, name: str, length: int, values: np.ndarray | None) -> None:
        """Create this shard's part of a vector, or confirm that one of that length exists."""
        vector = self.vectors.get(name)
        if vector is None:
            self.sequence += 1
            self._begin_vector(name, length, values)
        elif vector.length != length:
            raise ParameterServerError(
                f"{self._where}: vector {name!r} exists with length {vector.length}, "
                f"got {length}; use another name"
            )

    def drop_vector(self, name: str) -> None:
        """Remove a vector, if there is one."""
        if self.vectors.pop(name, None) is not None:
            self._arriving.pop(name, None)
            del self.born["vector", name]
            self.sequence += 1

    def expire(self, table: str, step: int, now_s: float) -> int:
        """Remove the rows that the table's expiry rule gives up; return how many."""
        self.sequence += 1
        return self._sparse(table).expire(self.sequence, step=step, now_s=now_s)

    def describe(self) -> tuple[dict[str, TableConfig], dict[str, int]]:
        """Return the tables' configurations and the vectors' lengths."""
        tables = {name: table.config for name, table in self.tables.items()}
        return tables, {name: vector.length for name, vector in self.vectors.items()}

    def export_buckets(self, buckets: np.ndarray, *, arriving: bool = False) -> ShardRows:
        """Return all that lies in `buckets`, as it is now; with `arriving` what is on its way too.

        Of `buckets` those that are not here are left out.
        """
        own = np.asarray(buckets) if arriving else np.intersect1d(buckets, self._buckets)
        return ShardRows(
            tables=tuple(table.config for table in self.tables.values()),
            born=dict(self.born),
            rows={name: table.scan(_here(table, own)) for name, table in self.tables.items()},
            vectors={name: vector.length for name, vector in self.vectors.items()},
            numbers={name: _numbers(part, own) for name, part in self.vectors.items()},
            arriving={n: _numbers(p, own) for n, p in self._arriving.items() if arriving},
            extras={name: table.extras(own) for name, table in self._admitting().items()},
            buckets=own.astype(np.int32),
        )

    def mark(self) -> int:
        """Return the sequence number, from which `export_changes` goes on."""
        return self.sequence

    def export_changes(self, since: int, buckets: np.ndarray | None = None) -> ShardRows:
        """Return what changed after sequence number `since`, in all buckets or in some."""
        own = self._buckets if buckets is None else np.intersect1d(buckets, self._buckets)
        rows, gone, whole = {}, {}, set()
        for name, table in self.tables.items():
            keys = table.changed_keys(since)
            if keys is None:
                whole.add(name)
                keys = self._all_keys(table)
            if buckets is not None:
                keys = keys[np.isin(self._buckets_of(table, keys), own)]
            elif isinstance(table, DenseTable):
                keys = keys[np.isin(self._buckets_of(table, keys), table.buckets)]
            payload, present = table.export_rows(keys)
            rows[name] = (keys[present], payload[present])
            gone[name] = keys[~present]
        return ShardRows(
            tables=tuple(table.config for table in self.tables.values()),
            born=dict(self.born),
            rows=rows,
            gone=gone,
            whole=frozenset(whole),
            buckets=buckets,
            vectors={name: vector.length for name, vector in self.vectors.items()},
            numbers={n: _numbers(p, own) for n, p in self.vectors.items() if p.touched > since},
            arriving={
                name: (part.buckets, part.values)
                for name, part in self._arriving.items()
                if buckets is None and part.touched > since
            },
            extras={
                # A table that is told whole forgets first, and its admission with it.
                name: table.extras(buckets) if name in whole else table.filter_delta(since, buckets)
                for name, table in self._admitting().items()
            },
        )

    def import_rows(self, content: ShardRows) -> None:
        """Take over rows and numbers, whatever was there of theirs before."""
        self.sequence += 1
        for config in content.tables:
            if config.name not in self.tables:
                self.create_table(config)
        for name in content.whole:
            if content.buckets is None:
                self.tables[name].clear(self.sequence)
            else:
                self.tables[name].drop_buckets(content.buckets)
        for name, (keys, payload) in content.rows.items():
            self.tables[name].import_rows(keys, payload, self.sequence)
        for name, keys in content.gone.items():
            if len(keys):
                self.tables[name].remove_rows(keys, self.sequence)
        for name, length in content.vectors.items():
            if name not in self.vectors:
                self._begin_vector(name, length, None)
        for name, (buckets, values) in content.numbers.items():
            own = np.isin(buckets, self._buckets).all()
            self._put_numbers(self.vectors[name] if own else self._arrivals(name), buckets, values)
        for name, (buckets, values) in content.arriving.items():
            self._put_numbers(self._arrivals(name), buckets, values)
        for name, extras in content.extras.items():
            self._sparse(name).load_extras(extras, self.sequence)

    def forget_buckets(self, buckets: np.ndarray) -> None:
        """Drop what was copied of buckets that do not come after all."""
        for table in self.tables.values():
            table.drop_buckets(buckets)
        for name, part in self._arriving.items():
            self._arriving[name] = part.with_buckets(np.setdiff1d(part.buckets, buckets))

    def set_partition(self, partition: Partition) -> None:
        """Hold other buckets from now on: drop those that left; those that came are here."""
        left = np.setdiff1d(self._buckets, partition.buckets_at(self.index)).astype(np.int32)
        self.partition = partition
        for name, vector in self.vectors.items():
            own = self.vectors[name] = vector.with_buckets(self._buckets)
            if name in self._arriving:
                arrived = self._arriving.pop(name)
                came = np.intersect1d(arrived.buckets, self._buckets)
                own.put(came, arrived.values_of(came))
                own.touched = max(own.touched, arrived.touched)
        self.forget_buckets(left)
        for table in self.tables.values():
            if isinstance(table, DenseTable):
                table.add_buckets(self._buckets)

    @property
    def _where(self) -> str:
        return f"parameter server group {self.config.name!r}, shard {self.index}"

    @property
    def _buckets(self) -> np.ndarray:
        return self.partition.buckets_at(self.index)

    def _make_table(self, config: TableConfig) -> Table:
        if config.rows is not None:
            return DenseTable(config, self.partition.num_buckets, self._buckets)
        return SparseTable(config, self.partition.num_buckets)

    def _admitting(self) -> dict[str, SparseTable]:
        """Return the tables that do not give every key a row."""
        return {
            name: table
            for name, table in self.tables.items()
            if isinstance(table, SparseTable) and table.config.admission is not None
        }

    def _begin_vector(self, name: str, length: int, values: np.ndarray | None) -> None:
        part = VectorPart(length, self.partition.num_buckets, self._buckets, values)
        part.touched = self.born["vector", name] = self.sequence
        self.vectors[name] = part

    def _put_numbers(self, part: VectorPart, buckets: np.ndarray, values: np.ndarray) -> None:
        part.put(buckets, values)
        part.touched = self.sequence

    def _arrivals(self, name: str) -> VectorPart:
        """Return what is on its way here of a vector's numbers."""
        if name not in self._arriving:
            num_buckets, none = self.partition.num_buckets, np.empty(0, np.int32)
            self._arriving[name] = VectorPart(self.vectors[name].length, num_buckets, none)
        return self._arriving[name]

    def _all_keys(self, table: Table) -> np.ndarray:
        # Those that are on their way here or from here too.
        if isinstance(table, DenseTable):
            return table.scan(table.buckets)[0]
        return table.scan(np.arange(self.partition.num_buckets, dtype=np.int32))[0]

    def owned(self, table: Table, keys: np.ndarray) -> np.ndarray:
        """Return those of `keys` that lie in the shard's buckets."""
        return keys[self.partition.shards[self._buckets_of(table, keys)] == self.index]

    def _buckets_of(self, table: Table, keys: np.ndarray) -> np.ndarray:
        return self.partition.buckets_of(keys, table.config.rows)

    def _table(self, name: str) -> Table:
        if name not in self.tables:
            raise ParameterServerError(f"{self._where} has no table {name!r}")
        return self.tables[name]

    def _sparse(self, name: str) -> SparseTable:
        table = self._table(name)
        if not isinstance(table, SparseTable):
            raise ParameterServerError(
                f"{self._where}: table {name!r} is dense (rows = {table.config.rows}); its rows "
                f"are not deleted, expired or counted"
            )
        return table

    def _vector(self, name: str) -> VectorPart:
        if name not in self.vectors:
            raise ParameterServerError(f"{self._where} has no vector {name!r}")
        return self.vectors[name]

    def delta_since(self, since: int, *, all_vectors: bool = True) -> dict[str, Any]:
        """Return what changed after `since`; see `Client.delta`, which merges it.

        Of vectors without a change there are numbers only with `all_vectors`.
        """
        if since > self.sequence:
            raise ParameterServerError(
                f"{self._where}: a delta since {since} was asked for, but the shard is at "
                f"{self.sequence}; the cut is of another group or of a time before a restart: "
                f"start again from Cut.zero()"
            )
        changed = {n: t.changed_keys(since) if since else None for n, t in self.tables.items()}
        # One table that must be told whole makes the delta whole.
        full = since == 0 or any(keys is None for keys in changed.values())
        tables, deleted = {}, {}
        for name, table in self.tables.items():
            known = changed[name]
            keys = self.owned(table, self._all_keys(table) if full or known is None else known)
            _, present = table.export_rows(keys)
            tables[name] = (keys[present], table.pull_weights(keys[present]))
            deleted[name] = keys[~present]
        vectors = {
            name: (
                vector.values.copy() if all_vectors or vector.touched > since else None,
                vector.touched > since,
                vector.length,
            )
            for name, vector in self.vectors.items()
        }
        return {
            "sequence": self.sequence,
            "tables": tables,
            "deleted": deleted,
            "full": full,
            "vectors": vectors,
        }


def _here(table: Table, buckets: np.ndarray) -> np.ndarray:
    """Return those of `buckets` that the table can be asked for."""
    return np.intersect1d(buckets, table.buckets) if isinstance(table, DenseTable) else buckets


def _numbers(part: VectorPart, buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (buckets int32, their numbers) of those of `buckets` that `part` has."""
    some = np.intersect1d(buckets, part.buckets).astype(np.int32)
    return some, part.values_of(some)
