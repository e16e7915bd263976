from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.examples.matching import KeyIndex

KEYS = st.lists(st.integers(0, 4), max_size=12)


@given(left=KEYS, right=KEYS)
def test_pairs_are_all_equal_keys_in_order(left: list[int], right: list[int]) -> None:
    ours, theirs = KeyIndex.of(np.array(right, np.uint64)).match(np.array(left, np.uint64))
    expected = [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if a == b != 0]
    assert list(zip(ours.tolist(), theirs.tolist(), strict=True)) == expected
