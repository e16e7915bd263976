from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.streams import ArrowDecoder, CsvDecoder, JsonDecoder, RawEvents
from weiml.errors import ConfigError

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())])


def decoded(values: list[bytes]) -> tuple[list[dict[str, Any]], list[int], list[str]]:
    result = JsonDecoder(schema=SCHEMA).decode(RawEvents.of_values(values))
    assert len(result.rows) == result.table.num_rows
    assert sorted({*result.rows.tolist(), *result.bad}) == list(range(len(values)))
    return result.table.to_pylist(), result.bad, result.reasons


def test_good_events_are_one_block() -> None:
    rows, bad, _ = decoded([b'{"id":1,"text":"a","more":[1]}', b' {"text":null, "id":2} \r'])
    assert rows == [{"id": 1, "text": "a"}, {"id": 2, "text": None}]
    assert not bad


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not a JSON object"),
        (b"null", "not a JSON object"),  # crashes a reader that sees it
        (b"[1]", "not a JSON object"),
        (b"{}{}", "one whole"),
        (b'{"id":1} null', "one whole"),
        (b'{"id":1', "one whole"),
        (b'{"id":"1"}', "/id"),
        (b'{"id":1.5}', "1.5"),
        (b'{"id":99999999999999999999}', "9999"),
        (b'{"text":"a"}', "no value for 'id'"),
        (b'{"id":null}', "no value for 'id'"),
        (b'{"id":1,"text":"\xff"}', "UTF8"),
        (b'{"id":1,"text":"a\nb"}', "one whole"),
        (b'{"id":1,"text":"a\\\nb"}', ""),
        (b'{"id":1,}', "name"),
        (b'{"id":1,"id":2}', "twice"),
    ],
)
def test_a_bad_event_costs_no_other(value: bytes, reason: str) -> None:
    good = [b'{"id":%d}' % i for i in range(40)]
    rows, bad, reasons = decoded([*good[:17], value, *good[17:]])
    assert [row["id"] for row in rows] == list(range(40))
    assert bad == [17]
    assert reason in reasons[0]


def test_two_faults_that_make_up_for_each_other_shift_nothing() -> None:
    rows, bad, _ = decoded([b'{"id":0}{"id":1}', b"", b'{"id":2}'])
    assert rows == [{"id": 2, "text": None}]
    assert bad == [0, 1]


def test_an_object_may_take_several_lines() -> None:
    rows, bad, _ = decoded([b'{\n "id": 1,\n "text": "{"\n}', b'{"id":2}'])
    assert [row["id"] for row in rows] == [1, 2]
    assert not bad


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.lists(JSON | st.fixed_dictionaries({"id": st.integers(0, 9), "x": JSON}), max_size=12))
def test_events_are_good_or_bad_by_themselves(trees: list[Any]) -> None:
    values = [json.dumps(tree, ensure_ascii=False).encode() for tree in trees]
    rows, bad, _ = decoded(values)
    alone = [decoded([value])[0] for value in values]
    assert rows == [row for found in alone for row in found]
    assert bad == [i for i, found in enumerate(alone) if not found]
    for tree, found in zip(trees, alone, strict=True):
        if isinstance(tree, dict) and type(tree.get("id")) is int and "text" not in tree:
            assert [row["id"] for row in found] == [tree["id"]]


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_no_bytes_raise(values: list[bytes]) -> None:
    raw = RawEvents.of_values(values)
    for decoder in (JsonDecoder(schema=SCHEMA), CsvDecoder(schema=SCHEMA)):
        result = decoder.decode(raw)
        assert result.table.num_rows == len(result.rows)
        assert len(result.bad) == len(result.reasons)
        assert sorted([*result.rows.tolist(), *result.bad]) == list(range(len(values)))
    assert ArrowDecoder(schema=SCHEMA).decode(raw).bad == list(range(len(values)))


def test_csv_rows() -> None:
    values = [b"1,a", b'2,"b,c"\r', b"x,y", b"3", b"", b"4,d\n5,e", b"6,", b",a"]
    result = CsvDecoder(schema=SCHEMA).decode(RawEvents.of_values(values))
    assert result.table.to_pylist() == [
        {"id": 1, "text": "a"},
        {"id": 2, "text": "b,c"},
        {"id": 6, "text": None},
    ]
    assert result.rows.tolist() == [0, 1, 6]
    assert result.bad == [2, 3, 4, 5, 7]


def test_arrow_payloads_hold_many_rows() -> None:
    def payload(table: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    good = payload(pa.table({"text": ["a", "b"], "id": [1, 2]}))
    missing = payload(pa.table({"text": ["a", "b"], "id": [1, None]}))
    raw = RawEvents.of_values([good, b"x", payload(pa.table({"n": [1]})), missing, good])
    result = ArrowDecoder(schema=SCHEMA).decode(raw)
    assert result.table["id"].to_pylist() == [1, 2, 1, 2]
    assert result.rows.tolist() == [0, 0, 4, 4]
    assert result.bad == [1, 2, 3]


def test_a_schema_has_columns() -> None:
    with pytest.raises(ConfigError, match="no column"):
        JsonDecoder(schema=pa.schema([]))


def test_raw_events_are_cut_and_put_together_again() -> None:
    values = [b"a", b"", b"b\nc", b"d"]
    one = RawEvents.of_values(values, partition="x")
    two = RawEvents.of_values([b"e"], partition="y", first_offset=7)
    both = RawEvents.concat([one.slice(0, 2), two, one.slice(2, 4)])
    assert [both.value(i) for i in range(5)] == [b"a", b"", b"e", b"b\nc", b"d"]
    names = [both.partitions[i] for i in both.partition]
    assert list(zip(names, both.offsets.tolist(), strict=True)) == [
        ("x", 0),
        ("x", 1),
        ("y", 7),
        ("x", 2),
        ("x", 3),
    ]
    assert len(RawEvents.concat([])) == 0
    assert np.array_equal(both.bounds, [0, 2, 3, 5, 9, 11])
