"""A checkpoint as Parquet, one data set a table, for tools that know nothing of this format."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from weiml.errors import ParameterServerError
from weiml.ps.checkpoint.chain import Chain
from weiml.ps.checkpoint.columns import RowColumns
from weiml.ps.checkpoint.files import FileWriter
from weiml.ps.checkpoint.storage import Folder
from weiml.ps.tables.config import TableConfig
from weiml.ps.tables.layout import RowLayout, row_addresses

__all__ = ["export_parquet", "merged_rows"]

_ROWS_PER_FILE = 1 << 20


def export_parquet(
    chain: Chain,
    place: str | Path,
    *,
    columns: Literal["weights", "state"] = "weights",
    rows_per_file: int = _ROWS_PER_FILE,
) -> None:
    """Write ``PLACE/TABLE/part-00000.parquet`` … of each table, rows sorted by key in each file.

    Columns: ``key`` uint64; ``weights`` list<float32> of dim, as they are served, or ``state``, as
    docs/checkpoints.md describes it; then the statistics that the table keeps. Memory is bounded by
    about `rows_per_file` rows and the largest file of the checkpoint. Locally the folder appears
    when it is complete.

    Raises:
        ParameterServerError: `place` exists or cannot be written, or the checkpoint is damaged.
    """
    target = Folder.at(place)
    if target.exists():
        raise ParameterServerError(
            f"{target} exists already; export to another folder, or remove it first"
        )
    aside = target.hidden() if target.is_local else target
    aside.make()
    try:
        for config in chain.tables:
            (aside / config.name).make()
            for number, (keys, payload) in enumerate(merged_rows(chain, config, rows_per_file)):
                table = _table(config, keys, payload, columns)
                _write(aside, f"{config.name}/part-{number:05d}.parquet", table)
        if target.is_local:
            aside.rename(target)
    except BaseException:
        aside.remove()
        raise


def merged_rows(
    chain: Chain, config: TableConfig, rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield a table's rows as they finally are, about `rows` at a time, sorted by key.

    Keys uint64 (n,) and payload uint32 (n, words); runs of buckets follow each other. A table
    without rows gives one empty piece.
    """
    manifests = [checkpoint.manifest for checkpoint in chain.checkpoints]
    entries = [e for m in manifests for e in m.files if (e.kind, e.name) == ("rows", config.name)]
    total = sum(entry.rows for entry in entries)
    num_buckets = chain.newest.num_buckets
    groups = min(num_buckets, 1 << max(0, math.ceil(math.log2(max(total, 1) / rows))))
    for buckets in np.split(np.arange(num_buckets), groups):
        yield _merged(chain, config, buckets)


def _merged(
    chain: Chain, config: TableConfig, buckets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    keys = [np.empty(0, np.uint64)]
    payload = [np.empty((0, config.payload_words), np.uint32)]
    there = [np.empty(0, bool)]
    for found in chain.rows(buckets, tables=(config.name,)):
        words = found.payload
        gone = words is None
        keys.append(found.keys)
        there.append(np.full(len(found.keys), not gone))
        payload.append(
            np.zeros((len(found.keys), config.payload_words), np.uint32) if words is None else words
        )
    all_keys, all_there = np.concatenate(keys), np.concatenate(there)
    order = np.argsort(all_keys, kind="stable")
    # The last of equal keys is what counts.
    last = order[np.append(np.diff(all_keys[order]) != 0, True)[: len(order)]]
    last = last[all_there[last]]
    return all_keys[last], np.concatenate(payload)[last]


def _table(config: TableConfig, keys: np.ndarray, payload: np.ndarray, columns: str) -> pa.Table:
    batch = RowColumns(config).batch(keys, payload)
    table = pa.Table.from_batches([batch])
    if columns == "state":
        return table
    weights = RowLayout(config).weights(row_addresses(np.ascontiguousarray(payload)))
    rows = pa.FixedSizeListArray.from_arrays(pa.array(weights.reshape(-1)), config.dim)
    return table.set_column(1, "weights", rows)


def _write(folder: Folder, name: str, table: pa.Table) -> None:
    file = FileWriter(folder, name)
    try:
        pq.write_table(table, pa.PythonFile(file, mode="w"))
        file.close()
    finally:
        file.discard()
