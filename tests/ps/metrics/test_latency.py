"""Histograms of durations against the durations themselves."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.ps.metrics.latency import LatencyHistogram, added, cumulative, percentile, since

durations = st.lists(st.floats(1e-6, 1000.0), max_size=200)


def histogram(seconds: list[float]) -> LatencyHistogram:
    made = LatencyHistogram()
    for second in seconds:
        made.add(second)
    return made


@given(seconds=durations.filter(bool), share=st.floats(0.0, 1.0))
def test_a_percentile_is_off_by_less_than_a_bin(seconds: list[float], share: float) -> None:
    made = histogram(seconds)
    found = percentile(made.bins(), share)
    exact = float(np.quantile(seconds, share, method="inverted_cdf"))
    assert found is not None
    assert exact / 1.2 <= found <= exact * 1.2
    assert made.total_s == pytest.approx(sum(seconds))


@given(first=durations, second=durations)
def test_sums_and_differences_of_histograms_are_those_of_the_durations(
    first: list[float], second: list[float]
) -> None:
    before, both = histogram(first).bins(), histogram(first + second).bins()
    assert since(before, both) == histogram(second).bins()
    assert added([before, histogram(second).bins()]) == both
    assert json.loads(json.dumps(both)) == both


def test_counts_that_began_anew_are_taken_whole() -> None:
    old, new = histogram([0.5] * 9).bins(), histogram([0.5, 2.0]).bins()
    assert since(old, new) == new
    assert since(old, histogram([2.0]).bins()) == histogram([2.0]).bins()


@given(seconds=durations)
def test_cumulative_counts_say_how_many_did_not_exceed_a_bound(seconds: list[float]) -> None:
    bounds = [2.0**power * 1e-6 for power in range(2, 28)]
    counts = cumulative(histogram(seconds).bins(), bounds)
    expected = [sum(second <= bound * 1.00001 for second in seconds) for bound in bounds]
    assert counts == [*expected, len(seconds)]


def test_the_shortest_and_the_longest_have_a_bin_too() -> None:
    made = histogram([0.0, 1e-9, 1e9])
    assert [count for _, count in made.bins()] == [2, 1]
    assert percentile([], 0.5) is None
