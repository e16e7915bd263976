"""What went on in a group between two looks at it: rates, percentiles, skew, hot keys.

Plain arithmetic on what `ParameterServer.status` returned twice; it asks nobody anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from weiml.ps.metrics.latency import Bins, added, percentile, since

__all__ = ["between", "spread"]

_RATES = ("keys", "pulls", "pushes")
_SHOWN_HOT_KEYS = 10


def between(before: Mapping[str, Any], now: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return what happened in the `seconds` between two statuses of a group, fit for JSON.

    Keys: ``seconds``, ``keys_per_s``, ``pulls_per_s``, ``pushes_per_s``; ``pull_ms``, ``push_ms``
    and ``blocked_ms`` with p50 and p99 (None where there were none); ``waiting`` requests;
    ``replication_lag`` in writes; ``loop_lag_ms``; ``staleness``, how many ticks the fastest live
    worker is ahead of the slowest; ``skew``, the keys of the busiest shard over the mean of all
    (None without any); ``hot_keys`` (table: list of key and share of requests); ``shards``, a list
    of the same by shard.
    """
    earlier = {shard["shard"]: shard for shard in before["shards"]}
    shards = [_shard(earlier.get(shard["shard"]), shard, seconds) for shard in now["shards"]]
    bins = {
        what: added([_news(earlier.get(s["shard"]), s, what) for s in now["shards"]])
        for what in ("pull", "push", "blocked")
    }
    return {
        "seconds": seconds,
        **{f"{what}_per_s": sum(s[f"{what}_per_s"] for s in shards) for what in _RATES},
        **{f"{what}_ms": _percentiles(own) for what, own in bins.items()},
        "waiting": sum(shard["waiting"] for shard in shards),
        "replication_lag": max((shard["replication_lag"] for shard in shards), default=0),
        "loop_lag_ms": max((shard["loop_lag_ms"] for shard in shards), default=0.0),
        "staleness": spread(now["clocks"], now["live"]),
        "skew": _skew([shard["keys_per_s"] for shard in shards]),
        "hot_keys": _hot_keys(now["shards"]),
        "shards": shards,
    }


def spread(clocks: Mapping[Any, int], live: Sequence[Any]) -> int:
    """Return how many ticks lie between the fastest and the slowest live worker."""
    names = {str(worker) for worker in live}
    ticks = [ticks for worker, ticks in clocks.items() if str(worker) in names]
    return max(ticks) - min(ticks) if ticks else 0


def _shard(
    before: Mapping[str, Any] | None, now: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    return {
        "shard": now["shard"],
        "pid": now["pid"],
        "rows": now["rows"],
        "bytes": now["bytes"],
        "standbys": now["standbys"],
        **{f"{what}_per_s": _rise(before, now, what) / seconds for what in _RATES},
        **{
            f"{what}_ms": _percentiles(_news(before, now, what))
            for what in ("pull", "push", "blocked")
        },
        "waiting": now["waiting"],
        "held": now["held"],
        "replication_lag": now["replication_lag"],
        "loop_lag_ms": 1e3 * now["loop_lag_s"],
    }


def _rise(before: Mapping[str, Any] | None, now: Mapping[str, Any], count: str) -> float:
    """Return how much was counted meanwhile, from 0 by a shard that is new or was restored."""
    earlier = before[count] if before else 0
    return float(now[count] - earlier if now[count] >= earlier else now[count])


def _news(before: Mapping[str, Any] | None, now: Mapping[str, Any], what: str) -> Bins:
    bins: Bins = now["latency_bins"][what]
    return since(before["latency_bins"][what], bins) if before else bins


def _percentiles(bins: Bins) -> dict[str, float | None]:
    shares = {"p50": 0.5, "p99": 0.99}
    seconds = {name: percentile(bins, share) for name, share in shares.items()}
    return {name: None if s is None else 1e3 * s for name, s in seconds.items()}


def _skew(rates: Sequence[float]) -> float | None:
    total = sum(rates)
    return max(rates) * len(rates) / total if total else None


def _hot_keys(shards: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return each table's hottest keys. A key lies on one shard: what the others say is of old."""
    tables: dict[str, dict[int, float]] = {}
    for shard in shards:
        for name, details in shard["table_details"].items():
            best = tables.setdefault(name, {})
            for key, weight in details["hot_keys"]:
                share = min(weight / details["hot_requests"], 1.0)
                best[key] = max(best.get(key, 0.0), share)
    return {
        name: [
            {"key": key, "share": share}
            for key, share in sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))
        ][:_SHOWN_HOT_KEYS]
        for name, best in tables.items()
    }
