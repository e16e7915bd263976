from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.formats import BadRow, Csv, Tsv
from weiml.errors import ConfigError, DataError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ['"', '""', ",", "\n", "\r\n", "NA", "null", " ", '"\n,', "é", "1", "true", "\x00"]
)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "i": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "u": (pa.uint8(), st.integers(0, 255)),
    "f": (pa.float64(), st.floats(allow_nan=False)),
    "g": (pa.float32(), st.floats(allow_nan=False, width=32)),
    "s": (pa.string(), TEXTS),
    "b": (pa.bool_(), st.booleans()),
    "d": (pa.date32(), st.integers(-10_000, 50_000)),
    "t": (pa.timestamp("us"), st.integers(-(10**15), 10**15)),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True))
    rows = draw(st.integers(1, 12))
    columns = {}
    for name in names:
        kind, values = COLUMNS[name]
        drawn = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns[name] = pa.array(drawn, kind)
    return pa.table(columns)


def written(table: pa.Table, format: Csv) -> io.BytesIO:
    file = io.BytesIO()
    half = table.num_rows // 2
    format.write(file, [table.slice(0, half), table.slice(half)], table.schema)
    return io.BytesIO(file.getvalue())


def read(data: bytes, format: Csv | None = None, **options: Any) -> list[dict[str, Any]]:
    found = list((format or Csv()).read(io.BytesIO(data), **options))
    return pa.concat_tables(found).to_pylist() if found else []


@given(table=tables(), delimiter=st.sampled_from([",", "\t", ";"]))
def test_what_is_written_is_read_back(table: pa.Table, delimiter: str) -> None:
    format = Csv(delimiter=delimiter)
    got = pa.concat_tables(format.read(written(table, format), schema=table.schema))
    assert got == table


def test_types_are_told_from_the_first_block() -> None:
    data = b"id,name,score,when,none\n1,x,0.5,2020-01-02 03:04:05,\n2,,1,2021-01-01 00:00:00,\n"
    schema = Csv().schema(io.BytesIO(data))
    assert [str(kind) for kind in schema.types] == [
        "int64",
        "string",
        "double",
        "timestamp[s]",
        "string",
    ]
    assert read(data)[1]["name"] is None


def test_null_spellings_headers_and_delimiters() -> None:
    data = b"1\tNA\n-\tx\n"
    format = Tsv(header=False, names=("a", "b"), nulls=("NA", "-"))
    assert read(data, format) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    assert read(b"1;2\n", Csv(header=False, delimiter=";")) == [{"f0": 1, "f1": 2}]
    assert read(b'a\n"NA"\nNA\n', Csv(nulls=("NA",))) == [{"a": "NA"}, {"a": None}]
    assert read(b"a,b\n'x,y',1\n", Csv(quote="'")) == [{"a": "x,y", "b": 1}]
    assert read(b'a,b\n"x,1\n', Csv(quote="")) == [{"a": '"x', "b": 1}]


def test_bad_rows_are_set_aside_with_line_and_column() -> None:
    data = b'a,b\n1,"x\ny"\n\nz,""\n2\n3,\xff\n4,5,6\n7,"v""w"'
    seen: list[BadRow] = []
    schema = pa.schema({"b": pa.string(), "a": pa.int64()})
    rows = read(data, schema=schema, on_bad=seen.append)
    assert rows == [{"b": "x\ny", "a": 1}, {"b": 'v"w', "a": 7}]
    assert [(bad.place, bad.raw) for bad in seen] == [
        ("line 5", b'z,""'),
        ("line 6", b"2"),
        ("line 7", b"3,\xff"),
        ("line 8", b"4,5,6"),
    ]
    reasons = [bad.reason for bad in seen]
    assert "column 'a': not int64: invalid value 'z'" in reasons[0]
    assert "Expected 2 columns, got 1" in reasons[1]
    assert "column 'b'" in reasons[2]
    with pytest.raises(DataError, match="line 5: column 'a'"):
        read(data, schema=schema)


def test_lines_are_counted_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weiml.data.formats.csv_records.record_blocks.__defaults__", (64,))
    data = b"a,b\n" + b'1,"two\nlines"\n' * 40 + b"x,y\n"
    with pytest.raises(DataError, match="line 82: column 'a'"):
        read(data)


def test_an_endless_quote_is_told_by_its_line() -> None:
    with pytest.raises(DataError, match="line 3: a quoted field that starts there never ends"):
        read(b'a,b\n1,2\n3,"x\n4,5\n')
    assert len(read(b'a,b\n1,2\n3,"x"\n', Csv(newlines_in_values=False))) == 2


def test_empty_files_and_bare_headers() -> None:
    assert read(b"") == []
    assert read(b"a,b\n") == []
    assert Csv().schema(io.BytesIO(b"a,b\n")).names == ["a", "b"]
    assert Csv().schema(io.BytesIO(b"")).names == []


def test_what_csv_cannot_hold_is_told_before_anything_is_written() -> None:
    for column in (pa.array([[1]]), pa.array([b"x"]), pa.array([{"a": 1}])):
        file = io.BytesIO()
        with pytest.raises(DataError, match="CSV cannot hold column 'x'"):
            Csv().write(file, [pa.table({"x": column})], pa.schema({"x": column.type}))
        assert file.getvalue() == b""


def test_without_quotes_a_value_that_needs_them_is_told() -> None:
    for text in ("a,b", "a\nb", ""):
        table = pa.table({"x": [text], "y": [1]})
        with pytest.raises(DataError, match="without quotes"):
            written(table, Csv(quote=""))


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"delimiter": ""}, "delimiter must be one"),
        ({"delimiter": '"'}, "delimiter cannot be"),
        ({"quote": "''"}, "quote must be one"),
        ({"names": ("a",)}, "header=False"),
    ],
)
def test_wrong_options_are_told(knobs: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Csv(**knobs)


def test_columns_with_one_name_are_told() -> None:
    with pytest.raises(DataError, match="different names"):
        read(b"a,a\n1,2\n")
    with pytest.raises(DataError, match="no column 'c'"):
        read(b"a,b\n1,2\n", schema=pa.schema({"c": pa.int64()}))
