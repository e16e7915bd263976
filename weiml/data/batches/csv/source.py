"""CSV files as a source of batches: text to keys in one pass, without a table in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.batches.csv.blocks import Block, CsvFile, open_csv
from weiml.data.batches.csv.plan import ColumnPlan, ParsedBlock
from weiml.data.batches.in_order import InOrder
from weiml.data.batches.source import read_ahead
from weiml.data.formats import BadRow, OnBadRow
from weiml.data.formats.compression import split_suffix
from weiml.data.ordered import map_ordered
from weiml.errors import ConfigError, DataError
from weiml.features import Batch, Binary, Categorical, Feature, FeatureEncoder, Text
from weiml.features.columns import RawColumns, read_slot
from weiml.features.slots import SlotKeys
from weiml.features.types import Continuous

__all__ = ["CsvExamples"]

BLOCK_BYTES = 1 << 21
_LEAST_BYTES = 64
_ALL = 2**63 - 1


class CsvExamples(InOrder):
    """Examples in CSV files, in the order of the files and their rows; a `BatchSource`.

    Fields are hashed and read where they stand; the batches are those that the encoder makes of the
    same columns in a table (text for categories and text, float64 for numbers). An empty field is
    missing, quoted or not. The columns of the label (of several labels, each may be missing) and of
    the time must not be empty. A flag is
    ``0``, ``1``, ``true`` or ``false``. Categories and text that are not UTF-8 make a row bad;
    columns that are skipped may hold anything.

    Args:
        paths: one file or several, local or of any file system that fsspec knows; ``.gz``,
            ``.zst`` and ``.bz2`` are unpacked.
        encoder: a fitted one; columns that it does not name are skipped.
        columns: the names of the columns where files have no header.
        delimiter: one ASCII character; a tab for Criteo's own files.
        list_delimiter: between the entries of a SparseBinary or Sequence field.
        labels: whether there is a label; without, labels are 0.
        on_bad: told of each row that cannot be read, which is then left out; without, it is an
            error. Called in the caller's thread, in the rows' order.
        threads: how many read fields.
        block_bytes: of text that one thread reads at a time.
        storage: options of the file system, as fsspec takes them: keys, endpoint.

    Raises:
        ConfigError: a knob is out of its range.

    Example:
        >>> source = CsvExamples("clicks.csv", encoder)  # doctest: +SKIP
        >>> for batch in source.iter_batches(8192):  # doctest: +SKIP
        ...     model.step(batch)
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        encoder: FeatureEncoder,
        *,
        columns: Sequence[str] | None = None,
        delimiter: str = ",",
        list_delimiter: str = "|",
        labels: bool = True,
        on_bad: OnBadRow | None = None,
        threads: int = 2,
        block_bytes: int = BLOCK_BYTES,
        storage: Mapping[str, Any] | None = None,
    ) -> None:
        given = [paths] if isinstance(paths, (str, Path)) else list(paths)
        self.paths = tuple(str(path) for path in given)
        self.encoder = encoder
        self.columns = None if columns is None else tuple(columns)
        self.delimiter, self.list_delimiter = delimiter, list_delimiter
        self.labels, self.on_bad = labels, on_bad
        self.threads, self.block_bytes = threads, block_bytes
        self.storage = dict(storage or {})
        self._check()
        if encoder.spec.transforms:
            raise ConfigError(
                "CSV is hashed where it stands, so the spec can have no transforms, got "
                f"{len(encoder.spec.transforms)}: read it with FileSource(…).read() and encode "
                "that, or take them out"
            )

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(sum(block.rows for block in self._open(path).blocks) for path in self.paths)

    @property
    def num_examples(self) -> int:
        """How many rows there are, bad ones too; the first asking reads through all files."""
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
        return self._pieces(self._ranges(worker, num_workers))

    def _ranges(self, worker: int, num_workers: int) -> list[tuple[str, int, int]]:
        """Return the files in which a worker's rows stand, and from which to which row of each."""
        if num_workers == 1:
            return [(path, 0, _ALL) for path in self.paths]
        share = self.num_examples // num_workers
        first, last = worker * share, (worker + 1) * share
        ranges = []
        for path, size in zip(self.paths, self._sizes, strict=True):
            if max(first, 0) < min(last, size):
                ranges.append((path, first, last))
            first, last = first - size, last - size
        return ranges

    def _pieces(self, ranges: list[tuple[str, int, int]]) -> Iterator[Batch]:
        """Yield the good ones of the rows between two numbers in each file."""
        for batch, bad in map_ordered(self._encode, self._work(ranges), threads=self.threads):
            for row in bad:
                if self.on_bad is None:
                    raise DataError(f"{row.place}: {row.reason}; the row is {row.raw[:200]!r}")
                self.on_bad(row)
            if batch.num_examples:
                yield batch

    def _work(self, ranges: list[tuple[str, int, int]]) -> Iterator[_Work]:
        for path, start, stop in ranges:
            file = self._open(path)
            plan = ColumnPlan(self.encoder.spec, file.columns, labels=self.labels)
            packed = split_suffix(path)[1] is not None
            for block in read_ahead(file.blocks) if packed else file.blocks:
                if block.row >= stop:
                    break
                if block.row + block.rows > start:
                    yield _Work(plan, block, start, stop)

    def _encode(self, work: _Work) -> tuple[Batch, list[BadRow]]:
        parsed = work.plan.parse(work.block, self.delimiter)
        batch = self.encoder.assemble(self._columns(parsed))
        if work.start > work.block.row or work.stop < work.block.row + work.block.rows:
            first, last = np.searchsorted(parsed.rows, (work.start, work.stop)).tolist()
            batch = batch.slice(first, last)
        return batch, [bad for row, bad in parsed.bad if work.start <= row < work.stop]

    def _columns(self, parsed: ParsedBlock) -> RawColumns:
        spec = self.encoder.spec
        slots = {}
        for feature in spec.features:
            if isinstance(feature, Categorical):
                slots[feature.name] = SlotKeys(parsed.keys[feature.name])
            elif not isinstance(feature, Continuous):
                column = self._column(feature, parsed)
                slots[feature.name] = read_slot(pa.table({feature.name: column}), feature)
        names = spec.label_names if self.labels else ()
        labels = [parsed.numbers[name].astype(np.float32) for name in names]
        return RawColumns(
            num_examples=parsed.rows.size,
            slots=slots,
            numbers=parsed.numbers,
            labels=np.column_stack(labels) if labels else None,
            groups=parsed.keys.get(spec.group),
            items=parsed.keys.get(spec.item),
            times=parsed.integers.get(spec.time),
        )

    def _column(self, feature: Feature, parsed: ParsedBlock) -> pa.Array:
        """Return the column of a feature that is neither one key nor one number an example."""
        if isinstance(feature, Binary):
            flags = parsed.numbers[feature.name]
            return pa.array(flags == 1.0, mask=np.isnan(flags))
        texts = parsed.texts[feature.name]
        if isinstance(feature, Text):
            return texts
        empty = pa.scalar(None, pa.string())
        return pc.split_pattern(pc.if_else(pc.equal(texts, ""), empty, texts), self.list_delimiter)

    def _open(self, path: str) -> CsvFile:
        return open_csv(
            path,
            delimiter=self.delimiter,
            columns=self.columns,
            block_bytes=self.block_bytes,
            storage=self.storage,
        )

    def _check(self) -> None:
        if not self.paths:
            raise DataError("CsvExamples needs at least one file, got an empty list of paths")
        if len(self.delimiter.encode()) != 1 or self.delimiter in '"\r\n':
            raise ConfigError(
                f"delimiter must be one ASCII character other than a quote or a line's end, got "
                f"{self.delimiter!r}"
            )
        if not self.list_delimiter:
            raise ConfigError("list_delimiter must not be empty")
        for name, least in (("threads", 1), ("block_bytes", _LEAST_BYTES)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class _Work:
    """A block, and which rows of its file are wanted."""

    plan: ColumnPlan
    block: Block
    start: int
    stop: int
