"""Batches on disk and as a stream: what training reads."""

from __future__ import annotations

from weiml.data.batches.csv import CsvExamples
from weiml.data.batches.dataset import BatchDataset
from weiml.data.batches.images import image_batches
from weiml.data.batches.parquet import ParquetKeys
from weiml.data.batches.parquet_examples import ParquetExamples
from weiml.data.batches.sink import BatchSink
from weiml.data.batches.source import BatchSource, read_ahead
from weiml.data.batches.writing import write_batches

__all__ = [
    "BatchDataset",
    "BatchSink",
    "BatchSource",
    "CsvExamples",
    "ParquetExamples",
    "ParquetKeys",
    "image_batches",
    "read_ahead",
    "write_batches",
]
