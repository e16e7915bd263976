"""Categories to the mean of the label among their examples, without an example's own label.

D. Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes in
classification and prediction problems", SIGKDD Explorations 3 (1), 2001. In training a mean that
counts the example itself tells its label; so training examples get means out of fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pyarrow as pa

from weiml.errors import ConfigError, DataError
from weiml.features.transforms.columns import (
    column,
    is_category,
    is_number,
    kind_of,
    numbers,
    put,
    require,
)
from weiml.features.transforms.derived import Counting, Derived, FittedDerived
from weiml.features.transforms.grouped import GroupedSums
from weiml.features.transforms.key_index import KeyIndex
from weiml.features.transforms.registry import register
from weiml.hashing import cross_keys, hash_values

__all__ = [
    "FittedTargetMean",
    "OutOfFoldMeans",
    "TargetMean",
    "TargetMeanSeen",
    "fit_transform_out_of_fold",
]

UNIT = 1 << 20
"""Labels are whole multiples of 2⁻²⁰, so that their sums are exact in any order."""
_LARGEST = 1 << 22
_MOST = 1 << 62


@dataclass(frozen=True, eq=False)
class FittedTargetMean(FittedDerived):
    """Sums and counts of labels by category."""

    keys: np.ndarray
    """Ids of the categories, or of the crosses of several columns: uint64 ``(n,)``, rising."""
    counts: np.ndarray
    """int64 ``(n,)``."""
    sums: np.ndarray
    """In units of 2⁻²⁰: int64 ``(n,)``."""
    prior: float = field(init=False)
    """The mean of all labels, 0 if there are none."""
    _index: KeyIndex = field(init=False, repr=False)
    _known: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = int(self.counts.sum())
        prior = int(self.sums.sum()) / UNIT / count if count else 0.0
        object.__setattr__(self, "prior", prior)
        object.__setattr__(self, "_index", KeyIndex(self.keys))
        # A last entry for unknown categories, whose position is −1.
        object.__setattr__(self, "_known", (np.append(self.counts, 0), np.append(self.sums, 0)))

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the smoothed means, and the counts if asked for."""
        assert isinstance(self.of, TargetMean)
        found = self._index.find(self.of.keys(table))
        counts, sums = (known[found] for known in self._known)
        return self.of.columns_of(counts, sums, np.full(found.size, self.prior))


@register("target_mean")
@dataclass(frozen=True)
class TargetMean(Derived):
    """Puts in the smoothed mean of the label by category, or by cross of several columns.

    ``(sum + strength · prior) / (count + strength)`` with the mean of all labels as prior, which is
    what unknown categories get. A missing category is a category. Rows without label are left out.

    For *training* rows use `fit_transform_out_of_fold`: the fitted transform's own `apply` is for
    other rows. The folds follow from the hash of the column `fold_by`, such as a user's or a
    session's id, so that all its rows lie in one fold and none sees the labels of another. It is
    none of `columns`: a category that lies in one fold would have no mean but the prior.
    """

    columns: tuple[str, ...]
    label: str = field(default="label", kw_only=True)
    """A column of numbers below 2²² in size, rounded to multiples of 2⁻²⁰; read in fitting only."""
    strength: float = field(default=20.0, kw_only=True)
    """The weight of the prior, in examples."""
    folds: int = field(default=5, kw_only=True)
    fold_by: str | None = field(default=None, kw_only=True)
    output: str | None = field(default=None, kw_only=True)
    """The mean's column; ``<column>_x_<column>_mean`` if left out."""
    with_count: bool = field(default=False, kw_only=True)
    """Also put in ``<output>_count``, the examples that the mean is of, as int64."""

    fitted_type = FittedTargetMean

    @property
    def fitted_on(self) -> tuple[str, ...]:
        """The inputs, the label, and the column by which folds are drawn."""
        fold = [] if self.fold_by is None else [self.fold_by]
        return tuple(dict.fromkeys([*self.inputs, self.label, *fold]))

    def __post_init__(self) -> None:
        if not self.columns or type(self.columns) is not tuple:
            raise ConfigError(f"TargetMean needs a tuple of columns, got {self.columns!r}")
        if not 0 <= self.strength < float("inf"):
            raise ConfigError(f"TargetMean: strength must not be negative, got {self.strength}")
        if not 2 <= self.folds <= 1000:
            raise ConfigError(f"TargetMean: folds must be 2 to 1000, got {self.folds}")
        if self.fold_by in self.columns:
            raise ConfigError(
                f"TargetMean: fold_by must be none of the columns {self.columns}, got "
                f"{self.fold_by!r}: all of a category would lie in one fold, and each training "
                "example get the prior; use another column, such as a user's or a session's id"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the category."""
        return self.columns

    @property
    def outputs(self) -> tuple[str, ...]:
        """The mean, and the count if asked for."""
        name = self.output or f"{'_x_'.join(self.columns)}_mean"
        return (name, f"{name}_count") if self.with_count else (name,)

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return a field of float64, and one of int64 if asked for."""
        for name in self.columns:
            _check_category(schema, name)
        kinds = (pa.float64(), pa.int64())
        return tuple(pa.field(n, k) for n, k in zip(self.outputs, kinds, strict=False))

    def accumulator(self) -> TargetMeanSeen:
        """Return an accumulator of sums by category and fold."""
        return TargetMeanSeen(self)

    def keys(self, table: pa.Table) -> np.ndarray:
        """Return each row's id of the category: uint64 ``(rows,)``."""
        first, *others = (hash_values(name, column(table, name)) for name in self.columns)
        for other in others:
            first = cross_keys(first, other)
        return first

    def fold_of(self, table: pa.Table) -> np.ndarray:
        """Return each row's fold: int64 ``(rows,)``; 0 for all without `fold_by`."""
        if self.fold_by is None:
            return np.zeros(table.num_rows, np.int64)
        _check_category(table.schema, self.fold_by)
        keys = hash_values(self.fold_by, column(table, self.fold_by))
        return ((keys >> np.uint64(32)) % np.uint64(self.folds)).astype(np.int64)

    def columns_of(
        self, counts: np.ndarray, sums: np.ndarray, prior: np.ndarray
    ) -> Sequence[pa.Array]:
        """Return the columns for rows of these counts, sums in units and priors."""
        weight = counts + self.strength
        means = np.where(
            weight > 0,
            (sums / UNIT + self.strength * prior) / np.where(weight > 0, weight, 1.0),
            prior,
        )
        arrays = (pa.array(means), pa.array(counts.astype(np.int64)))
        return arrays[: len(self.outputs)]


class TargetMeanSeen(Counting):
    """Sums of labels by category and fold; exact merge."""

    def __init__(self, transform: TargetMean) -> None:
        super().__init__(transform)
        self.of = transform
        groups = pa.schema({"key": pa.uint64(), "fold": pa.int64()})
        self.sums = GroupedSums(groups, ("count", "sum"))
        self.size = 0

    def _see(self, table: pa.Table) -> None:
        kind = kind_of(table.schema, self.of.label)
        require(is_number(kind), self.of.label, "the label of target_mean", "numbers", kind)
        labels = numbers(table, self.of.label)
        known = ~np.isnan(labels)
        if (np.abs(labels[known]) >= _LARGEST).any():
            raise DataError(
                f"column {self.of.label!r}: labels of target_mean must be below 2^22 in size, got "
                f"{np.abs(labels[known]).max()}: scale them"
            )
        units = np.rint(labels[known] * UNIT).astype(np.int64)
        self._grow(int(np.abs(units).sum()))
        columns = {
            "key": pa.array(self.of.keys(table)[known]),
            "fold": pa.array(self.of.fold_of(table)[known]),
            "count": pa.array(np.ones(units.size, np.int64)),
            "sum": pa.array(units),
        }
        self.sums.add(columns)

    def _join(self, other: Self) -> None:
        self._grow(other.size)
        self.sums.merge(other.sums)

    def _grow(self, more: int) -> None:
        self.size += more
        if self.size > _MOST:
            raise DataError(
                f"column {self.of.label!r}: the labels of target_mean sum up to more than 2^42: "
                f"scale them"
            )

    def _finish(self) -> FittedTargetMean:
        keys, counts, sums = self._by_fold()
        return FittedTargetMean(self.of, keys, counts.sum(axis=1), sums.sum(axis=1))

    def out_of_fold(self) -> OutOfFoldMeans:
        """Return the means for the rows that have been added, each without its own fold.

        Raises:
            ConfigError: the transform has no `fold_by`.
        """
        if self.of.fold_by is None:
            raise ConfigError(
                "TargetMean: means out of fold need fold_by, a column such as a user's id"
            )
        return OutOfFoldMeans(self.of, *self._by_fold())

    def _by_fold(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return keys ``(n,)``, counts and sums ``(n, folds)``."""
        table = self.sums.table()
        keys, row = np.unique(table.column("key").to_numpy(), return_inverse=True)
        fold = table.column("fold").to_numpy()
        shape = (keys.size, self.of.folds if self.of.fold_by is not None else 1)
        counts, sums = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        counts[row, fold] = table.column("count").to_numpy()
        sums[row, fold] = table.column("sum").to_numpy()
        return keys, counts, sums


class OutOfFoldMeans:
    """Means for training rows: of a row's category in all folds but the row's own.

    The prior, too, is that of the other folds. Immutable, so thread-safe; picklable.
    """

    def __init__(
        self, transform: TargetMean, keys: np.ndarray, counts: np.ndarray, sums: np.ndarray
    ) -> None:
        self.transform = transform
        self._index = KeyIndex(keys)
        # What lies in the other folds; a last row for keys that have not been seen.
        nothing = np.zeros((1, counts.shape[1]), np.int64)
        self._counts = np.concatenate([counts.sum(axis=1, keepdims=True) - counts, nothing])
        self._sums = np.concatenate([sums.sum(axis=1, keepdims=True) - sums, nothing])
        totals, units = self._counts.sum(axis=0), self._sums.sum(axis=0)
        self._priors = np.where(totals > 0, units / UNIT / np.maximum(totals, 1), 0.0)

    def apply(self, table: pa.Table) -> pa.Table:
        """Return the table with the columns of `TargetMean`, out of fold.

        Raises:
            DataError: a column is missing or of another type.
        """
        fields = self.transform.fields(table.schema)
        found = self._index.find(self.transform.keys(table))
        fold = self.transform.fold_of(table)
        arrays = self.transform.columns_of(
            self._counts[found, fold], self._sums[found, fold], self._priors[fold]
        )
        return put(table, fields, arrays)


def fit_transform_out_of_fold(
    transform: TargetMean, tables: Callable[[], Iterable[pa.Table]]
) -> tuple[FittedTargetMean, Iterator[pa.Table]]:
    """Fit on training tables; return the transform for serving, and the tables transformed.

    `tables` is called twice. No row's own label, nor one of its fold, has a part in its mean.

    Raises:
        ConfigError: the transform has no `fold_by`.
        DataError: a column is missing or of the wrong type, or there are no rows.
    """
    seen = transform.accumulator()
    for table in tables():
        seen.add(table)
    fitted = seen.fitted()
    assert isinstance(fitted, FittedTargetMean)
    return fitted, map(seen.out_of_fold().apply, tables())


def _check_category(schema: pa.Schema, name: str) -> None:
    kind = kind_of(schema, name)
    wanted = "strings, integers or booleans"
    require(is_category(kind), name, TargetMean.name, wanted, kind)
