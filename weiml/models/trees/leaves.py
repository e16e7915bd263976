"""Trees as features: the leaf that an example falls into, of each tree, as keys of one more slot.

X. He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014. A path to a
leaf is a conjunction of conditions, found by boosting; a linear model on top weighs them anew and,
unlike the trees, goes on learning from each example.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Self

import numba
import numpy as np
import pyarrow as pa

from weiml.errors import DataError
from weiml.features import Batch
from weiml.hashing import hash_values
from weiml.models.trees.columns import TreeColumns
from weiml.models.trees.forest import Forest
from weiml.models.trees.model import GBDT
from weiml.models.trees.text import TreeText

__all__ = ["LEAVES", "LeafEncoder"]

LEAVES = "leaves"
"""Name of the slot."""
_FEATURE = "weiml.leaf"


class LeafEncoder:
    """Frozen trees that add a slot to batches. Thread-safe; picklable.

    The key of leaf l of tree t is the hash of the text ``t:l`` under a name of its own.
    """

    def __init__(self, columns: TreeColumns, trees: TreeText) -> None:
        self.columns = columns
        self.trees = trees
        self._forest = Forest.from_text(trees)
        self._keys = _leaf_keys(self._forest)

    @classmethod
    def of(cls, model: GBDT) -> Self:
        """Return the leaves of a trained model."""
        return cls(model.columns, model.trees)

    @classmethod
    def of_folder(cls, folder: str | Path) -> Self:
        """Return the leaves of a saved model; see `GBDT.load`."""
        return cls.of(GBDT.load(folder))

    def with_leaves(self, batch: Batch, *, alone: bool = False) -> Batch:
        """Return the batch with the slot ``leaves``, one key a tree.

        Args:
            batch: of the columns that the trees were grown on.
            alone: leave out all other slots and the dense columns, as in the paper.

        Raises:
            DataError: the batch has other columns, has the slot already, or would hold 2³¹ keys.
        """
        if LEAVES in batch.slots:
            raise DataError(f"the batch has a slot {LEAVES!r} already")
        B, T, S = len(batch), len(self._forest), 0 if alone else len(batch.slots)
        if (0 if alone else batch.keys.size) + B * T >= 2**31:
            raise DataError("a batch holds fewer than 2^31 keys: use smaller ones")
        leaves = self._forest.leaf_indices(self.columns.matrix(batch))
        keys = self._keys[leaves + self._forest.leaves[:-1]]
        if alone:
            dense = np.empty((B, 0), np.float32)
            offsets = (np.arange(B + 1) * T).astype(np.int32)
            batch = replace(batch, dense=dense, dense_names=(), values=None)
            return replace(batch, keys=keys.reshape(-1), offsets=offsets, slots=(LEAVES,))
        joined, values, offsets = _joined(batch.keys, batch.values, batch.offsets, S, keys)
        slots = (*batch.slots, LEAVES)
        return replace(batch, keys=joined, values=values, offsets=offsets, slots=slots)

    def to_bytes(self) -> bytes:
        """Return all of it as JSON; `from_bytes` reads it back."""
        tree = {"columns": self.columns.to_mapping(), "trees": str(self.trees)}
        return json.dumps(tree, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` gave.

        Raises:
            DataError: it is damaged.
        """
        try:
            tree = json.loads(data)
            return cls(TreeColumns.from_mapping(tree["columns"]), TreeText.parse(tree["trees"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"the trees that leaves are taken of are damaged: {error}") from None


def _leaf_keys(forest: Forest) -> np.ndarray:
    """Return the key of each leaf of all trees, uint64."""
    counts = np.diff(forest.leaves).tolist()
    texts = [f"{tree}:{leaf}" for tree, count in enumerate(counts) for leaf in range(count)]
    return hash_values(_FEATURE, pa.array(texts, pa.string()))


@numba.njit(nogil=True, cache=True)
def _joined(
    keys: np.ndarray,
    values: np.ndarray | None,
    offsets: np.ndarray,
    num_slots: int,
    leaf_keys: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return keys, values and offsets with one slot more: the leaf keys (B, T)."""
    B, T = leaf_keys.shape
    out = np.empty(keys.size + B * T, np.uint64)
    out_values = None if values is None else np.ones(out.size, np.float32)
    out_offsets = np.zeros(B * (num_slots + 1) + 1, np.int32)
    at = cell = 0
    for b in range(B):
        first = offsets[b * num_slots]
        for s in range(num_slots):
            cell += 1
            out_offsets[cell] = at + offsets[b * num_slots + s + 1] - first
        for j in range(first, offsets[(b + 1) * num_slots]):
            out[at] = keys[j]
            if values is not None:
                out_values[at] = values[j]  # type: ignore[index]
            at += 1
        for t in range(T):
            out[at] = leaf_keys[b, t]
            at += 1
        cell += 1
        out_offsets[cell] = at
    return out, out_values, out_offsets
