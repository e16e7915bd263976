"""LIBFFM: ``label field:index:value …``, one example a line; what field-aware machines train on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import pyarrow as pa

from weiml.data.formats.base import pick, register_format
from weiml.data.formats.lines import line_blocks, without_bad_text
from weiml.data.formats.sparse_lines import SparseLines, parse_lines
from weiml.data.formats.sparse_text import check_features, entries_text, write_lines
from weiml.data.formats.stream import BadRows, StreamFormat

__all__ = ["Libffm"]

_ENTRIES = pa.list_(pa.struct({"field": pa.int64(), "key": pa.int64(), "value": pa.float64()}))
_SCHEMA = pa.schema({"label": pa.float64(), "features": _ENTRIES})


@dataclass(frozen=True, kw_only=True)
class Libffm(StreamFormat):
    """LIBFFM files: columns ``label`` and ``features``, a list of (field, key, value).

    Fields and indices count from 0. Numbers are float64; ask for float32 with a schema.
    """

    name: ClassVar[str] = "libffm"
    suffixes: ClassVar[tuple[str, ...]] = (".libffm", ".ffm")

    implicit_ones: bool = False
    """Whether ``field:index`` stands for the value 1."""

    def check(self, schema: pa.Schema) -> None:
        """Raise DataError unless the columns are label and features."""
        check_features(schema, "LIBFFM", _ENTRIES)

    def _schema(self, file: BinaryIO) -> pa.Schema:
        return _SCHEMA

    def _read(self, file: BinaryIO, schema: pa.Schema | None, bad: BadRows) -> Iterator[pa.Table]:
        chosen = _SCHEMA if schema is None else schema
        pick(_SCHEMA.names, chosen)
        for block in line_blocks(file):
            lines = parse_lines(
                without_bad_text(block, bad),
                fields=True,
                first_index=0,
                implicit_ones=self.implicit_ones,
                bad=bad,
            )
            yield _table(lines).select(chosen.names).cast(chosen)

    def _write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        parts = ("field", "key", "value")
        write_lines(
            file, tables, "LIBFFM", lambda batch: [entries_text(batch["features"], parts, 0)]
        )


def _table(lines: SparseLines) -> pa.Table:
    entries = pa.StructArray.from_arrays(
        [pa.array(lines.field), pa.array(lines.key), pa.array(lines.value)],
        fields=list(_ENTRIES.value_type),
    )
    features = pa.ListArray.from_arrays(pa.array(lines.offsets), entries)
    return pa.table({"label": lines.label, "features": features.cast(_ENTRIES)})


register_format(Libffm())
