"""Raw examples in Parquet: strings and numbers, encoded to batches block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from weiml.config import nearest
from weiml.data.batches.in_order import InOrder, ahead_of
from weiml.data.batches.row_groups import kind_of, read_blocks, read_footer
from weiml.data.ordered import map_ordered
from weiml.errors import ConfigError, DataError
from weiml.features import Batch, FeatureEncoder, SparseContinuous

__all__ = ["ParquetExamples"]

_BLOCK = 1 << 17  # rows decoded at a time


class ParquetExamples(InOrder):
    """Examples in Parquet files, in the order of the files and their rows; a `BatchSource`.

    The batches are those that the encoder makes of the files' tables. Columns of strings stay the
    dictionaries that they are in the file, so that each distinct value is hashed once a block.

    Args:
        paths: one file or several.
        encoder: a fitted one; columns that it does not name are not read.
        labels: whether there is a label; without, labels are 0.
        threads: how many encode, beside Arrow's own that decode.

    Raises:
        DataError: a file is missing, is no Parquet, lacks a column, or has text where another
            file has numbers.
        ConfigError: `threads` is less than 1.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        encoder: FeatureEncoder,
        *,
        labels: bool = True,
        threads: int = 2,
    ) -> None:
        given = [paths] if isinstance(paths, (str, Path)) else list(paths)
        if not given:
            raise DataError("ParquetExamples needs at least one file, got an empty list of paths")
        if threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        self.paths = tuple(Path(path).resolve() for path in given)
        self.encoder, self.labels, self.threads = encoder, labels, threads
        footers = [read_footer(path) for path in self.paths]
        schemas = [footer.schema.to_arrow_schema() for footer in footers]
        self._columns = self._wanted(schemas[0])
        self._check(schemas)
        self._sizes = tuple(footer.num_rows for footer in footers)

    @property
    def num_examples(self) -> int:
        """How many examples there are."""
        return sum(self._sizes)

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the sparse slots."""
        return self.encoder.spec.slots

    @property
    def dense_names(self) -> tuple[str, ...]:
        """Names of the dense columns."""
        return self.encoder.spec.dense

    def _pieces_of(self, worker: int, num_workers: int) -> Iterator[Batch]:
        share = self.num_examples // num_workers
        blocks = read_blocks(
            self.paths,
            self._columns,
            worker * share,
            (worker + 1) * share,
            rows_per_block=_BLOCK,
            dictionaries=self._columns,
            use_threads=self.threads > 1,
        )
        encoded = map_ordered(self._encode, ahead_of(blocks, self.threads), threads=self.threads)
        return encoded

    def _encode(self, block: pa.RecordBatch) -> Batch:
        return self.encoder.encode(pa.Table.from_batches([block]), labels=self.labels)

    def _check(self, schemas: list[pa.Schema]) -> None:
        """Raise DataError unless all files have the columns, of the kinds of the first file."""
        kinds: dict[str, tuple[str, Path]] = {}
        for path, schema in zip(self.paths, schemas, strict=True):
            for name in self._columns:
                if name not in schema.names:
                    raise DataError(f"{path} has no column {name!r}{nearest(name, schema.names)}")
                kind = kind_of(schema.field(name).type)
                if kind == "nothing":
                    continue
                known, where = kinds.setdefault(name, (kind, path))
                if kind != known:
                    raise DataError(
                        f"column {name!r} of {path} holds {kind} ({schema.field(name).type}), but "
                        f"in {where} it holds {known}: write one of them anew, or read them apart"
                    )

    def _wanted(self, schema: pa.Schema) -> list[str]:
        spec = self.encoder.spec
        wanted = [feature.name for feature in spec.features]
        wanted += [
            feature.values
            for feature in spec.features
            if isinstance(feature, SparseContinuous) and feature.values is not None
        ]
        if spec.preparation is not None:
            wanted = [name for name in wanted if name not in spec.preparation.outputs]
            wanted += spec.preparation.inputs
        wanted += spec.label_names if self.labels else ()
        wanted += [n for n in (spec.group, spec.item, spec.time) if n in schema.names]
        return list(dict.fromkeys(wanted))
