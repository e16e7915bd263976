"""MDL's cuts: the literature's on iris, a reference in plain Python, none in noise."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris

from weiml.errors import ConfigError, DataError
from weiml.features.transforms import MDL, QuantileSketch
from weiml.features.transforms.buckets import FittedBuckets
from weiml.features.transforms.mdl import class_counts, cut_points


def borders(x: object, labels: object, **options: int) -> list[float]:
    fitted = MDL("x", **options).fit(pa.table({"x": x, "label": labels}))  # type: ignore[arg-type]
    assert isinstance(fitted, FittedBuckets)
    found: list[float] = fitted.borders.tolist()
    return found


@pytest.mark.parametrize(
    ("column", "cuts"),
    [(0, [5.55, 6.15]), (1, [2.95, 3.35]), (2, [2.45, 4.75]), (3, [0.8, 1.75])],
)
def test_iris_is_cut_as_in_the_literature(column: int, cuts: list[float]) -> None:
    iris = load_iris()
    assert borders(iris.data[:, column], iris.target) == pytest.approx(cuts)
    names = iris.target_names[iris.target]
    assert borders(iris.data[:, column], names) == pytest.approx(cuts)


def entropy(labels: list[int]) -> float:
    shares = [labels.count(c) / len(labels) for c in set(labels)]
    return -sum(share * math.log2(share) for share in shares)


def reference(pairs: list[tuple[int, int]]) -> list[int]:
    """Return the values before which Fayyad and Irani cut, one split at a time."""
    values = sorted({value for value, _ in pairs})
    whole = [label for _, label in pairs]
    best: tuple[float, int] | None = None
    for value in values[1:]:
        left = [label for v, label in pairs if v < value]
        right = [label for v, label in pairs if v >= value]
        rest = (len(left) * entropy(left) + len(right) * entropy(right)) / len(whole)
        if best is None or rest < best[0] - 1e-12:
            best = (rest, value)
    if best is None:
        return []
    sides = [[p for p in pairs if p[0] < best[1]], [p for p in pairs if p[0] >= best[1]]]
    parts = [[label for _, label in side] for side in sides]
    k, k1, k2 = (len(set(labels)) for labels in (whole, *parts))
    delta = math.log2(3**k - 2) - (
        k * entropy(whole) - k1 * entropy(parts[0]) - k2 * entropy(parts[1])
    )
    if entropy(whole) - best[0] <= (math.log2(len(whole) - 1) + delta) / len(whole) + 1e-12:
        return []
    return sorted([*reference(sides[0]), best[1], *reference(sides[1])])


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=2, max_size=80),
)
def test_cuts_are_those_of_the_reference(edges: list[int], drawn: list[tuple[int, int]]) -> None:
    # The label follows the value, but for one draw in ten.
    pairs = [
        (value, sum(value >= edge for edge in edges) % 3 if noise else 0) for value, noise in drawn
    ]
    values, labels = zip(*pairs, strict=True)
    cuts = reference(pairs)
    present = sorted(set(values))
    expected = [(present[present.index(c) - 1] + c) / 2 for c in cuts]
    assert borders([float(v) for v in values], labels) == pytest.approx(expected)


def test_the_price_of_a_cut_to_the_bit() -> None:
    # Gains of 3.900 and 4.142 bits at prices of 3.829 and 4.209.
    assert cut_points(np.array([[1.0, 0.0], [0.0, 5.0]]), 9).tolist() == [1]
    assert cut_points(np.array([[1.0, 0.0], [0.0, 6.0]]), 9).tolist() == []


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_noise_is_not_cut(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert borders(rng.normal(size=5000), rng.integers(0, classes, 5000)) == []


def test_borders_are_found_among_more_values_than_cells(rng: np.random.Generator) -> None:
    x = rng.normal(size=60_000)
    labels = np.digitize(x, [-0.7, 0.1, 1.3]) % 2
    assert borders(x, labels) == pytest.approx([-0.7, 0.1, 1.3], abs=0.002)


def test_the_largest_gains_are_kept() -> None:
    x = np.arange(1000.0)
    labels = np.select([x < 500, x < 900, x < 950], [0, 1, 0], 1)
    assert borders(x, labels) == [499.5, 899.5, 949.5]
    assert borders(x, labels, max_buckets=2) == [499.5]
    assert borders(x, labels, max_buckets=1) == []


def test_rows_without_label_are_left_out() -> None:
    x = [1.0] * 20 + [2.0] * 20 + [3.0] * 20
    labels = [False] * 20 + [True] * 20 + [None] * 20
    assert borders(x, labels) == [1.5]


def test_class_counts_lie_on_one_grid(rng: np.random.Generator) -> None:
    sketches = []
    for n in (10, 30_000):
        sketches.append(QuantileSketch(1 << 12))
        sketches[-1].add(rng.normal(size=n))
    low, high, counts = class_counts(sketches)
    assert (low <= high).all()
    assert (low[1:] > high[:-1]).all()
    assert counts.sum(axis=0).tolist() == [10, 30_000]
    assert cut_points(counts[:0], 5).size == 0


def test_numbers_are_no_label() -> None:
    with pytest.raises(DataError, match="categories"):
        borders([1.0, 2.0], [0.5, 1.5])
    with pytest.raises(DataError, match="more than 64"):
        borders(np.arange(100.0), np.arange(100))
    with pytest.raises(DataError, match="'label' is missing"):
        MDL("x").fit(pa.table({"x": [1.0]}))
    with pytest.raises(ConfigError, match="max_buckets"):
        MDL("x", max_buckets=0)
