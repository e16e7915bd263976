"""Trees as features: the leaf that an example falls into, of each tree of an ensemble.

X. He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014. The trees
are grown by scikit-learn on a sample of the examples, and walked by a compiled loop without it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weiml.errors import ConfigError, DataError
from weiml.features.transforms.base import Accumulator
from weiml.features.transforms.columns import (
    is_number,
    kind_of,
    label_texts,
    numbers,
    require,
)
from weiml.features.transforms.derived import Counting, Derived, FittedDerived
from weiml.features.transforms.quantiles import QuantileSketch
from weiml.features.transforms.registry import register
from weiml.features.transforms.reservoir import Reservoir
from weiml.hashing import hash_key

__all__ = ["AdaBoostLeaves", "FittedLeaves", "GBDTLeaves", "RandomForestLeaves"]

_MOST_CLASSES = 64
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class FittedLeaves(FittedDerived):
    """The trees' nodes, one tree after the other."""

    fills: np.ndarray
    """What stands for a missing number, by column: float64 ``(d,)``."""
    roots: np.ndarray
    """Each tree's first node: int32 ``(trees,)``."""
    feature: np.ndarray
    """By node the column that it asks, −1 for a leaf: int32 ``(nodes,)``."""
    threshold: np.ndarray
    """Left up to it, right above: float64 ``(nodes,)``."""
    left: np.ndarray
    """The node to go on with, among those of all trees: int32 ``(nodes,)``."""
    right: np.ndarray

    def arrays(self, table: pa.Table) -> Sequence[pa.Array]:
        """Return the leaves."""
        columns = [numbers(table, name) for name in self.of.inputs]
        x = _filled(np.column_stack(columns), self.fills)
        leaves = _walk(x, self.roots, self.feature, self.threshold, self.left, self.right)
        offsets = np.arange(table.num_rows + 1, dtype=np.int32) * np.int32(self.roots.size)
        return (pa.ListArray.from_arrays(offsets, leaves.reshape(-1)),)


@dataclass(frozen=True)
class _Leaves(Derived):
    """Puts in a column of lists of int32: of each tree the leaf's number among all nodes.

    Leaves of different trees so have different numbers; less the tree's root they are those that
    scikit-learn's ``apply`` gives. Missing numbers count as the column's median. Trees compare
    numbers as float32.
    """

    columns: tuple[str, ...]
    output: str = field(default="leaves", kw_only=True)
    label: str = field(default="label", kw_only=True)
    """A column of classes: integers, booleans or strings; rows where it is null are left out."""
    trees: int = field(default=50, kw_only=True)
    depth: int = field(default=3, kw_only=True)
    examples: int = field(default=20_000, kw_only=True)
    """Distinct examples that the trees are grown on, a fair sample if there are more."""
    seed: int = field(default=7, kw_only=True)

    fitted_type = FittedLeaves

    @property
    def fitted_on(self) -> tuple[str, ...]:
        """The inputs and the label."""
        return tuple(dict.fromkeys([*self.inputs, self.label]))

    def __post_init__(self) -> None:
        where = type(self).__name__
        if not self.columns or type(self.columns) is not tuple:
            raise ConfigError(f"{where} needs a tuple of columns, got {self.columns!r}")
        for name in ("trees", "depth", "examples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{where}: {name} must be at least 1, got {getattr(self, name)}")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of numbers."""
        return self.columns

    @property
    def outputs(self) -> tuple[str, ...]:
        """The column of leaves."""
        return (self.output,)

    def fields(self, schema: pa.Schema) -> Sequence[pa.Field]:
        """Return one field of lists of int32."""
        for name in self.columns:
            kind = kind_of(schema, name)
            require(is_number(kind), name, self.name, "numbers", kind)
        return (pa.field(self.output, pa.list_(pa.int32())),)

    def accumulator(self) -> Accumulator:
        """Return a reservoir of examples."""
        return _LeavesSeen(self)

    @abstractmethod
    def grow(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Sequence[Any]:
        """Return the trees of a fitted ensemble, scikit-learn's ``tree_``, in the order of apply.

        Args:
            x: float32 ``(n, d)``, without missing ones.
            y: classes, int64 ``(n,)``.
            weights: float64 ``(n,)``.
        """


class _LeavesSeen(Counting):
    def __init__(self, transform: _Leaves) -> None:
        super().__init__(transform)
        self.leaves = transform
        self.reservoir = Reservoir(transform.examples, len(transform.columns))
        self.names: dict[int, str] = {}

    def _see(self, table: pa.Table) -> None:
        label = self.leaves.label
        labels = pc.dictionary_encode(label_texts(table, label, self.leaves.name))
        codes = labels.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        names = labels.dictionary.to_pylist()
        keys = np.array([hash_key(label, name) for name in names], np.uint64)
        self._name(dict(zip(keys.tolist(), names, strict=True)))
        x = np.column_stack([numbers(table, name) for name in self.leaves.columns])
        known = codes >= 0
        self.reservoir.add(x[known], keys[codes[known]])

    def _join(self, other: Self) -> None:
        self._name(other.names)
        self.reservoir.merge(other.reservoir)

    def _name(self, names: dict[int, str]) -> None:
        self.names |= names
        if len(self.names) > _MOST_CLASSES:
            raise DataError(
                f"column {self.leaves.label!r} has more than {_MOST_CLASSES} different labels: "
                f"{self.leaves.name} needs classes, not numbers"
            )

    def _finish(self) -> FittedLeaves:
        seen = self.reservoir
        keys = sorted(self.names, key=lambda key: self.names[key])
        y = np.array([keys.index(key) for key in seen.classes.tolist()], np.int64)
        if np.unique(y).size < 2:
            raise DataError(
                f"{self.leaves.name} needs examples of two classes at least, column "
                f"{self.leaves.label!r} has {sorted(self.names.values())}"
            )
        weights = seen.counts.astype(np.float64)
        fills = np.array([_median(x, weights) for x in seen.numbers.T])
        try:
            trees = self.leaves.grow(_filled(seen.numbers, fills), y, weights)
        except ValueError as error:
            raise DataError(f"{self.leaves.name} cannot be fitted: {error}") from None
        return FittedLeaves(self.leaves, fills, *_flat(trees))


@register("gbdt_leaves")
@dataclass(frozen=True)
class GBDTLeaves(_Leaves):
    """Leaves of gradient-boosted trees; `trees` a class where there are more than two classes."""

    learning_rate: float = field(default=0.1, kw_only=True)

    def grow(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Sequence[Any]:
        """Return the trees, round by round."""
        from sklearn.ensemble import GradientBoostingClassifier

        model = GradientBoostingClassifier(
            n_estimators=self.trees,
            max_depth=self.depth,
            learning_rate=self.learning_rate,
            random_state=self.seed,
        ).fit(x, y, sample_weight=weights)
        return [tree.tree_ for tree in model.estimators_.reshape(-1)]


@register("ada_boost_leaves")
@dataclass(frozen=True)
class AdaBoostLeaves(_Leaves):
    """Leaves of AdaBoost's trees; fewer than `trees` where boosting ends early."""

    learning_rate: float = field(default=1.0, kw_only=True)

    def grow(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Sequence[Any]:
        """Return the trees in the order of boosting."""
        from sklearn.ensemble import AdaBoostClassifier
        from sklearn.tree import DecisionTreeClassifier

        model = AdaBoostClassifier(
            DecisionTreeClassifier(max_depth=self.depth),
            n_estimators=self.trees,
            learning_rate=self.learning_rate,
            random_state=self.seed,
        ).fit(x, y, sample_weight=weights)
        return [tree.tree_ for tree in model.estimators_]


@register("random_forest_leaves")
@dataclass(frozen=True)
class RandomForestLeaves(_Leaves):
    """Leaves of a random forest's trees."""

    def grow(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Sequence[Any]:
        """Return the forest's trees."""
        from sklearn.ensemble import RandomForestClassifier

        model = RandomForestClassifier(
            n_estimators=self.trees, max_depth=self.depth, random_state=self.seed
        ).fit(x, y, sample_weight=weights)
        return [tree.tree_ for tree in model.estimators_]


def _median(x: np.ndarray, weights: np.ndarray) -> float:
    sketch = QuantileSketch()
    sketch.add(x, weights)
    return float(sketch.quantiles(0.5)[0]) if sketch.count else 0.0


def _filled(x: np.ndarray, fills: np.ndarray) -> np.ndarray:
    """Return numbers as trees take them: float32, missing ones filled in, within its range."""
    known = np.where(np.isnan(x), fills, x)
    return np.clip(known, -_LARGEST, _LARGEST).astype(np.float32)


def _flat(trees: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """Return roots, feature, threshold, left and right of trees as arrays over all nodes."""
    sizes = [tree.node_count for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    leaf = np.concatenate([tree.children_left < 0 for tree in trees])
    feature = np.concatenate([tree.feature for tree in trees]).astype(np.int32)
    threshold = np.concatenate([tree.threshold for tree in trees]).astype(np.float64)
    base = np.repeat(roots, sizes)
    left, right = (
        (np.concatenate([getattr(tree, side) for tree in trees]) + base).astype(np.int32)
        for side in ("children_left", "children_right")
    )
    feature[leaf], threshold[leaf], left[leaf], right[leaf] = -1, 0.0, -1, -1
    return roots, feature, threshold, left, right


@numba.njit(nogil=True, cache=True)
def _walk(
    x: np.ndarray,
    roots: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
) -> np.ndarray:
    out = np.empty((x.shape[0], roots.size), np.int32)
    for i in range(x.shape[0]):
        for t in range(roots.size):
            node = roots[t]
            while feature[node] >= 0:
                node = left[node] if x[i, feature[node]] <= threshold[node] else right[node]
            out[i, t] = node
    return out
