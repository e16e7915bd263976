"""The quantile sketch: exact merges, exact ranks of few values, its bound, bytes."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ConfigError, DataError
from weiml.features.transforms import Distribution, QuantileSketch, Refinement
from weiml.features.transforms.cells import from_ordered, to_ordered

numbers = st.lists(
    st.one_of(
        st.floats(width=64),
        st.sampled_from([0.0, -0.0, 1.0, 0.3, -7.5, 5e-324, 1.7e308, -1.7e308]),
        st.integers(-5, 5).map(float),
    ),
    max_size=60,
)


def sketch_of(values: Any, max_cells: int = 1 << 12, weights: Any = None) -> QuantileSketch:
    sketch = QuantileSketch(max_cells)
    sketch.add(np.asarray(values, np.float64), weights)
    return sketch


def merged(parts: list[QuantileSketch]) -> QuantileSketch:
    total = parts[0]
    for part in parts[1:]:
        total.merge(part)
    return total


Shape = Callable[[np.random.Generator, int], np.ndarray]
SHAPES: dict[str, Shape] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "lognormal": lambda rng, n: rng.lognormal(0, 2, n),
    "uniform": lambda rng, n: rng.random(n),
    "far from 0": lambda rng, n: rng.normal(1e6, 1, n),
    "integers": lambda rng, n: np.floor(rng.exponential(3, n)),
    "counts": lambda rng, n: np.floor(rng.pareto(0.8, n) * 10),
    "float32": lambda rng, n: rng.normal(size=n).astype(np.float32),
    "sorted": lambda rng, n: np.sort(rng.normal(size=n)),
    "zeros among": lambda rng, n: np.where(rng.random(n) < 0.7, 0.0, rng.normal(size=n)),
}
PILES: dict[str, Shape] = {
    "a tie among": lambda rng, n: np.where(rng.random(n) < 0.5, 0.3, rng.normal(size=n)),
    "a pile among": lambda rng, n: np.where(
        rng.random(n) < 0.5, np.exp(rng.uniform(-30, 30, n)), rng.normal(1e6, 1, n)
    ),
}


def worst_rank(seen: Distribution | QuantileSketch, values: np.ndarray) -> float:
    """Return the largest error of ranks, at values and at quantiles, as a share of all."""
    ordered = np.sort(values)
    n = ordered.size
    at = ordered[:: max(n // 997, 1)]
    of_ranks = np.abs(seen.rank(at) - np.searchsorted(ordered, at, "right")).max() / n
    q = np.linspace(0, 1, 501)
    found = seen.quantiles(q)
    least = np.searchsorted(ordered, found, "left") / n
    most = np.searchsorted(ordered, found, "right") / n
    of_quantiles = np.maximum(least - q, q - most).max()
    return float(max(of_ranks, of_quantiles - 1 / n))


@pytest.mark.parametrize("shape", SHAPES)
def test_ranks_are_within_a_thousandth_and_within_the_bound(
    shape: str, rng: np.random.Generator
) -> None:
    values = SHAPES[shape](rng, 300_000)
    halves = [sketch_of(values[:100_000], 1 << 14), sketch_of(values[100_000:], 1 << 14)]
    sketch = merged(halves)
    assert sketch.to_bytes() == sketch_of(values, 1 << 14).to_bytes()
    assert sketch.rank_error <= 0.001
    assert worst_rank(sketch, values) <= sketch.rank_error + 1e-12


@pytest.mark.parametrize("shape", PILES)
def test_a_second_pass_splits_heavy_cells(shape: str, rng: np.random.Generator) -> None:
    values = PILES[shape](rng, 200_000)
    first = sketch_of(values, 1 << 14).distribution()
    assert first.rank_error > 0.1
    assert worst_rank(first, values) <= first.rank_error
    halves = [Refinement(first, 0.001), Refinement(first, 0.001)]
    halves[0].add(values[:50_000])
    halves[1].add(values[50_000:])
    halves[0].merge(halves[1])
    second = halves[0].distribution()
    assert second.weight == values.size
    assert second.rank_error <= 0.001
    assert worst_rank(second, values) <= second.rank_error
    assert (np.diff(second.low) > 0).all()


def test_a_refinement_of_another_sketch_does_not_merge(rng: np.random.Generator) -> None:
    parts = [
        Refinement(sketch_of(PILES["a tie among"](rng, 50_000) * k).distribution(), 0.001)
        for k in (1, 2)
    ]
    with pytest.raises(DataError, match="different sketches"):
        parts[0].merge(parts[1])


@pytest.mark.parametrize("max_cells", [1 << 12, 1 << 14])
def test_no_cut_no_order_and_no_grouping_changes_a_bit(
    max_cells: int, rng: np.random.Generator
) -> None:
    values = np.concatenate([rng.normal(size=20_000), rng.lognormal(0, 5, 20_000), [np.nan] * 9])
    rng.shuffle(values)
    whole = sketch_of(values, max_cells).to_bytes()
    assert QuantileSketch.from_bytes(whole).shift > 0
    parts = np.split(values, np.sort(rng.integers(0, values.size, 6)))
    for order in itertools.islice(itertools.permutations(range(7)), 0, 5040, 1000):
        assert merged([sketch_of(parts[i], max_cells) for i in order]).to_bytes() == whole
    pairs = [merged([sketch_of(p, max_cells) for p in parts[i : i + 2]]) for i in range(0, 7, 2)]
    assert merged(pairs[::-1]).to_bytes() == whole
    one_by_one = QuantileSketch(max_cells)
    for start in range(0, values.size, 777):
        one_by_one.add(np.sort(values[start : start + 777]))
    assert one_by_one.to_bytes() == whole


@given(numbers, st.lists(st.integers(0, 60), max_size=3))
def test_few_values_are_kept_exactly(values: list[float], places: list[int]) -> None:
    x = np.asarray(values, np.float64)
    sketch = merged([sketch_of(part) for part in np.split(x, sorted(places))])
    assert sketch.to_bytes() == sketch_of(x).to_bytes()
    known = x[np.isfinite(x)]
    assert (sketch.count, sketch.missing) == (known.size, x.size - known.size)
    assert sketch.rank_error == 0.0
    if known.size:
        assert (sketch.min, sketch.max) == (known.min(), known.max())
        ranks = [(known <= v).sum() for v in known]
        assert sketch.rank(known).tolist() == ranks
        q = np.linspace(0, 1, known.size) if known.size > 1 else np.array([0.5])
        assert np.isin(sketch.quantiles(q), known).mean() > 0.5


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], q: float) -> None:
    expected = np.quantile(values, q)
    np.testing.assert_allclose(sketch_of(values).quantiles(q), [expected], rtol=1e-12, atol=1e-9)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 4)), min_size=1, max_size=30))
def test_a_weight_is_that_many_repetitions(pairs: list[tuple[int, int]]) -> None:
    values, weights = np.array(pairs, np.float64).T
    weighted = sketch_of(values, weights=weights).distribution()
    repeated = sketch_of(np.repeat(values, weights.astype(int))).distribution()
    q = np.linspace(0, 1, 11)
    np.testing.assert_array_equal(weighted.quantiles(q), repeated.quantiles(q))
    np.testing.assert_array_equal(weighted.rank(values), repeated.rank(values))


def test_the_grid_is_the_finest_that_fits() -> None:
    keys = to_ordered(np.array([1.0])) + np.arange(1 << 13)
    assert sketch_of(from_ordered(keys[: 1 << 12])).shift == 0
    assert sketch_of(from_ordered(keys[: (1 << 12) + 1])).shift == 1
    # One of each pair first, so that a coarser grid leaves exactly as many cells as may be.
    pairs = sketch_of(from_ordered(np.concatenate([keys[::2], keys[1::2]])))
    assert pairs.shift == 1
    assert pairs.distribution().low.size == 1 << 12
    assert pairs.distribution().weights.tolist() == [2.0] * (1 << 12)


def test_fractional_weights_add_up_in_any_order(rng: np.random.Generator) -> None:
    values, weights = rng.normal(size=5000), rng.random(5000) + 1e-6
    order = rng.permutation(5000)
    whole = sketch_of(values, weights=weights)
    assert sketch_of(values[order], weights=weights[order]).to_bytes() == whole.to_bytes()
    assert whole.distribution().weight == pytest.approx(weights.sum(), rel=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], "2 values"), ([1.0, -1.0], "not negative"), ([1.0, 1e300], "2^42")],
)
def test_wrong_weights_are_told(weights: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("^", r"\^")):
        sketch_of([1.0, 2.0], weights=np.array(weights))


def test_bytes_and_pickles_go_on_as_before(rng: np.random.Generator) -> None:
    first, second = rng.normal(size=20_000), rng.normal(size=20_000)
    for copy in (
        QuantileSketch.from_bytes(sketch_of(first).to_bytes()),
        pickle.loads(pickle.dumps(sketch_of(first))),
    ):
        copy.add(second)
        assert copy.to_bytes() == sketch_of(np.append(first, second)).to_bytes()


def test_damaged_bytes_are_told(rng: np.random.Generator) -> None:
    whole = sketch_of(rng.normal(size=100)).to_bytes()
    for damaged in (b"", b"WQS2" + whole[4:], whole[:-1], whole[:-24], whole + bytes(24)):
        with pytest.raises(DataError, match="quantile sketch"):
            QuantileSketch.from_bytes(damaged)
    swapped = whole[:52] + whole[-24:] + whole[52:-24]
    with pytest.raises(DataError, match="out of order"):
        QuantileSketch.from_bytes(swapped)


def test_an_empty_sketch_knows_nothing() -> None:
    sketch = QuantileSketch()
    assert np.isnan([sketch.min, sketch.max, *sketch.quantiles(0.5)]).all()
    assert sketch.rank(3.0).tolist() == [0.0]
    sketch.merge(QuantileSketch())
    assert sketch.to_bytes() == QuantileSketch().to_bytes()


def test_wrong_arguments_are_told() -> None:
    with pytest.raises(ConfigError, match="max_cells"):
        QuantileSketch(100)
    with pytest.raises(ConfigError, match="quantiles lie"):
        QuantileSketch().quantiles(1.5)
    with pytest.raises(DataError, match="do not merge"):
        QuantileSketch().merge(QuantileSketch(1 << 13))


def test_the_limit_of_weights_holds_for_all_together() -> None:
    heavy = np.array([2.0**41])
    sketch = QuantileSketch()
    sketch.add(np.array([1.0]), heavy)
    sketch.add(np.array([np.nan, 2.0]), np.array([2.0**41, 2.0**40]))  # NaN weighs nothing
    half = QuantileSketch.from_bytes(sketch.to_bytes())
    other = pickle.loads(pickle.dumps(sketch))
    before = sketch.to_bytes()
    for one in (sketch, half):
        with pytest.raises(DataError, match="at most 2\\^42"):
            one.add(np.array([3.0]), heavy)
        with pytest.raises(DataError, match="at most 2\\^42"):
            one.merge(other)
        assert one.to_bytes() == before
    sketch.add(np.array([3.0]), heavy / 2)
    assert sketch.distribution().weight == 2.0**42
    cells = np.frombuffer(sketch.to_bytes()[-72:], "<i8").copy().reshape(3, 3)
    cells[:, 0] = 2**62
    with pytest.raises(DataError, match="damaged"):
        QuantileSketch.from_bytes(sketch.to_bytes()[:-72] + cells.tobytes())
