from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from weiml.data.formats import BadRow, Libsvm
from weiml.errors import ConfigError, DataError

FINITE = st.floats(allow_nan=False)
ENTRIES = st.lists(
    st.fixed_dictionaries({"key": st.integers(0, 10**17), "value": FINITE}), max_size=4
)
KIND = pa.list_(pa.struct({"key": pa.int64(), "value": pa.float64()}))


def read(data: bytes, format: Libsvm | None = None, **options: Any) -> pa.Table:
    return pa.concat_tables((format or Libsvm()).read(io.BytesIO(data), **options))


def written(table: pa.Table, format: Libsvm | None = None) -> bytes:
    file = io.BytesIO()
    (format or Libsvm()).write(file, [table.slice(0, 1), table.slice(1)], table.schema)
    return file.getvalue()


@given(
    rows=st.lists(st.tuples(FINITE, st.none() | st.integers(0, 10**9), ENTRIES), min_size=1),
    first_index=st.sampled_from([0, 1]),
)
def test_what_is_written_is_read_back(rows: list[tuple[Any, ...]], first_index: int) -> None:
    label, qid, features = zip(*rows, strict=True)
    table = pa.table(
        {
            "label": pa.array(label, pa.float64()),
            "qid": pa.array(qid, pa.int64()),
            "features": pa.array(features, KIND),
        }
    )
    format = Libsvm(first_index=first_index)
    assert read(written(table, format), format, schema=table.schema) == table


@pytest.mark.parametrize("first_index", [0, 1])
@pytest.mark.parametrize("ours", [False, True])
def test_scikit_learn_agrees_both_ways(
    first_index: int, ours: bool, rng: np.random.Generator
) -> None:
    X = sp.random(40, 30, 0.2, format="csr", random_state=1)
    y, qid = rng.normal(size=40), rng.integers(0, 5, 40)
    file = io.BytesIO()
    based = first_index == 0
    dump_svmlight_file(X, y, file, zero_based=based, query_id=qid, comment="made by hand")
    format = Libsvm(first_index=first_index)
    data = file.getvalue()
    if ours:
        data = written(read(data, format), format)
    table = read(data, format)
    expected, labels, ids = load_svmlight_file(
        io.BytesIO(data), n_features=30, zero_based=based, query_id=True
    )
    features = table["features"].combine_chunks()
    keys, values = features.flatten().flatten()
    got = sp.csr_matrix((values, keys, features.offsets), shape=(40, 30))
    assert (got != expected).nnz == 0
    np.testing.assert_array_equal(table["label"], labels)
    np.testing.assert_array_equal(table["qid"], ids)


def test_comments_blank_lines_and_tabs() -> None:
    table = read(b"# all of it\n\n1\t1:2  3:4 # qid:9\r\n-1\n")
    assert table.schema.names == ["label", "features"]
    assert table.to_pylist() == [
        {"label": 1.0, "features": [{"key": 0, "value": 2.0}, {"key": 2, "value": 4.0}]},
        {"label": -1.0, "features": []},
    ]


def test_indices_alone_stand_for_one_where_asked() -> None:
    format = Libsvm(implicit_ones=True, first_index=0)
    assert read(b"1 0 7 9:2\n", format)["features"].to_pylist() == [
        [{"key": 0, "value": 1.0}, {"key": 7, "value": 1.0}, {"key": 9, "value": 2.0}]
    ]


def test_bad_lines_are_set_aside_with_line_and_reason() -> None:
    lines = {
        "x 1:1": "label: 'x' is not a number",
        "1 0:3": "below first_index=1",
        "1 a:3": "'a:3' is no index",
        "1 2": "without a value",
        "1 2:": "not a number",
        "1 2:3:4": "'3:4' is not a number",
        "1 qid:x 2:1": "no query id",
        "1 1:1 2:0x1 3:1": "'0x1' is not a number",
        "\udcff": "not UTF-8",
    }
    data = "2 5:1\n" + "".join(line + "\n3 6:1e-30\n" for line in lines)
    seen: list[BadRow] = []
    table = read(data.encode(errors="surrogateescape"), on_bad=seen.append)
    assert table["label"].to_pylist() == [2.0, *[3.0] * len(lines)]
    assert table["features"].to_pylist()[-1] == [{"key": 5, "value": 1e-30}]
    places = {bad.place: bad.reason for bad in seen}
    for number, reason in enumerate(lines.values()):
        assert reason in places[f"line {2 + 2 * number}"]
    with pytest.raises(DataError, match="line 2: the label: 'x'"):
        read(b"2 5:1\nx 1:1\n")


def test_types_can_be_asked_for() -> None:
    kind = pa.list_(pa.struct({"key": pa.uint32(), "value": pa.float32()}))
    schema = pa.schema({"features": kind, "label": pa.float32()})
    assert read(b"1 1:0.1\n", schema=schema).schema == schema
    with pytest.raises(DataError, match="no column 'labels'"):
        read(b"1 1:1\n", schema=pa.schema({"labels": pa.float32()}))


def test_query_ids_that_begin_late_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weiml.data.formats.lines.line_blocks.__defaults__", (8,))
    with pytest.raises(DataError, match="from line 2 on there are query ids"):
        read(b"1 1:1\n1 qid:2 1:1\n")


def test_what_it_cannot_hold_is_told_before_anything_is_written() -> None:
    good = pa.table({"label": [1.0], "features": pa.array([[]], KIND)})
    for table, said in [
        (good.append_column("user", pa.array(["x"])), "column 'user'"),
        (good.drop_columns(["label"]), "needs the columns label"),
        (good.set_column(1, "features", pa.array([[1]])), "needs features of type"),
        (good.set_column(0, "label", pa.array(["x"])), "needs numbers in column 'label'"),
    ]:
        file = io.BytesIO()
        with pytest.raises(DataError, match=said):
            Libsvm().write(file, [table], table.schema)
        assert file.getvalue() == b""


def test_values_it_cannot_hold_are_told() -> None:
    for entries, label, said in [
        ([{"key": -1, "value": 1.0}], 1.0, "must not be below 0"),
        ([{"key": 2**60, "value": 1.0}], 1.0, "more than 18 digits"),
        ([{"key": 1, "value": None}], 1.0, "without value"),
        ([None], 1.0, "null entries"),
        (None, 1.0, "null of column 'features' in row 0"),
        ([], None, "null of column 'label' in row 0"),
    ]:
        table = pa.table(
            {"label": pa.array([label], pa.float64()), "features": pa.array([entries], KIND)}
        )
        with pytest.raises(DataError, match=said):
            written(table)
    with pytest.raises(ConfigError, match="first_index"):
        Libsvm(first_index=2)


def test_query_ids_below_zero_are_told() -> None:
    data = {"label": [1.0, 0.0], "qid": [0, None], "features": pa.array([[], []], KIND)}
    assert read(written(pa.table(data)))["qid"].to_pylist() == [0, None]
    with pytest.raises(DataError, match="query id below 0, got -1 in column 'qid'"):
        written(pa.table(data | {"qid": [0, -1]}))
