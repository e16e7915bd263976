from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from weiml.data.quality import frequent
from weiml.data.quality.frequent import CAPACITY, Frequent


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=30), max_size=4))
def test_few_values_are_counted_exactly(parts: list[list[str]]) -> None:
    merged = Frequent()
    for part in parts:
        one = Frequent()
        one.add(pa.array(part, pa.string()))
        merged.merge(Frequent.from_mapping(json.loads(json.dumps(one.to_mapping()))))
    expected = Counter(value for part in parts for value in part)
    assert merged.exact
    assert dict(merged.top(10)) == dict(expected)
    assert [n for _, n in merged.top(10)] == sorted(expected.values(), reverse=True)


def test_many_values_are_bounded_and_the_true_count_lies_within_the_error(
    rng: np.random.Generator,
) -> None:
    values = rng.zipf(1.3, 60_000) % 40_000
    merged = Frequent()
    for part in np.array_split(values, 6):
        one = Frequent()
        one.add(pa.array(part.astype(str)))
        merged.merge(one)
    assert not merged.exact
    assert len(merged.top(10**6)) <= CAPACITY
    assert merged.error <= len(values) / CAPACITY
    true = Counter(values.astype(str))
    for value, count in merged.top(50):
        assert count <= true[value] <= count + merged.error
    assert [value for value, _ in merged.top(5)] == [value for value, _ in true.most_common(5)]
    assert frequent.CAPACITY == CAPACITY
