"""What a shard counts, and what Ray is told of it."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weiml.ps import FTRL, SGD, EmbeddedParameterServer, TableConfig
from weiml.ps.metrics.exporter import (
    METRICS,
    PREFIX,
    Exporter,
    Metric,
    ShardMetrics,
    group_samples,
    shard_samples,
)
from weiml.ps.tables.admission import AdmissionConfig


class Watched:
    """An embedded group whose shards are counted like those of processes."""

    def __init__(self, num_shards: int = 1) -> None:
        self.ps = EmbeddedParameterServer(num_shards, num_workers=2, staleness=3)
        self.metrics = [ShardMetrics() for _ in range(num_shards)]
        for index, metrics in enumerate(self.metrics):
            self.ps.shard(index).observe = metrics.see

    def status(self, index: int = 0) -> dict[str, Any]:
        shard = self.ps.shard(index)
        more = {"standbys": 1, "replication_lag": 2}
        return {**shard.status(), **more, **self.metrics[index].status(shard.tables)}


class Recorder:
    """Stands where Ray's metric would: remembers what it was told."""

    def __init__(self, metric: Metric) -> None:
        self.kind = metric.kind
        self.values: dict[frozenset[tuple[str, str]], float] = {}

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert self.kind == "gauge"
        self.values[frozenset(tags.items())] = value

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert self.kind == "counter"
        assert value > 0
        at = frozenset(tags.items())
        self.values[at] = self.values.get(at, 0.0) + value


class Told:
    """An exporter with what it told, by metric and tags in the order of the metric's."""

    def __init__(self) -> None:
        self.recorders: dict[str, Recorder] = {}
        self.exporter = Exporter("g", self._make)

    def _make(self, metric: Metric) -> Recorder:
        return self.recorders.setdefault(metric.name, Recorder(metric))

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        found = {}
        for at, value in self.recorders[name].values.items():
            tags = dict(at)
            assert tags.pop("group") == "g"
            assert set(tags) == set(METRICS[name].tags)
            found[tuple(tags[tag] for tag in METRICS[name].tags)] = value
        return found


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def ones(count: int) -> np.ndarray:
    return np.ones((count, 1), np.float32)


def test_a_shards_counts_become_metrics_with_its_tables_and_workers() -> None:
    watched, told = Watched(), Told()
    admission = AdmissionConfig(kind="count", min_count=3)
    watched.ps.create_table(TableConfig("t", optimizer=SGD(), admission=admission))
    watched.ps.create_table(TableConfig("dense", optimizer=FTRL(), rows=100))
    watched.ps.create_vector("v", np.zeros(1000, np.float32))
    fast, slow = watched.ps.client(0), watched.ps.client(1)
    for _ in range(3):
        fast.push("t", keys(5, 2**64 - 1), ones(2)).wait()
        fast.pull("dense", keys(9)).wait()
        fast.tick()
    slow.pull("t", keys(5)).wait()
    told.exporter.tell(shard_samples(watched.status()))
    assert told.of("rows") == {("0", "t"): 2, ("0", "dense"): 100}
    assert told.of("table_bytes")["0", "dense"] >= 100 * 8
    assert told.of("vector_bytes") == {("0",): 4000}
    assert (told.of("pulls"), told.of("pushes")) == ({("0",): 4}, {("0",): 3})
    assert told.of("keys") == {("0", "t"): 7, ("0", "dense"): 3}
    assert told.of("not_admitted") == {("0", "t"): 4}
    assert told.of("staleness_ticks") == {("0",): 3}
    assert told.of("worker_ticks") == {("0",): 3, ("1",): 0}
    assert told.of("hot_key_share") == {
        ("0", "t", "5"): 1.0,
        ("0", "t", str(2**64 - 1)): 0.75,
        ("0", "dense", "9"): 1.0,
    }
    assert (told.of("standbys"), told.of("replication_lag_writes")) == ({("0",): 1}, {("0",): 2})
    watched.ps.declare_dead(1)
    told.exporter.tell(shard_samples(watched.status()))
    assert told.of("staleness_ticks") == {("0",): 0}
    json.dumps(watched.status())


def test_every_metric_is_told_by_a_shard_or_a_coordinator() -> None:
    watched = Watched()
    watched.ps.create_table(TableConfig("t", optimizer=SGD()))
    watched.ps.client().push("t", keys(1), ones(1)).wait()
    names = {name for name, _, _ in shard_samples(watched.status())}
    group = {"degraded": [1], "lost": {}, "workers": [0], "version": 2}
    group |= {"failovers": 3, "restores": 0}
    told = group_samples(group, num_shards=2)
    names |= {name for name, _, _ in told}
    assert names == set(METRICS)
    assert {name: value for name, value, _ in told}["failovers"] == 3


def test_durations_become_cumulative_counters_at_the_bounds_of_a_histogram() -> None:
    watched, told = Watched(), Told()
    for seconds in (0.0001, 0.0001, 0.02):
        watched.metrics[0].pulls.add(seconds)
    watched.metrics[0].pushes.add(1000.0)
    told.exporter.tell(shard_samples(watched.status()))
    watched.metrics[0].pulls.add(0.02)
    told.exporter.tell(shard_samples(watched.status()))
    counts = told.of("request_seconds_bucket")
    pulls = {le: count for (_, verb, le), count in counts.items() if verb == "pull"}
    assert (pulls["0.000128"], pulls["0.016384"], pulls["0.032768"], pulls["+Inf"]) == (2, 2, 4, 4)
    assert "6.4e-05" not in pulls  # a counter that stays 0 is not told
    pushes = {le: count for (_, verb, le), count in counts.items() if verb == "push"}
    assert pushes == {"+Inf": 1}
    assert told.of("request_seconds_sum")["0", "pull"] == pytest.approx(0.0402)


def test_what_a_silent_process_counted_is_not_told_twice() -> None:
    told = Told()
    told.exporter.tell(
        [("pulls", 100, {"shard": "0"}), ("standbys", 0, {"shard": "0"})], silent=True
    )
    assert told.recorders == {}
    told.exporter.tell([("pulls", 130, {"shard": "0"})])
    assert told.of("pulls") == {("0",): 30}
    told.exporter.tell([("pulls", 10, {"shard": "0"})])  # restored: it counts anew
    assert told.of("pulls") == {("0",): 40}


def test_a_gauge_that_is_not_told_any_more_falls_to_zero() -> None:
    told = Told()
    tags = {"shard": "0", "table": "t"}
    told.exporter.tell([("hot_key_share", 0.9, {**tags, "key": "1"})])
    told.exporter.tell([("hot_key_share", 0.8, {**tags, "key": "2"})])
    assert told.of("hot_key_share") == {("0", "t", "1"): 0.0, ("0", "t", "2"): 0.8}


def test_hot_keys_that_come_and_go_do_not_make_series_without_end() -> None:
    told = Told()
    for key in range(2000):
        tags = {"shard": "0", "table": "t", "key": str(key)}
        told.exporter.tell([("hot_key_share", 0.5, tags), ("rows", key, tags)])
    assert len(told.of("hot_key_share")) == METRICS["hot_key_share"].most_series
    assert told.of("rows") == {("0", "t"): 1999}


def test_an_exporter_that_fails_says_so_once_and_is_still(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(metric: Metric) -> Any:
        raise RuntimeError("no agent")

    exporter = Exporter("g", fail)
    for _ in range(3):
        exporter.tell([("shards", 1, {})])
    assert caplog.text.count("no more metrics") == 1


def test_waiting_requests_are_counted_while_they_wait() -> None:
    metrics = ShardMetrics()
    with metrics.wait(), metrics.wait():
        assert metrics.status({})["waiting"] == 2
    with pytest.raises(ValueError, match="refused"), metrics.wait():
        raise ValueError("refused")
    status = metrics.status({})
    assert status["waiting"] == 0
    assert sum(count for _, count in status["latency_bins"]["blocked"]) == 3


def test_the_exporter_looks_again_and_again_and_tells_how_late_it_is() -> None:
    told = Told()
    lags: list[float] = []

    async def look(lag_s: float) -> tuple[list[Any], bool]:
        lags.append(lag_s)
        if len(lags) == 2:
            raise RuntimeError("not ready")
        return [("shards", len(lags), {})], False

    async def for_a_while() -> None:
        running = asyncio.create_task(told.exporter.run(look, 0.001))
        while len(lags) < 4:
            await asyncio.sleep(0.001)
        running.cancel()

    asyncio.run(asyncio.wait_for(for_a_while(), 10))
    assert told.of("shards")[()] >= 3
    assert all(lag >= 0 for lag in lags)


def test_metrics_can_be_told_where_no_ray_runs(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Exporter("g")
    exporter.tell([("rows", 5, {"shard": "0", "table": "t"}), ("pulls", 1, {"shard": "0"})])
    assert caplog.text == ""


def test_the_dashboard_shows_every_metric_and_no_other(root: Path) -> None:
    dashboard = json.loads((root / "configs/dashboards/parameter_server.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    shown = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    names = {
        f"ray_{PREFIX}{metric.name}{'_total' if metric.kind == 'counter' else ''}"
        for metric in METRICS.values()
    }
    assert set(re.findall(rf"ray_{PREFIX}\w+", shown)) == names
    everywhere = set(re.findall(rf"ray_{PREFIX}\w+", json.dumps(dashboard)))
    assert everywhere == names
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all('group="$group"' in target["expr"] for target in panel["targets"])
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_the_labels_that_the_dashboard_asks_for_are_tags_of_the_metrics(root: Path) -> None:
    dashboard = json.loads((root / "configs/dashboards/parameter_server.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found = re.findall(rf"ray_{PREFIX}(\w+?)(?:_total)?\{{", target["expr"])
            tags = {"group"}.union(*(METRICS[name].tags for name in found))
            by = ",".join(re.findall(r"by \(([^)]*)\)", target["expr"]))
            filters = re.findall(r"(\w+)=", target["expr"])
            legend = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            used = {label.strip() for label in [*by.split(","), *filters, *legend]} - {""}
            assert used <= tags, (panel["title"], used - tags)


def test_the_operators_page_lists_every_metric_as_it_is(root: Path) -> None:
    page = (root / "docs" / "ps-operations.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (gauge|counter) \| ([^|]+) \|", page, re.MULTILINE)
    expected = [(m.name, m.kind, ", ".join(m.tags) or "–") for m in METRICS.values()]
    assert listed == expected


def scraped(port: int, group: str) -> dict[str, float]:
    """Return the sums over all series of a group, by metric, as Prometheus would read them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    sums: dict[str, float] = {}
    for line in lines:
        if line.startswith(f"ray_{PREFIX}") and f'group="{group}"' in line:
            name, value = line.partition("{")[0], float(line.rpartition(" ")[2])
            sums[name] = sums.get(name, 0.0) + value
    return sums


@pytest.mark.slow  # Ray's agent hears of metrics every ten seconds
def test_rays_agent_tells_prometheus_what_a_group_does(ray_session: None) -> None:
    import ray

    from weiml.ps import RayParameterServer

    port = ray.nodes()[0]["MetricsExportPort"]
    expected = {"shards": 2, "keys_total": 60, "rows": 3, "standbys": 2, "pushes_total": 40}
    with RayParameterServer.create(2, 1, None, "exported", replicas=2) as ps:
        ps.create_table(TableConfig("t", optimizer=SGD()))
        client = ps.client()
        for _ in range(20):  # three keys, on both shards
            client.push("t", keys(1, 2, 4), ones(3)).wait()
        deadline = time.monotonic() + 60
        while True:
            found = scraped(port, "exported")
            if all(found.get(f"ray_{PREFIX}{name}") == value for name, value in expected.items()):
                break
            assert time.monotonic() < deadline, found
            time.sleep(1.0)
