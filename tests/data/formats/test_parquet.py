from __future__ import annotations

import io

import pyarrow as pa
import pytest

from weiml.data.formats import FORMATS, Parquet, format_of
from weiml.errors import ConfigError, DataError

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})


def written(table: pa.Table, format: Parquet) -> io.BytesIO:
    file = io.BytesIO()
    format.write(file, [table.slice(0, 2), table.slice(2)], table.schema)
    return io.BytesIO(file.getvalue())


def test_what_is_written_is_read_in_order_whole_and_by_pieces() -> None:
    format = Parquet(rows_per_group=1)
    file = written(TABLE, format)
    assert format.schema(file) == TABLE.schema
    assert pa.concat_tables(format.read(file)) == TABLE
    assert format.pieces(file) == 3
    pieces = [pa.concat_tables(format.read(file, piece=piece)) for piece in range(3)]
    assert pa.concat_tables(pieces) == TABLE


def test_columns_are_chosen_and_cast() -> None:
    schema = pa.schema({"b": pa.large_string(), "a": pa.float64()})
    table = pa.concat_tables(Parquet().read(written(TABLE, Parquet()), schema=schema))
    assert table == TABLE.select(["b", "a"]).cast(schema)


def test_a_misspelt_column_and_a_damaged_file_are_told() -> None:
    file = written(TABLE, Parquet())
    with pytest.raises(DataError, match="no column 'aa'"):
        list(Parquet().read(file, schema=pa.schema({"aa": pa.int64()})))
    with pytest.raises(DataError, match="not a whole Parquet file"):
        Parquet().schema(io.BytesIO(b"PAR1 and nothing else"))


def test_a_format_is_known_by_name_and_suffix() -> None:
    assert format_of("s3://b/part-0.parquet") is FORMATS["parquet"]
    assert format_of("x", "parquet") is FORMATS["parquet"]
    with pytest.raises(ConfigError, match="did you mean 'parquet'"):
        format_of("x", "parket")
    with pytest.raises(ConfigError, match="format="):
        format_of("x.unknown")
