from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from weiml.data import Examples, col
from weiml.errors import DataError

EVENTS = pa.table({"id": ["a", "b", "c"], "item": [1, 2, 3], "ms": [10, 20, 30]})
ITEMS = Examples.of(pa.table({"item": [2, 3], "shop": ["x", "y"]}))


def test_a_function_does_to_batches_what_the_plan_does_to_examples() -> None:
    plan = Examples.of_stream(EVENTS.schema)
    bounded = Examples.of(EVENTS)
    function, expected = (
        base.filter(col("ms") > 10).join_smaller(ITEMS, "item").select("shop", "id")
        for base in (plan, bounded)
    )
    run = pickle.loads(pickle.dumps(function.function()))
    pieces = [run(EVENTS.slice(at, 1)) for at in range(3)]
    assert pa.concat_tables(pieces).equals(expected.to_table())
    assert run(EVENTS.slice(0, 0)).schema.equals(function.schema)


def test_what_a_stream_cannot_do_is_told() -> None:
    plan = Examples.of_stream(EVENTS.schema)
    with pytest.raises(DataError, match="shuffle 0: brings examples together"):
        plan.shuffle().function()
    with pytest.raises(DataError, match="sample by an id"):
        plan.filter(0.5).function()
    assert plan.sample(0.5, by="id").function()(EVENTS).num_rows < 3
    with pytest.raises(DataError, match="a stream has no end"):
        plan.to_table()
