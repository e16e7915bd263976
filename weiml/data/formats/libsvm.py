"""LIBSVM: ``label index:value …``, one example a line; what linear machines train on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.formats.base import pick, register_format
from weiml.data.formats.lines import LineBlock, line_blocks, without_bad_text
from weiml.data.formats.sparse_lines import SparseLines, parse_lines
from weiml.data.formats.sparse_text import check_features, check_number, entries_text, write_lines
from weiml.data.formats.stream import BadRows, StreamFormat
from weiml.errors import ConfigError, DataError

__all__ = ["Libsvm"]

_ENTRIES = pa.list_(pa.struct({"key": pa.int64(), "value": pa.float64()}))


@dataclass(frozen=True, kw_only=True)
class Libsvm(StreamFormat):
    """LIBSVM files: columns ``label`` and ``features``, and ``qid`` where the first block has it.

    ``features`` is a list of (key, value): key 0 is the index `first_index`. A ``#`` begins a
    comment. Indices may stand in any order and repeat. Numbers are float64; ask for float32 with a
    schema.
    """

    name: ClassVar[str] = "libsvm"
    suffixes: ClassVar[tuple[str, ...]] = (".libsvm", ".svm", ".svmlight")

    first_index: int = 1
    """The index of key 0 in the file: 1 as LIBSVM documents it, 0 as some programs write."""
    implicit_ones: bool = False
    """Whether an index without a value stands for 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.first_index not in (0, 1):
            raise ConfigError(f"first_index must be 0 or 1, got {self.first_index}")

    def check(self, schema: pa.Schema) -> None:
        """Raise DataError unless the columns are label, features and perhaps qid."""
        check_features(schema, "LIBSVM", _ENTRIES, optional=("qid",))
        if "qid" in schema.names:
            check_number(schema.field("qid"), "LIBSVM", integer=True)

    def _schema(self, file: BinaryIO) -> pa.Schema:
        first = next(line_blocks(file), None)
        if first is None:
            return _schema_of(False)
        lines = self._lines(first, BadRows(lambda _: None))
        return _schema_of(bool((lines.qid >= 0).any()))

    def _lines(self, block: LineBlock, bad: BadRows) -> SparseLines:
        return parse_lines(
            without_bad_text(block, bad),
            fields=False,
            first_index=self.first_index,
            implicit_ones=self.implicit_ones,
            bad=bad,
        )

    def _read(self, file: BinaryIO, schema: pa.Schema | None, bad: BadRows) -> Iterator[pa.Table]:
        strict = schema is None
        if schema is not None:
            pick(_schema_of(True).names, schema)
        for block in line_blocks(file):
            lines = self._lines(block, bad)
            if schema is None:
                schema = _schema_of(bool((lines.qid >= 0).any()))
            elif strict and "qid" not in schema.names and (lines.qid >= 0).any():
                raise DataError(
                    f"from line {block.first} on there are query ids, and none in the first block; "
                    "give the columns with schema="
                )
            yield _table(lines).select(schema.names).cast(schema)

    def _write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        def texts(batch: pa.Table) -> list[pa.Array]:
            parts = []
            if "qid" in schema.names:
                _check_qid(batch["qid"])
                qid = batch["qid"].combine_chunks().cast(pa.string())
                parts.append(pc.binary_join_element_wise("qid:", qid, "", null_handling="skip"))
                parts[-1] = pc.if_else(qid.is_valid(), parts[-1], None)
            return [*parts, entries_text(batch["features"], ("key", "value"), self.first_index)]

        write_lines(file, tables, "LIBSVM", texts)


def _check_qid(qid: pa.ChunkedArray) -> None:
    least = pc.min(qid).as_py()
    if least is not None and least < 0:
        raise DataError(
            f"LIBSVM cannot hold a query id below 0, got {least} in column 'qid': number the "
            "queries from 0, or set it to null"
        )


def _schema_of(qid: bool) -> pa.Schema:
    columns = {"label": pa.float64(), "qid": pa.int64(), "features": _ENTRIES}
    return pa.schema(columns if qid else {k: v for k, v in columns.items() if k != "qid"})


def _table(lines: SparseLines) -> pa.Table:
    entries = pa.StructArray.from_arrays(
        [pa.array(lines.key), pa.array(lines.value)], fields=list(_ENTRIES.value_type)
    )
    features = pa.ListArray.from_arrays(pa.array(lines.offsets), entries)
    qid = pa.array(lines.qid, mask=lines.qid < 0)
    return pa.table({"label": lines.label, "qid": qid, "features": features.cast(_ENTRIES)})


register_format(Libsvm())
