from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance
from scipy.stats import entropy

from weiml.data.quality import compare, jensen_shannon, l_infinity, psi, statistics_of
from weiml.data.quality.drift import bin_labels
from weiml.errors import ConfigError

SHARES = st.lists(st.floats(0.001, 1), min_size=2, max_size=8).map(
    lambda x: np.array(x) / np.sum(x)
)


@given(SHARES, SHARES)
def test_known_answers_of_scipy(a: np.ndarray, b: np.ndarray) -> None:
    n = min(len(a), len(b))
    a, b = a[:n] / a[:n].sum(), b[:n] / b[:n].sum()
    if min(a.min(), b.min()) > 1e-4:
        np.testing.assert_allclose(psi(a, b), entropy(a, b) + entropy(b, a), atol=1e-12)
    expected = distance.jensenshannon(a, b, base=2) ** 2
    np.testing.assert_allclose(jensen_shannon(a, b), expected, atol=1e-9)
    assert l_infinity(a, b) == distance.chebyshev(a, b)


def test_shares_that_are_zero_stay_finite() -> None:
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert jensen_shannon(a, b) == 1.0
    np.testing.assert_allclose(psi(a, b), 2 * (1 - 1e-4) * np.log(1e4))


def test_numbers_are_compared_in_the_bins_of_the_reference(rng: np.random.Generator) -> None:
    before, after = rng.normal(size=5000), rng.normal(0.5, 1, size=5000)
    same, moved = (
        compare(statistics_of([pa.table({"x": before})]), statistics_of([pa.table({"x": other})]))[
            0
        ]
        for other in (rng.permutation(before), after)
    )
    assert same.psi == same.l_infinity == 0
    edges = np.quantile(before, np.arange(1, 10) / 10)
    a, b = (
        np.bincount(np.searchsorted(edges, x, side="left"), minlength=10) / len(x)
        for x in (before, after)
    )
    np.testing.assert_allclose(moved.psi, psi(a, b), rtol=1e-6)
    np.testing.assert_allclose(moved.l_infinity, np.abs(a - b).max())
    assert moved.psi > 0.2


def test_values_missing_ones_and_piles_have_bins_of_their_own() -> None:
    before = pa.table({"city": ["x"] * 8 + ["y"] * 2, "clicks": [0] * 9 + [5]})
    after = pa.table({"city": ["x"] * 4 + ["z"] * 4 + [None] * 2, "clicks": [0] * 5 + [5] * 5})
    found = {d.feature: d for d in compare(statistics_of([before]), statistics_of([after]))}
    np.testing.assert_allclose(found["city"].l_infinity, 0.4)
    np.testing.assert_allclose(
        found["city"].psi, psi(np.array([0.8, 0.2, 0, 0]), np.array([0.4, 0, 0.4, 0.2]))
    )
    np.testing.assert_allclose(found["clicks"].l_infinity, 0.4)
    assert found["clicks"].worst_bin == "[0, 0]"
    assert (found["clicks"].reference_share, found["clicks"].share) == (0.9, 0.5)


def test_rare_values_are_one_bin_and_new_ones_another() -> None:
    before = pa.table({"id": [f"a{i}" for i in range(1000)]})
    same = pa.table({"id": [f"a{999 - i}" for i in range(1000)]})
    after = pa.table({"id": [f"a{i}" for i in range(400)] + [f"b{i}" for i in range(600)]})
    (drift,) = compare(statistics_of([before]), statistics_of([same]), top=10)
    assert (drift.psi, drift.exact) == (0.0, True)
    (drift,) = compare(statistics_of([before]), statistics_of([after]), top=10)
    np.testing.assert_allclose(drift.l_infinity, 0.6)
    assert drift.worst_bin == "all new values" or drift.share < drift.reference_share
    many = pa.table({"id": [f"a{i}" for i in range(20_000)]})
    (drift,) = compare(statistics_of([many]), statistics_of([many]))
    assert not drift.exact


def test_lists_are_compared_by_lengths_and_items() -> None:
    before = pa.table({"tags": [["a"], ["b"]] * 5})
    after = pa.table({"tags": [["a", "a"], ["a"]] * 5})
    names = {d.feature for d in compare(statistics_of([before]), statistics_of([after])) if d.psi}
    assert names == {"tags", "tags.item"}


def test_a_column_that_became_empty_has_drifted() -> None:
    before, after = pa.table({"x": [1.0, 2.0]}), pa.table({"x": pa.nulls(2, pa.float64())})
    for one, other in ((before, after), (after, before)):
        (drift,) = compare(statistics_of([one]), statistics_of([other]))
        assert drift.l_infinity == 1.0
    with pytest.raises(ConfigError, match="bins"):
        compare(statistics_of([before]), statistics_of([after]), bins=1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([100.0] * 1000, [50.0] * 1000),
        ([100.0] * 1000, [150.0] * 1000),
        ([0.0] * 900 + [1.0] * 100, [-5.0] * 900 + [1.0] * 100),
        ([-5.0] * 200 + [0.0] * 800, [-4.0] * 1000),
        ([1, 2, 3, 4] * 250, [0, 2, 3, 4] * 250),
    ],
)
def test_numbers_that_leave_a_pile_are_seen_on_both_sides(
    before: list[float], after: list[float]
) -> None:
    sides = [statistics_of([pa.table({"x": side})]) for side in (before, after)]
    (drift,) = compare(*sides)
    values = np.unique([*before, *after])
    a, b = (np.array([np.mean(np.array(side) == v) for v in values]) for side in (before, after))
    np.testing.assert_allclose(drift.psi, psi(a, b))
    np.testing.assert_allclose(drift.l_infinity, np.abs(a - b).max())
    np.testing.assert_allclose(drift.jensen_shannon, jensen_shannon(a, b), atol=1e-12)
    assert compare(sides[0], sides[0])[0].psi == 0


def test_the_bin_below_a_constant_is_named() -> None:
    before, after = (statistics_of([pa.table({"x": [x] * 9})]) for x in (100.0, 50.0))
    assert compare(before, after)[0].worst_bin == "(-∞, 100)"


def test_bins_are_named_as_intervals() -> None:
    edges = np.array([np.nextafter(0.0, -1), 0.0, 1.5, np.nextafter(2.0, 0), 2.0])
    expected = ["(-∞, 0)", "[0, 0]", "(0, 1.5]", "(1.5, 2)", "[2, 2]", "(2, ∞)"]
    assert bin_labels(edges) == expected
    assert bin_labels(np.array([])) == ["(-∞, ∞)"]
