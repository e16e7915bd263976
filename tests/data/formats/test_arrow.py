from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pytest

from weiml.data.formats import FORMATS, Arrow, ArrowStream, format_of
from weiml.errors import ConfigError, DataError

TABLE = pa.table({"a": [1, 2, 3], "b": [["x"], None, []]})


def written(format: Arrow) -> io.BytesIO:
    file = io.BytesIO()
    format.write(file, [TABLE.slice(0, 2), TABLE.slice(2)], TABLE.schema)
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("cls", [Arrow, ArrowStream])
def test_what_is_written_is_read(cls: type[Arrow], compression: str | None) -> None:
    file = written(cls(compression=compression))  # type: ignore[arg-type]
    assert cls().schema(file) == TABLE.schema
    file.seek(0)
    assert pa.concat_tables(cls().read(file)) == TABLE
    file.seek(0)
    schema = pa.schema({"a": pa.float32()})
    assert pa.concat_tables(cls().read(file, schema=schema)) == TABLE.select(["a"]).cast(schema)


def test_a_batch_is_a_piece_and_a_stream_is_one() -> None:
    file = written(Arrow(rows_per_batch=1))
    assert Arrow().pieces(file) == 3
    parts = []
    for piece in range(3):
        file.seek(0)
        parts += list(Arrow().read(file, piece=piece))
    assert pa.concat_tables(parts) == TABLE
    stream = written(ArrowStream(rows_per_batch=1))
    assert Arrow().pieces(stream) == 1
    stream.seek(0)
    with pytest.raises(ConfigError, match="one piece"):
        list(Arrow().read(stream, piece=1))


def test_feather_files_are_read() -> None:
    file = io.BytesIO()
    pyarrow.feather.write_feather(TABLE, file)
    assert pa.concat_tables(format_of("x.feather").read(io.BytesIO(file.getvalue()))) == TABLE
    assert format_of("x.arrows") is FORMATS["arrow-stream"]


def test_damage_and_wrong_columns_are_told() -> None:
    data = written(Arrow()).getvalue()
    for wrong in (b"no arrow at all, but long", data[: len(data) - 9]):
        with pytest.raises(DataError, match="not a whole Arrow file"):
            Arrow().schema(io.BytesIO(wrong))
    stream = written(ArrowStream(compression=None)).getvalue()
    with pytest.raises(DataError, match="cannot be read"):
        list(Arrow().read(io.BytesIO(stream[:-60])))
    with pytest.raises(DataError, match="no column 'aa'"):
        list(Arrow().read(io.BytesIO(data), schema=pa.schema({"aa": pa.int64()})))
    knobs: list[dict[str, Any]] = [{"compression": "gzip"}, {"rows_per_batch": 0}]
    for knob in knobs:
        with pytest.raises(ConfigError):
            Arrow(**knob)
