from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.formats import BadRow, Libffm
from weiml.errors import DataError

FINITE = st.floats(allow_nan=False)
ENTRY = st.fixed_dictionaries(
    {"field": st.integers(0, 99), "key": st.integers(0, 10**17), "value": FINITE}
)
KIND = pa.list_(pa.struct({"field": pa.int64(), "key": pa.int64(), "value": pa.float64()}))


def read(data: bytes, format: Libffm | None = None, **options: Any) -> pa.Table:
    return pa.concat_tables((format or Libffm()).read(io.BytesIO(data), **options))


@given(st.lists(st.tuples(FINITE, st.lists(ENTRY, max_size=4)), min_size=1))
def test_what_is_written_is_read_back(rows: list[tuple[float, list[dict[str, Any]]]]) -> None:
    label, features = zip(*rows, strict=True)
    table = pa.table({"label": pa.array(label), "features": pa.array(features, KIND)})
    file = io.BytesIO()
    Libffm().write(file, [table], table.schema)
    assert read(file.getvalue()) == table


def test_fields_and_indices_count_from_zero() -> None:
    assert read(b"1 0:3:0.5 1:0:1\n").to_pylist() == [
        {
            "label": 1.0,
            "features": [
                {"field": 0, "key": 3, "value": 0.5},
                {"field": 1, "key": 0, "value": 1.0},
            ],
        }
    ]
    assert read(b"1 2:3\n", Libffm(implicit_ones=True))["features"][0].as_py() == [
        {"field": 2, "key": 3, "value": 1.0}
    ]


def test_bad_lines_are_set_aside() -> None:
    seen: list[BadRow] = []
    table = read(b"0 1:2\n0 1:2:x\n0 a:1:1\n0 1:b:1\n1 1:1:1\n", on_bad=seen.append)
    assert table["label"].to_pylist() == [1.0]
    assert [bad.place for bad in seen] == ["line 1", "line 2", "line 3", "line 4"]
    assert "field:index:value" in seen[0].reason


def test_libsvm_features_do_not_fit() -> None:
    kind = pa.list_(pa.struct({"key": pa.int64(), "value": pa.float64()}))
    with pytest.raises(DataError, match="needs features of type"):
        Libffm().check(pa.schema({"label": pa.float64(), "features": kind}))
