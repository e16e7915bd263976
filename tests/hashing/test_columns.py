"""Columns against single values: chunks, slices, nulls, dictionaries, integers of any size."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.hashing import feature_seed, hash_key, hash_values


@given(st.lists(st.one_of(st.none(), st.text(max_size=70)), max_size=30), st.integers(0, 5))
def test_column_equals_scalars(values: list[str | None], skip: int) -> None:
    expected = [hash_key("f", value) for value in values]
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        column = pa.array(values, kind)
        assert hash_values("f", column).tolist() == expected
        assert hash_values("f", column[skip:]).tolist() == expected[skip:]
    encoded = pa.array(values, pa.string()).dictionary_encode()
    assert hash_values("f", encoded).tolist() == expected
    chunked = pa.chunked_array([pa.array(values, pa.string())] * 2)
    assert hash_values("f", chunked).tolist() == expected * 2


def test_a_dictionary_as_large_as_its_index_type_allows_may_have_nulls() -> None:
    texts = [str(i) for i in range(128)]
    column = pa.DictionaryArray.from_arrays(pa.array([127, None], pa.int8()), pa.array(texts))
    assert hash_values("f", column).tolist() == [hash_key("f", "127"), hash_key("f", None)]


@given(
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=30),
    st.integers(0, 5),
)
def test_integers_hash_as_their_decimal_text(values: list[int | None], skip: int) -> None:
    as_text = [None if value is None else str(value) for value in values]
    expected = hash_values("f", pa.array(as_text, pa.string())).tolist()
    column = pa.array(values, pa.int64())
    assert hash_values("f", column).tolist() == expected
    assert hash_values("f", column[skip:]).tolist() == expected[skip:]
    assert [hash_key("f", value) for value in values] == expected


def test_unsigned_and_small_integers() -> None:
    assert hash_values("f", pa.array([2**64 - 1], pa.uint64()))[0] == hash_key("f", str(2**64 - 1))
    assert hash_values("f", pa.array([-128, 127], pa.int8())).tolist() == [
        hash_key("f", "-128"),
        hash_key("f", "127"),
    ]


def test_booleans_nulls_and_features_have_ids_of_their_own() -> None:
    assert hash_values("f", pa.array([True, None])).tolist() == [
        hash_key("f", "true"),
        hash_key("f", None),
    ]
    assert len({hash_key("f", v) for v in (None, "", "None", "null", 0)}) == 5
    assert hash_key("f", "x") != hash_key("g", "x")
    assert hash_values("f", pa.nulls(2)).tolist() == [hash_key("f", None)] * 2


def test_floats_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="'age'.*double"):
        hash_values("age", pa.array([1.5]))


def test_types_without_a_text_form_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="'when'.*timestamp"):
        hash_values("when", pa.array([0], pa.timestamp("s")))


def test_what_lies_under_nulls_does_not_matter() -> None:
    column = pa.array([1, 2**60, -3, 4], mask=np.array([False, True, True, False]))
    wanted = [hash_key("f", value) for value in (1, None, None, 4)]
    assert hash_values("f", column).tolist() == wanted
    assert hash_values("f", column[1:]).tolist() == wanted[1:]


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1000])
def test_blocks_of_short_and_long_numbers(size: int, rng: np.random.Generator) -> None:
    numbers = rng.integers(0, 10**7, size)
    numbers[rng.random(size) < 2 / size] = 10**7
    assert hash_values("f", pa.array(numbers)).tolist() == [
        hash_key("f", str(number)) for number in numbers.tolist()
    ]


def test_ids_spread_evenly_over_buckets() -> None:
    keys = hash_values("user_id", pa.array(range(200_000)))
    counts = np.bincount((keys >> np.uint64(54)).astype(np.int64), minlength=1024)
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    # 1023 degrees of freedom: mean 1023, standard deviation 45.
    assert chi_square < 1023 + 6 * 45
    assert feature_seed("user_id") != feature_seed("item_id")
