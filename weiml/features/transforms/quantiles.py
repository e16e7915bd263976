"""A quantile sketch whose state depends on the values alone: not on their order, nor on parts.

It counts values in cells of a grid on their ordered bits (`weiml.features.transforms.cells`), and
keeps each cell's least and greatest value. There is one grid for all: the finest at which the
values so far fill at most `max_cells` cells. More values can only fill more cells, so the grid of
a union is never finer than those of its parts and follows from them: merging is exact, commutative
and associative, bit for bit. As long as there are at most `max_cells` distinct values all ranks
and quantiles are exact.

Collapsing all cells alike is from UDDSketch (Epicoco et al., IEEE Access 8, 2020); cells of
ordered bits with extremes, the canonical grid and fixed-point weights are not.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from weiml.errors import ConfigError, DataError
from weiml.features.transforms.cells import (
    CELL,
    HIGH,
    LOW,
    WEIGHT,
    add_values,
    from_ordered,
    group,
    insert_cells,
    smallest_shift,
)
from weiml.features.transforms.distribution import Distribution

__all__ = ["QuantileSketch", "Refinement"]

ONE = 1 << 20
"""Weights are whole multiples of 2⁻²⁰, so that their sums are exact in any order."""
_HEAVIEST = float(1 << 42)
_MOST_UNITS = (1 << 42) * ONE
_LEAST_CELLS = 1 << 12  # one for each sign and exponent: a shift never reaches into them
_FIRST_BITS = 8
_HEAD = struct.Struct("<4sqqqqqq")
_MAGIC = b"WQS1"


class QuantileSketch:
    """Ranks and quantiles of numbers. Not thread-safe; picklable.

    A rank is wrong by at most the weight of the cell it falls into. With the default that is under
    0.1 % of the whole (`rank_error` tells) for normal, log-normal and uniform data, however many.
    Cells can be heavier where many equal values, or a narrow pile, lie amid values that are spread
    over many powers of two; a second pass over the data, `Refinement`, then splits those cells.

    Args:
        max_cells: cells kept at most; a cell takes 32 to 96 bytes in memory, 24 in `to_bytes`.
    """

    def __init__(self, max_cells: int = 1 << 14) -> None:
        if max_cells < _LEAST_CELLS:
            raise ConfigError(f"max_cells must be at least {_LEAST_CELLS}, got {max_cells}")
        self.max_cells = max_cells
        self.count = 0
        """Values taken in that are not missing."""
        self._total = 0
        self.missing = 0
        """Values that were NaN or infinite."""
        self._shift = 0
        self._used = 0
        self._bits = _FIRST_BITS
        self._table = np.zeros((1 << _FIRST_BITS, 4), np.int64)

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take in numbers ``(n,)``; weights ``(n,)`` are rounded to multiples of 2⁻²⁰.

        Raises:
            DataError: a weight is negative or not finite, or all together weigh more than 2⁴².
        """
        bits = np.ascontiguousarray(values, np.float64).view(np.int64)
        units = _units(weights, bits.size)
        self._total = self._heavier(self._added(bits, units))
        at = 0
        while at < bits.size:
            # Some more cells than are kept in the end: a grid that is made coarser cell by cell
            # would be made anew for almost every value at first.
            room = min(self.max_cells // 4 * 5, self._table.shape[0] // 4 * 3)
            at, self._used, counted, missing = add_values(
                bits, units, ONE, at, self._table, self._bits, self._shift, self._used, room
            )
            self.count += counted
            self.missing += missing
            if at == bits.size:
                break
            if self._used == self.max_cells // 4 * 5:
                self._keep(*self._canonical())
            else:
                self._keep(self._shift, self._all_cells())

    def merge(self, other: QuantileSketch) -> None:
        """Take in what another sketch of the same `max_cells` has seen.

        Raises:
            DataError: the other sketch keeps another number of cells, or both together weigh more
                than 2⁴².
        """
        if other.max_cells != self.max_cells:
            raise DataError(
                f"sketches of {self.max_cells} and {other.max_cells} cells do not merge"
            )
        self._total = self._heavier(other._total)
        shift = max(self._shift, other._shift)
        both = np.concatenate(
            [group(part._all_cells(), shift - part._shift) for part in (self, other)]
        )
        self.count += other.count
        self.missing += other.missing
        self._keep(*self._finest(shift, group(both[np.argsort(both[:, CELL])], 0)))

    @property
    def shift(self) -> int:
        """Bits dropped from each value's end; 0: every distinct value has a cell of its own."""
        return self._canonical()[0]

    @property
    def min(self) -> float:
        """The least value; NaN if there is none."""
        return self.distribution().min

    @property
    def max(self) -> float:
        """The greatest value; NaN if there is none."""
        return self.distribution().max

    @property
    def rank_error(self) -> float:
        """By how much a rank can be wrong at most, as a share of the whole; 0 if none can."""
        return self.distribution().rank_error

    def distribution(self) -> Distribution:
        """Return what has been seen so far, with ranks and quantiles."""
        _, cells = self._canonical()
        weights = cells[:, WEIGHT] / ONE
        return Distribution(from_ordered(cells[:, LOW]), from_ordered(cells[:, HIGH]), weights)

    def quantiles(self, q: np.ndarray | float) -> np.ndarray:
        """Return quantiles at `q` in [0, 1], as `Distribution.quantiles`."""
        return self.distribution().quantiles(q)

    def rank(self, x: np.ndarray | float) -> np.ndarray:
        """Return the weight of the values ≤ x, as `Distribution.rank`."""
        return self.distribution().rank(x)

    def cdf(self, x: np.ndarray | float) -> np.ndarray:
        """Return the share of the weight at values ≤ x, as `Distribution.cdf`."""
        return self.distribution().cdf(x)

    def to_bytes(self) -> bytes:
        """Return the state: the same bytes for the same values, in whatever order they came."""
        shift, cells = self._canonical()
        cells = np.ascontiguousarray(cells[:, [WEIGHT, LOW, HIGH]].astype("<i8"))
        head = (self.max_cells, shift, self.count, self.missing, len(cells), ONE)
        return _HEAD.pack(_MAGIC, *head) + cells.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> QuantileSketch:
        """Return the sketch whose `to_bytes` is given.

        Raises:
            DataError: the bytes are damaged or of another format.
        """
        if len(data) < _HEAD.size or data[:4] != _MAGIC:
            raise DataError("these are not the bytes of a quantile sketch")
        _, max_cells, shift, count, missing, n, one = _HEAD.unpack_from(data)
        if one != ONE or len(data) != _HEAD.size + 24 * n or not 0 <= shift <= 52:
            raise DataError(f"the bytes of a quantile sketch are damaged: {len(data)} bytes")
        stored = np.frombuffer(data, "<i8", offset=_HEAD.size).reshape(n, 3)
        sketch = cls(max_cells)
        sketch.count, sketch.missing = count, missing
        cells = np.column_stack([stored[:, 1] >> shift, stored])
        if (cells[1:, CELL] <= cells[:-1, CELL]).any() or (cells[:, WEIGHT] <= 0).any():
            raise DataError("the bytes of a quantile sketch are damaged: cells out of order")
        if cells[:, WEIGHT].sum(dtype=np.float64) > 1.5 * _MOST_UNITS:  # int64 could wrap around
            raise DataError("the bytes of a quantile sketch are damaged: they weigh more than 2^42")
        sketch._total = sketch._heavier(int(cells[:, WEIGHT].sum()))
        sketch._keep(shift, np.ascontiguousarray(cells, np.int64))
        return sketch

    def __getstate__(self) -> dict[str, Any]:
        return {"bytes": self.to_bytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(self.from_bytes(state["bytes"]).__dict__)

    def _added(self, bits: np.ndarray, units: np.ndarray) -> int:
        """Return what values of these bits weigh, missing ones left out."""
        known = np.isfinite(bits.view(np.float64))
        return int(units[known].sum()) if units.size else ONE * int(np.count_nonzero(known))

    def _heavier(self, more: int) -> int:
        """Return the weight of all with some more.

        Raises:
            DataError: it would be more than 2⁴², and sums of units no int64.
        """
        total = self._total + more
        if total > _MOST_UNITS:
            raise DataError(
                f"weights must sum up to at most 2^42, got {self._total / ONE:.6g} and "
                f"{more / ONE:.6g} more: scale them"
            )
        return total

    def _all_cells(self) -> np.ndarray:
        """Return the cells that are counted in, in order: int64 ``(n, 4)``."""
        used = self._table[self._table[:, WEIGHT] != 0]
        return used[np.argsort(used[:, CELL])]

    def _canonical(self) -> tuple[int, np.ndarray]:
        """Return shift and cells of the finest grid on which there are at most `max_cells`."""
        return self._finest(self._shift, self._all_cells())

    def _finest(self, shift: int, cells: np.ndarray) -> tuple[int, np.ndarray]:
        if len(cells) <= self.max_cells:
            return shift, cells
        coarser = smallest_shift(np.ascontiguousarray(cells[:, CELL]), self.max_cells)
        return shift + int(coarser), group(cells, coarser)

    def _keep(self, shift: int, cells: np.ndarray) -> None:
        """Count on in these cells of that grid, with room for half as many more at least."""
        self._shift, self._used = shift, len(cells)
        self._bits = max(_FIRST_BITS, int(2 * self._used).bit_length())
        self._table = np.zeros((1 << self._bits, 4), np.int64)
        insert_cells(cells, self._table, self._bits)


def _units(weights: np.ndarray | None, n: int) -> np.ndarray:
    if weights is None:
        return np.empty(0, np.int64)
    given = np.asarray(weights, np.float64)
    if given.shape != (n,):
        raise DataError(f"there are {n} values and weights of shape {given.shape}")
    if not (np.isfinite(given) & (given >= 0)).all():
        raise DataError(f"weights must be finite and not negative, got {given.min()}")
    if given.sum() > _HEAVIEST:
        raise DataError(f"weights must sum up to at most 2^42, got {given.sum()}: scale them")
    return np.rint(given * ONE).astype(np.int64)


class Refinement:
    """A second pass over data that a sketch has seen, to split the cells that are too heavy.

    As the sketch, its state depends on the values alone. Not thread-safe; picklable.
    """

    def __init__(self, seen: Distribution, tolerance: float, max_cells: int = 1 << 14) -> None:
        self._seen = seen
        heavy = (seen.low < seen.high) & (seen.weights > tolerance * seen.weight)
        self._heavy = np.flatnonzero(heavy)
        self._inside = [QuantileSketch(max_cells) for _ in self._heavy]

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Take in the same numbers as the sketch was given."""
        x = np.asarray(values, np.float64)
        cell = np.searchsorted(self._seen.low, x, side="right") - 1
        for sketch, heavy in zip(self._inside, self._heavy, strict=True):
            chosen = (cell == heavy) & (x <= self._seen.high[heavy])
            sketch.add(x[chosen], None if weights is None else np.asarray(weights)[chosen])

    def merge(self, other: Refinement) -> None:
        """Take in what another refinement of the same sketch has seen.

        Raises:
            DataError: it is of another sketch.
        """
        if not np.array_equal(self._seen.low[self._heavy], other._seen.low[other._heavy]):
            raise DataError("refinements of different sketches do not merge")
        for mine, theirs in zip(self._inside, other._inside, strict=True):
            mine.merge(theirs)

    def distribution(self) -> Distribution:
        """Return the distribution with the cells split."""
        kept = np.ones(self._seen.low.size, bool)
        kept[self._heavy] = False
        parts = [sketch.distribution() for sketch in self._inside]
        low, high, weights = (
            np.concatenate([getattr(self._seen, name)[kept], *(getattr(p, name) for p in parts)])
            for name in ("low", "high", "weights")
        )
        order = np.argsort(low)
        return Distribution(low[order], high[order], weights[order])
