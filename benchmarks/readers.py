"""Readers of Criteo-shaped files, ours and others': from files on disk to what a model trains on.

Each takes the folder that `prepare` filled, and returns a function that reads all of it, or the
first so many rows, once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.generate import generate
from weiml.data import (
    BatchDataset,
    ClicksConfig,
    CsvExamples,
    ParquetExamples,
    ParquetKeys,
    write_batches,
)
from weiml.data.datasets.clicks import CATEGORIES, NUMBERS
from weiml.features import Batch, Categorical, Continuous, FeatureEncoder, FeatureSpec
from weiml.hashing import hash_values

__all__ = ["CONTESTANTS", "csv_of", "prepare", "spec"]

COLUMNS = ("label", *NUMBERS, *CATEGORIES)
BATCH = 4096
Turn = Callable[[], int]


def spec(*, buckets: int = 0) -> FeatureSpec:
    """13 numbers, in so many buckets each, and 26 categories."""
    numbers = tuple(Continuous(name, buckets=buckets) for name in NUMBERS)
    return FeatureSpec(features=(*numbers, *(Categorical(name) for name in CATEGORIES)))


def csv_of(folder: Path) -> Path:
    return folder / "csv" / "part-00000.csv"


def parquet_of(folder: Path) -> Path:
    return folder / "parquet" / "part-00000.parquet"


def prepare(folder: Path, rows: int) -> dict[str, Any]:
    """Write the same examples as CSV, as Parquet of strings, hashed Parquet and hashed batches.

    Returns:
        what `benchmarks.generate` says of the CSV.
    """
    config = ClicksConfig(rows=rows)
    about = generate(config, folder / "csv", "csv", rows_per_part=rows, truth=False)
    generate(config, folder / "parquet", "parquet", rows_per_part=rows, truth=False)
    first = pq.ParquetFile(parquet_of(folder)).read_row_group(0)
    FeatureEncoder(spec()).fit(first).save(folder / "encoder.json")
    FeatureEncoder(spec(buckets=20)).fit(first).save(folder / "encoder39.json")
    encoder = _encoder(folder)
    write_batches(ParquetExamples(parquet_of(folder), encoder).iter_batches(1 << 16), folder / "ds")
    _write_keys(folder)
    return about


def _write_keys(folder: Path) -> None:
    """Write 26 columns of keys and 13 of float32 as pyarrow writes Parquet by default."""
    writer = None
    for block in pq.ParquetFile(parquet_of(folder)).iter_batches(1 << 16):
        columns = {"label": block["label"].cast(pa.float32())}
        columns |= {n: block[n].fill_null(0).cast(pa.float32(), safe=False) for n in NUMBERS}
        columns |= {n: pa.array(hash_values(n, block[n])) for n in CATEGORIES}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(folder / "keys.parquet", table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def _encoder(folder: Path) -> FeatureEncoder:
    return FeatureEncoder.load(folder / "encoder.json")


def _used(batches: Iterator[Batch]) -> int:
    """Take each batch, and touch every line of it, as whoever trains on it does."""
    rows = 0
    for batch in batches:
        np.add.reduce(batch.keys[::8])
        np.add.reduce(batch.dense, axis=None)
        np.add.reduce(batch.labels, axis=None)
        rows += len(batch)
    return rows


def csv_weiml(folder: str, threads: str = "2") -> Turn:
    """CSV straight to batches."""
    source = CsvExamples(csv_of(Path(folder)), _encoder(Path(folder)), threads=int(threads))
    return lambda: _used(source.iter_batches(BATCH))


def csv_polars(folder: str, hashed: str = "1") -> Turn:
    """polars.read_csv with the schema given, then .hash() of the categories."""
    import polars as pl

    numbers = dict.fromkeys(("label", *NUMBERS), pl.Float32)
    schema = {**numbers, **dict.fromkeys(CATEGORIES, pl.String)}

    def turn() -> int:
        frame = pl.read_csv(csv_of(Path(folder)), schema=schema)
        if int(hashed):
            frame = frame.with_columns([pl.col(name).hash() for name in CATEGORIES])
        return len(frame)

    return turn


def csv_pandas(
    folder: str, kind: str, engine: str = "c", hashed: str = "1", categorize: str = "1"
) -> Turn:
    """pandas.read_csv with dtypes given, then hash_array of the categories."""
    import pandas as pd

    dtypes: dict[str, Any] = dict.fromkeys(("label", *NUMBERS), "float32")
    dtypes |= dict.fromkeys(CATEGORIES, kind)

    def turn() -> int:
        frame = pd.read_csv(csv_of(Path(folder)), dtype=dtypes, engine=engine)
        if int(hashed):
            for name in CATEGORIES:
                column = frame[name].array if kind == "category" else frame[name].to_numpy(object)
                pd.util.hash_array(column, categorize=bool(int(categorize)))
        return len(frame)

    return turn


def csv_pyarrow(folder: str) -> Turn:
    """pyarrow.csv with types given, both cores."""
    types = {**dict.fromkeys(("label", *NUMBERS), pa.float32()), **dict.fromkeys(CATEGORIES, "str")}
    types = {name: pa.string() if kind == "str" else kind for name, kind in types.items()}
    options = pyarrow.csv.ConvertOptions(column_types=types)
    return lambda: len(pyarrow.csv.read_csv(csv_of(Path(folder)), convert_options=options))


def parquet_weiml(folder: str) -> Turn:
    """Parquet of strings to batches."""
    source = ParquetExamples(parquet_of(Path(folder)), _encoder(Path(folder)))
    return lambda: _used(source.iter_batches(BATCH))


def parquet_polars(folder: str) -> Turn:
    """polars.read_parquet, then .hash() of the categories."""
    import polars as pl

    def turn() -> int:
        frame = pl.read_parquet(parquet_of(Path(folder)))
        return len(frame.with_columns([pl.col(name).hash() for name in CATEGORIES]))

    return turn


def batches_in_order(folder: str, size: str = "8192") -> Turn:
    """Hashed batches, in the order of writing."""
    dataset = BatchDataset.open(Path(folder) / "ds")
    return lambda: _used(dataset.iter_batches(int(size)))


def batches_shuffled(folder: str, size: str = "8192") -> Turn:
    """Hashed batches, shuffled by runs of parts, as sets are that memory does not hold."""
    dataset = BatchDataset.open(Path(folder) / "ds")
    epochs = itertools.count()

    def turn() -> int:
        order = dataset.iter_batches(int(size), seed=1, epoch=next(epochs), shuffle_parts=4)
        return _used(order)

    return turn


def keys_in_order(folder: str, size: str = "8192") -> Turn:
    """Hashed Parquet, decoded by both cores."""
    source = ParquetKeys(Path(folder) / "keys.parquet", dense=NUMBERS, threads=2)
    return lambda: _used(source.iter_batches(int(size)))


CONTESTANTS: dict[str, Callable[..., Turn]] = {
    reader.__name__: reader
    for reader in (
        csv_weiml,
        csv_polars,
        csv_pandas,
        csv_pyarrow,
        parquet_weiml,
        parquet_polars,
        batches_in_order,
        batches_shuffled,
        keys_in_order,
    )
}
