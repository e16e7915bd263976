"""The index of keys against a dictionary."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import DataError
from weiml.features.transforms.key_index import KeyIndex

keys = st.integers(1, 2**64 - 1)


@given(st.lists(keys, unique=True, max_size=50), st.lists(keys, max_size=20))
def test_it_finds_what_a_dictionary_finds(known: list[int], asked: list[int]) -> None:
    index = pickle.loads(pickle.dumps(KeyIndex(np.array(known, np.uint64))))
    places = {key: i for i, key in enumerate(known)}
    every = np.array([*asked, *known], np.uint64)
    assert index.find(every).tolist() == [places.get(int(key), -1) for key in every]


@pytest.mark.parametrize("wrong", [[0], [5, 7, 5]])
def test_keys_that_cannot_be_are_told(wrong: list[int]) -> None:
    with pytest.raises(DataError, match="different keys"):
        KeyIndex(np.array(wrong, np.uint64))
