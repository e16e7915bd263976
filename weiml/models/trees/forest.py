"""Trees as arrays, walked by a compiled loop: scoring needs no LightGBM.

    score = Σ_t value_t(leaf of x in tree t)

Splits follow LightGBM's rules: a number goes left up to its threshold, a missing one where the
split says; a category goes left if its code is in the split's set, and right if it is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numba
import numpy as np

from weiml.errors import DataError
from weiml.models.trees.text import TreeText

__all__ = ["Forest"]

_CATEGORICAL, _DEFAULT_LEFT = 1, 2  # bits of LightGBM's decision_type; missing type is above
_ZERO_MISSING, _NAN_MISSING = 1, 2
_TOGETHER = 64  # examples that go through a tree one after the other, while it is in the cache
_ZERO = 1e-35  # up to where LightGBM takes a number for zero

_NODE_ARRAYS = {
    "split_feature": np.int32,
    "split_gain": np.float64,
    "threshold": np.float64,
    "decision_type": np.uint8,
    "left_child": np.int32,
    "right_child": np.int32,
}


@dataclass(frozen=True, eq=False)
class Forest:
    """The nodes and leaves of all trees, one tree after the other. Thread-safe; picklable."""

    num_columns: int
    nodes: np.ndarray
    """int64 (T + 1,): where each tree's nodes start; a tree of one leaf has none."""
    leaves: np.ndarray
    """int64 (T + 1,): where each tree's leaves start."""
    split_feature: np.ndarray
    split_gain: np.ndarray
    threshold: np.ndarray
    """A number's threshold, or the place of a category's set in `sets`."""
    decision_type: np.ndarray
    left_child: np.ndarray
    """A node of the same tree, or ``~leaf`` below 0."""
    right_child: np.ndarray
    leaf_value: np.ndarray
    sets: np.ndarray
    """int64: where each split's set starts in `words`."""
    words: np.ndarray
    """uint32: bits of the codes that go left."""

    @classmethod
    def from_text(cls, text: TreeText) -> Self:
        """Read trees from LightGBM's text.

        Raises:
            DataError: the text is damaged, or holds trees that are not understood.
        """
        trees = [_fields(i, tree) for i, tree in enumerate(text.trees)]
        try:
            return cls(text.number("max_feature_idx") + 1, *_arrays(trees))
        except (KeyError, ValueError, OverflowError) as error:
            raise DataError(f"the text of the trees is damaged: {error!r}") from None

    def __post_init__(self) -> None:
        _check(self)

    def __len__(self) -> int:
        return len(self.leaves) - 1

    def add_scores(self, matrix: np.ndarray, scores: np.ndarray) -> None:
        """Add the trees' values to scores float64 (B,), tree by tree, given a matrix (B, C)."""
        self._check_matrix(matrix)
        _add_scores(matrix, *self._walked, self.leaf_value, scores)

    def leaf_indices(self, matrix: np.ndarray) -> np.ndarray:
        """Return int32 (B, T): the leaf of each tree that each example of (B, C) falls into."""
        self._check_matrix(matrix)
        out = np.empty((len(matrix), len(self)), np.int32)
        _leaf_indices(matrix, *self._walked, out)
        return out

    def importance(self, kind: str) -> np.ndarray:
        """Return float64 (C,): of each column its summed gain, or in how many splits it is."""
        weights = self.split_gain if kind == "gain" else None
        counted = np.bincount(self.split_feature, weights, minlength=self.num_columns)
        return counted.astype(np.float64)

    @property
    def _walked(self) -> tuple[np.ndarray, ...]:
        return (
            self.nodes,
            self.leaves,
            self.split_feature,
            self.threshold,
            self.decision_type,
            self.left_child,
            self.right_child,
            self.sets,
            self.words,
        )

    def _check_matrix(self, matrix: np.ndarray) -> None:
        if matrix.ndim != 2 or matrix.shape[1] != self.num_columns:
            raise DataError(
                f"the trees have {self.num_columns} columns, the matrix is {matrix.shape}"
            )


def _fields(number: int, tree: str) -> dict[str, str]:
    fields = dict(line.partition("=")[::2] for line in tree.splitlines() if line)
    if fields.get("is_linear", "0") != "0":
        raise DataError(f"tree {number} has linear models in its leaves, which are not read")
    return fields


def _arrays(trees: Sequence[dict[str, str]]) -> list[np.ndarray]:
    sizes = np.array([int(tree["num_leaves"]) for tree in trees], np.int64)
    nodes, leaves = np.cumsum([0, *(sizes - 1)]), np.cumsum([0, *sizes])
    out = [nodes, leaves]
    cats = np.cumsum([0, *(int(tree["num_cat"]) for tree in trees)])
    for name, dtype in _NODE_ARRAYS.items():
        parts = [
            _numbers(tree.get(name, "") if size > 1 else "", size - 1, dtype, name)
            for tree, size in zip(trees, sizes, strict=True)
        ]
        if name == "threshold":  # the sets of a tree are numbered from 0
            parts = [_shifted(*both) for both in zip(parts, trees, cats[:-1], strict=True)]
        out.append(np.concatenate([np.empty(0, dtype), *parts]))
    values = [_numbers(t["leaf_value"], n, np.float64, "leaf_value") for t, n in zip(trees, sizes)]  # noqa: B905
    out.append(np.concatenate([np.empty(0), *values]))
    return [*out, *_category_sets(trees)]


def _numbers(text: str, count: int, dtype: type, name: str) -> np.ndarray:
    words = text.split()
    if len(words) != count:
        raise ValueError(f"{name} has {len(words)} numbers, expected {count}")
    return np.array(words, np.float64).astype(dtype) if words else np.empty(0, dtype)


def _shifted(threshold: np.ndarray, tree: dict[str, str], sets_before: int) -> np.ndarray:
    kinds = np.array(tree.get("decision_type", "").split(), np.int64)
    return (
        np.where(kinds & _CATEGORICAL, threshold + sets_before, threshold)
        if kinds.size
        else (threshold)
    )


def _category_sets(trees: Sequence[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    starts = [0]
    words: list[np.ndarray] = [np.empty(0, np.uint32)]
    for tree in trees:
        if int(tree["num_cat"]):
            bounds = np.array(tree["cat_boundaries"].split(), np.int64)
            base = starts[-1]
            starts += (bounds[1:] + base).tolist()
            words.append(np.array(tree["cat_threshold"].split(), np.int64).astype(np.uint32))
    return np.array(starts, np.int64), np.concatenate(words)


def _check(forest: Forest) -> None:
    """Raise DataError unless a compiled loop may walk the trees unchecked."""
    n_nodes, n_leaves = np.diff(forest.nodes), np.diff(forest.leaves)
    sizes = np.repeat(n_nodes, n_nodes)
    place = np.arange(forest.split_feature.size) - np.repeat(forest.nodes[:-1], n_nodes)
    fits = bool((n_leaves >= 1).all())
    for child in (forest.left_child, forest.right_child):
        # A child that stands after its parent: a walk ends.
        inner = (child > place) & (child < sizes)
        fits &= bool((inner | ((child < 0) & (~child <= sizes))).all())
    features = forest.split_feature
    fits &= bool(((features >= 0) & (features < forest.num_columns)).all())
    categorical = (forest.decision_type & _CATEGORICAL) > 0
    chosen = forest.threshold[categorical]
    fits &= bool(((chosen >= 0) & (chosen < forest.sets.size - 1)).all())
    fits &= bool((np.diff(forest.sets) >= 0).all()) and forest.sets[-1] == forest.words.size
    if not fits:
        raise DataError("the trees are damaged: a node points to nowhere")


@numba.njit(nogil=True, cache=True)
def _goes_left(
    value: float, threshold: float, kind: int, sets: np.ndarray, words: np.ndarray
) -> bool:
    if kind & _CATEGORICAL:
        if not 0 <= value < 2**31:  # NaN too
            return False
        code, chosen = np.int64(value), np.int64(threshold)
        word = sets[chosen] + (code >> 5)
        return word < sets[chosen + 1] and ((words[word] >> np.uint32(code & 31)) & 1) == 1
    missing = (kind >> 2) & 3
    if np.isnan(value):
        if missing == _NAN_MISSING:
            return (kind & _DEFAULT_LEFT) != 0
        value = 0.0
    if missing == _ZERO_MISSING and abs(value) <= _ZERO:
        return (kind & _DEFAULT_LEFT) != 0
    return value <= threshold


@numba.njit(nogil=True, cache=True)
def _leaf(
    matrix: np.ndarray,
    i: int,
    base: int,
    feature: np.ndarray,
    threshold: np.ndarray,
    kind: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    sets: np.ndarray,
    words: np.ndarray,
) -> int:
    node = 0
    while node >= 0:
        at = base + node
        side = _goes_left(matrix[i, feature[at]], threshold[at], kind[at], sets, words)
        node = left[at] if side else right[at]
    return ~node


@numba.njit(nogil=True, cache=True)
def _add_scores(
    matrix: np.ndarray,
    nodes: np.ndarray,
    leaves: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    kind: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    sets: np.ndarray,
    words: np.ndarray,
    leaf_value: np.ndarray,
    scores: np.ndarray,
) -> None:
    for start in range(0, matrix.shape[0], _TOGETHER):
        stop = min(start + _TOGETHER, matrix.shape[0])
        for t in range(nodes.size - 1):
            if nodes[t + 1] == nodes[t]:
                scores[start:stop] += leaf_value[leaves[t]]
                continue
            for i in range(start, stop):
                leaf = _leaf(
                    matrix, i, nodes[t], feature, threshold, kind, left, right, sets, words
                )
                scores[i] += leaf_value[leaves[t] + leaf]


@numba.njit(nogil=True, cache=True)
def _leaf_indices(
    matrix: np.ndarray,
    nodes: np.ndarray,
    leaves: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    kind: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    sets: np.ndarray,
    words: np.ndarray,
    out: np.ndarray,
) -> None:
    for start in range(0, matrix.shape[0], _TOGETHER):
        stop = min(start + _TOGETHER, matrix.shape[0])
        for t in range(nodes.size - 1):
            if nodes[t + 1] == nodes[t]:
                out[start:stop, t] = 0
                continue
            for i in range(start, stop):
                out[i, t] = _leaf(
                    matrix, i, nodes[t], feature, threshold, kind, left, right, sets, words
                )
