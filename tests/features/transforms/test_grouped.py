"""Sums by group are the same however rows come, and are put together on the way."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from weiml.features.transforms import grouped
from weiml.features.transforms.grouped import GroupedSums


def test_sums_against_a_counter(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    monkeypatch.setattr(grouped, "_LEAST", 50)
    parts = [GroupedSums(pa.schema({"g": pa.int64()}), ("n",)) for _ in range(3)]
    expected: Counter[int] = Counter()
    for i in range(60):
        groups, numbers = rng.integers(0, 20, 30), rng.integers(-5, 5, 30)
        parts[i % 3].add({"g": pa.array(groups), "n": pa.array(numbers)})
        for g, n in zip(groups.tolist(), numbers.tolist(), strict=True):
            expected[g] += n
    total = pickle.loads(pickle.dumps(parts[0]))
    for part in parts[1:]:
        total.merge(part)
    assert total._table.num_rows < 200
    rows = total.table().to_pylist()
    assert {row["g"]: row["n"] for row in rows} == dict(expected)
