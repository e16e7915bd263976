"""TFRecord files of tf.train.Example messages, read and written without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.data.formats import example_reading as reading
from weiml.data.formats.base import register_format
from weiml.data.formats.compression import Codec
from weiml.data.formats.example_reading import BYTES, FLOATS, INTEGERS, Lists
from weiml.data.formats.example_writing import Column, records_of
from weiml.data.formats.names import name_table
from weiml.data.formats.numbers import take_spans
from weiml.data.formats.stream import BadRows, StreamFormat
from weiml.data.formats.tfrecord_frames import RecordBlock, begins_plainly, record_blocks
from weiml.errors import DataError

__all__ = ["TfRecord"]

_ROWS = 1 << 13


@dataclass(frozen=True, kw_only=True)
class TfRecord(StreamFormat):
    """TFRecord files, plain, gzip or zlib, whose records are tf.train.Example messages.

    The messages name and number their features but say no more. Without a schema, the first block
    decides: a feature that never has other than one value is a plain column, else a list; bytes
    that are UTF-8 are strings. Where a record lacks a feature, or has no value for a plain column,
    is null. Lists may be empty; they hold no nulls.
    """

    name: ClassVar[str] = "tfrecord"
    suffixes: ClassVar[tuple[str, ...]] = (".tfrecord", ".tfrecords")

    round_floats: bool = False
    """Whether float64 columns may be written, rounded to the float32 that the format has."""

    def check(self, schema: pa.Schema) -> None:
        """Raise DataError unless columns are of integers, float32 or bytes, or lists of these."""
        for name in schema.names:
            if schema.names.count(name) > 1:
                raise DataError(f"TFRecord cannot hold two columns called {name!r}")
        for field in schema:
            kind = _item(field.type)
            if pa.types.is_float64(kind) and not self.round_floats:
                raise DataError(
                    f"TFRecord has float32 only, column {field.name!r} is {field.type}: cast it, "
                    "or set round_floats=True (--round-floats of `weiml data convert`)"
                )
            if _kind(kind) is None:
                raise DataError(
                    f"TFRecord cannot hold column {field.name!r} of type {field.type}: only "
                    "integers, flags, floats, strings, bytes and lists of them"
                )

    def _codec(self, head: bytes) -> Codec | None:
        return None if begins_plainly(head) else super()._codec(head)

    def _schema(self, file: BinaryIO) -> pa.Schema:
        for block in record_blocks(file, BadRows(lambda _: None)):
            return _infer(block)
        return pa.schema([])

    def _read(self, file: BinaryIO, schema: pa.Schema | None, bad: BadRows) -> Iterator[pa.Table]:
        strict = schema is None
        if schema is not None:
            self._check_reading(schema)
        for block in record_blocks(file, bad):
            if schema is None:
                schema = _infer(block)
            yield _parse(block, schema, strict, bad)

    def _check_reading(self, schema: pa.Schema) -> None:
        for field in schema:
            if _kind(_item(field.type)) is None:
                raise DataError(f"TFRecord cannot fill column {field.name!r} of type {field.type}")

    def _write(self, file: BinaryIO, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
        for table in tables:
            for start in range(0, table.num_rows, _ROWS):
                part = table.slice(start, _ROWS).combine_chunks()
                columns = [_column(name, part[name]) for name in schema.names]
                file.write(records_of(columns, part.num_rows).data)


def _item(kind: pa.DataType) -> pa.DataType:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return kind.value_type if listed else kind


def _kind(kind: pa.DataType) -> int | None:
    """Return which of the three lists holds values of a type; None if none does."""
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return INTEGERS
    if pa.types.is_floating(kind):
        return FLOATS
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return BYTES if text or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else None


def _infer(block: RecordBlock) -> pa.Schema:
    first, last = reading.feature_names(block.data, block.starts, block.stops)
    names = [name.as_py() for name in pc.unique(take_spans(block.data, first, last))]
    names = sorted(name for name in names if _is_text(name))
    lists = reading.find_lists(block.data, block.starts, block.stops, name_table(names), False)
    return pa.schema(
        [(name.decode(), _type(block, lists, place)) for place, name in enumerate(names)]
    )


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _type(block: RecordBlock, lists: Lists, column: int) -> pa.DataType:
    kinds = lists.kind[column]
    seen = kinds[kinds > 0]
    kind = int(seen[0]) if len(seen) else BYTES
    of_kind = kinds == kind
    counts = lists.counts[column][of_kind]
    if kind == INTEGERS:
        item = pa.int64()
    elif kind == FLOATS:
        item = pa.float32()
    else:
        spans = reading.take_bytes(
            block.data, lists.start[column][of_kind], lists.stop[column][of_kind], counts.sum()
        )
        try:
            take_spans(block.data, *spans).cast(pa.string())
            item = pa.string()
        except pa.ArrowInvalid:
            item = pa.binary()
    return item if (counts == 1).all() else pa.list_(item)


def _parse(block: RecordBlock, schema: pa.Schema, strict: bool, bad: BadRows) -> pa.Table:
    table = name_table([name.encode() for name in schema.names])
    lists = reading.find_lists(block.data, block.starts, block.stops, table, strict)
    reasons = _reasons(block, lists, schema)
    fine = _without(lists, reasons)
    try:
        columns = [_values(block.data, fine, i, field) for i, field in enumerate(schema)]
    except pa.ArrowInvalid:
        for column, field in enumerate(schema):
            _add_unfit(reasons, block, lists, column, field)
        fine = _without(lists, reasons)
        columns = [_values(block.data, fine, i, field) for i, field in enumerate(schema)]
    for place in sorted(reasons):
        bad.add(block.name(place), reasons[place], block.raw(place))
    if not columns:
        return pa.table({"": pa.nulls(len(fine.error))}).select([])
    return pa.Table.from_arrays(columns, schema=schema)


def _without(lists: Lists, places: Iterable[int]) -> Lists:
    """Return the lists of all records but those at `places`."""
    left_out = list(places)
    if not left_out:
        return lists
    keep = np.ones(len(lists.error), bool)
    keep[left_out] = False
    return Lists(*(part[:, keep] for part in lists[:4]), *(part[keep] for part in lists[4:]))


def _reasons(block: RecordBlock, lists: Lists, schema: pa.Schema) -> dict[int, str]:
    """Return what is wrong with each bad record, by its place in the block."""
    reasons: dict[int, str] = {}
    for place in np.flatnonzero(lists.error):
        name = block.data[lists.where[place, 0] : lists.where[place, 1]].tobytes()
        reasons[int(place)] = {
            reading.MALFORMED: f"no tf.train.Example message, near feature {name!r}",
            reading.UNKNOWN_NAME: f"feature {name!r} is none of the columns {schema.names} of the "
            "first block; give the columns and types with schema=",
            reading.TWO_LISTS: f"feature {name!r} has two lists of values",
        }[int(lists.error[place])]
    for column, field in enumerate(schema):
        _add_misfits(reasons, block, lists, column, field)
    return reasons


def _add_misfits(
    reasons: dict[int, str], block: RecordBlock, lists: Lists, column: int, field: pa.Field
) -> None:
    """Add the records whose values of one column are of another kind or number."""
    kinds, counts = lists.kind[column], lists.counts[column]
    wanted = _kind(_item(field.type))
    names = {BYTES: "bytes", FLOATS: "floats", INTEGERS: "int64"}
    for place in np.flatnonzero((kinds > 0) & (kinds != wanted)):
        reasons.setdefault(
            int(place), f"column {field.name!r}: {names[int(kinds[place])]}, not {field.type}"
        )
    if _item(field.type) == field.type:
        for place in np.flatnonzero(counts > 1):
            reasons.setdefault(
                int(place),
                f"column {field.name!r}: {counts[place]} values, not one; give it a list type "
                "with schema=",
            )


def _add_unfit(
    reasons: dict[int, str], block: RecordBlock, lists: Lists, column: int, field: pa.Field
) -> None:
    """Add the records of which a value of one column does not fit its type; one by one, slowly."""
    for place in range(len(lists.error)):
        if place not in reasons:
            one = Lists(
                *(part[:, place : place + 1] for part in lists[:4]),
                *(part[place : place + 1] for part in lists[4:]),
            )
            try:
                _values(block.data, one, column, field)
            except pa.ArrowInvalid as error:
                reasons[place] = f"column {field.name!r}: does not fit {field.type}: {error}"


def _values(data: np.ndarray, lists: Lists, column: int, field: pa.Field) -> pa.Array:
    """Return one column of `field`'s type."""
    kind = _kind(_item(field.type))
    start, stop = lists.start[column], lists.stop[column]
    counts = lists.counts[column]
    total = int(counts.sum())
    if kind == INTEGERS:
        values = pa.array(reading.take_integers(data, start, stop, total))
    elif kind == FLOATS:
        values = pa.array(reading.take_floats(data, start, stop, total).view(np.float32))
    else:
        values = take_spans(data, *reading.take_bytes(data, start, stop, total))
    item = _item(field.type)
    values = values.cast(item)
    if item == field.type:
        if total == len(counts):  # more than one are no part of a plain column here
            return values
        places = np.cumsum(counts) - 1
        return values.take(pa.array(places, mask=counts == 0))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    absent = np.concatenate([lists.kind[column] == 0, [False]])
    wide = pa.types.is_large_list(field.type)
    cls = pa.LargeListArray if wide else pa.ListArray
    bounds = pa.array(offsets, pa.int64() if wide else pa.int32(), mask=absent)
    return cls.from_arrays(bounds, values, type=field.type)


def _column(name: str, chunked: pa.ChunkedArray) -> Column:
    array = chunked.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    present = array.is_valid().to_numpy(zero_copy_only=False)
    if _item(array.type) == array.type:
        values = array.drop_null()
        counts = present.astype(np.int64)
    else:
        values = array.flatten()
        counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        if values.null_count:
            raise DataError(f"TFRecord lists hold no nulls; column {name!r} has some")
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    label = np.frombuffer(name.encode(), np.uint8)
    kind = _kind(values.type)
    bounds = np.empty(0, np.int64)
    if kind == BYTES:
        binary = values.cast(pa.large_string() if _is_string(values.type) else pa.large_binary())
        _, buffer, data = binary.buffers()
        bounds = np.frombuffer(buffer, np.int64)[binary.offset : binary.offset + len(binary) + 1]
        flat = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
        return Column(label, BYTES, flat, bounds.copy(), offsets, present)
    if kind == FLOATS:
        floats = values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
        return Column(label, FLOATS, floats.view(np.uint32), bounds, offsets, present)
    try:
        whole = values.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"TFRecord cannot hold column {name!r}: {error}") from None
    return Column(label, INTEGERS, whole, bounds, offsets, present)


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_string(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


register_format(TfRecord())
