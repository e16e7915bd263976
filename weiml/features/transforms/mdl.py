"""Supervised buckets: borders where the label changes most, by minimum description length.

U. Fayyad and K. Irani, "Multi-interval discretization of continuous-valued attributes for
classification learning", IJCAI 1993.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import ConfigError, DataError
from weiml.features.transforms.accumulators import RANK_ERROR
from weiml.features.transforms.base import Accumulator
from weiml.features.transforms.buckets import Discretizer, FittedBuckets
from weiml.features.transforms.cells import to_ordered
from weiml.features.transforms.columns import (
    label_texts,
    numbers,
)
from weiml.features.transforms.derived import Counting
from weiml.features.transforms.quantiles import QuantileSketch
from weiml.features.transforms.registry import register

__all__ = ["MDL", "class_counts", "cut_points"]

_MOST_CLASSES = 64


@register("mdl")
@dataclass(frozen=True)
class MDL(Discretizer):
    """Buckets that tell most about a label, as many as the data can bear out; exact merge.

    A range is cut where the label's entropy falls most, if that pays for the cut's description,
    and its two parts again. Borders lie in the middle between the values on either side. Up to
    2¹⁴ distinct values a class are told apart exactly; beyond, the cells of a `QuantileSketch`
    are. A column that tells nothing of the label has one bucket.
    """

    label: str = field(default="label", kw_only=True)
    """A column of integers, booleans or strings, at most 64 different ones; where it is null, the
    row is left out. It is read in fitting only."""
    max_buckets: int = field(default=256, kw_only=True)
    """Where the rule gives more, the cuts of the largest gain are kept."""

    @property
    def fitted_on(self) -> tuple[str, ...]:
        """The inputs and the label."""
        return tuple(dict.fromkeys([*self.inputs, self.label]))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_buckets < 1:
            raise ConfigError(
                f"MDL({self.column!r}): max_buckets must be at least 1, got {self.max_buckets}"
            )

    def accumulator(self) -> Accumulator:
        """Return a quantile sketch for each class."""
        return _MDLSeen(self)


class _MDLSeen(Counting):
    def __init__(self, transform: MDL) -> None:
        super().__init__(transform)
        self.mdl = transform
        self.sketches: dict[str, QuantileSketch] = {}

    def _see(self, table: pa.Table) -> None:
        x = numbers(table, self.mdl.column)
        labels = pc.dictionary_encode(label_texts(table, self.mdl.label, "mdl"))
        codes = labels.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        for code, name in enumerate(labels.dictionary.to_pylist()):
            self._sketch(name).add(x[codes == code])

    def _join(self, other: Self) -> None:
        for name, sketch in other.sketches.items():
            self._sketch(name).merge(sketch)

    def _sketch(self, name: str) -> QuantileSketch:
        if name not in self.sketches:
            if len(self.sketches) == _MOST_CLASSES:
                raise DataError(
                    f"column {self.mdl.label!r} has more than {_MOST_CLASSES} different labels: "
                    f"mdl needs classes, not numbers"
                )
            self.sketches[name] = QuantileSketch()
        return self.sketches[name]

    def _finish(self) -> FittedBuckets:
        names = sorted(self.sketches)
        low, high, counts = class_counts([self.sketches[name] for name in names])
        cuts = cut_points(counts, self.mdl.max_buckets - 1)
        cuts = _without_slivers(cuts, (low < high) & (_share(counts) < RANK_ERROR))
        return FittedBuckets(self.transform, _middles(high[cuts - 1], low[cuts]))


def class_counts(sketches: list[QuantileSketch]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cells of several sketches on one grid: low, high ``(n,)``, weights ``(n, C)``."""
    shift = max((sketch.shift for sketch in sketches), default=0)
    parts = [sketch.distribution() for sketch in sketches]
    low = np.concatenate([np.empty(0), *(part.low for part in parts)])
    high = np.concatenate([np.empty(0), *(part.high for part in parts)])
    weights = np.concatenate([np.empty(0), *(part.weights for part in parts)])
    label = np.repeat(np.arange(len(parts)), [part.low.size for part in parts])
    _, cell = np.unique(to_ordered(low) >> shift, return_inverse=True)
    n = int(cell.max()) + 1 if cell.size else 0
    lows, highs, counts = np.full(n, np.inf), np.full(n, -np.inf), np.zeros((n, len(parts)))
    np.minimum.at(lows, cell, low)
    np.maximum.at(highs, cell, high)
    np.add.at(counts, (cell, label), weights)
    return lows, highs, counts


def cut_points(counts: np.ndarray, most: int) -> np.ndarray:
    """Return where the MDL principle cuts cells in order, by counts of classes ``(n, C)``.

    A cut at i lies before cell i. Of more than `most` cuts, those of the largest gain (in bits,
    over all of their range's rows) are returned; always in rising order, int64.
    """
    n, C = counts.shape
    sums = np.zeros((n + 1, C))
    np.cumsum(counts, axis=0, out=sums[1:])
    found: list[tuple[float, int]] = []
    ranges = [(0, n)]
    while ranges:
        start, stop = ranges.pop()
        best = _best_cut(sums, start, stop)
        if best is not None:
            found.append((-best[0], best[1]))
            ranges += [(start, best[1]), (best[1], stop)]
    return np.sort(np.array([cut for _, cut in sorted(found)[:most]], np.int64))


def _best_cut(sums: np.ndarray, start: int, stop: int) -> tuple[float, int] | None:
    """Return gain and place of the best cut of a range, None if it does not pay."""
    if stop - start < 2:
        return None
    whole = sums[stop] - sums[start]
    left = sums[start + 1 : stop] - sums[start]
    right = whole - left
    all_bits, left_bits, right_bits = _bits(whole[None, :])[0], _bits(left), _bits(right)
    at = int(np.argmin(left_bits + right_bits))
    rows = float(whole.sum())
    gain = float(all_bits - left_bits[at] - right_bits[at])
    k, k1, k2 = (int((part > 0).sum()) for part in (whole, left[at], right[at]))
    # Entropies a row, of which bits are the sums: Ent(S) = bits / rows.
    ent, ent1, ent2 = (
        bits / max(float(part.sum()), 1e-300)
        for bits, part in (
            (all_bits, whole),
            (left_bits[at], left[at]),
            (right_bits[at], right[at]),
        )
    )
    delta = math.log2(3.0**k - 2) - (k * ent - k1 * ent1 - k2 * ent2)
    price = math.log2(max(rows - 1, 1.0)) + delta
    return (gain, start + 1 + at) if gain > price else None


def _bits(counts: np.ndarray) -> np.ndarray:
    """Return ``rows · entropy`` in bits of counts ``(n, C)``."""
    total = counts.sum(axis=1)
    return _x_log_x(total) - _x_log_x(counts).sum(axis=1)


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return np.asarray(x * np.log2(np.where(x > 0, x, 1.0)))


def _share(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts.sum(axis=1) / max(counts.sum(), 1.0))


def _without_slivers(cuts: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    """Return the cuts without those right before another, of buckets of one `narrow` cell.

    Where the true border lies within a cell that holds both sides, both ends of the cell pay.
    """
    sliver = np.zeros(cuts.size, bool)
    sliver[:-1] = (np.diff(cuts) == 1) & narrow[cuts[:-1]]
    return cuts[~sliver]


def _middles(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return numbers in ``(left, right]``, in the middle where there is room."""
    middle = left / 2 + right / 2
    inside = (left < middle) & (middle <= right)
    return np.where(inside, middle, right)
