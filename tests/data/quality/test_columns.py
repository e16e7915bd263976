from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from weiml.data.quality.columns import ColumnStatistics, type_text
from weiml.errors import DataError


def seen(*arrays: pa.Array) -> ColumnStatistics:
    column = ColumnStatistics(type_text(arrays[0].type))
    for array in arrays:
        column.add(array)
    return column


def test_nan_is_missing_and_zeros_are_counted() -> None:
    column = seen(pa.array([0.0, float("nan"), None, 4.0]))
    assert (column.count, column.missing) == (4, 2)
    assert column.missing_share == 0.5
    assert column.zero_share == 0.25
    assert column.numbers is not None
    assert column.numbers.mean == 2.0


def test_text_flags_and_dictionaries_have_values() -> None:
    for array in (
        pa.array(["a", "b", "a", None]),
        pa.array(["a", "b", "a", None]).dictionary_encode(),
        pa.array(["a", "b", "a", None], pa.large_string()),
    ):
        column = seen(array)
        assert column.values is not None
        assert column.distinct is not None
        assert column.values.top(2) == [("a", 2), ("b", 1)]
        assert column.distinct.count() == 2
    flags = seen(pa.array([True, False, True]))
    assert flags.values is not None
    assert flags.values.top(1) == [("true", 2)]


def test_lists_have_lengths_and_items_structs_fields_maps_keys_and_values() -> None:
    column = seen(pa.array([["a", "b"], None, [], ["a"]]).slice(0))
    assert column.lengths is not None
    assert (column.lengths.count, column.lengths.max, column.lengths.mean) == (3, 2.0, 1.0)
    assert column.parts["item"].count == 3
    pairs = seen(pa.array([[{"key": 1, "value": 0.5}], [{"key": 1, "value": None}]]))
    item = pairs.parts["item"]
    assert (item.parts["value"].missing, item.parts["key"].missing) == (1, 0)
    maps = seen(pa.array([[("k", 1)], None, [("k", 2), ("l", 3)]], pa.map_(pa.string(), pa.int8())))
    numbers = maps.parts["value"].numbers
    assert numbers is not None
    assert maps.lengths is not None
    assert (maps.lengths.count, numbers.count, numbers.max) == (2, 3, 3.0)


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, None, 3], pa.timestamp("us")),
        pa.array([b"x", None]),
        pa.nulls(3),
        pa.array([[1.5], None], pa.list_(pa.float32(), 1)),
        pa.array(["1.50", None]).cast(pa.decimal128(5, 2)),
        pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    ],
)
def test_slices_and_parts_come_to_the_same_through_a_mapping(array: pa.Array) -> None:
    whole = seen(array)
    parts = [seen(array.slice(i, 1)) for i in range(len(array))]
    merged = ColumnStatistics.from_mapping(parts[0].to_mapping())
    for part in parts[1:]:
        merged.merge(part)
    assert (merged.count, merged.missing) == (whole.count, whole.missing)
    assert merged.to_mapping().keys() == whole.to_mapping().keys()
    if whole.numbers is not None:
        assert merged.numbers is not None
        np.testing.assert_allclose(merged.numbers.mean, whole.numbers.mean)


def test_another_type_is_told() -> None:
    with pytest.raises(DataError, match="is string, but was int64"):
        seen(pa.array([1]), pa.array(["x"]))
    with pytest.raises(DataError, match="is string, but was int64"):
        seen(pa.array([1])).merge(seen(pa.array(["x"])))


def test_forms_of_one_type_have_one_name() -> None:
    forms = [
        pa.list_(pa.field("element", pa.string())),
        pa.large_list(pa.large_string()),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
    ]
    assert {type_text(form) for form in forms} == {"list<string>"}
    assert type_text(pa.struct({"a": pa.map_(pa.string(), pa.int8())})) == (
        "struct<a: map<string, int8>>"
    )


@pytest.mark.parametrize("nulls", [False, True])
def test_maps_of_a_slice_count_its_own_entries(nulls: bool) -> None:
    kind = pa.map_(pa.string(), pa.int64())
    rows = [[("a", 1)], [("b", 2), ("x", 9)], None if nulls else [], [("c", 3)], [("d", 4)]]
    array = pa.array(rows, kind)
    for start in range(6):
        for length in range(6 - start):
            column = ColumnStatistics(type_text(kind))
            column.add(array.slice(start, length))
            own = [entry for row in rows[start : start + length] for entry in row or ()]
            keys, lengths = column.parts["key"].values, column.lengths
            assert keys is not None
            assert lengths is not None
            assert sorted(keys.top(9)) == sorted((k, 1) for k, _ in own)
            assert column.parts["value"].count == len(own)
            assert lengths.count == sum(r is not None for r in rows[start : start + length])


def test_views_are_the_type_that_they_are_views_of() -> None:
    for plain, view in ((pa.string(), pa.string_view()), (pa.binary(), pa.binary_view())):
        column = ColumnStatistics(type_text(plain))
        column.add(pa.array(["a", None, "a longer text than twelve"], plain))
        column.add(pa.array(["a", None, "another text of more letters"], view))
        assert (column.count, column.missing) == (6, 2)
        assert column.distinct is not None
        assert column.distinct.count() == 3


def test_intervals_are_told() -> None:
    kind = pa.month_day_nano_interval()
    with pytest.raises(DataError, match="cast it to a duration"):
        ColumnStatistics(type_text(kind)).add(pa.array([None, (1, 2, 3)], kind))
