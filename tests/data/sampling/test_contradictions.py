from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from weiml.data.sampling import Contradictions, RowCounts, bucket_edges, remove_contradictions
from weiml.errors import ConfigError, DataError

TABLE = pa.table(
    {
        "row": list(range(9)),
        "a": ["x", "x", "x", "y", "y", "z", "z", "u", "v"],
        "n": [0.1, 0.1, 0.1, 0.2, 0.2, 0.3, 0.4, 0.5, 0.5],
        "label": [1, 0, 0, 1, 0, 1, 0, 1, 1],
        "time": [3, 2, 1, 5, 5, 0, 0, 0, 0],
    }
)


def left(table: pa.Table, **knobs: object) -> list[int]:
    config = Contradictions(features=("a", "n"), **knobs)  # type: ignore[arg-type]
    rows: list[int] = remove_contradictions(table, config)["row"].to_pylist()
    return rows


def test_policies() -> None:
    assert left(TABLE) == [5, 6, 7, 8]
    assert left(TABLE, policy="keep_majority") == [1, 2, 5, 6, 7, 8]
    assert left(TABLE, policy="keep_last", time="time") == [0, 4, 5, 6, 7, 8]


def test_what_is_removed_is_counted() -> None:
    counts = RowCounts()
    remove_contradictions(TABLE, Contradictions(features=("a", "n")), counts=counts)
    assert (counts.seen, dict(counts.removed)) == (9, {"contradictions (drop_all)": 5})


def test_numbers_are_equal_after_rounding_or_in_one_bucket() -> None:
    close = pa.table(
        {"row": [0, 1, 2], "a": ["x"] * 3, "n": [0.12, 0.14, None], "label": [0, 1, 1]}
    )
    assert left(close) == [0, 1, 2]
    assert left(close, decimals=1) == [2]
    assert left(close, edges={"n": (0.5,)}) == [2]
    assert left(close, edges={"n": (0.13,)}) == [0, 1, 2]


def test_buckets_of_equal_count() -> None:
    table = pa.table({"n": [float(x) for x in range(100)], "m": [0.0] * 100})
    edges = bucket_edges(table, ("n", "m"), 4)
    assert edges == {"n": (24.75, 49.5, 74.25), "m": (0.0,)}
    with pytest.raises(ConfigError, match="buckets"):
        bucket_edges(table, ("n",), 1)


def test_wrong_configurations_are_told() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"features": ()}, "at least one"),
        ({"policy": "keep_lst"}, "did you mean 'keep_last'"),
        ({"policy": "keep_last"}, "needs time"),
        ({"edges": {"b": (1.0,)}}, "no feature"),
        ({"edges": {"a": (2.0, 1.0)}}, "must ascend"),
    ]
    for knobs, said in wrong:
        with pytest.raises(ConfigError, match=said):
            Contradictions(**{"features": ("a",)} | knobs)


def test_integers_that_floats_cannot_tell_apart_have_buckets() -> None:
    big = 2**53 + 1
    table = pa.table({"x": [1, big, big, None], "label": [1, 0, 1, 1]})
    edges = bucket_edges(table, ("x",), 2)
    assert edges == {"x": (2.0**53,)}
    config = Contradictions(features=("x",), edges=edges)
    assert remove_contradictions(table, config)["x"].to_pylist() == [1, None]
    with pytest.raises(DataError, match="feature column 'x' must hold numbers, got string"):
        bucket_edges(pa.table({"x": ["a"]}), ("x",), 2)
