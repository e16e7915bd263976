"""The built-in functions over vectors: reductions, linear algebra, what L1 solvers need.

All vectors of a call must be of one length; then their numbers lie side by side on every shard, and
only names, scalars and partial sums travel. Sums are the same bits on any number of shards. `out`
names an existing vector, which may be one of the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from weiml.errors import ParameterServerError
from weiml.ps.functions import vector_kernels as kernels
from weiml.ps.functions.partials import Partials, combine_buckets, join_partials
from weiml.ps.functions.registry import find_elementwise, get_function, update_function
from weiml.ps.functions.shard_view import ShardView
from weiml.ps.partition import vector_places
from weiml.ps.rows.memory import address_of

__all__: list[str] = []

_PIECE = 1 << 14  # numbers worked on at a time, so that temporaries stay in cache


# Reductions


def _join_root(parts: list[Partials]) -> float:
    return math.sqrt(join_partials(parts))


def _unpack(parts: list[Partials]) -> np.ndarray:
    upper = np.asarray(join_partials(parts))
    m = (math.isqrt(8 * upper.size + 1) - 1) // 2
    out = np.empty((m, m), np.float64)
    rows, columns = np.triu_indices(m)
    out[rows, columns] = out[columns, rows] = upper
    return out


def _dots(view: ShardView, names: Sequence[str], left: np.ndarray, right: np.ndarray) -> np.ndarray:
    view.check_lengths(*names)
    arrays = [view.read_vector(name) for name in names]
    addresses = np.array([address_of(array) for array in arrays], np.int64)
    offsets = view.vector(names[0]).offsets
    return np.asarray(kernels.bucket_dots(addresses, offsets, left, right))


def _dot(view: ShardView, x: str, y: str) -> Partials:
    pair = np.zeros(1, np.int64), np.ones(1, np.int64)
    by_bucket = _dots(view, (x, y), *pair)[:, 0]
    return combine_buckets(view.buckets, by_bucket.tolist(), view.num_buckets)


def _sums(view: ShardView, x: str, absolute: bool) -> Partials:
    part = view.vector(x)
    by_bucket = kernels.bucket_sums(part.values, part.offsets, absolute)
    return combine_buckets(view.buckets, by_bucket.tolist(), view.num_buckets)


@get_function("dot", merge=join_partials)
def dot(view: ShardView, x: str, y: str) -> Partials:
    """Return ``Σ x y`` in float64."""
    return _dot(view, x, y)


@get_function("l2", merge=_join_root)
def l2(view: ShardView, x: str) -> Partials:
    """Return ``sqrt(Σ x²)`` in float64."""
    return _dot(view, x, x)


@get_function("l1", merge=join_partials)
def l1(view: ShardView, x: str) -> Partials:
    """Return ``Σ |x|`` in float64."""
    return _sums(view, x, True)


@get_function("sum", merge=join_partials)
def sum_(view: ShardView, x: str) -> Partials:
    """Return ``Σ x`` in float64."""
    return _sums(view, x, False)


@get_function("gram", merge=_unpack)
def gram(view: ShardView, names: Sequence[str]) -> Partials:
    """Return all dot products of m vectors: float64 (m, m). ``gram[i, j]`` has the bits of `dot`.

    With it the two loops of L-BFGS need no vectors (Chen, Wang and Zhou, "Large-scale L-BFGS using
    MapReduce", NIPS 2014).
    """
    rows, columns = np.triu_indices(len(names))
    by_bucket = _dots(view, names, rows.astype(np.int64), columns.astype(np.int64))
    return combine_buckets(view.buckets, list(by_bucket), view.num_buckets)


def _unpack_products(parts: list[Partials]) -> np.ndarray:
    return np.asarray(join_partials(parts))


@get_function("products", merge=_unpack_products)
def products(view: ShardView, left: Sequence[str], right: Sequence[str]) -> Partials:
    """Return the dot products of vectors of two lists: float64 (len(left), len(right)).

    Each has the bits of `dot`, so that a `gram` of vectors of which few are new is mended by the
    products of the new ones.
    """
    names = [*left, *right]
    pairs = np.indices((len(left), len(right))).reshape(2, -1)
    by_bucket = _dots(view, names, pairs[0], pairs[1] + len(left))
    by_bucket = by_bucket.reshape(-1, len(left), len(right))
    return combine_buckets(view.buckets, list(by_bucket), view.num_buckets)


def _widest(parts: list[float]) -> float:
    return float(np.max([*parts, 0.0]))


@get_function("linf", merge=_widest)
def linf(view: ShardView, x: str) -> float:
    """Return the largest ``|x|``; 0 of an empty vector."""
    values = view.read_vector(x)
    return float(np.maximum(values.max(), -values.min())) if values.size else 0.0


@get_function("min", merge=lambda parts: float(np.min(parts)))
def min_(view: ShardView, x: str) -> float:
    """Return the smallest number; infinity of an empty vector."""
    return float(np.min(view.read_vector(x), initial=np.inf))


@get_function("max", merge=lambda parts: float(np.max(parts)))
def max_(view: ShardView, x: str) -> float:
    """Return the largest number; minus infinity of an empty vector."""
    return float(np.max(view.read_vector(x), initial=-np.inf))


@get_function("nnz", merge=sum)
def nnz(view: ShardView, x: str) -> int:
    """Return how many numbers are not 0."""
    return int(np.count_nonzero(view.read_vector(x)))


@get_function("histogram", merge=sum)
def histogram(view: ShardView, x: str, edges: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return how many numbers lie between ascending `edges` (m,): int64 (m - 1,).

    Bins hold their left edge, the last one its right edge too.
    """
    bounds = np.array(edges, np.float64)
    if bounds.ndim != 1 or len(bounds) < 2 or not (np.diff(bounds) > 0).all():
        raise ParameterServerError(f"edges must be two or more ascending numbers, got {edges!r}")
    return np.asarray(kernels.count_bins(view.read_vector(x), bounds))


# Element by element


@update_function("fill")
def fill(view: ShardView, a: float, out: str) -> None:
    """Set every number of `out` to `a`."""
    view.write_vector(out)[:] = np.float32(a)


def _assigned(arguments: tuple[Any, ...], buckets: np.ndarray, num_buckets: int) -> tuple[Any, ...]:
    values, out = arguments
    whole = np.asarray(values, np.float32)
    return whole[vector_places(len(whole), num_buckets, buckets)], out


@update_function("assign", split=_assigned)
def assign(view: ShardView, values: np.ndarray, out: str) -> None:
    """Set `out` to `values` float32 (length,), of which each shard gets its part."""
    target = view.write_vector(out)
    if values.shape != target.shape:
        raise ParameterServerError(
            f"vector {out!r} has length {view.vector(out).length}, of which {len(target)} numbers "
            f"are here; the values have {values.shape} here"
        )
    target[:] = values


@update_function("copy")
def copy(view: ShardView, x: str, out: str) -> None:
    """``out = x``."""
    view.check_lengths(x, out)
    view.write_vector(out)[:] = view.read_vector(x)


@update_function("scale")
def scale(view: ShardView, a: float, x: str) -> None:
    """``x = a x``, in place."""
    values = view.write_vector(x)
    np.multiply(values, np.float64(a), out=values, casting="same_kind")


@update_function("axpy")
def axpy(view: ShardView, a: float, x: str, y: str) -> None:
    """``y = y + a x``, in place."""
    view.check_lengths(x, y)
    kernels.axpy(float(a), view.read_vector(x), view.write_vector(y))


def _binary(view: ShardView, ufunc: np.ufunc, x: str, y: str, out: str) -> None:
    view.check_lengths(x, y, out)
    with np.errstate(all="ignore"):  # IEEE's answers, as in the compiled loops
        ufunc(view.read_vector(x), view.read_vector(y), out=view.write_vector(out))


@update_function("add")
def add(view: ShardView, x: str, y: str, out: str) -> None:
    """``out = x + y``."""
    _binary(view, np.add, x, y, out)


@update_function("sub")
def sub(view: ShardView, x: str, y: str, out: str) -> None:
    """``out = x - y``."""
    _binary(view, np.subtract, x, y, out)


@update_function("mul")
def mul(view: ShardView, x: str, y: str, out: str) -> None:
    """``out = x y``."""
    _binary(view, np.multiply, x, y, out)


@update_function("div")
def div(view: ShardView, x: str, y: str, out: str) -> None:
    """``out = x / y``; infinite or NaN where y is 0."""
    _binary(view, np.divide, x, y, out)


@update_function("lincomb")
def lincomb(
    view: ShardView, coefficients: Sequence[float] | np.ndarray, names: Sequence[str], out: str
) -> None:
    """``out = Σ coefficients[j] names[j]``."""
    if len(coefficients) != len(names):
        raise ParameterServerError(
            f"lincomb needs one coefficient a vector, got {len(coefficients)} for {len(names)}"
        )
    view.check_lengths(*names, out)
    arrays, target = [view.read_vector(name) for name in names], view.write_vector(out)
    for start in range(0, target.size, _PIECE):
        piece = slice(start, start + _PIECE)
        total = np.zeros(target[piece].size)
        for coefficient, array in zip(coefficients, arrays, strict=True):
            kernels.add_scaled(float(coefficient), array[piece], total)
        target[piece] = total


@update_function("soft_threshold")
def soft_threshold(view: ShardView, x: str, threshold: float, out: str) -> None:
    """``out = sign(x) max(|x| - threshold, 0)``: the proximal step of the L1 norm."""
    view.check_lengths(x, out)
    kernels.soft_threshold(view.read_vector(x), np.float32(threshold), view.write_vector(out))


@update_function("pseudo_gradient")
def pseudo_gradient(
    view: ShardView, w: str, g: str, l1: float, out: str, scales: str | None = None
) -> None:
    """Set `out` to the pseudo-gradient of ``f + l1 |w|₁`` at w, where g is the gradient of f.

    With `scales`, a vector of numbers from 0 on, the penalty is ``l1 Σ scales |w|``: weights of
    scale 0 are free.

    Andrew and Gao, "Scalable training of L1-regularized log-linear models", ICML 2007, equation 4.
    """
    view.check_lengths(w, g, out, *_given(scales))
    arrays = view.read_vector(w), view.read_vector(g), _optional(view, scales)
    kernels.pseudo_gradient(*arrays, float(l1), view.write_vector(out))


@update_function("orthant")
def orthant(view: ShardView, w: str, pseudo: str, out: str) -> None:
    """Set `out` to the signs of the orthant to search in: that of w, of -pseudo where w is 0.

    The ξ of Andrew and Gao, section 3.2.
    """
    view.check_lengths(w, pseudo, out)
    weights, slopes, target = view.read_vector(w), view.read_vector(pseudo), view.write_vector(out)
    for start in range(0, target.size, _PIECE):
        piece = slice(start, start + _PIECE)
        signs = np.sign(weights[piece])
        target[piece] = np.where(signs == 0, -np.sign(slopes[piece]), signs)


@update_function("orthant_project")
def orthant_project(
    view: ShardView, x: str, orthant: str, out: str, sign: float = 1.0, scales: str | None = None
) -> None:
    """``out = x`` where x has the sign of ``sign · orthant``, else 0: the π of Andrew and Gao.

    A direction is aligned with the negative pseudo-gradient by ``orthant_project(d, pseudo, d,
    -1)``, new weights are kept in their orthant by ``orthant_project(w, orthant, w)``. Where the
    vector `scales` is 0 there is no penalty, and x stays.
    """
    view.check_lengths(x, orthant, out, *_given(scales))
    arrays = view.read_vector(x), view.read_vector(orthant), _optional(view, scales)
    kernels.orthant_project(*arrays, np.float32(sign), view.write_vector(out))


def _given(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _optional(view: ShardView, name: str | None) -> np.ndarray | None:
    return None if name is None else view.read_vector(name)


@update_function("map")
def map_(view: ShardView, function: str, names: Sequence[str], out: str, *scalars: float) -> None:
    """``out = function(*vectors, *scalars)``, a registered `elementwise` function."""
    body = find_elementwise(function)
    view.check_lengths(*names, out)
    arrays, target = [view.read_vector(name) for name in names], view.write_vector(out)
    for start in range(0, target.size, _PIECE):
        piece = slice(start, start + _PIECE)
        got = np.asarray(body(*(array[piece] for array in arrays), *scalars))
        if got.shape not in ((), target[piece].shape):
            raise ParameterServerError(
                f"elementwise function {function!r} must answer one number an element, shape "
                f"{target[piece].shape}, got {got.shape}"
            )
        target[piece] = got
