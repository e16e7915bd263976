"""The built-in vector functions against float64 numpy, on shards cut in any way."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weiml.errors import ParameterServerError
from weiml.ps.functions.registry import ELEMENTWISE, ShardView, elementwise, find_function
from weiml.ps.partition import vector_places
from weiml.ps.shard.vectors import VectorPart

NUM_BUCKETS = 16
LAYOUTS = [[0] * 16, [0, 1] * 8, [0] * 3 + [1] * 9 + [2] * 4]
layouts = st.lists(st.integers(0, 3), min_size=NUM_BUCKETS, max_size=NUM_BUCKETS)
lengths = st.sampled_from([0, 1, 3, 15, 16, 17, 200, 5000, 70001])


class Group:
    """Vectors on shards made by hand; `call` does the client's work."""

    def __init__(self, layout: list[int], **vectors: np.ndarray) -> None:
        self.views = []
        for shard in range(max(layout) + 1):
            buckets = np.flatnonzero(np.array(layout) == shard)
            parts = {}
            for name, whole in vectors.items():
                places = vector_places(len(whole), NUM_BUCKETS, buckets)
                parts[name] = VectorPart(len(whole), NUM_BUCKETS, buckets, whole[places])
            self.views.append(ShardView(shard, {}, parts, 9, NUM_BUCKETS, buckets))
        self.moved = 0
        """Numbers in the partial answers so far."""

    def call(self, name: str, *arguments: Any) -> Any:
        function = find_function(name)
        function.check(arguments)
        partials = []
        for view in self.views:
            given = function.part(arguments, view.buckets, view.num_buckets)
            partials.append(function.run(view, *given))
            self.moved += sum(np.size(v) for v in getattr(partials[-1], "values", ()))
        return function.merge(partials)

    def pull(self, name: str) -> np.ndarray:
        out = np.empty(self.views[0].vector(name).length, np.float32)
        for view in self.views:
            out[view.vector(name).places] = view.vector(name).values
        return out


def random(length: int, seed: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=length) * np.exp(rng.normal(size=length) * scale)
    values[rng.random(length) < 0.2] = 0
    return values.astype(np.float32)


# Reductions

REDUCTIONS: dict[str, Any] = {
    "l1": lambda x: np.abs(x).sum(),
    "l2": lambda x: math.sqrt((x * x).sum()),
    "linf": lambda x: np.abs(x).max(initial=0),
    "sum": np.sum,
    "min": lambda x: x.min(initial=np.inf),
    "max": lambda x: x.max(initial=-np.inf),
    "nnz": np.count_nonzero,
}


@given(layout=layouts, length=lengths, seed=st.integers(0, 999))
def test_reductions_agree_with_float64_and_have_the_same_bits_on_any_shards(
    layout: list[int], length: int, seed: int
) -> None:
    x, y = random(length, seed), random(length, seed + 1)
    group, single = Group(layout, x=x, y=y), Group([0] * 16, x=x, y=y)
    for name, reference in REDUCTIONS.items():
        answer = group.call(name, "x")
        assert answer == single.call(name, "x")
        scale = np.abs(x).sum(dtype=np.float64)
        assert answer == pytest.approx(
            reference(x.astype(np.float64)), rel=1e-13, abs=1e-13 * scale
        )
    exact = math.fsum((x.astype(np.float64) * y).tolist())
    assert group.call("dot", "x", "y") == single.call("dot", "x", "y")
    bound = 1e-14 * float(np.abs(x.astype(np.float64) * y).sum())
    assert group.call("dot", "x", "y") == pytest.approx(exact, rel=1e-13, abs=bound)


@given(layout=layouts, length=lengths, count=st.integers(1, 5))
def test_a_gram_matrix_holds_the_bits_of_every_dot_product(
    layout: list[int], length: int, count: int
) -> None:
    names = [f"v{i}" for i in range(count)]
    vectors = {name: random(length, i) for i, name in enumerate(names)}
    group = Group(layout, **vectors)
    gram = group.call("gram", names)
    assert gram.shape == (count, count)
    assert gram.dtype == np.float64
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            assert gram[i, j] == group.call("dot", first, second)
            assert gram[i, j] == gram[j, i]
        assert math.sqrt(gram[i, i]) == group.call("l2", first)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_products_of_two_lists_have_the_bits_of_dot(layout: list[int]) -> None:
    group = Group(layout, x=random(53, 1), y=random(53, 2), z=random(53, 3))
    found = group.call("products", ["x", "z"], ["y", "x", "z"])
    expected = [[group.call("dot", a, b) for b in ("y", "x", "z")] for a in ("x", "z")]
    assert found.tolist() == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_scale_0_are_free_of_the_penalty(layout: list[int]) -> None:
    w, g, scales = random(53, 1), random(53, 2), np.arange(53, dtype=np.float32) % 3
    w[::5] = 0
    group = Group(layout, w=w, g=g, scales=scales, o=w)
    group.call("pseudo_gradient", "w", "g", 0.25, "o", "scales")
    expected = [
        reference_pseudo_gradient(a, b, 0.25 * float(scale))
        for a, b, scale in zip(wide(w), wide(g), scales, strict=True)
    ]
    np.testing.assert_array_equal(group.pull("o"), np.array(expected, np.float32))
    np.testing.assert_array_equal(group.pull("o")[scales == 0], g[scales == 0])
    group.call("orthant_project", "w", "g", "o", -1.0, "scales")
    kept = (scales == 0) | (np.sign(w) == -np.sign(g))
    np.testing.assert_array_equal(group.pull("o"), np.where(kept, w, 0))


def test_sums_of_many_numbers_lose_nothing_to_float32() -> None:
    x = np.full(1 << 20, 0.1, np.float32)
    x[0] = 3e7  # in float32 no 0.1 would be noticed beside it
    group = Group([0, 1] * 8, x=x)
    assert group.call("sum", "x") == pytest.approx(3e7 + 0.1 * ((1 << 20) - 1), rel=1e-8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_that_are_not_finite_show(layout: list[int]) -> None:
    x = random(100, 1)
    x[[3, 60]] = np.inf, np.nan
    group = Group(layout, x=x, y=np.zeros(100, np.float32))
    for name in ("l1", "l2", "linf", "sum", "min", "max"):
        assert math.isnan(group.call(name, "x"))
    assert math.isnan(group.call("dot", "x", "y"))
    x[60] = 0
    group = Group(layout, x=x)
    for name in ("l1", "l2", "linf", "sum", "max"):
        assert group.call(name, "x") == math.inf


@given(
    layout=layouts,
    length=lengths,
    edges=st.lists(st.floats(-3, 3), min_size=2, max_size=9, unique=True).map(sorted),
)
def test_histograms_count_like_numpy(layout: list[int], length: int, edges: list[float]) -> None:
    x = np.round(random(length, 3), 1)
    found = Group(layout, x=x).call("histogram", "x", edges)
    np.testing.assert_array_equal(found, np.histogram(x.astype(np.float64), edges)[0])
    assert found.dtype == np.int64


def test_a_histogram_leaves_nan_out_and_refuses_edges_that_do_not_ascend() -> None:
    group = Group([0] * 16, x=np.array([np.nan, 1, 2], np.float32))
    assert group.call("histogram", "x", [0.0, 1.5, 2.0]).tolist() == [1, 1]
    for edges in ([1.0], [1.0, 1.0], [2.0, 1.0], [[0.0, 1.0]]):
        with pytest.raises(ParameterServerError, match="edges must be two or more ascending"):
            group.call("histogram", "x", edges)


# Element by element


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def reference_pseudo_gradient(w: np.ndarray, g: np.ndarray, l1: float) -> np.ndarray:
    # Written as the one-sided derivatives of f + l1 |w| that equation 4 names.
    left = g + l1 * np.where(w > 0, 1.0, -1.0)
    right = g + l1 * np.where(w < 0, -1.0, 1.0)
    return np.where(left > 0, left, np.where(right < 0, right, 0.0))


UPDATES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "copy": (("x", "o"), lambda x, y: x),
    "scale": ((0.3, "o"), lambda x, y: x * 0.3),
    "axpy": ((-1.7, "y", "o"), lambda x, y: x - 1.7 * y),
    "fill": ((2.5, "o"), lambda x, y: np.full_like(x, 2.5)),
    "add": (("x", "y", "o"), lambda x, y: x + y),
    "sub": (("x", "y", "o"), lambda x, y: x - y),
    "mul": (("x", "y", "o"), lambda x, y: x * y),
    "div": (("x", "y", "o"), lambda x, y: x / y),
    "lincomb": (
        ([0.5, -2.0, 3.0], ["x", "y", "o"], "o"),
        lambda x, y: 0.5 * x - 2 * y + 3 * x,
    ),
    "soft_threshold": (
        ("x", 0.4, "o"),
        lambda x, y: np.sign(x) * np.maximum(np.abs(x) - np.float64(np.float32(0.4)), 0),
    ),
    "pseudo_gradient": (
        ("x", "y", 0.25, "o"),
        lambda x, y: reference_pseudo_gradient(x, y, 0.25),
    ),
    "orthant": (("x", "y", "o"), lambda x, y: np.where(x == 0, -np.sign(y), np.sign(x))),
    "orthant_project": (
        ("x", "y", "o", -1.0),
        lambda x, y: np.where(np.sign(x) == -np.sign(y), x, 0),
    ),
}


@given(layout=layouts, length=lengths, seed=st.integers(0, 999))
def test_updates_are_float64_answers_rounded_once(
    layout: list[int], length: int, seed: int
) -> None:
    x, y = random(length, seed), random(length, seed + 1)
    for name, (arguments, reference) in UPDATES.items():
        group = Group(layout, x=x, y=y, o=x)
        assert group.call(name, *arguments) is None
        with np.errstate(all="ignore"):
            expected = reference(wide(x), wide(y)).astype(np.float32)
        np.testing.assert_array_equal(group.pull("o"), expected, err_msg=name)
        np.testing.assert_array_equal(group.pull("y"), y, err_msg=name)
        assert all(view.vector("o").touched == 9 for view in group.views)
        assert all(view.vector("y").touched == 0 for view in group.views)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_given_whole_are_cut_to_the_shards(layout: list[int]) -> None:
    group = Group(layout, o=np.zeros(53, np.float32))
    values = random(53, 4)
    group.call("assign", values, "o")
    np.testing.assert_array_equal(group.pull("o"), values)
    with pytest.raises(ParameterServerError, match="vector 'o' has length 53"):
        group.call("assign", values[:-1], "o")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_elementwise_functions_are_mapped_in_pieces(
    layout: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weiml.ps.functions.vector_functions._PIECE", 7)
    monkeypatch.setattr("weiml.ps.functions.registry.ELEMENTWISE", dict(ELEMENTWISE))

    @numba.vectorize(["float32(float32, float32)"])
    def larger(a: Any, b: Any) -> Any:
        return a if a > b else b

    elementwise("larger")(larger)

    @elementwise("logistic")
    def logistic(x: np.ndarray, slope: float) -> np.ndarray:
        return 1 / (1 + np.exp(-np.float32(slope) * x))

    elementwise("wrong")(lambda x: x[:1])
    x, y = random(300, 1), random(300, 2)
    group = Group(layout, x=x, y=y)
    group.call("map", "logistic", ["x"], "x", 2.0)
    expected = 1 / (1 + np.exp(np.float32(-2) * x))
    np.testing.assert_allclose(group.pull("x"), expected, rtol=1e-6)
    group.call("map", "larger", ["x", "y"], "y")
    np.testing.assert_array_equal(group.pull("y"), np.maximum(group.pull("x"), y))
    with pytest.raises(ParameterServerError, match="no elementwise function 'largest'; did you"):
        group.call("map", "largest", ["x", "y"], "y")
    with pytest.raises(ParameterServerError, match="'wrong' must answer one number an element"):
        group.call("map", "wrong", ["x"], "y")


def test_vectors_of_different_lengths_are_refused_before_any_is_written() -> None:
    group = Group([0, 1] * 8, x=random(20, 1), y=random(21, 2))
    for name, arguments in (
        ("dot", ("x", "y")),
        ("gram", (["x", "y"],)),
        ("copy", ("x", "y")),
        ("axpy", (1.0, "x", "y")),
        ("add", ("x", "x", "y")),
        ("lincomb", ([1.0], ["x"], "y")),
        ("soft_threshold", ("x", 1.0, "y")),
        ("pseudo_gradient", ("x", "x", 1.0, "y")),
        ("orthant", ("x", "x", "y")),
        ("orthant_project", ("x", "x", "y")),
    ):
        with pytest.raises(ParameterServerError, match="'x' has 20, 'y' has 21"):
            group.call(name, *arguments)
    with pytest.raises(ParameterServerError, match="one coefficient a vector, got 1 for 2"):
        group.call("lincomb", [1.0], ["x", "x"], "x")
    with pytest.raises(ParameterServerError, match="no vector 'z'; did you mean|no vector 'z'"):
        group.call("l2", "z")
    np.testing.assert_array_equal(group.pull("y"), random(21, 2))


# L-BFGS without vectors


def two_loops(gram: np.ndarray, m: int) -> np.ndarray:
    """Return the coefficients of the direction: of s_1 … s_m, y_1 … y_m and g, float64 (2m + 1,).

    `gram` holds their dot products. Chen, Wang and Zhou, NIPS 2014, algorithm 3.
    """
    delta = np.zeros(2 * m + 1)
    delta[2 * m] = -1.0
    alpha = np.zeros(m)
    for i in reversed(range(m)):
        alpha[i] = delta @ gram[:, i] / gram[i, m + i]
        delta[m + i] -= alpha[i]
    delta *= gram[m - 1, 2 * m - 1] / gram[2 * m - 1, 2 * m - 1]
    for i in range(m):
        beta = delta @ gram[:, m + i] / gram[i, m + i]
        delta[i] += alpha[i] - beta
    return delta


def plain_lbfgs(s: list[np.ndarray], y: list[np.ndarray], g: np.ndarray) -> np.ndarray:
    """Return the direction by the usual two loops over whole vectors, in float64."""
    q = g.copy()
    alpha = np.zeros(len(s))
    for i in reversed(range(len(s))):
        alpha[i] = (s[i] @ q) / (s[i] @ y[i])
        q -= alpha[i] * y[i]
    q *= (s[-1] @ y[-1]) / (y[-1] @ y[-1])
    for i in range(len(s)):
        q += (alpha[i] - (y[i] @ q) / (s[i] @ y[i])) * s[i]
    return -q


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_loops_over_a_gram_matrix_give_the_direction_of_plain_lbfgs(
    layout: list[int],
) -> None:
    n, m = 3001, 5
    rng = np.random.default_rng(3)
    curvature = np.exp(rng.normal(size=n))
    steps = [random(n, i) for i in range(m)]
    changes = [(curvature * step).astype(np.float32) for step in steps]
    gradient = random(n, 99)
    names = [*(f"s{i}" for i in range(m)), *(f"y{i}" for i in range(m)), "g"]
    vectors = dict(zip(names, [*steps, *changes, gradient], strict=True))
    group = Group(layout, **vectors, d=np.zeros(n, np.float32))

    gram = group.call("gram", names)
    group.call("lincomb", two_loops(gram, m), names, "d")

    expected = plain_lbfgs([*map(wide, steps)], [*map(wide, changes)], wide(gradient))
    error = np.linalg.norm(group.pull("d") - expected) / np.linalg.norm(expected)
    assert error < 1e-6
    assert group.call("dot", "d", "g") < 0
    assert group.moved < n  # scalars, however the buckets lie
