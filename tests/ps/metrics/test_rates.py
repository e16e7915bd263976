"""What two looks at a group say together."""

from __future__ import annotations

import json
from typing import Any

import pytest

from weiml.ps.metrics.latency import LatencyHistogram
from weiml.ps.metrics.rates import between, spread


def shard(index: int, **changes: Any) -> dict[str, Any]:
    """Return a shard's status, as far as it is looked at."""
    return {
        "shard": index,
        "pid": 100 + index,
        "rows": 10,
        "bytes": 1000,
        "standbys": 0,
        "keys": 0,
        "pulls": 0,
        "pushes": 0,
        "waiting": 0,
        "held": 0,
        "replication_lag": 0,
        "loop_lag_s": 0.0,
        "latency_bins": {what: [] for what in ("pull", "push", "blocked")},
        "table_details": {},
        **changes,
    }


def group(*shards: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"shards": list(shards), "clocks": {}, "live": [], **changes}


def pulls(*seconds: float) -> dict[str, Any]:
    histogram = LatencyHistogram()
    for second in seconds:
        histogram.add(second)
    return {"latency_bins": {"pull": histogram.bins(), "push": [], "blocked": []}}


def hot(requests: float, *keys: tuple[int, float]) -> dict[str, Any]:
    details = {"hot_requests": requests, "hot_keys": [list(pair) for pair in keys]}
    return {"table_details": {"t": details}}


def test_rates_are_what_was_counted_meanwhile_over_the_time() -> None:
    before = group(shard(0, keys=100, pulls=10), shard(1, keys=1000, pushes=3))
    now = group(shard(0, keys=400, pulls=12, waiting=2), shard(1, keys=1100, pushes=9))
    found = between(before, now, 2.0)
    assert (found["keys_per_s"], found["pulls_per_s"], found["pushes_per_s"]) == (200, 1, 3)
    assert [own["keys_per_s"] for own in found["shards"]] == [150, 50]
    assert found["skew"] == 1.5
    assert found["waiting"] == 2
    assert json.loads(json.dumps(found)) == found


def test_a_shard_that_is_new_or_was_restored_counts_from_nothing() -> None:
    before = group(shard(0, keys=900))
    now = group(shard(0, keys=50), shard(1, keys=70, **pulls(0.01)))
    found = between(before, now, 1.0)
    assert found["keys_per_s"] == 120
    assert found["shards"][1]["pull_ms"]["p50"] == pytest.approx(10, rel=0.2)


def test_percentiles_are_of_the_time_between_the_looks_and_of_all_shards() -> None:
    before = group(shard(0, **pulls(5.0, 5.0)), shard(1))
    now = group(shard(0, **pulls(5.0, 5.0, 0.001, 0.001)), shard(1, **pulls(0.001, 0.064)))
    found = between(before, now, 1.0)
    assert found["pull_ms"]["p50"] == pytest.approx(1, rel=0.2)
    assert found["pull_ms"]["p99"] == pytest.approx(64, rel=0.2)
    assert found["push_ms"] == {"p50": None, "p99": None}
    assert found["shards"][0]["pull_ms"]["p99"] == pytest.approx(1, rel=0.2)


def test_an_idle_group_has_no_skew() -> None:
    assert between(group(shard(0)), group(shard(0)), 1.0)["skew"] is None


def test_hot_keys_of_all_shards_stand_in_one_order_by_table() -> None:
    now = group(
        shard(0, **hot(10.0, (7, 10.0), (8, 2.0))),
        shard(1, **hot(20.0, (9, 12.0), (8, 1.0))),  # 8 moved: this shard remembers it still
    )
    found = between(now, now, 1.0)["hot_keys"]
    expected = [(7, 1.0), (9, 0.6), (8, 0.2)]
    assert [(own["key"], own["share"]) for own in found["t"]] == expected


@pytest.mark.parametrize(
    ("clocks", "live", "ticks"),
    [({}, [], 0), ({0: 7, 1: 3, 2: 0}, [0, 1], 4), ({"0": 7, "1": 3}, [0, 1], 4), ({0: 5}, [], 0)],
)
def test_staleness_is_the_spread_of_live_workers(
    clocks: dict[Any, int], live: list[int], ticks: int
) -> None:
    assert spread(clocks, live) == ticks
