"""A data set of batches as a sink: pieces are written wherever they are encoded."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from typing_extensions import override

from weiml.data.batches.dataset import BatchDataset
from weiml.data.batches.writing import folder_aside, publish, write_parts
from weiml.data.sources import FeatureSink, SinkWriter
from weiml.errors import ConfigError, DataError
from weiml.features import Batch, FeatureEncoder, KeyNames

__all__ = ["BatchSink"]


class BatchSink(FeatureSink):
    """A new folder of batches, for `Examples.encode(…).write(…)`, which returns a `BatchDataset`.

    Args:
        folder: a folder on a file system that all workers share; one that exists must be empty.
        encoder: kept beside the data, for whoever trains on it.
        names: kept beside the data: what its keys stand for, see `Examples.key_names`.
        examples_per_part: at most; also the unit of reading and of shuffling.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        encoder: FeatureEncoder | None = None,
        names: KeyNames | None = None,
        examples_per_part: int = 1 << 16,
    ) -> None:
        if examples_per_part < 1:
            raise ConfigError(f"examples_per_part must be at least 1, got {examples_per_part}")
        self.folder = Path(folder).absolute()
        self.encoder = encoder
        self.names = names
        self.examples_per_part = examples_per_part

    def __str__(self) -> str:
        return str(self.folder)

    @override
    def open(self, schema: pa.Schema) -> SinkWriter:
        """Prepare the folder.

        Raises:
            DataError: the examples are not encoded, or the folder is not empty or cannot be made.
        """
        empty = Batch.from_arrow(schema.empty_table())
        return _BatchWriter(folder_aside(self.folder), self, empty)


@dataclass
class _BatchWriter(SinkWriter):
    aside: Path
    sink: BatchSink
    empty: Batch

    @override
    def write(self, piece: int, tables: Iterable[pa.Table]) -> dict[str, Any]:
        return write_parts(tables, self.aside, self.sink.examples_per_part, f"part-{piece:05d}")

    @override
    def commit(self, written: list[Any]) -> BatchDataset:
        manifests = written or [write_parts([self.empty], self.aside, self.sink.examples_per_part)]
        whole = dict(_of_same_columns(manifests))
        whole["parts"] = [part for manifest in manifests for part in manifest["parts"]]
        whole["num_examples"] = sum(manifest["num_examples"] for manifest in manifests)
        whole["counts"] = {
            name: sum(manifest["counts"][name] for manifest in manifests)
            for name in whole["counts"]
        }
        return publish(self.aside, self.sink.folder, whole, self.sink.encoder, self.sink.names)

    @override
    def abort(self) -> None:
        shutil.rmtree(self.aside, ignore_errors=True)


def _of_same_columns(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the first manifest that has examples; raise DataError if others are not like it."""
    filled = [manifest for manifest in manifests if manifest["num_examples"]] or manifests[:1]
    for manifest in filled:
        for name in ("slots", "dense_names", "labels"):
            if manifest[name] != filled[0][name]:
                raise DataError(
                    f"pieces of one dataset must have the same columns, got {name} "
                    f"{filled[0][name]} and {manifest[name]}"
                )
    return filled[0]
