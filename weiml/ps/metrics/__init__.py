"""What a group shows of itself: counts, rates, latencies and hot keys."""

from __future__ import annotations

from weiml.ps.metrics.exporter import Exporter, Sample, ShardMetrics, group_samples, shard_samples

__all__ = ["Exporter", "Sample", "ShardMetrics", "group_samples", "shard_samples"]
