from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from weiml.data.quality.distinct import EXACT, Distinct, hashes_of
from weiml.errors import DataError


def seen(*parts: np.ndarray) -> Distinct:
    counted = Distinct()
    for part in parts:
        counted.add(hashes_of(pa.array(part)))
    return counted


def test_few_values_are_counted_exactly() -> None:
    counted = seen(np.arange(EXACT), np.arange(100))
    assert counted.exact
    assert counted.count() == EXACT


@pytest.mark.parametrize("n", [5_000, 30_000, 200_000])
def test_many_are_estimated_within_the_error_stated(n: int) -> None:
    counted = seen(np.arange(n), np.arange(n // 2))
    assert not counted.exact
    assert abs(counted.count() / n - 1) < 3 * 1.04 / 64


@pytest.mark.parametrize("n", [100, 20_000])
def test_parts_merge_to_the_same_in_any_order_and_through_json(n: int) -> None:
    values = np.arange(n)
    parts = [seen(values[: n // 3]), seen(values[n // 4 :])]
    text = json.dumps([part.to_mapping() for part in parts])
    first, second = (Distinct.from_mapping(tree) for tree in json.loads(text))
    parts[0].merge(parts[1])
    second.merge(first)
    whole = seen(values)
    assert parts[0].to_mapping() == second.to_mapping() == whole.to_mapping()
    assert whole.exact == (n <= EXACT)


def test_equal_values_have_equal_hashes_whatever_the_type() -> None:
    assert hashes_of(pa.array([0.0]))[0] == hashes_of(pa.array([-0.0]))[0]
    columns = [
        pa.array([b"x", b"y", b"\xff"]),
        pa.array([b"x", b"y", b"\xff"], pa.large_binary()),
        pa.array([1, 2, 3], pa.timestamp("ms")),
        pa.array([1, 2, 3], pa.date32()),
        pa.array(["1.5", "2", "3"]).cast(pa.decimal128(5, 2)),
        pa.array([1.5, 2, 3], pa.float32()),
        pa.array(["a", "b", "c"]),
    ]
    for column in columns:
        hashes = hashes_of(column)
        assert len(set(hashes.tolist())) == 3
        np.testing.assert_array_equal(hashes_of(column.slice(1)), hashes[1:])


def test_damage_is_told() -> None:
    for tree in ({"registers": "AAAA"}, {}, {"hashes": "AAAA"}):
        with pytest.raises(DataError, match="damaged"):
            Distinct.from_mapping(tree)
