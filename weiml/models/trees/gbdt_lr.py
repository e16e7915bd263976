"""GBDT + LR: logistic regression by FTRL on the leaves of frozen trees.

    p = sigmoid(bias + Σ_t w[t, leaf of x in tree t] + Σ_k w_k x_k + Σ_d w_d dense_d)

X. He et al., "Practical lessons from predicting clicks on ads at Facebook", ADKDD 2014. The trees
are grown once, by `GBDTTrainer`; the weights live on the parameter server and go on learning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from weiml.config import to_mapping
from weiml.errors import ConfigError, DataError
from weiml.features import Batch
from weiml.models.base import Columns
from weiml.models.linear import LogisticRegression, LogisticRegressionConfig
from weiml.models.registry import register_model
from weiml.models.trees.leaves import LeafEncoder

__all__ = ["GBDTLogisticRegression", "GBDTLogisticRegressionConfig"]

_TENSOR = "trees"


@dataclass(frozen=True, kw_only=True)
class GBDTLogisticRegressionConfig(LogisticRegressionConfig):
    """Logistic regression's configuration, and the trees."""

    name: Literal["gbdt_lr"] = "gbdt_lr"  # type: ignore[assignment]
    trees: str = ""
    """Folder of the trees, saved by `GBDT.save`, that all workers can read. A saved model holds
    its trees itself and names no folder."""
    only_leaves: bool = False
    """Whether the linear model sees the leaves alone, as in the paper, or also the batch's slots
    and dense columns."""

    def __post_init__(self) -> None:
        if self.only_leaves and (self.crosses or self.cross_groups):
            raise ConfigError(
                "only_leaves leaves no slots to cross: set it to false, or take out the crosses"
            )


@register_model
class GBDTLogisticRegression(LogisticRegression):
    """Logistic regression on leaves, which are looked up on the fly and live for one step.

    The trees are saved with the model, as its only dense tensor: their bytes.
    """

    name = "gbdt_lr"
    config_class = GBDTLogisticRegressionConfig
    config: GBDTLogisticRegressionConfig

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        if self.config.only_leaves:
            self._own_keys = self._own_keys[:1]  # the bias, without the dense columns
        self._leaves: LeafEncoder | None = None
        self._last: tuple[Batch, Batch] | None = None

    @property
    def leaves(self) -> LeafEncoder:
        """The trees.

        Raises:
            ConfigError: the configuration names no folder.
            DataError: the folder holds no trees, or those of other columns.
        """
        if self._leaves is None:
            if not self.config.trees:
                raise ConfigError(
                    "gbdt_lr needs trees: set `trees` to a folder that GBDT.save wrote"
                )
            self._set_leaves(LeafEncoder.of_folder(self.config.trees))
        assert self._leaves is not None
        return self._leaves

    def extended(self, batch: Batch) -> Batch:
        """See `LogisticRegression.extended`: the leaves too."""
        last = self._last  # `keys` and `logits` of the same batch, one after the other
        if last is not None and last[0] is batch:
            return last[1]
        leaves = self.leaves.with_leaves(batch, alone=self.config.only_leaves)
        extended = super().extended(leaves)
        self._last = (batch, extended)
        return extended

    def dense_tensors(self) -> dict[str, np.ndarray]:
        """Return the bytes of the trees; none if the model knows no trees yet."""
        if self._leaves is None and not self.config.trees:
            return {_TENSOR: np.empty(0, np.uint8)}
        return {_TENSOR: np.frombuffer(self.leaves.to_bytes(), np.uint8).copy()}

    def dense_vector(self) -> np.ndarray:
        """Return float32 (0,): the trees are frozen, nothing dense is trained."""
        return np.empty(0, np.float32)

    def set_dense_vector(self, vector: np.ndarray) -> None:
        """Take the bytes of `dense_tensors` of a saved model, or nothing."""
        if not vector.size:
            return
        if vector.dtype != np.uint8:
            raise DataError(f"model {self.name!r} has no dense part, got {vector.size} numbers")
        self._set_leaves(LeafEncoder.from_bytes(vector.tobytes()))

    def config_mapping(self) -> dict[str, Any]:
        """See `Model.config_mapping`; the folder is left out, for the trees are saved."""
        return to_mapping(replace(self.config, trees=""))

    def _set_leaves(self, leaves: LeafEncoder) -> None:
        grown = leaves.columns.slots, leaves.columns.dense_names
        if grown != (self.columns.slots, self.columns.dense_names):
            raise DataError(
                f"the trees were grown on slots {grown[0]} and dense columns {grown[1]}, the model "
                f"is made for {self.columns.slots} and {self.columns.dense_names}; encode both "
                "with the same encoder"
            )
        self._leaves = leaves
