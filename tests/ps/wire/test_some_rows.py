"""Rows that are left out and made again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.ps.wire import Codec, SomeRows, decode, encode


@pytest.mark.parametrize("codec", ["float32", "bfloat16", "int8"])
@given(there=st.lists(st.booleans(), max_size=40), dim=st.integers(1, 4))
def test_rows_come_back_in_their_places(codec: Codec, there: list[bool], dim: int) -> None:
    mask = np.array(there, bool)
    rows = np.random.default_rng(0).normal(size=(mask.size, dim)).astype(np.float32)
    encoded = encode(rows[mask], codec)
    some = SomeRows.of(encoded, mask)
    assert some.nbytes == encoded.nbytes + -(-mask.size // 8)
    back = some.filled(lambda places: -rows[places])
    assert np.array_equal(back[mask], decode(encoded))
    assert np.array_equal(back[~mask], -rows[~mask])


def test_nothing_is_made_when_all_rows_are_there() -> None:
    rows = np.ones((3, 2), np.float32)

    def refuse(places: np.ndarray) -> np.ndarray:
        raise AssertionError(f"asked for {places}")

    assert np.array_equal(SomeRows.of(rows, np.ones(3, bool)).filled(refuse), rows)
