from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.formats import BadRow, JsonLines
from weiml.errors import DataError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(
    ['"', "\\", "\n", "\x00", "\\n", "/", "\u2028"]
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
STRUCT = pa.struct({"x": pa.int64(), "y": pa.list_(pa.string())})
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "i": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "u": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "f": (pa.float64(), NUMBERS),
    'q"\\': (pa.string(), TEXTS),
    "b": (pa.bool_(), st.booleans()),
    "d": (pa.date32(), st.integers(-10_000, 50_000)),
    "t": (pa.timestamp("ms", "UTC"), st.integers(-(10**12), 10**12)),
    "l": (pa.list_(pa.float64()), st.lists(st.none() | NUMBERS, max_size=3)),
    "ll": (pa.large_list(pa.list_(pa.int32())), st.lists(st.lists(st.integers(0, 9), max_size=2))),
    "s": (
        STRUCT,
        st.fixed_dictionaries(
            {"x": st.none() | st.integers(0, 9), "y": st.none() | st.lists(TEXTS)}
        ),
    ),
    "m": (
        pa.map_(pa.string(), pa.float64()),
        st.dictionaries(TEXTS, NUMBERS, max_size=3).map(lambda d: list(d.items())),
    ),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True))
    rows = draw(st.integers(1, 8))
    columns = {}
    for name in names:
        kind, values = COLUMNS[name]
        drawn = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns[name] = pa.array(drawn, kind)
    return pa.table(columns)


def written(table: pa.Table) -> bytes:
    file = io.BytesIO()
    JsonLines().write(file, [table.slice(0, 1), table.slice(1)], table.schema)
    return file.getvalue()


def read(data: bytes, **options: Any) -> list[dict[str, Any]]:
    found = list(JsonLines().read(io.BytesIO(data), **options))
    return pa.concat_tables(found).to_pylist() if found else []


@given(tables())
def test_what_is_written_is_read_back_and_is_json(table: pa.Table) -> None:
    data = written(table)
    assert len([json.loads(line) for line in data.decode().split("\n")[:-1]]) == table.num_rows
    got = pa.concat_tables(JsonLines().read(io.BytesIO(data), schema=table.schema))
    assert got == table


def test_types_are_told_from_the_first_block() -> None:
    data = b'{"a":1,"b":[1.5],"c":{"d":"x"},"e":null}\n{"a":null,"f":true}\n'
    schema = JsonLines().schema(io.BytesIO(data))
    assert dict(zip(schema.names, map(str, schema.types), strict=True)) == {
        "a": "int64",
        "b": "list<item: double>",
        "c": "struct<d: string>",
        "e": "string",
        "f": "bool",
    }
    assert read(data)[1] == {"a": None, "b": None, "c": None, "e": None, "f": True}


def test_bad_lines_are_set_aside_with_line_and_column() -> None:
    data = b'{"a":1}\n\n{"a":"x"}\n{"a":3,\n[1]\n{"a":1}{"a":2}\n\xff\n{"a":9}'
    seen: list[BadRow] = []
    assert read(data, on_bad=seen.append) == [{"a": 1}, {"a": 9}]
    places = {bad.place: bad for bad in seen}
    assert set(places) == {"line 3", "line 4", "line 5", "line 6", "line 7"}
    assert places["line 3"].reason == "column 'a': changed from number to string"
    assert places["line 4"].raw == b'{"a":3,'
    with pytest.raises(DataError, match="line 3: column 'a'"):
        read(data.replace(b"\xff", b""))


def test_a_field_unknown_to_the_first_block_is_not_lost() -> None:
    first = b'{"a":1}\n' * 2_000_000
    with pytest.raises(DataError, match="line 2000001: a field that is none of the columns"):
        for _ in JsonLines().read(io.BytesIO(first + b'{"a":1,"b":2}\n')):
            pass
    assert read(b'{"a":1,"b":2}\n', schema=pa.schema({"a": pa.int8()})) == [{"a": 1}]


def test_maps_take_objects_only() -> None:
    schema = pa.schema({"m": pa.map_(pa.string(), pa.int64())})
    seen: list[BadRow] = []
    data = b'{"m":{"a":1}}\n{"m":3}\n{"m":{"a":"x"}}\n{}\n'
    assert read(data, schema=schema, on_bad=seen.append) == [{"m": [("a", 1)]}, {"m": None}]
    assert [bad.place for bad in seen] == ["line 2", "line 3"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"x"]),
        pa.array(
            [[{"a": [("k", 1)]}]], pa.list_(pa.struct({"a": pa.map_(pa.string(), pa.int8())}))
        ),
        pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64())),
        pa.array([{}], pa.struct([])),
    ],
)
def test_what_json_cannot_hold_is_told_before_anything_is_written(column: pa.Array) -> None:
    file = io.BytesIO()
    with pytest.raises(DataError, match="cannot hold column 'x'"):
        JsonLines().write(file, [pa.table({"x": column})], pa.schema({"x": column.type}))
    assert file.getvalue() == b""


def test_numbers_that_are_not_finite_are_told() -> None:
    with pytest.raises(DataError, match=r"column 'x': it has nan, near row 1.*replace"):
        written(pa.table({"x": [0.0, float("nan")]}))


def test_an_empty_file_has_no_rows() -> None:
    assert read(b"") == []
    assert JsonLines().schema(io.BytesIO(b"")).names == []
    assert read(b"\n \n") == []


def test_maps_keep_keys_that_repeat() -> None:
    kind = pa.map_(pa.string(), pa.int64())
    rows = [[("b", 1), ("b", 2)], None, [], [("a", None), ("b", 3), ("a", 4)]]
    table = pa.table({"m": pa.array(rows, kind), "n": [1, 2, 3, 4]})
    assert read(written(table), schema=table.schema) == table.to_pylist()


def test_what_lies_under_a_null_map_is_not_written() -> None:
    entries = pa.array(["a", "b", "c"]), pa.array([1, 2, 3])
    maps = pa.MapArray.from_arrays(pa.array([0, None, 2, 3]), *entries)
    assert maps.to_pylist() == [[("a", 1), ("b", 2)], None, [("c", 3)]]
    under = pa.MapArray.from_buffers(
        maps.type,
        3,
        [
            pa.array([True, False, True]).buffers()[1],
            pa.array([0, 1, 2, 3], pa.int32()).buffers()[1],
        ],
        children=[
            pa.StructArray.from_arrays(
                entries,
                fields=list(
                    maps.cast(
                        pa.list_(pa.struct([maps.type.key_field, maps.type.item_field]))
                    ).type.value_type
                ),
            )
        ],
    )
    assert under.to_pylist() == [[("a", 1)], None, [("c", 3)]]
    assert written(pa.table({"m": under})) == b'{"m":{"a":1}}\n{"m":null}\n{"m":{"c":3}}\n'
