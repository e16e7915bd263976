from __future__ import annotations

import base64
import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.formats import BadRow, TfRecord
from weiml.data.formats.crc32c import masked_crc32c
from weiml.errors import DataError

FLOATS = st.floats(allow_nan=False, width=32)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
ITEMS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "i": (pa.int64(), INTEGERS),
    "f": (pa.float32(), FLOATS),
    "s": (pa.string(), TEXTS),
    "b": (pa.binary(), st.binary(max_size=5)),
}
COLUMNS = ITEMS | {
    "l" + name: (pa.list_(kind), st.lists(values, max_size=3))
    for name, (kind, values) in ITEMS.items()
}

# Written by TensorFlow 2.21 from the rows below.
GOLDEN = (
    "bAAAAAAAAAD12rDXCmoKEQoFbGFiZWwSCBIGCgQAAIA/Ch8KBmNsaWNrcxIVGhMKEQP///////////8B"
    "gICAgIAgChYKBXF1ZXJ5Eg0KCwoJd2Vpw59iaWVyCg0KA3JhdxIGCgQKAv8ACg0KBHVzZXISBRoDCgEH"
    "09g4iVgAAAAAAAAAoosvjApWChEKBWxhYmVsEggSBgoEAACAPgoMCgZjbGlja3MSAhoACg0KBXF1ZXJ5"
    "EgQKAgoACgwKA3JhdxIFCgMKAXgKFgoEdXNlchIOGgwKCvn//////////wHtPE5rAgAAAAAAAAB4Jws0"
    "CgA5gYur"
)
ROWS: list[dict[str, Any]] = [
    {"clicks": [3, -1, 2**40], "label": 1.0, "query": "weißbier", "raw": b"\xff\x00", "user": 7},
    {"clicks": [], "label": 0.25, "query": "", "raw": b"x", "user": -7},
    dict.fromkeys(("clicks", "label", "query", "raw", "user")),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, unique=True))
    rows = draw(st.integers(1, 6))
    columns = {}
    for name in names:
        kind, values = COLUMNS[name]
        drawn = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns[name] = pa.array(drawn, kind)
    return pa.table(columns)


def written(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    TfRecord(**options).write(file, [table.slice(0, 1), table.slice(1)], table.schema)
    return file.getvalue()


def read(data: bytes, **options: Any) -> pa.Table:
    return pa.concat_tables(TfRecord().read(io.BytesIO(data), **options))


@given(tables())
def test_what_is_written_is_read_back(table: pa.Table) -> None:
    assert read(written(table), schema=table.schema) == table


def test_the_bytes_of_tensorflow_are_read_and_written_alike() -> None:
    golden = base64.b64decode(GOLDEN)
    schema = pa.schema(
        {
            "clicks": pa.list_(pa.int64()),
            "label": pa.float32(),
            "query": pa.string(),
            "raw": pa.binary(),
            "user": pa.int64(),
        }
    )
    table = read(golden)
    assert table.schema == schema
    assert table.to_pylist() == ROWS
    assert read(written(table), schema=schema) == table


def test_compressions_are_told_apart_from_lengths_that_look_like_them() -> None:
    table = pa.table({"x": [1, 2]})
    plain = written(table)
    for packed in (gzip.compress(plain), zlib.compress(plain), plain):
        assert read(packed) == table
    assert zlib.decompress(written(table, compression="zlib")) == plain
    # A record of 0x088b1f bytes: the file begins as a gzip file does.
    long = pa.table({"x": [b"y" * (0x088B1F - 23)]})
    data = written(long)
    assert data[:3] == b"\x1f\x8b\x08"
    assert read(data, schema=long.schema) == long


def test_types_are_told_from_the_first_block() -> None:
    table = pa.table(
        {
            "a": [1, None, 3],
            "b": pa.array([[1.0], [], None], pa.list_(pa.float32())),
            "c": [b"\xff", b"", b"x"],
            "d": ["x", "y", None],
        }
    )
    assert read(written(table)) == table


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_damage_is_told_by_record_and_byte() -> None:
    table = pa.table({"x": ["first", "second", "third"]})
    data = written(table)
    second = data.index(b"second")
    start = written(table.slice(0, 1))
    seen: list[BadRow] = []
    got = read(damaged(data, second), on_bad=seen.append)
    assert got["x"].to_pylist() == ["first", "third"]
    assert seen[0].place == f"record 2 at byte {len(start)}"
    assert "CRC" in seen[0].reason
    with pytest.raises(DataError, match=f"record 2 at byte {len(start)}: .*CRC"):
        read(damaged(data, second))
    for on_bad in (None, seen.append):
        with pytest.raises(DataError, match=f"record 2 at byte {len(start)}: its length"):
            read(damaged(data, len(start) + 2), on_bad=on_bad)


@pytest.mark.parametrize("left", [1, 11, 12, 30])
def test_a_file_cut_short_is_told(left: int) -> None:
    table = pa.table({"x": ["first", "second"]})
    whole = written(table.slice(0, 1))
    data = written(table)[: len(whole) + left]
    with pytest.raises(DataError, match=f"record 2 at byte {len(whole)}: the file ends within"):
        read(data)
    seen: list[BadRow] = []
    assert read(data, on_bad=seen.append) == table.slice(0, 1)
    assert len(seen) == 1


def test_records_that_do_not_fit_are_set_aside() -> None:
    first = pa.table({"x": [1, 2], "s": ["a", "b"]})
    others = [
        (pa.table({"x": ["text"]}), "column 'x': bytes, not int64"),
        (pa.table({"x": [[1, 2]]}), "column 'x': 2 values, not one"),
        (pa.table({"s": [b"\xff"]}), "column 's': does not fit string"),
        (pa.table({"new": [1]}), "feature b'new' is none of the columns"),
    ]
    data = written(first) + b"".join(written(table) for table, _ in others) + written(first)
    seen: list[BadRow] = []
    # One block holds all of them, so that the types of the first must be given.
    got = read(data, schema=first.schema, on_bad=seen.append)
    assert [bad.reason[:20] for bad in seen] == [reason[:20] for _, reason in others[:3]]
    assert [bad.place.split(" at ")[0] for bad in seen] == ["record 3", "record 4", "record 5"]
    assert got["x"].to_pylist() == [1, 2, None, 1, 2]
    for table, reason in others[:3]:
        with pytest.raises(DataError, match=reason):
            read(written(first) + written(table), schema=first.schema)


def test_a_feature_unknown_to_the_first_block_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weiml.data.formats.tfrecord_frames.record_blocks.__defaults__", (64,))
    data = written(pa.table({"x": list(range(20))})) + written(pa.table({"y": [1]}))
    with pytest.raises(DataError, match="feature b'y' is none of the columns"):
        read(data)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_table_or_an_error(payload: bytes) -> None:
    head = len(payload).to_bytes(8, "little")
    array = np.frombuffer(head + payload, np.uint8)
    crcs = [masked_crc32c(array, 0, 8), masked_crc32c(array, 8, len(array))]
    data = head + int(crcs[0]).to_bytes(4, "little") + payload + int(crcs[1]).to_bytes(4, "little")
    seen: list[BadRow] = []
    schema = pa.schema({"x": pa.int64()})
    rows = sum(len(t) for t in TfRecord().read(io.BytesIO(data), schema=schema, on_bad=seen.append))
    assert rows + len(seen) == 1


def test_what_it_cannot_hold_is_told_before_anything_is_written() -> None:
    for column, said in [
        (pa.array([1.0]), "float32 only"),
        (pa.array([{"a": 1}]), "cannot hold column 'x'"),
        (pa.array([[[1]]]), "cannot hold column 'x'"),
    ]:
        file = io.BytesIO()
        with pytest.raises(DataError, match=said):
            TfRecord().write(file, [pa.table({"x": column})], pa.schema({"x": column.type}))
        assert file.getvalue() == b""
    rounded = read(written(pa.table({"x": [0.1]}), round_floats=True))
    assert rounded["x"].to_pylist() == [float(np.float32(0.1))]


def test_values_it_cannot_hold_are_told() -> None:
    with pytest.raises(DataError, match="hold no nulls"):
        written(pa.table({"x": [[1, None]]}))
    with pytest.raises(DataError, match="cannot hold column 'x'"):
        written(pa.table({"x": pa.array([2**64 - 1], pa.uint64())}))


def test_other_integers_flags_and_dictionaries() -> None:
    table = pa.table(
        {
            "a": pa.array([1, None], pa.uint8()),
            "b": [True, False],
            "c": pa.array(["x", None]).dictionary_encode(),
            "d": pa.array([[1], []], pa.large_list(pa.int16())),
        }
    )
    assert read(written(table), schema=table.schema).to_pylist() == table.to_pylist()


@pytest.fixture(scope="module")
def tf() -> Any:
    return pytest.importorskip("tensorflow")


def as_feature(tf: Any, kind: pa.DataType, value: Any) -> Any:
    item = kind.value_type if pa.types.is_list(kind) else kind
    values = value if pa.types.is_list(kind) else [value]
    if pa.types.is_integer(item):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    if pa.types.is_floating(item):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    encoded = [v.encode() if isinstance(v, str) else v for v in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))


def tensorflow_writes(tf: Any, table: pa.Table, path: Path, compression: str) -> None:
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for row in table.to_pylist():
            features = {
                name: as_feature(tf, table.schema.field(name).type, value)
                for name, value in row.items()
                if value is not None
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def tensorflow_reads(tf: Any, path: Path, compression: str, schema: pa.Schema) -> pa.Table:
    rows = []
    for record in tf.data.TFRecordDataset(str(path), compression):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        row = {}
        for name, feature in features.items():
            values = list(getattr(feature, feature.WhichOneof("kind")).value)
            row[name] = values if pa.types.is_list(schema.field(name).type) else values[0]
        rows.append(row)
    binary = pa.schema([field.with_type(_binary(field.type)) for field in schema])
    return pa.Table.from_pylist(rows, binary).cast(schema)


def _binary(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_binary(kind.value_type))
    return pa.binary() if pa.types.is_string(kind) else kind


@pytest.mark.slow
@given(table=tables(), compression=st.sampled_from(["", "GZIP", "ZLIB"]))
def test_tensorflow_agrees_both_ways(
    tf: Any, tmp_path_factory: pytest.TempPathFactory, table: pa.Table, compression: str
) -> None:
    path = tmp_path_factory.mktemp("records") / "x.tfrecord"
    tensorflow_writes(tf, table, path, compression)
    assert read(path.read_bytes(), schema=table.schema) == table
    path.write_bytes(written(table, compression=compression.lower() or None))
    assert tensorflow_reads(tf, path, compression, table.schema) == table
