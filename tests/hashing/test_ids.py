"""Ids of single values: type tags, and one id however a value arrives."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.hashing import TypeTag, feature_seed, hash_key, hash_values

INTEGER_TYPES = (
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
)
STRING_TYPES = (pa.string(), pa.large_string(), pa.string_view())
tags = st.sampled_from(list(TypeTag))


def test_without_a_tag_an_id_is_that_of_a_category() -> None:
    # Written down: data, models and checkpoints of earlier versions hold these.
    assert hash_key("user_id", 7) == hash_key("user_id", 7, TypeTag.CATEGORICAL)
    assert hash_key("user_id", 7) == 0xED9F1454C88278EB
    assert hash_key("user_id", None) == 0xFB16874DE7957345


def test_tags_are_as_documented() -> None:
    assert {tag.name: int(tag) for tag in TypeTag} == {
        "CATEGORICAL": 0,
        "BINARY": 1,
        "CONTINUOUS": 2,
        "TEXT": 3,
        "SPARSE_BINARY": 4,
        "SPARSE_CONTINUOUS": 5,
        "SEQUENCE": 6,
        "CROSS": 7,
    }


@given(st.text(max_size=12), st.one_of(st.none(), st.text(max_size=12)))
def test_types_share_no_ids(feature: str, value: str | None) -> None:
    assert len({int(feature_seed(feature, tag)) for tag in TypeTag}) == len(TypeTag)
    assert len({hash_key(feature, value, tag) for tag in TypeTag}) == len(TypeTag)


def integer_paths(number: int, tag: TypeTag) -> list[int]:
    """The ids of an integer by every way in which it can arrive."""
    ids = [hash_key("f", number, tag), hash_key("f", str(number), tag)]
    columns = [pa.array([str(number)], kind) for kind in STRING_TYPES]
    for kind in INTEGER_TYPES:
        bits, signed = kind.bit_width, pa.types.is_signed_integer(kind)
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        if low <= number <= high:
            columns.append(pa.array([number], kind))
            ids.append(hash_key("f", kind.to_pandas_dtype()(number), tag))
    if abs(number) <= 2**53:
        columns.append(pa.array([float(number)]))
        ids.append(hash_key("f", float(number), tag))
        ids.append(hash_key("f", json.loads(f"{number}.0"), tag))
    wide = pa.uint64() if number >= 2**63 else pa.int64()
    columns += [pa.array([json.loads(str(number))], wide), pa.array([json.loads(f'"{number}"')])]
    columns += [column.dictionary_encode() for column in columns]
    columns.append(pa.array([[number]], pa.list_(wide)).flatten())
    columns.append(from_csv(str(number)))
    return ids + [int(key) for column in columns for key in hash_values("f", column, tag)]


def from_csv(text: str) -> pa.ChunkedArray:
    file = io.StringIO()
    csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["f"], [text]])
    options = pyarrow.csv.ConvertOptions(column_types={"f": pa.string()})
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(
        io.BytesIO(file.getvalue().encode()), convert_options=options, parse_options=parse
    )
    return table["f"]


@given(st.integers(-(2**63), 2**64 - 1), tags)
def test_an_integer_has_one_id(number: int, tag: TypeTag) -> None:
    assert len(set(integer_paths(number, tag))) == 1


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), tags)
def test_a_text_has_one_id(text: str, tag: TypeTag) -> None:
    columns: list[Any] = [pa.array([text], kind) for kind in STRING_TYPES]
    columns += [columns[0].dictionary_encode(), pa.array([[text]]).flatten()]
    columns.append(pa.array([json.loads(json.dumps(text))]))
    if not set(text) & {"\0", "\r"}:
        columns.append(from_csv(text))
    ids = {int(hash_values("f", column, tag)[0]) for column in columns}
    assert ids == {hash_key("f", text, tag)}


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_has_one_id(value: bool) -> None:
    text = str(value).lower()
    wanted = hash_key("f", text)
    assert hash_key("f", value) == hash_key("f", np.bool_(value)) == wanted
    assert hash_values("f", pa.array([value])).tolist() == [wanted]
    assert hash_key("f", json.loads(text)) == wanted


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan")])
def test_missing_values_have_one_id(value: Any) -> None:
    wanted = hash_key("f", None)
    assert hash_key("f", value) == wanted
    for kind in (*INTEGER_TYPES, *STRING_TYPES, pa.bool_(), pa.null(), pa.float64()):
        assert hash_values("f", pa.array([None], kind)).tolist() == [wanted]
    assert hash_values("f", pa.array([np.nan])).tolist() == [wanted]


@pytest.mark.parametrize("number", [1.5, float("inf"), -float("inf"), 2.0**53 + 2, 1e300])
def test_a_float_that_is_not_whole_has_no_id(number: float) -> None:
    with pytest.raises(DataError, match="'age'.*has no id"):
        hash_key("age", number)
    with pytest.raises(DataError, match="'age'.*column of type double has no id"):
        hash_values("age", pa.array([1.0, number]))


def test_narrow_floats_end_where_they_melt_together() -> None:
    exact = pa.array([2.0**24], pa.float32())
    assert hash_values("f", exact).tolist() == [hash_key("f", 2**24)]
    with pytest.raises(DataError, match="float has no id.*up to 16777216"):
        hash_values("f", pa.array([2.0**24 + 2], pa.float32()))


def test_minus_zero_is_zero() -> None:
    assert hash_key("f", -0.0) == hash_key("f", 0) == int(hash_values("f", pa.array([-0.0]))[0])


@pytest.mark.parametrize("value", [b"a", bytearray(b"a"), Decimal("5"), 5j, (5,), object()])
def test_values_of_types_without_ids_are_told(value: Any) -> None:
    with pytest.raises(DataError, match=f"'f': a {type(value).__name__} has no id"):
        hash_key("f", value)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_of_numpy_have_ids_as_far_as_columns_of_them(kind: type[np.floating]) -> None:
    limit = 2 ** (np.finfo(kind).nmant + 1)
    for number in (kind(limit), kind(-limit), kind(0), kind("nan")):
        assert hash_key("f", number) == hash_values("f", pa.array(np.array([number])))[0]
    for value in (hash_key, lambda f, x: hash_values(f, pa.array(np.array([x])))):
        with pytest.raises(DataError, match="has no id"):
            value("f", kind(2) * kind(limit))


def test_subclasses_count_as_what_they_hold() -> None:
    class Colour(str, Enum):  # noqa: UP042 - whose str() is 'Colour.RED'
        RED = "red"

    assert hash_key("f", Colour.RED) == hash_key("f", "red")
    assert hash_key("f", TypeTag.TEXT) == hash_key("f", 3) == hash_key("f", np.uint8(3))
    assert hash_key("f", np.str_("3")) == hash_key("f", 3)
    assert hash_key("f", np.bool_(True)) == hash_key("f", "true")
