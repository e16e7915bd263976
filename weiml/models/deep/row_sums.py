"""Networks that see an example's rows together: F numbers of all its keys, not one vector a slot.

    logits = network([f(v_k, x_k for keys k) ‖ dense], Σ_k w_k x_k)

f and its derivative are compiled loops over rows, so that nothing of the size of the batch times
its slots times a row is ever held. (`pool` is such an f that keeps the slots apart.)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from weiml.errors import ConfigError
from weiml.models.base import Columns
from weiml.models.deep.base import DeepModel
from weiml.models.deep.shape import InputShape
from weiml.models.deep.sparse import EMBEDDING, Learned
from weiml.models.fetch import Lookup

__all__ = ["RowSums"]


class RowSums(DeepModel):
    """A network over F numbers of each example's rows. Subclasses give f and its derivative.

    To the network they look like the pooled rows of one slot: `Inputs.flat` is (B, F + D).
    """

    def __init__(self, config: Any, columns: Columns, **options: Any) -> None:
        super().__init__(config, columns, **options)
        if self.config.sequences:
            raise ConfigError(
                f"model {self.name!r} reads no sequences, got sequences {self.config.sequences}; "
                "leave them out: their keys count as those of other slots do"
            )

    @property
    @abstractmethod
    def num_sums(self) -> int:
        """F."""

    @abstractmethod
    def _sum_rows(self, lookup: Lookup, rows: Mapping[str, np.ndarray], out: np.ndarray) -> None:
        """Write f of each example to the first F columns of `out` float32 (B, F + D)."""

    @abstractmethod
    def _row_gradients(
        self, gradients: np.ndarray, lookup: Lookup, rows: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Return the gradients of the embedding rows float32 (m, row_dim).

        `gradients` float32 (B, F + D) are those of what `_sum_rows` wrote, and of the dense.
        """

    def _input_shape(self) -> InputShape:
        return InputShape(
            slots=("all",),
            row_dim=self.num_sums,
            dense_names=self.columns.dense_names,
            sequences=(),
            max_length=self.config.max_length,
        )

    def _embedding_gradients(self, learned: Learned) -> np.ndarray:
        lookup = learned.prepared.lookups[EMBEDDING]
        return self._row_gradients(learned.flat, lookup, learned.rows)
