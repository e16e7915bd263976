"""What is counted about a group, and how it becomes metrics of Ray and so of Prometheus.

A shard's process counts as requests pass (`ShardMetrics`); whatever it tells, in a status or as
metrics, is taken from the counts later. This module knows a shard's status as plain data and
nothing of actors. docs/ps-operations.md lists the metrics.

Durations are exported as counters at the bounds of a Prometheus histogram, since for a histogram of
its own Ray's agent replays every single observation.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from weiml.ps.metrics.hot_keys import KeySampler
from weiml.ps.metrics.latency import LatencyHistogram, cumulative

__all__ = [
    "METRICS",
    "PREFIX",
    "Exporter",
    "Metric",
    "Sample",
    "ShardMetrics",
    "group_samples",
    "shard_samples",
]

PREFIX = "weiml_ps_"
_HOT_KEYS = 10  # of a table, in a shard's status and in its metrics
_POLICY_COUNTS = ("not_admitted", "refused", "evicted", "expired")
_BOUNDS_S = [2.0**power * 1e-6 for power in range(4, 28)]  # 16 µs … 134 s

log = logging.getLogger(__name__)

Sample: TypeAlias = tuple[str, float, dict[str, str]]
"""A metric's name, its value and its tags beside the group."""


@dataclass(frozen=True)
class Metric:
    """One metric: ``ray_weiml_ps_NAME`` in Prometheus, with ``_total`` behind if a counter."""

    name: str
    kind: Literal["gauge", "counter"]
    tags: tuple[str, ...]
    """Beside ``group``, which every metric has."""
    help: str
    most_series: int | None = None
    """Series that a process may bring about; Ray forgets none while the process lives."""


_LIST = (
    Metric("rows", "gauge", ("shard", "table"), "Rows of a table."),
    Metric("table_bytes", "gauge", ("shard", "table"), "Memory of a table, room to grow included."),
    Metric("vector_bytes", "gauge", ("shard",), "Memory of all vectors."),
    Metric("pulls", "counter", ("shard",), "Pulls answered."),
    Metric("pushes", "counter", ("shard",), "Pushes taken."),
    Metric("keys", "counter", ("shard", "table"), "Keys in pulls and pushes."),
    Metric("duplicates", "counter", ("shard",), "Requests that came twice and acted once."),
    Metric("lost_writes", "counter", ("shard",), "Acknowledged writes missing after a restore."),
    Metric("dropped_pushes", "counter", ("shard",), "Pushes of dead workers' open ticks."),
    Metric("not_admitted", "counter", ("shard", "table"), "Occurrences kept out by admission."),
    Metric("refused", "counter", ("shard", "table"), "Occurrences refused by a full table."),
    Metric("evicted", "counter", ("shard", "table"), "Rows that made room for others."),
    Metric("expired", "counter", ("shard", "table"), "Rows that expiry deleted."),
    Metric(
        "request_seconds_bucket",
        "counter",
        ("shard", "verb", "le"),
        "Pulls and pushes by the time they took on the shard, a push until its stand-bys had it.",
    ),
    Metric("request_seconds_sum", "counter", ("shard", "verb"), "The sum of those times."),
    Metric(
        "blocked_seconds_bucket",
        "counter",
        ("shard", "le"),
        "Requests that had to wait for the clock or for earlier ones, by how long.",
    ),
    Metric("blocked_seconds_sum", "counter", ("shard",), "The sum of those times."),
    Metric("requests_waiting", "gauge", ("shard",), "Requests that wait for the clock now."),
    Metric("held_pushes", "gauge", ("shard",), "Pushes held until their BSP tick ends."),
    Metric("loop_lag_seconds", "gauge", ("shard",), "How late the shard's one thread runs."),
    Metric("staleness_ticks", "gauge", ("shard",), "How far the fastest worker is ahead."),
    Metric("worker_ticks", "gauge", ("worker",), "Steps that a live worker has finished."),
    Metric("standbys", "gauge", ("shard",), "Stand-bys that have everything."),
    Metric("replication_lag_writes", "gauge", ("shard",), "Writes that stand-bys do not have yet."),
    Metric(
        "hot_key_share",
        "gauge",
        ("shard", "table", "key"),
        "The share of requests that ask for one of the keys asked for most.",
        most_series=500,
    ),
    Metric("shards", "gauge", (), "Shards of the group."),
    Metric("degraded_shards", "gauge", (), "Shards with fewer processes than replicas asks for."),
    Metric("lost_shards", "gauge", (), "Shards that nothing stands for."),
    Metric("workers", "gauge", (), "Workers that are heard of."),
    Metric("partition_version", "gauge", (), "How often buckets have moved."),
    Metric("failovers", "counter", (), "Stand-bys that took over."),
    Metric("restores", "counter", (), "Shards brought back from a checkpoint."),
)
METRICS = {metric.name: metric for metric in _LIST}
"""All metrics by name."""


class ShardMetrics:
    """What a shard's process counts beside what the shard itself does. Not for threads."""

    def __init__(self) -> None:
        self.pulls = LatencyHistogram()
        self.pushes = LatencyHistogram()
        self.blocked = LatencyHistogram()
        self.waiting = 0
        self.loop_lag_s = 0.0
        self._samplers: dict[str, KeySampler] = {}

    def see(self, table: str, keys: np.ndarray) -> None:
        """Take note of the keys uint64 (n,) of a pull or push."""
        sampler = self._samplers.get(table)
        if sampler is None:
            sampler = self._samplers[table] = KeySampler()
        sampler.see(keys)

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """Count a request as waiting meanwhile, and how long it did."""
        self.waiting += 1
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.waiting -= 1
            self.blocked.add(time.perf_counter() - begun)

    def status(self, tables: Mapping[str, Any]) -> dict[str, Any]:
        """Return the counts as plain data, with what each of a shard's tables holds."""
        times = {"pull": self.pulls, "push": self.pushes, "blocked": self.blocked}
        return {
            "waiting": self.waiting,
            "loop_lag_s": self.loop_lag_s,
            "latency_bins": {what: histogram.bins() for what, histogram in times.items()},
            "latency_total_s": {what: histogram.total_s for what, histogram in times.items()},
            "table_details": {name: self._details(name, table) for name, table in tables.items()},
        }

    def _details(self, name: str, table: Any) -> dict[str, Any]:
        details = {"rows": len(table), "bytes": table.nbytes, "keys": 0}
        # A dense table takes every key, so that it counts none of these.
        details |= {count: getattr(table, count, 0) for count in _POLICY_COUNTS}
        if name not in self._samplers:
            return details | {"hot_requests": 0.0, "hot_error": 0.0, "hot_keys": []}
        sampler = self._samplers[name]
        hot, requests = sampler.look()
        keys, weights = hot.top(_HOT_KEYS)
        return details | {
            "keys": sampler.keys,
            "hot_requests": requests,
            "hot_error": hot.error,
            "hot_keys": [list(pair) for pair in zip(keys.tolist(), weights.tolist(), strict=True)],
        }


def shard_samples(status: Mapping[str, Any]) -> list[Sample]:
    """Return the metrics of one shard, given its status."""
    shard = {"shard": str(status["shard"])}
    samples: list[Sample] = [
        *((name, status[name], shard) for name in ("pulls", "pushes", "duplicates")),
        *((name, status[name], shard) for name in ("lost_writes", "dropped_pushes", "standbys")),
        ("held_pushes", status["held"], shard),
        ("requests_waiting", status["waiting"], shard),
        ("loop_lag_seconds", status["loop_lag_s"], shard),
        ("replication_lag_writes", status["replication_lag"], shard),
        ("vector_bytes", status["bytes"] - _table_bytes(status), shard),
    ]
    live = {worker: status["clocks"][worker] for worker in status["live"]}
    spread = max(live.values()) - min(live.values()) if live else 0
    samples.append(("staleness_ticks", spread, shard))
    if status["shard"] == 0:  # the others see the same clock
        samples += [("worker_ticks", ticks, {"worker": str(w)}) for w, ticks in live.items()]
    samples += _latency_samples(status, shard)
    for name, details in status["table_details"].items():
        samples += _table_samples(details, shard | {"table": name})
    return samples


def _table_bytes(status: Mapping[str, Any]) -> int:
    return sum(details["bytes"] for details in status["table_details"].values())


def _table_samples(details: Mapping[str, Any], tags: dict[str, str]) -> Iterator[Sample]:
    yield "rows", details["rows"], tags
    yield "table_bytes", details["bytes"], tags
    for name in ("keys", *_POLICY_COUNTS):
        yield name, details[name], tags
    for key, weight in details["hot_keys"]:
        share = min(weight / details["hot_requests"], 1.0)
        yield "hot_key_share", share, tags | {"key": str(key)}


def _latency_samples(status: Mapping[str, Any], tags: dict[str, str]) -> Iterator[Sample]:
    bounds = [*(f"{bound:.6g}" for bound in _BOUNDS_S), "+Inf"]
    for what, bins in status["latency_bins"].items():
        name = "blocked_seconds" if what == "blocked" else "request_seconds"
        own = tags if what == "blocked" else tags | {"verb": what}
        for bound, count in zip(bounds, cumulative(bins, _BOUNDS_S), strict=True):
            yield f"{name}_bucket", count, own | {"le": bound}
        yield f"{name}_sum", status["latency_total_s"][what], own


def group_samples(status: Mapping[str, Any], num_shards: int) -> list[Sample]:
    """Return the metrics of the group as a whole, given its coordinator's status."""
    return [
        ("shards", num_shards, {}),
        ("degraded_shards", len(status["degraded"]), {}),
        ("lost_shards", len(status["lost"]), {}),
        ("workers", len(status["workers"]), {}),
        ("partition_version", status["version"], {}),
        ("failovers", status["failovers"], {}),
        ("restores", status["restores"], {}),
    ]


class Exporter:
    """Tells samples to Ray, which tells Prometheus. It may fail; then it says so once and is still.

    Counters are given as totals. What a silent process counts, such as a stand-by, is not told, nor
    made up for when it speaks: the process that it replaces has told it.
    """

    def __init__(self, group: str, make: Callable[[Metric], Any] | None = None) -> None:
        self._group = {"group": group}
        self._make = make or _ray_metric
        self._made: dict[str, Any] = {}
        self._told: dict[tuple[str, ...], float] = {}
        self._series: Counter[str] = Counter()
        self._works = True

    async def run(
        self, look: Callable[[float], Awaitable[tuple[list[Sample], bool]]], interval_s: float = 1.0
    ) -> None:
        """Tell what `look` returns, (samples, silent), once in a while, for ever.

        `look` is given how late it is called, in seconds: how long the event loop was busy.
        """
        while self._works:
            due = time.monotonic() + interval_s
            await asyncio.sleep(interval_s)
            try:
                samples, silent = await look(max(time.monotonic() - due, 0.0))
            except Exception as error:
                log.debug("no metrics this time: %s", error)
            else:
                self.tell(samples, silent=silent)

    def tell(self, samples: Iterable[Sample], *, silent: bool = False) -> None:
        """Tell all samples that there are at this moment."""
        if not self._works:
            return
        try:
            self._tell(samples, silent)
        except Exception:
            log.exception("no more metrics of this process are exported")
            self._works = False

    def _tell(self, samples: Iterable[Sample], silent: bool) -> None:
        left = {at for at in self._told if METRICS[at[0]].kind == "gauge"}
        for name, value, tags in samples:
            metric = METRICS[name]
            at = (name, *(tags[tag] for tag in metric.tags))
            left.discard(at)
            if metric.kind == "counter":
                self._count(metric, at, value, silent)
            elif not silent and self._has_room(metric, at):
                self._told[at] = value
                self._metric(metric).set(float(value), self._tags(at))
        for at in left:  # Ray would go on telling what they were
            if self._told[at]:
                self._told[at] = 0.0
                self._metric(METRICS[at[0]]).set(0.0, self._tags(at))

    def _count(self, metric: Metric, at: tuple[str, ...], value: float, silent: bool) -> None:
        before = self._told.get(at, 0.0)
        self._told[at] = value
        rise = value - before if value >= before else value
        if rise > 0 and not silent:
            self._metric(metric).inc(float(rise), self._tags(at))

    def _has_room(self, metric: Metric, at: tuple[str, ...]) -> bool:
        if metric.most_series is None or at in self._told:
            return True
        self._series[metric.name] += 1
        return self._series[metric.name] <= metric.most_series

    def _metric(self, metric: Metric) -> Any:
        if metric.name not in self._made:
            self._made[metric.name] = self._make(metric)
        return self._made[metric.name]

    def _tags(self, at: tuple[str, ...]) -> dict[str, str]:
        return self._group | dict(zip(METRICS[at[0]].tags, at[1:], strict=True))


def _ray_metric(metric: Metric) -> Any:
    from ray.util import metrics  # not above: embedded servers do without Ray

    kind = metrics.Gauge if metric.kind == "gauge" else metrics.Counter
    tags = ("group", *metric.tags)
    return kind(PREFIX + metric.name, description=metric.help, tag_keys=tags)
