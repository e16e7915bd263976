"""The hash against xxHash's published values, and equality over every way a value can arrive."""

from __future__ import annotations

import numba
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.hashing import (
    _xxh64,
    cross_keys,
    feature_seed,
    hash_key,
    hash_values,
    mix64,
    unmix64,
)


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("", 0xEF46DB3751D8E999),
        ("a", 0xD24EC4F1A98C6E5B),
        ("abc", 0x44BC2CF5AD770999),
        ("Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_xxh64_known_answers(text: str, digest: int) -> None:
    data = np.frombuffer(text.encode(), np.uint8)
    assert int(_xxh64(data, 0, data.size, np.uint64(0))) == digest


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


def test_crosses_depend_on_order_and_are_never_zero(rng: np.random.Generator) -> None:
    a = rng.integers(1, 2**63, 1000).astype(np.uint64)
    b = rng.integers(1, 2**63, 1000).astype(np.uint64)
    assert (cross_keys(a, b) != cross_keys(b, a)).all()
    assert np.unique(cross_keys(a, b)).size == 1000
    assert (cross_keys(a, b) > 0).all()


def test_ids_spread_evenly_over_buckets() -> None:
    keys = hash_values("user_id", pa.array(range(200_000)))
    counts = np.bincount((keys >> np.uint64(54)).astype(np.int64), minlength=1024)
    chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
    # 1023 degrees of freedom: mean 1023, standard deviation 45.
    assert chi_square < 1023 + 6 * 45
    assert feature_seed("user_id") != feature_seed("item_id")


@numba.njit
def mixed_and_back(x: np.uint64) -> tuple[np.uint64, np.uint64, np.uint64]:
    return mix64(x), unmix64(mix64(x)), mix64(unmix64(x))


@given(st.integers(0, 2**64 - 1))
def test_unmixing_undoes_mixing(number: int) -> None:
    mixed, back, forth = mixed_and_back(np.uint64(number))
    assert back == forth == number
    assert mixed != number or number == 0
