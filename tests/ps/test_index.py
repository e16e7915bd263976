"""The key index against a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from weiml.ps import KeyIndex

uint64s = st.one_of(
    st.integers(0, 20), st.integers(2**64 - 20, 2**64 - 1), st.integers(0, 2**64 - 1)
)


@given(calls=st.lists(st.lists(uint64s, max_size=30), max_size=10), probes=st.lists(uint64s))
@settings(max_examples=100, deadline=None)
def test_it_is_a_dictionary_of_rows_in_order_of_insertion(
    calls: list[list[int]], probes: list[int]
) -> None:
    index, rows = KeyIndex(), dict[int, int]()
    for call in calls:
        keys = np.array(call, np.uint64)
        expected = [rows.setdefault(key, len(rows)) for key in call]
        assert index.find_or_insert(keys).tolist() == expected
        assert index.keys.tolist() == list(rows)
        assert len(index) == len(rows)
    asked = np.array(probes, np.uint64)
    assert index.find(asked).tolist() == [rows.get(key, -1) for key in probes]


def test_it_grows_without_losing_a_key() -> None:
    index = KeyIndex()
    keys = np.random.default_rng(3).permutation(200_000).astype(np.uint64)
    for part in np.array_split(keys, 7):
        index.find_or_insert(part)
    assert np.array_equal(index.find(keys), np.arange(200_000))
    assert (index.find(keys + np.uint64(200_000)) == -1).all()
    assert index.nbytes < 200_000 * 60


def test_keys_alike_in_their_low_or_high_bits_spread() -> None:
    low = np.arange(50_000, dtype=np.uint64)
    for keys in (low, low << np.uint64(40), ~low):
        assert np.array_equal(KeyIndex.of(keys).find(keys), np.arange(50_000))


def test_read_only_and_strided_keys_are_taken() -> None:
    keys = np.arange(20, dtype=np.uint64)[::2]
    keys.flags.writeable = False
    assert KeyIndex.of(keys).find(keys).tolist() == list(range(10))
