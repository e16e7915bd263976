from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.formats.names import find_name, name_table


@given(st.lists(st.binary(max_size=4), unique=True, max_size=40), st.binary(max_size=4))
def test_names_are_found_at_their_places_and_no_others(names: list[bytes], other: bytes) -> None:
    table = name_table(names)
    for place, name in enumerate([*names, other]):
        data = np.frombuffer(b"<" + name + b">", np.uint8)
        expected = names.index(name) if name in names else -1
        for guess in (-1, 0, place):
            if guess < len(names):
                assert find_name(data, 1, 1 + len(name), *table, guess) == expected
