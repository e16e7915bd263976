"""Counts and percentiles of a replica's answers."""

from __future__ import annotations

import pytest

from weiml.errors import ConfigError
from weiml.serving.stats import RequestStats


def test_counts_and_percentiles() -> None:
    stats = RequestStats()
    assert stats.summary()["latency_ms"] == {"p50": None, "p90": None, "p99": None}
    for milliseconds in range(1, 102):
        stats.answered(milliseconds / 1e3, candidates=2)
    stats.failed()
    summary = stats.summary()
    assert (summary["requests"], summary["errors"], summary["candidates"]) == (102, 1, 202)
    assert summary["latency_ms"] == pytest.approx({"p50": 51, "p90": 91, "p99": 100})


def test_only_the_window_counts_for_percentiles() -> None:
    stats = RequestStats(window=2)
    for seconds in (9.0, 0.001, 0.001):
        stats.answered(seconds, candidates=1)
    assert stats.summary()["latency_ms"]["p99"] == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="window must be at least 1, got 0"):
        RequestStats(window=0)
